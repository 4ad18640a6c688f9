"""memcached as a service: a third-party plugin that uses only the public contract."""

from zcli_core import hookimpl
from zcli_core.config.settings import setting
from zcli_core.plugins.contract import Provider
from zcli_core.services.contract import Exchange, LocalProcess, NotThisService, ProbeResult, ServiceBackend, lines
from zcli_core.services.parts.settings import ServiceSettings

ZCLI_CONTRACT = 1


class Memcached(ServiceSettings, name="services.memcached"):
    """memcached."""

    port: int = setting(11211, "TCP port", minimum=1, maximum=65535)


class MemcachedBackend(ServiceBackend):
    """memcached 1.4 and later."""

    name, title, default_port, settings = "memcached", "memcached", 11211, Memcached
    launchers = (LocalProcess(programs=("memcached",), accounts=("memcache",)),)

    def probe(self, target):
        reply = yield Exchange(b"version\r\n", lines())
        if not reply.startswith(b"VERSION "):
            raise NotThisService(reply)
        return ProbeResult(version=reply.split()[1].decode(), needs_auth=False)

    def command(self, paths):
        return [paths.program, "-l", paths.host, "-p", str(paths.port), "-U", "0", "-u", "root"]


@hookimpl
def zcli_settings():
    return [Memcached]


@hookimpl
def zcli_service_backends():
    return [Provider("memcached", "memcached, the cache", MemcachedBackend, aliases=("mc",))]
