"""The application's log: what goes to the console and what to the file, and what happens when the file will not do."""

from __future__ import annotations

import gc
import io
import logging
import re
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from zcli_core.app import zCLI
from zcli_core.cli.session import comm
from zcli_core.errors import ConfigError
from zcli_core.log import ApplicationLog
from zcli_core.security_warnings import warn_security
from zcli_core.websocket.server_setup import make_setup, warn_if_open

pytestmark = pytest.mark.usefixtures("isolated")

LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
SETTINGS = [*LEVELS, "PROD"]

Open = Callable[..., ApplicationLog]


def _text(log: ApplicationLog) -> str:
    assert log.file is not None
    return Path(log.file).read_text(encoding="utf-8")


# --- levels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deployment", ["Development", "Testing", "Production"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_log_shows_by_deployment(capsys: pytest.CaptureFixture[str], deployment: str, setting: str) -> None:
    """The level decides; in Production the console begins at ERROR, with PROD it shows nothing and the file all."""
    with zCLI({"deployment": deployment, "logger": setting, "title": "t", "logger_path": "logs"}) as z:
        for level in LEVELS:
            z.log.log(getattr(logging, level), "message-%s", level)
    in_file = set(re.findall(r"message-(\w+)", Path("logs/t.log").read_text()))
    printed = capsys.readouterr()
    on_console = set(re.findall(r"message-(\w+)", printed.err))
    expected = set(LEVELS) if setting == "PROD" else set(LEVELS[LEVELS.index(setting) :])
    assert in_file == expected
    if setting == "PROD":
        assert on_console == set()
    else:
        assert on_console == (expected & {"ERROR", "CRITICAL"} if deployment == "Production" else expected)
    assert "message" not in printed.out
    if setting == "PROD":
        assert printed.err == ""


@pytest.mark.parametrize("setting", ["info", "Prod", " WARNING "])
def test_log_level_in_any_case_is_recognised(setting: str) -> None:
    """Case does not matter."""
    with zCLI({"deployment": "Testing", "logger": setting}) as z:
        assert z.config.get("logger") == setting.strip().upper()


def test_log_line_has_time_level_name_and_message(open_log: Open) -> None:
    """With the cause below it, where there is one."""
    log = open_log("my-title")
    log.logger.warning("disk %d%% full", 93)
    try:
        raise ValueError("the cause")
    except ValueError:
        log.logger.exception("it failed")
    first, second, *trace = _text(log).splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d WARNING  zcli.my-title: disk 93% full", first
    )
    assert second.endswith("ERROR    zcli.my-title: it failed")
    assert trace[-1] == "    ValueError: the cause"


def test_log_any_text_is_written(open_log: Open) -> None:
    """UTF-8, and what UTF-8 cannot hold in a readable form."""
    log = open_log()
    log.logger.info("zażółć 日本 \U0001f600 \udcff \0")
    assert "zażółć 日本 \U0001f600 \\udcff \\x00" in _text(log)


@pytest.mark.parametrize("separator", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_log_line_break_forges_no_record(open_log: Open, capsys: pytest.CaptureFixture[str], separator: str) -> None:
    """Neither in the file nor on the console, neither in a message nor in an exception's text."""
    log = open_log()
    log.logger.info("from a peer: %s", separator.join(("x", "2026-11-28 16:00:00.000+00:00 ERROR zcli.t: forged", "")))
    try:
        raise ValueError(f"x{separator}ERROR zcli.t: forged")
    except ValueError:
        log.logger.exception("failed")
    for text in (_text(log), capsys.readouterr().err):
        first = [line for line in text.splitlines() if not line.startswith("    ")]
        assert len(first) == 2, text
        assert not any(line.startswith("ERROR zcli.t: forged") for line in first)


def test_log_time_is_local_with_offset(open_log: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour that a clock change repeats is unambiguous."""
    log = open_log()
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        record = log.logger.makeRecord("n", logging.INFO, "", 0, "m", (), None)
        record.created, record.msecs = 1_000_000_000.25, 250.0
        log.logger.handle(record)
    finally:
        monkeypatch.undo()
        time.tzset()
    text = _text(log)
    assert text.startswith("2001-09-09 07:31:40.250+05:45 INFO")
    assert datetime.fromisoformat(text[:29]).timestamp() == 1_000_000_000.25


# --- security warnings ------------------------------------------------------------------------------------------

_OPEN = {"host": "0.0.0.0", "port": 0}
_TOKEN = {"port": 0, "token": "secret-of-the-tests"}


@pytest.mark.parametrize("level", ["CRITICAL", "PROD"])
@pytest.mark.parametrize(
    ("zspark", "variables", "warning"),
    [
        ({"websocket": {"require_aut": True}}, {}, "'websocket.require_aut' (zSpark): no plugin"),
        ({"websocket": {"authentication": "x"}}, {}, "'websocket.authentication' (zSpark): no plugin"),
        ({"websockt": {"require_auth": True}}, {}, "'websockt' (zSpark): no plugin"),
        ({}, {"WEBSOCKET_REQUIRE_AUTHENTICATION": "1"}, "did you mean 'WEBSOCKET_REQUIRE_AUTH'?"),
        ({}, {"WEBSOCKET_TOKEN_FILE": "/x"}, "did you mean 'WEBSOCKET_TOKEN"),
        ({}, {"ZCLI_HTTP_CA_FIL": "/x"}, "did you mean 'ZCLI_HTTP_CA_FILE'?"),
        ({"jwt": {"audiense": "x"}}, {}, "did you mean 'jwt.audience'?"),
        ({"plugins": {"disable": ["zcli_nobody"]}}, {}, "plugins.disable names 'zcli_nobody'"),
        ({"deployments": {"Prodution": {"websocket.require_auth": True}}}, {}, "unknown deployment 'Prodution'"),
        ({"websocket": _OPEN}, {}, "every machine that can reach 0.0.0.0 may connect"),
        ({"websocket": _TOKEN}, {}, "a WebSocket token is set, but websocket.require_auth is off"),
        ({"websocket": {"port": 0, "ssl_cert": "c.pem"}}, {}, "websocket.ssl_cert is set (zSpark), but"),
        ({"websocket": {"port": 0, "allowed_origins": ["*"]}}, {}, "admits pages opened from a file"),
    ],
)
def test_production_console_shows_security_warnings(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    zspark: dict[str, Any],
    variables: dict[str, str],
    warning: str,
    level: str,
) -> None:
    """Whatever the level, except with PROD, which shows nothing; the file has them always."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with zCLI({"deployment": "Production", "logger": level, "title": "t", "logger_path": ".", **zspark}) as z:
        if zspark.get("websocket") == _OPEN:  # no test listens to other machines
            warn_if_open(z.config, make_setup(z.config, None, None, None, z.log).endpoint, z.log)
        elif "port" in zspark.get("websocket", {}):
            z.comm.websocket.start_background().stop()
        z.log.warning("an ordinary warning")
    shown = capsys.readouterr().err
    assert (warning in shown) == (level != "PROD")
    assert "an ordinary warning" not in shown
    assert warning in Path("t.log").read_text()


@pytest.mark.parametrize("deployment", ["Development", "Testing", "Production"])
@pytest.mark.parametrize("level", ["DEBUG", "ERROR", "CRITICAL"])
def test_every_deployment_shows_security_warnings(
    capsys: pytest.CaptureFixture[str], deployment: str, level: str
) -> None:
    """Once, whatever the level."""
    misspelt = {"require_auht": True}
    settings = {"title": "t", "logger_path": ".", "websocket": misspelt, "deployment": deployment, "logger": level}
    with zCLI(settings):
        pass
    assert capsys.readouterr().err.count("did you mean 'websocket.require_auth'?") == 1


def test_command_shows_security_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    """``zcli ws serve`` has no log, and serves all the same."""
    facade = comm()
    with facade.websocket.start_background(port=0, host="127.0.0.1"):
        warn_security(facade.websocket._log, "every client %s", "may connect")
        facade.websocket._log.warning("an ordinary warning")
    facade.close()
    assert capsys.readouterr().err == "zcli: every client may connect\n"


def test_production_console_hides_other_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    """Other warnings are in the file only."""
    with zCLI({"deployment": "Production", "title": "t", "logger_path": ".", "websocket": {"prot": 1}, "loger": "x"}):
        pass
    assert capsys.readouterr().err == ""
    assert Path("t.log").read_text().count("unknown setting") == 2


def test_log_closed_console_loses_no_record(open_log: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon closes it; the file has the record, and the program goes on."""
    log = open_log()
    console = io.StringIO()
    console.close()
    monkeypatch.setattr(sys, "stderr", console)
    log.logger.error("one")
    warn_security(log.logger, "two")
    assert [line.rpartition(" ")[2] for line in _text(log).splitlines()] == ["one", "two"]


# --- where ------------------------------------------------------------------------------------------------------


def test_log_file_is_title_in_folder(isolated: Path) -> None:
    """``<logger_path>/<title>.log``; a folder that is missing is made."""
    with zCLI({"deployment": "Testing", "title": "hello-comm", "logger_path": "./a/b"}) as z:
        assert z._application_log.file == str(isolated / "a" / "b" / "hello-comm.log")
        assert Path(z._application_log.file).exists()
        assert z.log.name == "zcli.hello-comm"


def test_log_title_defaults_to_the_script(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file's name; a package's, for ``python -m package``; zcli, in an interactive session."""
    main = sys.modules["__main__"]
    for file, title in (("/x/my.script.py", "my.script"), ("/x/package/__main__.py", "package"), (None, "zcli")):
        monkeypatch.setattr(main, "__file__", file)
        with zCLI({"deployment": "Testing"}) as z:
            assert z._application_log.title == title


def test_log_folder_defaults_to_the_users(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is that of the platform."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the folder of Linux")
    with zCLI({"deployment": "Testing"}) as z:
        assert z._application_log.file == str(Path.home() / ".local" / "state" / "zcli" / "log" / "my_script.log")
    monkeypatch.setenv("XDG_STATE_HOME", str(isolated / "state"))
    with zCLI({"deployment": "Testing"}) as z:
        assert z._application_log.file == str(isolated / "state" / "zcli" / "log" / "my_script.log")


@pytest.mark.parametrize("title", ["", " ", ".", "..", "a/b", "a\\b", "../x", "a\0b", "a\nb", "C:x", "a*"])
def test_log_title_invalid_is_an_error(title: str) -> None:
    """A title with a slash could leave the folder."""
    with pytest.raises(ConfigError, match=r"title must be a valid file name, got"):
        zCLI({"title": title, "deployment": "Testing"})


@pytest.mark.parametrize("title", ["a.b.c", "ünïcode", "with space", "-", "zcli"])
def test_log_title_unusual_is_accepted(title: str) -> None:
    """Dots would make a hierarchy of loggers, in which one object would see another's records."""
    with zCLI({"title": title, "deployment": "Testing", "logger": "PROD", "logger_path": "logs"}) as z:
        z.log.info("here")
        assert z.log.name == f"zcli.{title.replace('.', '_')}"
    assert "here" in Path("logs", f"{title}.log").read_text(encoding="utf-8")


# --- other loggers ----------------------------------------------------------------------------------------------


def test_log_leaves_the_root_logger_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither handlers nor level; what is logged here does not reach it."""
    heard: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = heard.append  # type: ignore[method-assign, assignment]
    monkeypatch.setattr(logging.root, "handlers", [listener])
    before = (logging.root.level, list(logging.root.handlers), logging.root.disabled)
    with zCLI({"deployment": "Testing", "logger": "PROD", "title": "t"}) as z:
        z.log.error("for the file only")
        assert before == (logging.root.level, list(logging.root.handlers), logging.root.disabled)
    assert before == (logging.root.level, list(logging.root.handlers), logging.root.disabled)
    assert heard == []


def test_log_same_title_gets_another_logger(open_log: Open, tmp_path: Path) -> None:
    """Each writes its own file; closing one leaves the other alone."""
    one, two = open_log(folder=tmp_path / "one"), open_log(folder=tmp_path / "two")
    assert (one.logger.name, two.logger.name) == ("zcli.t", "zcli.t-2")
    one.logger.info("for one")
    one.close()
    two.logger.info("for two")
    assert "for one" in _text(one)
    assert "for two" in _text(two)
    assert "for one" not in _text(two)


def test_log_closed_drops_records_and_frees_its_name(
    open_log: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even warnings, which logging prints where it finds no handler. Closing twice does nothing."""
    one = open_log(level="PROD", folder=tmp_path / "one")
    one.logger.info("before")
    one.close()
    one.close()
    one.logger.error("after")
    assert "after" not in _text(one)
    assert capsys.readouterr() == ("", "")
    two = open_log(folder=tmp_path / "two")
    assert two.logger.name == "zcli.t"
    one.close()
    assert open_log(folder=tmp_path / "three").logger.name == "zcli.t-2"


def test_log_of_collected_object_is_closed(isolated: Path) -> None:
    """No handler, no open file, no name is left behind."""
    z = zCLI({"deployment": "Testing", "logger": "PROD", "title": "forgotten", "logger_path": "logs"})
    z.log.info("here")
    logger = z.log
    handlers = list(logger.handlers)
    del z
    gc.collect()
    assert not any(isinstance(handler, logging.FileHandler) for handler in logger.handlers)
    assert all(getattr(handler, "stream", None) is None for handler in handlers)
    with zCLI({"deployment": "Testing", "title": "forgotten"}) as z:
        assert z.log is logger
