"""The class ``zCLI``: its start, its end, its banners, and two objects in one process."""

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
    """Run Python code in that folder, with warnings as errors, in a process of its own."""
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
def test_zcli_without_settings_starts(empty: tuple[Any, ...]) -> None:
    """Nothing must be configured."""
    with zCLI(*empty) as z:
        assert z.config.deployment == "Development"
        assert repr(z) == "<zCLI 'my_script', Development>"


def test_zspark_is_not_changed() -> None:
    """The script may change its mapping afterwards, without effect."""
    zspark: dict[str, Any] = {**QUIET, "websocket": {"allowed_origins": ["http://a"], "tokens": {"x": "y"}}}
    with zCLI(zspark) as z:
        assert zspark == {**QUIET, "websocket": {"allowed_origins": ["http://a"], "tokens": {"x": "y"}}}
        zspark["websocket"]["allowed_origins"].append("http://evil")
        zspark["websocket"]["tokens"]["eve"] = "z"
        assert z.config.websocket.allowed_origins == ("http://a",)
        assert dict(z.config.websocket.tokens) == {"x": "y"}


def test_failed_start_leaves_nothing_open(capsys: pytest.CaptureFixture[str]) -> None:
    """There is no banner and no log file, and the name of the log can be used again."""
    with pytest.raises(ConfigError):
        zCLI({"title": "t", "logger_path": "logs", "websocket": {"port": "abc"}})
    assert not Path("logs").exists()
    assert capsys.readouterr().out == ""
    with zCLI(QUIET) as z:
        assert z.log.name == "zcli.t"


# --- end --------------------------------------------------------------------------------------------------------


def test_close_twice_has_no_effect() -> None:
    """An object may be closed by the script, by ``with`` and at the end of the program."""
    with zCLI(QUIET) as z:
        z.close()
        z.close()


def test_error_in_with_block_closes(site: Site) -> None:
    """``with`` does not hide the error."""
    site.plugin("ender", "ended = []\n@hookimpl\ndef zcli_closing(app): ended.append(app)")
    with pytest.raises(KeyError), zCLI(QUIET) as z:
        raise KeyError
    assert z.plugins.records["ender"].plugin.ended == [z]


def test_close_that_fails_closes_the_log() -> None:
    """Otherwise its file would stay open."""
    z = zCLI(QUIET)

    def fail() -> None:
        raise OSError("it will not close")

    z.comm.close = fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="it will not close"):
        z.close()
    with zCLI(QUIET) as again:
        assert again.log.name == "zcli.t"


def test_end_of_program_closes(site: Site, isolated: Path) -> None:
    """The hook ``zcli_closing`` runs while everything still works."""
    site.plugin("ender", "@hookimpl\ndef zcli_closing(app): app.log.error('closing %s', app.comm.check_port(1))")
    code = "from zCLI import zCLI\nz = zCLI({'title': 'end', 'deployment': 'Testing', 'logger_path': '.'})\n"
    path = os.pathsep.join(filter(None, (str(site.folder), os.environ.get("PYTHONPATH"))))
    done = _run(code, isolated, PYTHONPATH=path)
    assert done.stderr in ("ERROR zcli.end: closing True\n", "ERROR zcli.end: closing False\n")
    assert "closing" in (isolated / "end.log").read_text()


def test_unused_object_is_collected() -> None:
    """No reference keeps it alive until the end of the program."""
    z = zCLI(QUIET)
    reference = weakref.ref(z)
    del z
    gc.collect()
    assert reference() is None


# --- two at once ------------------------------------------------------------------------------------------------


def test_two_objects_are_independent(site: Site, isolated: Path) -> None:
    """Each has its own configuration, log, transport, plugins, hooks and failures."""
    transport = """
        from zcli_core.http.contract import RawResponse

        class Transport:
            def __init__(self, context): self.title = context.config.title
            def send(self, request, deadline, max_bytes):
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


def test_first_use_by_threads_makes_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second client would not be closed, and would have its own ``last_failure``."""
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
def test_deleted_working_directory_starts(isolated: Path, logger_path: str) -> None:
    """A shell may stay in a folder that was deleted."""
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
def test_invalid_home_starts(isolated: Path, home: str) -> None:
    """No folder called ``~`` or ``relative`` is created."""
    code = "from zCLI import zCLI\nwith zCLI({'logger_path': 'logs'}) as z: print(z.config.http.timeout)"
    done = _run(code, isolated, HOME=home, ZCLI_CONFIG_DIR="<unset>")
    assert done.stdout.endswith("10.0\n"), done.stderr
    assert [file.name for file in isolated.iterdir()] == ["logs"]


@needs_to_become_somebody_else
def test_unknown_user_has_no_log_file(isolated: Path) -> None:
    """A container with a random user id and no HOME gets a warning; the console still works."""
    code = """
import os, pathlib, shutil, tempfile
import zcli_layers.machine, zcli_layers.zenv, zcli_layers.plain, zcli_bifrost.access.tier_layer
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
def test_banner_on_console_without_unicode(isolated: Path, encoding: str) -> None:
    """A title in another script does not end the program."""
    code = "from zCLI import zCLI\nz = zCLI({'title': '\u65e5\u672c', 'logger_path': 'logs'})\n"
    done = _run(code, isolated, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[zConfig Ready] ")
    assert (isolated / "logs" / "\u65e5\u672c.log").exists()


# --- banners ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deployment", ["Development", "Testing", "Production", None])
@pytest.mark.parametrize("logger", ["PROD", "INFO", "CRITICAL"])
def test_banners_appear_only_in_development(isolated: Path, deployment: str | None, logger: str) -> None:
    """They go to stdout in the order of the guide, at any log level."""
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


def test_start_imports_little(isolated: Path) -> None:
    """Modules that a start does not use are not imported."""
    code = "import sys\nfrom zCLI import zCLI\nz = zCLI({})\nprint('modules:', *sys.modules)\n"
    without_coverage = {"COVERAGE_PROCESS_CONFIG": "<unset>", "COVERAGE_PROCESS_START": "<unset>"}
    modules = _run(code, isolated, **without_coverage).stdout.partition("modules:")[2].split()
    assert "zcli_layers" in modules
    assert [name for name in modules if name.startswith(HEAVY)] == []
    assert {"difflib", "json", "logging.handlers", "click", "rich", "tempfile"}.isdisjoint(modules)


@pytest.mark.parametrize("part", ["http", "websocket", "services"])
def test_part_after_close_raises(part: str) -> None:
    """No object would close what the part opens."""
    z = zCLI(QUIET)
    z.close()
    with pytest.raises(RuntimeError, match="this zCLI object is closed"):
        getattr(z.comm, part)


@pytest.mark.parametrize("part", ["http", "websocket", "services"])
def test_first_use_by_threads_makes_one_part(part: str) -> None:
    """Each zCLI object has one client, one server and one record of services."""
    from concurrent.futures import ThreadPoolExecutor

    with zCLI(QUIET) as z, ThreadPoolExecutor(16) as threads:
        start = threading.Barrier(16)

        def get(_: int) -> int:
            start.wait(30)
            return id(getattr(z.comm, part))

        assert len(set(threads.map(get, range(16)))) == 1
