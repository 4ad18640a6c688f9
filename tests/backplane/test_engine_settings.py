"""The settings of the engines: where they are, how to log in, and what is wrong with a URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engine_clients import make
from engines import write_certificates
from zcli_nats.address import Address as NatsAddress
from zcli_nats.address import parse_url as parse_nats
from zcli_nats.address import read_address as read_nats
from zcli_redis_backplane.address import Address as RedisAddress
from zcli_redis_backplane.address import parse_url as parse_redis
from zcli_redis_backplane.address import read_address as read_redis

from zcli_core.errors import ConfigError
from zcli_core.testing import make_context

_READERS: dict[str, Any] = {"redis": read_redis, "nats": read_nats}


def read(name: str, **settings: Any) -> Any:
    return _READERS[name](make_context(backplane={name: settings}).config)


@pytest.mark.parametrize(
    ("url", "address", "tls"),
    [
        ("redis://db", RedisAddress("db"), False),
        ("redis://db:7000/2", RedisAddress("db", 7000, database=2), False),
        ("rediss://ann:p%40ss%2F@[::1]:7000", RedisAddress("::1", 7000, user="ann", password="p@ss/"), True),
        ("valkeys://:pw@db/?db=3", RedisAddress("db", password="pw", database=3), True),
        ("unix:///run/my%20redis.sock?db=1", RedisAddress(path="/run/my redis.sock", database=1), False),
        ("unix://ann:pw@/run/redis.sock", RedisAddress(path="/run/redis.sock", user="ann", password="pw"), False),
    ],
)
def test_redis_url_is_read(url: str, address: RedisAddress, tls: bool) -> None:
    """The forms that redis-py reads, too."""
    assert parse_redis(url) == (address, tls)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("nats://db", {"host": "db", "port": 4222, "tls": False}),
        ("tls://ann:p%40@[::1]:7000/", {"host": "::1", "port": 7000, "tls": True, "user": "ann", "password": "p@"}),
        ("nats://to%2Fken@db", {"host": "db", "port": 4222, "tls": False, "token": "to/ken"}),
    ],
)
def test_nats_url_is_read(url: str, found: dict[str, Any]) -> None:
    """The forms that the clients of NATS read."""
    assert parse_nats(url) == found


@pytest.mark.parametrize(
    ("name", "url", "problem"),
    [
        ("redis", "localhost:6379", "must begin with redis://"),
        ("redis", "http://secret-7@db", "must begin with redis://"),
        ("redis", "redis://:secret-7/x@db", "not escaped"),
        ("redis", "redis://:secret-7#x@db", "not escaped"),
        ("redis", "redis://:secret-7@", "no host"),
        ("redis", "redis://:secret-7@db:0", "port"),
        ("redis", "redis://:secret-7@db:port", "port"),
        ("redis", "redis://:secret-7@db/first", "database must be a number"),
        ("redis", "redis://:secret-7@db?ssl_cert_reqs=none", "no parameter but db"),
        ("redis", "redis://:secret-7@d b", "spaces"),
        ("redis", "redis://:secret-7@[::1", "host is invalid"),
        ("redis", "unix://:secret-7@", "no path"),
        ("nats", "redis://secret-7@db", "must begin with nats://"),
        ("nats", "nats://secret-7@db:99999", "port"),
        ("nats", "nats://secret-7@", "no host"),
        ("nats", "nats://a:secret-7@db/path", "end after the port"),
        ("nats", "nats://a:secret-7/@db", "not escaped"),
        ("nats", "nats://a:secret-7@one,two", "name one server"),
        ("nats", "nats://a:secret-7@db\n", "spaces or control"),
        ("nats", "nats://a:secret-7@[::1", "host is invalid"),
    ],
)
def test_engine_invalid_url_names_the_setting(name: str, url: str, problem: str) -> None:
    """The error says where the URL was set and what is wrong, and shows nothing of it."""
    with pytest.raises(ConfigError, match=problem) as raised:
        read(name, url=url)
    assert f"backplane.{name}.url (" in str(raised.value)
    assert "secret-7" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "settings", "problem"),
    [
        ("redis", {"url": "redis://:secret-7@db", "password": "secret-8"}, "both have a password"),
        ("redis", {"url": "redis://ann@db"}, "user 'ann', but no password"),
        ("redis", {"url": "redis://db", "ca_file": "/x.pem"}, "reached without"),
        ("redis", {"url": "rediss://db", "ca_file": "/x.pem"}, "x.pem"),
        ("nats", {"url": "nats://a:secret-7@db", "password": "secret-8"}, "both have a password"),
        ("nats", {"url": "nats://db", "user": "ann"}, "both user and password"),
        ("nats", {"url": "nats://secret-7@db", "user": "a", "password": "secret-8"}, "more than one of"),
        ("nats", {"credentials_file": "/missing.creds"}, "credentials_file .*No such file"),
    ],
)
def test_engine_settings_that_do_not_fit_raise(name: str, settings: dict[str, str], problem: str) -> None:
    """What contradicts itself, or looks safer than it is, does not start."""
    with pytest.raises(ConfigError, match=problem) as raised:
        read(name, **settings)
    assert "secret-" not in str(raised.value)


def test_engine_addresses_hide_credentials(tmp_path: Path) -> None:
    """Neither the address of a backplane nor its repr shows a password."""
    files = write_certificates(tmp_path)
    for name, url, shown in (
        ("redis", "rediss://ann:secret-7@[::1]:7000", "[::1]:7000 over TLS"),
        ("nats", "tls://ann:secret-7@[::1]:7000", "[::1]:7000 over TLS"),
    ):
        address = read(name, url=url, ca_file=files["ca"])
        assert (address.user, address.password) == ("ann", "secret-7")
        assert str(address) == shown
        backplane = make(name, url=url, ca_file=files["ca"])
        assert backplane.address == shown
        assert "secret-7" not in repr(vars(backplane)) + repr(address)


@pytest.mark.parametrize("namespace", ["", "shop:live", "shop live", "shop.*", "shop.>", ".shop", "shop.", "sh\u00f6p"])
def test_engine_namespace_with_separators_raises(namespace: str) -> None:
    """Two applications must not get the same names of channels, and a namespace is not a pattern."""
    with pytest.raises(ConfigError, match=r"backplane\.namespace"):
        make_context(backplane={"namespace": namespace})


def test_redis_default_is_the_service() -> None:
    """A Redis that zCLI starts is used without any setting; a URL of the backplane wins."""
    services = {"redis": {"port": 7001, "user": "ann", "database": 2}}
    config = make_context(services=services, backplane={"redis": {"password": "pw"}}).config
    assert read_redis(config) == RedisAddress(
        "127.0.0.1", 7001, user="ann", password="pw", database=2, login_from="backplane.redis.password (zSpark)"
    )
    config = make_context(services={"redis": {"host": "/run/redis.sock"}}).config
    assert read_redis(config) == RedisAddress(path="/run/redis.sock")
    config = make_context(services=services, backplane={"redis": {"url": "redis://db"}}).config
    assert read_redis(config) == RedisAddress("db")


def test_engines_default_without_services() -> None:
    """The usual ports of this machine, also if the plugins of the services are disabled."""
    config = make_context(plugins={"disable": ["zcli_redis"]}).config
    assert read_redis(config) == RedisAddress()
    found = read("nats")
    assert found == NatsAddress(found.context)
