"""memcached as a service, written against the public contract only."""

from zcli_core import hookimpl
from zcli_core.config.settings import setting
from zcli_core.plugins.contract import Provider
from zcli_core.services.contract import (
    Answer,
    Exchange,
    Install,
    LocalProcess,
    NotThisService,
    ServiceBackend,
    lines,
)
from zcli_core.services.parts.settings import ServiceSettings

ZCLI_CONTRACT = 1


class Memcached(ServiceSettings, name="services.memcached"):
    """memcached."""

    port: int = setting(11211, "TCP port", minimum=1, maximum=65535)


class MemcachedBackend(ServiceBackend):
    """memcached 1.4 and later."""

    name, title, default_port, settings = "memcached", "memcached", 11211, Memcached
    launchers = (LocalProcess(programs=("memcached",), accounts=("memcache",)),)
    install = Install(apt="memcached", brew="memcached")

    def probe(self, target):
        reply = yield Exchange(b"version\r\n", lines())
        if not reply.startswith(b"VERSION "):
            raise NotThisService(reply)
        return Answer(version=reply.split()[1].decode(), needs_auth=False)

    def command(self, place):
        return [place.program, "-l", place.host, "-p", str(place.port), "-U", "0", "-u", "root"]


@hookimpl
def zcli_settings():
    return [Memcached]


@hookimpl
def zcli_service_backends():
    return [Provider("memcached", "memcached, the cache", MemcachedBackend, aliases=("mc",))]
