"""The settings of services, from all layers and from the variables of other software. Passwords are never shown."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from installations import Site
from zcli_mongodb.settings import parse_uri
from zcli_redis.settings import parse_url

from zcli_core.app import zCLI
from zcli_core.config.settings import Unusable
from zcli_core.errors import ConfigError

PASSWORD = "hunter2-is-nobodys-business"
QUIET = {"deployment": "Production", "logger": "PROD", "title": "settings"}


@pytest.fixture(autouse=True)
def _alone(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "DATABASE_URL", "REDIS_URL", "MONGODB_URI"):
        monkeypatch.delenv(name, raising=False)


def test_libpq_variables_set_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    """They belong to the layer "environment"."""
    values = {"PGHOST": "db.example.com", "PGPORT": "6543", "PGUSER": "me", "PGDATABASE": "mine"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with zCLI(QUIET) as z:
        section = z.config.get("services.postgresql")
        assert (section.host, section.port, section.user, section.database) == ("db.example.com", 6543, "me", "mine")
        explained = z.config.explain("services.postgresql.port")
        assert (explained.layer, explained.origin) == ("environment", "PGPORT")
        assert z.config.services.postgresql.port == 6543
        assert z.config.services.probe_timeout == 1.0
        assert z.comm.services._backends.get("pg").target().address == "db.example.com:6543"


def test_url_sets_several_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable with a URL sets host, port and others."""
    monkeypatch.setenv("REDIS_URL", f"rediss://worker:{PASSWORD}@cache.example.com:6380/3")
    monkeypatch.setenv("MONGODB_URI", f"mongodb://app:{PASSWORD}@[::1]:27018,other:27019/shop?tls=true")
    with zCLI(QUIET) as z:
        redis, mongodb = z.config.services.redis, z.config.services.mongodb
        assert (redis.host, redis.port, redis.user, redis.database, redis.tls) == (
            "cache.example.com",
            6380,
            "worker",
            3,
            True,
        )
        assert (mongodb.host, mongodb.port, mongodb.user, mongodb.database, mongodb.tls) == (
            "::1",
            27018,
            "app",
            "shop",
            True,
        )
        assert z.config.explain("services.redis.port").origin == "REDIS_URL"


@pytest.mark.parametrize("order", [1, -1])
def test_variable_of_one_setting_wins_over_a_url(monkeypatch: pytest.MonkeyPatch, order: int) -> None:
    """zCLI's own variable wins over both."""
    variables = {"REDIS_URL": "redis://a:1/1", "ZCLI_SERVICES_REDIS_PORT": "2", "PGPORT": "3"}
    variables["ZCLI_SERVICES_POSTGRESQL_PORT"] = "4"
    for name, value in list(variables.items())[::order]:
        monkeypatch.setenv(name, value)
    with zCLI(QUIET) as z:
        assert (z.config.services.redis.host, z.config.services.redis.port) == ("a", 2)
        assert z.config.services.postgresql.port == 4
    with zCLI({**QUIET, "services": {"redis": {"host": "b"}}}) as z:
        assert (z.config.services.redis.host, z.config.services.redis.port) == ("b", 2)


def test_zenv_url_wins_and_is_exported(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is exported for other libraries."""
    monkeypatch.setenv("PGPORT", "3")
    (isolated / ".zEnv").write_text("PGPORT=4\nPGUSER=other\nREDIS_URL=redis://c:5\n")
    with zCLI(QUIET) as z:
        assert (z.config.services.postgresql.port, z.config.services.redis.port) == (4, 5)
        assert z.config.explain("services.redis.port").origin == ".zEnv:3 (REDIS_URL)"
    assert (os.environ["REDIS_URL"], os.environ["PGUSER"]) == ("redis://c:5", "other")
    assert os.environ["PGPORT"] == "4", "a library that reads the environment has to use what is in force"


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{PASSWORD}@host/",
        f"redis://user:{PASSWORD}/x@host:6379/0",
        f"redis://user:{PASSWORD}@host:port/0",
        f"redis://user:{PASSWORD}@host:6379/database",
        f"redis://:{PASSWORD}@/0",
        f"redis://user:{PASSWORD}#@host",
        PASSWORD,
    ],
)
def test_url_invalid_is_not_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """The error names the variable only."""
    monkeypatch.setenv("REDIS_URL", url)
    with zCLI(QUIET) as z, pytest.raises(ConfigError) as caught:
        z.comm.service_status("redis")
    said = str(caught.value)
    assert "services.redis" in said
    assert "REDIS_URL" in said
    assert "must be a URL such as redis://127.0.0.1:6379/0" in said
    assert "hunter2" not in said


def test_url_port_out_of_range_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error does not show the URL."""
    monkeypatch.setenv("MONGODB_URI", f"mongodb://app:{PASSWORD}@host:99999/")
    with zCLI(QUIET) as z, pytest.raises(ConfigError) as caught:
        z.comm.service_status("mongodb")
    assert "services.mongodb.port must be an integer between 1 and 65535, got 99999 from MONGODB_URI" in str(
        caught.value
    )
    assert "hunter2" not in str(caught.value)


def test_srv_address_is_an_error_when_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL is valid for other programs, so a script that does not use MongoDB starts."""
    monkeypatch.setenv("MONGODB_URI", f"mongodb+srv://app:{PASSWORD}@cluster0.example.net/shop")
    with zCLI(QUIET) as z:
        states = {name: status["state"] for name, status in z.comm.service_status().items()}
        assert states.pop("mongodb") == "unusable"
        assert "unusable" not in states.values()
        with pytest.raises(ConfigError, match=r"the value from MONGODB_URI cannot be used: .* the DNS"):
            z.comm.service_status("mongodb")
        log = Path(str(z._application_log.file)).read_text()
    assert "services.mongodb: the value from MONGODB_URI " in log
    assert "hunter2" not in log
    with zCLI({**QUIET, "services": {"mongodb": {"host": "db"}}}) as z:
        assert z.config.services.mongodb.host == "db"


_DEFAULT = ("127.0.0.1", 5432, "postgres", "postgres")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"postgresql://app:{PASSWORD}@db:5555/shop", ("db", 5555, "app", "shop")),
        (f"postgres://app:{PASSWORD}@[::1]/shop", ("::1", 5432, "app", "shop")),
        ("postgresql+psycopg://a%40b@db,other:1/my%20shop?sslmode=require", ("db", 5432, "a@b", "my shop")),
        ("postgresql:///shop?host=/var/run/postgresql&port=5433", ("/var/run/postgresql", 5433, "postgres", "shop")),
        ("postgresql://%2Frun%2Fpg/shop", ("/run/pg", 5432, "postgres", "shop")),
        ("mysql://root@db/shop", _DEFAULT),
        ("sqlite:///db.sqlite3", _DEFAULT),
    ],
)
def test_database_url_sets_postgresql(
    monkeypatch: pytest.MonkeyPatch, url: str, expected: tuple[str, int, str, str]
) -> None:
    """DATABASE_URL is read in the forms that libpq and SQLAlchemy take; another database's URL sets nothing."""
    monkeypatch.setenv("DATABASE_URL", url)
    with zCLI(QUIET) as z:
        section = z.config.services.postgresql
        assert (section.host, section.port, section.user, section.database) == expected
    monkeypatch.setenv("PGPORT", "1")
    with zCLI(QUIET) as z:
        assert z.config.services.postgresql.port == 1


@pytest.mark.parametrize("url", [f"postgresql://u:{PASSWORD}/x@h/d", f"postgres://u:{PASSWORD}@h:port/d", PASSWORD])
def test_database_url_invalid_is_an_error_when_used(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """The error names the variable and does not show its value."""
    monkeypatch.setenv("DATABASE_URL", url)
    with zCLI(QUIET) as z, pytest.raises(ConfigError, match="the value from DATABASE_URL must be") as caught:
        z.comm.service_status("postgresql")
    assert "hunter2" not in str(caught.value)


def test_url_password_is_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the configuration nor in a status, error or log."""
    from click.testing import CliRunner

    from zcli_core.cli.main import make_command

    monkeypatch.setenv("REDIS_URL", f"redis://:{PASSWORD}@127.0.0.1:1/")
    monkeypatch.setenv("MONGODB_URI", f"mongodb://u:{PASSWORD}@127.0.0.1:1/")
    caplog.set_level(logging.DEBUG)
    with zCLI({"title": "shown", "logger": "DEBUG", "services": {"folder": "servers"}}) as z:
        z.comm.start_service("redis", timeout=1)
        seen = [repr(z.config), repr(z.config.services), str(z.config.explain("services.redis.host"))]
        seen += [json.dumps(z.comm.service_status()), str(z.comm.services.last_failure), repr(z.comm.services)]
    for command in (["config"], ["config", "services.redis.host"], ["config", "--json"], ["services", "--json"]):
        seen.append(CliRunner().invoke(make_command(), command).output)
    seen += [*capfd.readouterr(), caplog.text]
    assert PASSWORD not in "".join(seen)
    assert "REDIS_URL" in "".join(seen)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", {"host": "127.0.0.1", "port": None, "tls": False}),
        ("redis://h", {"host": "h", "port": None}),
        ("redis://h:1/2", {"host": "h", "port": 1, "database": 2}),
        ("redis://h?db=4", {"host": "h", "database": 4}),
        ("rediss://[::1]:1", {"host": "::1", "tls": True}),
        ("valkey://a%40b:c@h", {"host": "h", "user": "a@b", "tls": False}),
        ("valkeys://h", {"tls": True}),
        ("unix:///run/redis.sock?db=1", {"host": "/run/redis.sock", "database": 1}),
        ("unix://me@/run/redis.sock", {"host": "/run/redis.sock", "user": "me"}),
    ],
)
def test_redis_urls(url: str, expected: dict[str, Any]) -> None:
    found = parse_url(url)
    assert {name: found[name] for name in expected} == expected
    assert "password" not in found


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("mongodb://h", {"host": "h", "port": None, "database": None, "user": None, "tls": None}),
        ("mongodb://h:1/d", {"host": "h", "port": 1, "database": "d"}),
        ("mongodb://a%3Ab:c%40@h,i:2/?ssl=true", {"host": "h", "user": "a:b", "tls": True}),
        ("mongodb://[::1]/d?tls=false", {"host": "::1", "port": None, "tls": False}),
        ("mongodb://%2Ftmp%2Fmongodb-27017.sock/d", {"host": "/tmp/mongodb-27017.sock"}),
    ],
)
def test_mongodb_uris(uri: str, expected: dict[str, Any]) -> None:
    found = parse_uri(uri)
    assert {name: found[name] for name in expected} == expected


@settings(deadline=None)
@given(st.text(max_size=60).map(lambda text: f"redis://{text}") | st.text(max_size=60))
def test_redis_url_any_text_is_parsed_or_refused(text: str) -> None:
    """No text raises another error."""
    try:
        found = parse_url(text)
    except ValueError:
        return
    assert set(found) <= {"host", "port", "user", "database", "tls"}


@settings(deadline=None)
@given(st.text(max_size=60).map(lambda text: f"mongodb://{text}") | st.text(max_size=60))
def test_mongodb_uri_any_text_is_parsed_or_refused(text: str) -> None:
    """No text raises another error."""
    try:
        found = parse_uri(text)
    except (ValueError, Unusable):
        return
    assert set(found) <= {"host", "port", "user", "database", "tls"}


def test_every_service_declares_its_address() -> None:
    """Each section has host and port."""
    with zCLI(QUIET) as z:
        for name in z.comm.services.names:
            for key in ("host", "port", "data_dir", "launcher"):
                assert f"services.{name}.{key}" in z.config.settings


def test_variable_of_two_plugins_is_an_error(site: Site) -> None:
    """Two plugins declare one variable that sets several settings."""
    site.plugin(
        "other_redis",
        """
        from zcli_core.config.settings import Composite, Section, setting

        class Other(Section, name="other", composites=(Composite("REDIS_URL", "a URL", ("url",), lambda text: {}),)):
            url: str = setting("", "a URL")

        @hookimpl
        def zcli_settings():
            return [Other]
        """,
    )
    with zCLI(QUIET) as z:
        records = z.plugins.records
        causes = [str(records[name].cause) for name in ("other_redis", "zcli_redis") if records[name].state == "broken"]
    assert len(causes) == 1
    assert "the variable REDIS_URL" in causes[0]
