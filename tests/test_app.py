"""``zCLI`` as a whole: its beginning, its end, its banners, and two of it at once."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from installations import Site, clean_environment, needs_to_become_somebody_else

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError

pytestmark = pytest.mark.usefixtures("isolated")

QUIET = {"deployment": "Testing", "logger": "PROD", "title": "t"}
needs_posix = pytest.mark.skipif(os.name != "posix", reason="only POSIX lets a folder in use be deleted")


def _run(code: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in that folder, with warnings as errors, as a program of its own."""
    environment = {**clean_environment(os.environ, folder), **variables}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env={name: value for name, value in environment.items() if value != "<unset>"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# --- beginning --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shown"), [("x", "str"), ([1], "list"), (5, "int"), ({1}, "set"), (object(), "object")]
)
def test_zspark_not_a_mapping_raises(given: Any, shown: str) -> None:
    """The error says what zCLI() must get, and what it got."""
    with pytest.raises(TypeError) as caught:
        zCLI(given)
    expected = "zCLI() must get a mapping of settings, such as zCLI({'title': 'my-script'}), got "
    assert str(caught.value) == expected + shown


@pytest.mark.parametrize("empty", [(), (None,), ({},)])
def test_nothing_is_needed(empty: tuple[Any, ...]) -> None:
    """Zero configuration."""
    with zCLI(*empty) as z:
        assert z.config.deployment == "Development"
        assert repr(z) == "<zCLI 'my_script', Development>"


def test_the_mapping_is_not_changed_and_may_change_afterwards() -> None:
    """It is the script's."""
    zspark: dict[str, Any] = {**QUIET, "websocket": {"allowed_origins": ["http://a"], "tokens": {"x": "y"}}}
    with zCLI(zspark) as z:
        assert zspark == {**QUIET, "websocket": {"allowed_origins": ["http://a"], "tokens": {"x": "y"}}}
        zspark["websocket"]["allowed_origins"].append("http://evil")
        zspark["websocket"]["tokens"]["eve"] = "z"
        assert z.config.websocket.allowed_origins == ("http://a",)
        assert dict(z.config.websocket.tokens) == {"x": "y"}


def test_a_start_that_fails_leaves_nothing_open(capsys: pytest.CaptureFixture[str]) -> None:
    """No banner, no log file, no name taken."""
    with pytest.raises(ConfigError):
        zCLI({"title": "t", "logger_path": "logs", "websocket": {"port": "abc"}})
    assert not Path("logs").exists()
    assert capsys.readouterr().out == ""
    with zCLI(QUIET) as z:
        assert z.log.name == "zcli.t"


# --- end --------------------------------------------------------------------------------------------------------


def test_closing_twice_is_no_error() -> None:
    """By hand, by ``with``, at the end of the program."""
    with zCLI(QUIET) as z:
        z.close()
        z.close()


def test_an_error_in_the_block_comes_out_and_the_object_is_closed(site: Site) -> None:
    """``with`` does not hide it."""
    site.plugin("ender", "ended = []\n@hookimpl\ndef zcli_closing(app): ended.append(app)")
    with pytest.raises(KeyError), zCLI(QUIET) as z:
        raise KeyError
    assert z.plugins.records["ender"].plugin.ended == [z]


def test_the_log_is_closed_even_if_something_else_cannot_be() -> None:
    """Its file would stay open."""
    z = zCLI(QUIET)

    def fail() -> None:
        raise OSError("it will not close")

    z.comm.close = fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="it will not close"):
        z.close()
    with zCLI(QUIET) as again:
        assert again.log.name == "zcli.t"


def test_the_end_of_the_program_closes_what_is_open(site: Site, isolated: Path) -> None:
    """``zcli_closing`` is called, everything still in working order."""
    site.plugin("ender", "@hookimpl\ndef zcli_closing(app): app.log.error('closing %s', app.comm.check_port(1))")
    code = "from zCLI import zCLI\nz = zCLI({'title': 'end', 'deployment': 'Testing', 'logger_path': '.'})\n"
    path = os.pathsep.join(filter(None, (str(site.folder), os.environ.get("PYTHONPATH"))))
    done = _run(code, isolated, PYTHONPATH=path)
    assert done.stderr in ("ERROR zcli.end: closing True\n", "ERROR zcli.end: closing False\n")
    assert "closing" in (isolated / "end.log").read_text()


def test_an_object_that_is_no_longer_used_can_be_collected() -> None:
    """Nothing keeps it alive until the end of the program."""
    z = zCLI(QUIET)
    reference = weakref.ref(z)
    del z
    gc.collect()
    assert reference() is None


# --- two at once ------------------------------------------------------------------------------------------------


def test_two_objects_do_not_see_each_other(site: Site, isolated: Path) -> None:
    """Configuration, log, transport, plugins, hooks, failures: each has its own."""
    transport = """
        from zcli_core.http.contract import RawResponse

        class Transport:
            def __init__(self, context): self.title = context.config.title
            def exchange(self, request, deadline, max_bytes):
                return RawResponse(200, "OK", [], self.title.encode())
            def close(self): pass

        @hookimpl
        def zcli_http_transports():
            return [Provider("{name}", "of a test", Transport)]

        ready = []
        @hookimpl
        def zcli_ready(app): ready.append(app.config.title)
        """
    site.plugin("plugin_a", transport.format(name="a"))
    site.plugin("plugin_b", transport.format(name="b"))
    (isolated / "a.env").write_text("WEBSOCKET_TOKEN=token-a\n")
    a = zCLI(
        {**QUIET, "title": "a", "logger_path": "logs-a", "env_file": "a.env", "http": {"transport": "a", "timeout": 1}}
    )
    b = zCLI(
        {
            **QUIET,
            "title": "b",
            "logger_path": "logs-b",
            "http": {"transport": "b"},
            "plugins": {"disable": ["plugin_a"]},
        }
    )
    for z, title in ((a, "a"), (b, "b")):
        response = z.comm.http_get("http://anywhere/")
        assert response is not None
        assert response.text == title
        z.log.info("only for %s", title)
    assert (a.config.http.timeout, b.config.http.timeout) == (1.0, 10.0)
    assert (a.config.websocket.token, b.config.websocket.token) == ("token-a", None)
    assert b.config.env("WEBSOCKET_TOKEN") is None
    assert (a.plugins.records["plugin_a"].state, b.plugins.records["plugin_a"].state) == ("loaded", "disabled")
    assert a.plugins.records["plugin_a"].plugin.ready == ["a"]
    assert a.plugins.records["plugin_b"].plugin.ready == ["a", "b"]
    a.close()
    after = b.comm.http_get("http://anywhere/")
    assert after is not None
    assert after.text == "b"
    b.close()
    logs = {title: Path(f"logs-{title}", f"{title}.log").read_text() for title in "ab"}
    assert "only for a" in logs["a"]
    assert "only for b" not in logs["a"]
    assert "only for a" not in logs["b"]
    assert "only for b" in logs["b"]


def test_threads_that_come_first_together_share_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was kept apart would not be closed, and would keep its ``last_failure`` to itself."""
    with zCLI(QUIET) as z:
        together = threading.Barrier(2)
        get_child = z.log.getChild

        def slow_get_child(name: str) -> logging.Logger:
            with contextlib.suppress(threading.BrokenBarrierError):  # up to Python 3.11 only one gets this far
                together.wait(timeout=0.5)
            return get_child(name)

        monkeypatch.setattr(z.log, "getChild", slow_get_child)
        with ThreadPoolExecutor(2) as threads:
            clients = list(threads.map(lambda _: z.comm.http, range(2)))
        assert clients == [z.comm.http] * 2


# --- odd surroundings -------------------------------------------------------------------------------------------


@needs_posix
@pytest.mark.parametrize("logger_path", ["", "'logger_path': '/dev/null/x',"])
def test_a_working_directory_that_was_deleted_is_no_obstacle(isolated: Path, logger_path: str) -> None:
    """Long-running shells have one now and then."""
    code = f"""
import os
from zCLI import zCLI
os.mkdir("gone")
os.chdir("gone")
os.rmdir("../gone")
with zCLI({{"title": "t", {logger_path} "websocket": {{"ssl_cert": "demo.cert"}}}}) as z:
    z.log.info("still here")
    print(z.config.websocket.ssl_cert.is_absolute())
"""
    done = _run(code, isolated)
    assert done.stdout.endswith("True\n"), done.stderr
    assert ("still here" in done.stderr) == (done.returncode == 0)


@pytest.mark.parametrize("home", ["<unset>", "", "relative", "/nonexistent", "/dev/null"])
def test_a_home_that_is_none_is_no_obstacle(isolated: Path, home: str) -> None:
    """Services and containers have none; no folder called ``~`` or ``relative`` appears."""
    code = "from zCLI import zCLI\nwith zCLI({'logger_path': 'logs'}) as z: print(z.config.http.timeout)"
    done = _run(code, isolated, HOME=home, ZCLI_CONFIG_DIR="<unset>")
    assert done.stdout.endswith("10.0\n"), done.stderr
    assert [file.name for file in isolated.iterdir()] == ["logs"]


@needs_to_become_somebody_else
def test_a_user_that_nobody_knows_has_no_log_file_and_hears_so(isolated: Path) -> None:
    """As in a container with a random user id and no HOME; the console still works."""
    code = """
import os, pathlib, shutil, tempfile
import zcli_layers.machine, zcli_layers.zenv, zcli_layers.plain
from zCLI import zCLI
folder = tempfile.mkdtemp()
os.chmod(folder, 0o777)
os.chdir(folder)
child = os.fork()
if child == 0:
    os.setuid(54321)
    with zCLI({"title": "t"}) as z:
        z.log.error("seen")
    print(os.listdir("."), flush=True)
    os._exit(0)
os.waitpid(child, 0)
shutil.rmtree(folder)
"""
    done = _run(code, isolated, HOME="<unset>")
    assert done.stdout == "[zConfig Ready] t, log in no file\n[zComm Ready] http urllib3\n[]\n", done.stderr
    assert done.stderr == (
        "zCLI: this user has no home folder, so there is no log file. Set logger_path to a folder.\n"
        "ERROR zcli.t: seen\n"
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_banner_that_the_console_cannot_show_is_shown_as_far_as_it_can(isolated: Path, encoding: str) -> None:
    """A title in another script must not end the program."""
    code = "from zCLI import zCLI\nz = zCLI({'title': '\u65e5\u672c', 'logger_path': 'logs'})\n"
    done = _run(code, isolated, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[zConfig Ready] ")
    assert (isolated / "logs" / "\u65e5\u672c.log").exists()


# --- banners ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deployment", ["Development", "Testing", "Production", None])
@pytest.mark.parametrize("logger", ["PROD", "INFO", "CRITICAL"])
def test_development_shows_the_banners_in_the_guides_order_and_no_other_does(
    isolated: Path, deployment: str | None, logger: str
) -> None:
    """On standard output, whatever the log level; nothing on the other stream."""
    zspark = {"deployment": deployment, "title": "hello-comm", "logger": logger, "logger_path": "./logs"}
    done = _run(f"from zCLI import zCLI\nz = zCLI({zspark!r})\n", isolated)
    assert done.stderr == ""
    if deployment in ("Development", None):
        first, second = done.stdout.splitlines()
        assert first.startswith("[zConfig Ready]")
        assert second.startswith("[zComm Ready]")
    else:
        assert done.stdout == ""


# --- cost -------------------------------------------------------------------------------------------------------

HEAVY = (
    "yaml",
    "dotenv",
    "urllib3",
    "asyncio",
    "platformdirs",
    "importlib.metadata",
    "ssl",
    "http.client",
    "email",
    "psutil",
)


def test_starting_imports_nothing_heavy(isolated: Path) -> None:
    """What a plain start does not use, it does not pay for."""
    code = "import sys\nfrom zCLI import zCLI\nz = zCLI({})\nprint('modules:', *sys.modules)\n"
    without_coverage = {"COVERAGE_PROCESS_CONFIG": "<unset>", "COVERAGE_PROCESS_START": "<unset>"}
    modules = _run(code, isolated, **without_coverage).stdout.partition("modules:")[2].split()
    assert "zcli_layers" in modules
    assert [name for name in modules if name.startswith(HEAVY)] == []
    assert {"difflib", "json", "logging.handlers", "click", "rich", "tempfile"}.isdisjoint(modules)


@pytest.mark.parametrize("part", ["http", "websocket", "services"])
def test_a_part_that_was_never_used_cannot_be_used_after_closing(part: str) -> None:
    """Nobody would close what it opens."""
    z = zCLI(QUIET)
    z.close()
    with pytest.raises(RuntimeError, match="this zCLI object is closed"):
        getattr(z.comm, part)


@pytest.mark.parametrize("part", ["http", "websocket", "services"])
def test_threads_that_come_first_together_share_a_part(part: str) -> None:
    """One client, one server, one record of services for each zCLI object."""
    from concurrent.futures import ThreadPoolExecutor

    with zCLI(QUIET) as z, ThreadPoolExecutor(16) as threads:
        start = threading.Barrier(16)

        def get(_: int) -> int:
            start.wait(30)
            return id(getattr(z.comm, part))

        assert len(set(threads.map(get, range(16)))) == 1
