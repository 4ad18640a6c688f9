"""The transport curl and the process: threads, forks, signals, slow name servers, the end of the program."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zcli_core.testing.http.peer import ScriptedServer

ROOT = Path(__file__).parents[2]

CLIENT = """
    import logging, os, signal, sys, threading, time
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path
    from zcli_core.http.client import HttpClient
    from zcli_core.config.sections import Http
    from zcli_pycurl.transport import CurlTransport

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore Ctrl+C

    def make(**options):
        settings = Http(**options)
        return HttpClient(settings, lambda: CurlTransport(settings), logging.getLogger("test"))
"""


def run(script: str, *arguments: str, command: tuple[str, ...] = ()) -> str:
    done = subprocess.run(
        [*command, sys.executable, "-X", "dev", "-W", "error", "-c", program(script), *arguments],
        env=environment(),
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ResourceWarning" not in done.stderr
    return done.stdout


def program(script: str) -> str:
    return textwrap.dedent(CLIENT) + textwrap.dedent(script)


def environment() -> dict[str, str]:
    proxies = {name for name in os.environ if name.lower().endswith("_proxy")}
    return {
        **{name: value for name, value in os.environ.items() if name not in proxies},
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")]),
    }


def open_sockets() -> int:
    folder = "/proc/self/fd"
    names = [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder) if os.path.islink(f"{folder}/{fd}")]
    return sum(name.startswith("socket:") for name in names)


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open sockets in /proc")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@needs_fork
def test_fork_keeps_the_parents_connections(httpbin: str, httpbin_https: Any) -> None:
    """Parent and child use the same client at the same time, in threads."""
    script = """
        http = make(ca_file=Path(sys.argv[3]))

        def work(who, count):
            for call in range(count):
                for url in sys.argv[1:3]:
                    found = http.request("GET", f"{url}/anything", params={"who": who, "call": call})
                    assert found is not None, http.last_failure
                    assert found.json()["args"] == {"who": who, "call": str(call)}, (who, call, found.text)

        def in_threads(who, threads, count):
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda n: work(f"{who}{n}", count), range(threads)))

        work("before", 2)
        in_threads("before", 4, 2)
        # OpenSSL holds a lock while a thread that has used it ends, and a child that is forked then never gets it.
        while os.path.isdir("/proc/self/task") and len(os.listdir("/proc/self/task")) > 1:
            time.sleep(0.001)
        child = os.fork()
        who, threads = ("child", 16) if child == 0 else ("parent", 4)
        work(who, 5)
        in_threads(who, threads, 5)
        http.close()
        if os.path.isdir("/proc/self/fd"):
            names = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
            assert not [name for name in names if "socket:" in name], names
        if child:
            _, status = os.waitpid(child, 0)
            sys.exit(os.waitstatus_to_exitcode(status))
    """
    run(script, httpbin, httpbin_https.url, str(httpbin_https.ca_file))


@needs_fork
def test_fork_child_sends_nothing_at_its_end(httpbin_https: Any) -> None:
    """The parent's connections can still be used."""
    script = """
        http = make(ca_file=Path(sys.argv[2]))
        handles = []

        def get():
            assert http.request("GET", sys.argv[1] + "/get"), http.last_failure
            (idle,) = http._transport._transport._pool._idle.values()
            handles.append(idle[0][0])

        get()
        child = os.fork()
        if child == 0:
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        get()
        assert handles[0] is handles[1], "the connection is still good"
    """
    run(script, httpbin_https.url, str(httpbin_https.ca_file))


@needs_fork
def test_fork_during_calls_of_other_threads(httpbin: str) -> None:
    """The child can make calls."""
    script = """
        http = make()
        stop = threading.Event()

        def work():
            while not stop.is_set():
                assert http.request("GET", sys.argv[1] + "/delay/0.01"), http.last_failure

        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(work) for _ in range(4)]
            for _ in range(5):
                assert http.request("GET", sys.argv[1] + "/get")
                child = os.fork()
                if child == 0:
                    responses = [http.request("GET", sys.argv[1] + "/get") for _ in range(2)]
                    os._exit(0 if all(responses) else 1)
                assert os.waitpid(child, 0)[1] == 0
            stop.set()
            for call in calls:
                call.result()
    """
    run("import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n" + textwrap.dedent(script), httpbin)


def test_program_without_close_ends_quietly(httpbin: str, httpbin_https: Any) -> None:
    """There are no warnings at the end."""
    script = """
        http = make(ca_file=Path(sys.argv[3]))
        assert http.request("GET", sys.argv[1] + "/get") and http.request("GET", sys.argv[2] + "/get")
        assert http.request("GET", "http://127.0.0.1:9/") is None
    """
    assert run(script, httpbin, httpbin_https.url, str(httpbin_https.ca_file)) == ""


# --- signals ---


def hold(server: ScriptedServer, connection: socket.socket) -> None:
    server.read_request(connection)
    server.hold(connection)


def trickle(server: ScriptedServer, connection: socket.socket) -> None:
    server.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    server.trickle(connection, every=0.01)


def silent(server: ScriptedServer, connection: socket.socket) -> None:
    server.closing.wait(30)


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
@pytest.mark.parametrize(
    ("handler", "secure"),
    [(hold, False), (trickle, False), (silent, False), (silent, True)],
    ids=["no response", "trickling response", "not reading", "no handshake"],
)
def test_ctrl_c_ends_a_call(handler: Callable[[ScriptedServer, socket.socket], None], secure: bool) -> None:
    """The server never completes its response or its TLS handshake."""
    script = """
        http = make(timeout=60)
        print("calling", flush=True)
        try:
            http.request("POST", sys.argv[1], data=b"body")
        except KeyboardInterrupt:
            print("interrupted", http._transport._transport._pool._count)
        http.request("GET", "http://127.0.0.1:9/")
        print("goes on")
    """
    with ScriptedServer(handler) as server:
        url = server.url.replace("http:", "https:") if secure else server.url
        process = subprocess.Popen(
            [sys.executable, "-c", program(script), url], env=environment(), stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "calling\n"
            deadline = time.monotonic() + 20
            while server.connections == 0:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.2)  # so that it waits inside libcurl; any moment before is right too
            started = time.monotonic()
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=50)
            assert output == "interrupted 0\ngoes on\n"
            assert time.monotonic() - started < 30  # the call would take 60


# --- a name server that does not respond ---


def can_unshare() -> bool:
    """Return whether a process may have its own /etc/resolv.conf here."""
    program = shutil.which("unshare")
    if program is None or sys.platform != "linux":
        return False
    return subprocess.run([program, "-rm", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="needs Linux, the program unshare, and the right to use it")
def test_silent_name_server_times_out(tmp_path: Path) -> None:
    """getaddrinfo would take 30 seconds; neither the calls nor the end of the program wait for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as name_server:
        try:
            name_server.bind(("127.0.0.77", 53))
        except OSError:
            pytest.skip("port 53 is not to be had")
        (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.77\noptions timeout:30 attempts:1\n")
        script = """
            import subprocess
            subprocess.run(["mount", "--bind", sys.argv[1], "/etc/resolv.conf"], check=True)
            http = make()
            started = time.monotonic()
            assert http.request("GET", "http://slow-to-resolve.example/", timeout=0.4) is None
            assert http.last_failure.kind == "timeout", http.last_failure
            assert "looking up the address of slow-to-resolve.example" in http.last_failure.message
            assert http.request("GET", "http://127.0.0.1:9/") is None
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            try:
                http.request("GET", "http://another.example/", timeout=60)
            except KeyboardInterrupt:
                http.close()
            else:
                sys.exit("not interrupted")
            print(time.monotonic() - started)
        """
        started = time.monotonic()
        assert float(run(script, str(tmp_path / "resolv.conf"), command=("unshare", "-rm"))) < 20
        assert time.monotonic() - started < 25
