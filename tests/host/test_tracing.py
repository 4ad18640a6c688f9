"""``ZCLI_TRACE_HOOKS``: every call of a plugin in a line, nothing secret in any, and nothing at all when it is off."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from installations import Site
from websockets.sync.client import connect

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError
from zcli_core.plugins.host import PluginHost
from zcli_core.plugins.tracing import shown

pytestmark = pytest.mark.usefixtures("isolated")

QUIET = {"deployment": "Production", "logger": "PROD", "title": "traced"}

EVERYTHING = """
from zcli_core.config.settings import Section, setting

class Mine(Section, name="mine"):
    key: str | None = setting(None, "a key", secret=True)

@hookimpl
def zcli_settings(): yield Mine
@hookimpl
def zcli_auth_strategies(): return None
@hookimpl
def zcli_ready(app): return 5
@hookimpl
def zcli_closing(): raise ValueError("it said s3cret")
@hookimpl
def zcli_http_request(context, request): request.headers["X-Key"] = context.config.mine.key
@hookimpl
def zcli_http_response(outcome): pass
@hookimpl
def zcli_websocket_opened(connection): pass
@hookimpl
def zcli_websocket_closed(connection, code, reason): pass
@hookimpl
def zcli_service_changed(name, status, context): pass
"""


def _log(z: zCLI) -> str:
    assert z._application_log.file is not None
    return Path(z._application_log.file).read_text()


def _traced(text: str, plugin: str) -> list[str]:
    """What the trace says of a plugin, without times."""
    lines = re.findall(rf"plugin {plugin}: (.*)", text)
    assert all(re.search(r" (in|after) \d+\.\d{3} ms$", line) for line in lines)
    return [re.sub(r" (in|after) \d+\.\d{3} ms$", "", line) for line in lines]


def test_trace_shows_every_call_and_no_secret(
    site: Site, monkeypatch: pytest.MonkeyPatch, httpbin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plugin, hook, arguments, what came back, how long it took; declaring calls too, from before there was a log."""
    monkeypatch.setenv("ZCLI_TRACE_HOOKS", "1")
    site.plugin("zcli_mine", EVERYTHING)
    zspark = {**QUIET, "mine": {"key": "s3cret"}, "websocket": {"require_auth": True, "token": "s3cret"}}
    with zCLI(zspark) as z:
        before = capsys.readouterr().err
        answer = z.comm.http_post(f"{httpbin}/post?key=s3cret", data="s3cret", headers={"Cookie": "s3cret"})
        assert answer is not None
        assert answer.json()["headers"]["X-Key"] == "s3cret"
        server = z.comm.websocket.start_background(port=0)
        with connect(f"{server.url}/?token=s3cret", proxy=None) as client:
            client.send("s3cret")
            client.recv()
            client.close(4000, "s3cret")
        server.stop()
        notify = z.plugins.notifier("zcli_service_changed", z.log)
        assert notify is not None
        notify("redis", {"service": "redis", "note": "s3cret"}, ("s3cret",))
        host = httpbin.partition("//")[2]
    log = _log(z)
    found = _traced(log, "zcli_mine")
    assert found[:6] == [
        "import done",
        "zcli_settings() returned 1 (Mine)",
        "zcli_auth_strategies() returned 0 items",
        "zcli_ready(app=<zCLI 'traced', Production>) returned int",
        f"zcli_http_request(context=<Context>, request=<HttpRequest POST http://{host}>) returned nothing",
        "zcli_http_response(outcome=<HttpResponse 200 OK>) returned nothing",
    ]
    opened, closed, *rest = found[6:]
    assert re.fullmatch(r"zcli_websocket_opened\(connection=<ServerConnection .* open>\) returned nothing", opened)
    assert re.fullmatch(
        r"zcli_websocket_closed\(connection=<ServerConnection .*>, code=4000, reason=<str of 6>\) returned nothing",
        closed,
    )
    assert rest == [
        "zcli_service_changed(name='redis', status=<dict of 2>, context=<tuple of 1>) returned nothing",
        "zcli_closing() raised ValueError",
    ]
    lines = [line for line in log.splitlines() if "zcli.traced.hooks" in line]
    assert len(lines) > len(found)
    assert "s3cret" not in "".join(lines) + before
    # What came before the log was said at once, in case it never comes.
    assert _traced(before, "zcli_mine") == found[:3]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("settings", [{"logger": "CRITICAL"}, {"deployment": "Production"}])
def test_trace_is_in_the_file_at_any_level(
    site: Site, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    """The trace does not depend on the log's level."""
    monkeypatch.setenv("ZCLI_TRACE_HOOKS", "yes")
    site.plugin("zcli_mine", "@hookimpl\ndef zcli_ready(app): pass")
    with zCLI({"title": "traced", **settings}) as z:
        z.log.info("a line that only some levels let through")
        assert "zcli_ready(app=<zCLI 'traced'" in _log(z)
        assert ("a line" in _log(z)) == ("logger" not in settings)


def test_trace_of_failed_start_is_on_stderr(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no log yet."""
    monkeypatch.setenv("ZCLI_TRACE_HOOKS", "true")
    site.plugin("zcli_mine", "@hookimpl\ndef zcli_settings(): raise OSError('s3cret')")
    with pytest.raises(ConfigError):
        zCLI({"websocket": {"port": "abc"}})
    assert _traced(capsys.readouterr().err, "zcli_mine") == ["import done", "zcli_settings() raised OSError"]


@pytest.mark.parametrize("value", [None, "", "0", "false", "No", " off "])
def test_trace_off_calls_plugins_directly(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str | None
) -> None:
    """The host calls the plugin's own function."""
    if value is not None:
        monkeypatch.setenv("ZCLI_TRACE_HOOKS", value)
    site.plugin("zcli_mine", "@hookimpl\ndef zcli_ready(app): pass")
    with zCLI(QUIET) as z:
        ((_, function),) = z.plugins._implementations("zcli_ready")
        assert function is z.plugins.records["zcli_mine"].plugin.zcli_ready
    assert capsys.readouterr().err == ""
    assert "hooks" not in _log(z)


@pytest.mark.parametrize("value", ["maybe", "2", "zcli_ready", "x" * 1000])
def test_trace_invalid_value_is_a_warning(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Other values are not guessed."""
    monkeypatch.setenv("ZCLI_TRACE_HOOKS", value)
    with zCLI(QUIET) as z:
        log = _log(z)
    assert f"WARNING  zcli.traced: ZCLI_TRACE_HOOKS must be 1 or 0, got {value[:40]!r}; hooks are not traced" in log
    assert len(log) < 1000


def test_trace_set_in_a_file_is_a_warning() -> None:
    """Plugins are loaded before it is read."""
    Path(".zEnv").write_text("# trace\nZCLI_TRACE_HOOKS=1\n")
    with zCLI(QUIET) as z:
        assert ".zEnv:2 (ZCLI_TRACE_HOOKS) is ignored: ZCLI_TRACE_HOOKS is read from the environment only" in _log(z)


def test_start_imports_no_trace_and_no_selection(isolated: Path) -> None:
    """Neither the trace nor what measures, explains or chooses."""
    code = (
        "import sys; from zCLI import zCLI; zCLI({}); print(sorted(m for m in sys.modules if 'zcli_core.plugins' in m))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
    unused = {f"zcli_core.plugins.{name}" for name in ("selection", "explanation", "tracing")}
    assert not unused.intersection(eval(done.stdout.splitlines()[-1]))


class Odd:
    """Its ``repr`` and ``len`` raise."""

    def __repr__(self) -> str:
        raise RuntimeError("hands off")

    def __len__(self) -> int:
        raise RuntimeError("hands off")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (True, "True"),
        (10**200, "1" + "0" * 116 + "..."),
        (10**5000, "<int>" if hasattr(sys, "set_int_max_str_digits") else "1" + "0" * 116 + "..."),
        ("text", "<str of 4>"),
        (b"bytes", "<bytes of 5>"),
        (["a"] * 3, "<list of 3>"),
        (Odd(), "<Odd>"),
        (type("Text", (str,), {"__repr__": lambda self: "s3cret"})("text"), "<Text of 4>"),
        (ConfigError("x"), "ConfigError(('x',))"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_trace_argument_is_shown_by_its_type(value: Any, text: str) -> None:
    """Showing an argument never raises."""
    assert shown("argument", value) == text


def test_trace_closed_console_breaks_no_plugin(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The lines are in the log."""
    monkeypatch.setenv("ZCLI_TRACE_HOOKS", "1")
    site.plugin("zcli_mine", "")
    gone = (tmp_path / "gone").open("w")
    gone.close()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", gone)
        z = zCLI(QUIET)
    with z:
        assert z.plugins.problems() == []
        assert "plugin zcli_mine: import done" in _log(z)


def test_trace_is_decided_per_host(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is decided when the host is made."""
    site.plugin("zcli_mine", "@hookimpl\ndef zcli_ready(app): pass")
    quiet = PluginHost()
    monkeypatch.setenv("ZCLI_TRACE_HOOKS", "1")
    quiet.load()
    assert capsys.readouterr().err == ""
    PluginHost().load()
    assert "plugin zcli_mine: import done" in capsys.readouterr().err
