"""What all tests share: the real httpbin on loopback, and HTTP clients over the urllib3 transport."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from installations import Site, clean_environment
from verb_client import VerbClient

from zcli_core.config.sections import Http
from zcli_core.http.client import HttpClient
from zcli_core.http.contract import HttpTransport
from zcli_core.log import ApplicationLog

# No time limits: on a loaded machine any example, and the making of any, may be slow. In CI hypothesis has a profile of
# its own, with the same examples in every run.
# Half of its usual number of examples: the tests with the largest space say their own number.
settings.register_profile(
    "zcli", settings.default, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("zcli")


@pytest.fixture(scope="session", autouse=True)
def no_proxy_for_loopback() -> Iterator[None]:
    """Keep a developer's proxy away from requests of the tests to their own servers."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, ",".join(filter(None, [known, "localhost,127.0.0.1,::1"])))
        yield


def pytest_configure(config: pytest.Config) -> None:
    """Ignore a warning of asyncio in Python 3.10, which calls a TLS transport unclosed if its peer closed it.

    3.11 has another implementation. Leaks of our own show on every other version.
    """
    if sys.version_info < (3, 11):
        config.addinivalue_line("filterwarnings", "ignore:unclosed:ResourceWarning")
        unraisable = "ignore:Exception ignored in. <function _S.*Transport:pytest.PytestUnraisableExceptionWarning"
        config.addinivalue_line("filterwarnings", unraisable)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run two workers more than there are processors with ``-n auto``, because many tests wait for something."""
    return (os.cpu_count() or 1) + 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a worker all cases of a parametrized test at once: a message for each test costs more than many tests."""
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]

    # In the order of collection: the tests of a class share its server.
    config.option.loadscopereorder = False
    scheduling: Any = LoadGroupScheduling(config, log)
    group_of = scheduling._split_scope

    def scope_of(nodeid: str) -> str:
        group: str = group_of(nodeid)
        return nodeid.partition("[")[0] if group == nodeid else group

    scheduling._split_scope = scope_of
    return scheduling


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what collection makes out of garbage collection: half a million objects that live to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


#: How many slow tests this run left out.
_LEFT_OUT = pytest.StashKey[int]()


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count the slow tests that ``-m "not slow"`` leaves out."""
    if items:
        stash = items[0].config.stash
        slow = sum(item.get_closest_marker("slow") is not None for item in items)
        stash[_LEFT_OUT] = stash.get(_LEFT_OUT, 0) + slow


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the number to the process that prints, if this is a worker of pytest-xdist."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(_LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the number from a worker; every worker collects all tests, so the numbers are the same."""
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say in the last line what was left out."""
    left_out = config.stash.get(_LEFT_OUT, 0)
    if left_out and not hasattr(config, "workeroutput"):
        print(f"{left_out} slow tests were left out; this runs them: pytest -m slow")


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """No callback of the garbage collector runs: an exception that a signal handler raises within one is lost."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates in captured output, because a worker of pytest-xdist cannot send them."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture(scope="session")
def local_httpbin() -> ModuleType:
    """The module ``Demos/local_httpbin.py``; Demos is not a package."""
    name = "local_httpbin"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "Demos" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def httpbin(local_httpbin: ModuleType) -> Iterator[str]:
    """The URL of httpbin over HTTP."""
    with local_httpbin.LocalHttpbin() as server:
        yield server.url


@pytest.fixture(scope="session")
def httpbin_https(local_httpbin: ModuleType) -> Iterator[Any]:
    """httpbin over HTTPS: ``url``, and ``ca_file`` to trust."""
    with local_httpbin.LocalHttpbin(https=True) as server:
        yield server


@pytest.fixture
def make_http(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., HttpClient]]:
    """Makes HTTP clients from settings of the section ``http`` and hooks; they are closed with the test.

    The environment's proxies are out of the way.
    """
    from zcli_urllib3.transport import Urllib3Transport

    with _http_clients(Urllib3Transport, monkeypatch) as make:
        yield make


@pytest.fixture
def make_curl(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., HttpClient]]:
    """As ``make_http``, over libcurl."""
    from zcli_pycurl.transport import CurlTransport

    with _http_clients(CurlTransport, monkeypatch) as make:
        yield make


@contextlib.contextmanager
def _http_clients(
    transport: Callable[[Http], HttpTransport], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., HttpClient]]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    made = []

    def make(on_request: Any = None, on_response: Any = None, **settings: Any) -> HttpClient:
        section = Http(**settings)
        log = logging.getLogger("zcli.test.http")
        client = VerbClient(section, lambda: transport(section), log, on_request, on_response)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def http(make_http: Callable[..., HttpClient]) -> HttpClient:
    """An HTTP client with default settings."""
    return make_http()


@pytest.fixture
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home, an empty working directory, an empty script beside it, and no variable that configures zCLI.

    Gives the working directory. What the test leaves in the environment is taken away again.
    """
    before = dict(os.environ)
    for name in ("home", "project", "scripts"):
        (tmp_path / name).mkdir()
    for name in set(before) - set(clean_environment(before, tmp_path)):
        del os.environ[name]
    os.environ.update(HOME=str(tmp_path / "home"), ZCLI_CONFIG_DIR=str(tmp_path / "machine"))
    script = tmp_path / "scripts" / "my_script.py"
    script.touch()
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
    monkeypatch.chdir(tmp_path / "project")
    yield tmp_path / "project"
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty folder at the front of ``sys.path`` to install distributions in."""
    found = Site(tmp_path / "site")
    monkeypatch.setattr(sys, "path", [str(found.folder), *sys.path])
    yield found
    found.forget_modules()


@pytest.fixture
def open_log(tmp_path: Path) -> Iterator[Callable[..., ApplicationLog]]:
    """Opens logs in a folder that is not there yet; they are closed with the test."""
    opened = []

    def make(title: str = "t", level: str = "DEBUG", deployment: str = "Testing", **options: Any) -> ApplicationLog:
        opened.append(ApplicationLog(title, level, deployment, options.pop("folder", tmp_path / "a" / "b"), **options))
        return opened[-1]

    yield make
    for log in opened:
        log.close()
