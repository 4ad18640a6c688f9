"""Kept connections of the transport urllib3: forks, age, number, and the end of the program."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zcli_core.http.client import HttpClient
from zcli_core.testing.http.peer import ScriptedServer, responding, response

ROOT = Path(__file__).parents[2]


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open sockets in /proc")


def test_fork_keeps_the_parents_connections(httpbin: str, httpbin_https: Any) -> None:
    """Parent and child use the same client at the same time, in threads."""
    script = """
        import logging, os, sys
        from concurrent.futures import ThreadPoolExecutor
        from pathlib import Path
        from zcli_core.http.client import HttpClient
        from zcli_core.config.sections import Http
        from zcli_urllib3.transport import Urllib3Transport

        settings = Http(ca_file=Path(sys.argv[3]))
        http = HttpClient(settings, lambda: Urllib3Transport(settings), logging.getLogger("test"))
        urls = sys.argv[1:3]

        def work(who, count):
            for call in range(count):
                for url in urls:
                    found = http.request("GET", f"{url}/anything", params={"who": who, "call": call})
                    assert found is not None, http.last_failure
                    assert found.json()["args"] == {"who": who, "call": str(call)}, (who, call, found.text)

        def in_threads(who, threads, count):
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda n: work(f"{who}{n}", count), range(threads)))

        warnings = []
        logging.getLogger().addHandler(logging.Handler(logging.WARNING))
        logging.getLogger().handlers[0].emit = warnings.append

        work("before", 2)
        child = os.fork()
        who, threads = ("child", 16) if child == 0 else ("parent", 4)
        work(who, 5)
        in_threads(who, threads, 5)
        http.close()
        assert not warnings, warnings[0].getMessage()
        if os.path.isdir("/proc/self/fd"):
            names = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
            assert not [name for name in names if "socket:" in name], names
        if child:
            _, status = os.waitpid(child, 0)
            sys.exit(os.waitstatus_to_exitcode(status))
    """
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    run(script, httpbin, httpbin_https.url, str(httpbin_https.ca_file))


def run(script: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(script), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")]), **environment},
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ResourceWarning" not in done.stderr
    return done.stdout


def test_program_without_close_leaves_no_socket(httpbin: str, httpbin_https: Any) -> None:
    """The transport closes its connections at the end of the program."""
    script = """
        import logging, sys
        from pathlib import Path
        from zcli_core.http.client import HttpClient
        from zcli_core.config.sections import Http
        from zcli_urllib3.transport import Urllib3Transport

        settings = Http(ca_file=Path(sys.argv[3]))
        http = HttpClient(settings, lambda: Urllib3Transport(settings), logging.getLogger("test"))
        assert http.request("GET", sys.argv[1] + "/get") and http.request("GET", sys.argv[2] + "/get")
        assert http.request("GET", "http://127.0.0.1:9/") is None
    """
    run(script, httpbin, httpbin_https.url, str(httpbin_https.ca_file))


def test_old_idle_connection_is_not_used_again(http: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Routers may have dropped it."""
    from zcli_core.http.parts import transport

    monkeypatch.setattr(transport, "LONGEST_IDLE", 0.0)
    with ScriptedServer(responding(response())) as server:
        assert http.get(server.url)
        assert http.get(server.url)
        assert server.connections == 2


@needs_proc
def test_connections_to_many_sites_are_bounded(make_http: Callable[..., HttpClient]) -> None:
    """The pool has a limit for all sites together."""
    from contextlib import ExitStack

    from zcli_core.http.parts.transport import ConnectionPool

    assert ConnectionPool(16)._total == 256
    http = make_http(pool_size=16)
    with ScriptedServer(responding(response())) as server:
        assert http.get(server.url)
        assert http._transport._transport is not None
        pool: ConnectionPool[Any] = http._transport._transport._pool  # type: ignore[attr-defined]
        pool._total = 3
        with ExitStack() as stack:
            for _ in range(8):
                other = stack.enter_context(ScriptedServer(responding(response())))
                assert http.get(other.url)
                assert pool._count <= 3
            assert sum(map(len, pool._idle.values())) == 3
        assert http.get(server.url)
        assert server.connections == 2  # the one used longest ago went first
