"""Starting and stopping: settings, ports, threads, restarts, and errors that prevent a start."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websocket_serving import DEADLINE, TOKEN, Certificates, Served, end_of, eventually, talks
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect, unix_connect

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError, ListenError
from zcli_core.websocket import server_core
from zcli_core.websocket.contract import Endpoint
from zcli_core.websocket.endpoint import is_local, is_loopback
from zcli_core.websocket.parts.binding import set_owner_and_mode

Serve = Callable[..., Served]
MakeZ = Callable[..., zCLI]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


# --- where it listens ---


def test_host_and_port_arguments_override_settings(make_z: MakeZ) -> None:
    """``port=0`` picks a free one."""
    configured, given = _free_port(), _free_port()
    server = make_z(port=configured).comm.websocket
    with server.start_background() as handle:
        assert (handle.url, handle.port, server.url) == (f"ws://127.0.0.1:{configured}", configured, handle.url)
    with server.start_background("localhost", given) as handle:
        assert handle.url == f"ws://localhost:{given}"
    with server.start_background(port=0) as handle:
        assert handle.port not in (0, configured, given)
    assert server.url is None


def test_port_0_of_a_name_is_shared(make_z: MakeZ) -> None:
    """localhost may be 127.0.0.1 and ::1."""
    with make_z().comm.websocket.start_background("localhost", 0) as handle:
        for family, _, _, _, address in socket.getaddrinfo("localhost", handle.port, type=socket.SOCK_STREAM):
            with socket.socket(family) as probe:
                assert probe.connect_ex(address) == 0


@pytest.mark.parametrize("port", [-1, 65536, 70000, 10**30, "8765", 8765.0, True])
def test_port_invalid_raises(make_z: MakeZ, port: Any) -> None:
    """Out of range, or not an integer."""
    with pytest.raises(ValueError, match="port must be an integer between 1 and 65535"):
        make_z().comm.websocket.start_background(port=port)


def test_port_setting_out_of_range_raises(make_z: MakeZ) -> None:
    """As for every setting, at once."""
    with pytest.raises(
        ConfigError, match=r"websocket\.port must be an integer between 0 and 65535, got 70000 from zSpark"
    ):
        make_z(port=70000)


@pytest.mark.parametrize("host", ["", "http://localhost", "a b", 5])
def test_host_invalid_raises(make_z: MakeZ, host: Any) -> None:
    """For example a URL."""
    with pytest.raises(ValueError, match="host must be a name or an address"):
        make_z().comm.websocket.start_background(host, 0)


def test_port_in_use_error_names_the_holder(make_z: MakeZ) -> None:
    """This process, or another with its name and pid."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        with pytest.raises(ListenError) as mine:
            make_z().comm.websocket.start_background(port=port)
    assert f"port {port} of 127.0.0.1 is in use" in str(mine.value)
    code = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); "
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipe) as other:  # type: ignore[call-overload]
        port = int(other.stdout.readline())
        with pytest.raises(ListenError) as theirs:
            make_z().comm.websocket.start_background(port=port)
        other.stdin.close()
    if sys.platform == "linux":
        assert "by this process" in str(mine.value)
        assert f"(pid {other.pid})" in str(theirs.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or sys.platform == "win32", reason="privileges are POSIX's")
def test_port_privileged_error_says_so(tmp_path: Path) -> None:
    """For a user without the privilege and a port below 1024."""
    code = (
        "import os, sys\n"
        "from zCLI import zCLI\n"
        f"z = zCLI({{'deployment': 'Production', 'logger_path': {str(tmp_path)!r}}})\n"
        "z.comm.websocket.start_background(port=0).stop()\n"  # only root may be able to read the modules
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: z.comm.websocket.start(port=81)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    floor = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if floor.exists() and int(floor.read_text()) <= 81:
        pytest.skip("on this system every user may listen on port 81")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "ListenError port 81 is privileged" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("host", "message"),
    [("192.0.2.1", "192.0.2.1 is not an address of this machine"), ("no-such-host.invalid", "cannot be resolved")],
)
def test_host_of_other_machine_error_says_so(make_z: MakeZ, host: str, message: str) -> None:
    """192.0.2.0/24 is reserved for documentation (RFC 5737)."""
    with pytest.raises(ListenError, match=message):
        make_z().comm.websocket.start_background(host, _free_port())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "auto"])
def test_loop_setting_selects_the_loop(serve: Serve, loop: str) -> None:
    """auto uses uvloop if it is installed."""
    if loop != "asyncio":
        pytest.importorskip("uvloop")
    served = serve(loop=loop)
    module = type(served.websocket._servers[0].loop).__module__
    assert module.startswith("asyncio" if loop == "asyncio" else "uvloop")
    with served.client() as client:
        assert talks(client)


def test_loop_not_installed_is_an_error(make_z: MakeZ, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to do; auto works without uvloop."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(ConfigError, match=r"websocket\.loop \(zSpark\) asks for uvloop, which is not installed; pip"):
        make_z(loop="uvloop").comm.websocket.start_background(port=0)
    make_z(loop="auto").comm.websocket.start_background(port=0).stop()


# --- Unix sockets ---


def test_unix_socket_is_served_and_removed(serve: Serve, tmp_path: Path) -> None:
    """The client has no address there."""
    path = tmp_path / "s"
    served = serve(unix_path=str(path))
    with unix_connect(str(path), uri="ws://localhost/") as client:
        assert talks(client)
        assert served.websocket.clients[0].remote_address is None
    assert served.url == f"ws+unix://{path}"
    served.handle.stop()
    assert not path.exists()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(("mode", "expected"), [("660", 0o660), ("0666", 0o666), ("600", 0o600), (None, None)])
def test_unix_mode_is_set_on_the_file(
    serve: Serve, tmp_path: Path, mode: str | None, expected: int | None, loop: str
) -> None:
    """A proxy that runs as another user needs write permission; by default the umask decides."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    plain = tmp_path / "plain"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(plain))
    path = tmp_path / "s"
    serve(unix_path=str(path), unix_mode=mode, loop=loop)
    assert stat.S_IMODE(path.stat().st_mode) == (expected or stat.S_IMODE(plain.stat().st_mode))


@pytest.mark.parametrize("mode", ["rw-rw----", "888", "7777", "-1", "66", ""])
def test_unix_mode_not_octal_is_an_error(make_z: MakeZ, mode: str) -> None:
    with pytest.raises(ConfigError, match=r"websocket\.unix_mode must be permissions as three octal digits"):
        make_z(unix_mode=mode)


def test_unix_owner_is_set_on_the_file(serve: Serve, tmp_path: Path) -> None:
    """By number or name; ordinary users can only choose a group of theirs."""
    user, group = os.getuid(), os.getgid()
    for owner in (f"{user}", f"{user}:{group}", f":{group}"):
        path = tmp_path / "s"
        served = serve(unix_path=str(path), unix_owner=owner)
        assert (path.stat().st_uid, path.stat().st_gid) == (user, group)
        served.handle.stop()
    if user == 0:
        import grp
        import pwd

        user_name = "nobody"
        account = pwd.getpwnam(user_name)
        path = tmp_path / "t"
        serve(unix_path=str(path), unix_owner=f"{user_name}:{grp.getgrgid(account.pw_gid).gr_name}")
        assert (path.stat().st_uid, path.stat().st_gid) == (account.pw_uid, account.pw_gid)


@pytest.mark.parametrize("kind", ["link", "file", "second name"])
def test_unix_mode_of_replaced_socket_is_not_set(tmp_path: Path, kind: str) -> None:
    """The owner of the folder may replace the socket before root sets owner and mode."""
    victim, path = tmp_path / "victim", tmp_path / "s"
    if kind == "second name":
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(victim))
        os.link(victim, path)
    else:
        victim.touch()
        path.symlink_to(victim) if kind == "link" else victim.replace(path)
    before = path.stat().st_mode
    with pytest.raises(OSError):
        set_owner_and_mode(path, (-1, -1), 0o777)
    assert path.stat().st_mode == before


def test_unix_owner_unknown_is_an_error(make_z: MakeZ, tmp_path: Path) -> None:
    """The socket is not bound."""
    path = tmp_path / "s"
    for owner in ("no-such-user", ":no-such-group", "no-such-user:0"):
        with pytest.raises(ConfigError, match=rf"websocket\.unix_owner \(zSpark\): '{owner}' names a user or group"):
            make_z(unix_path=str(path), unix_owner=owner).comm.websocket.start_background()
    assert not path.exists()


def test_unix_owner_not_permitted_is_an_error(make_z: MakeZ, tmp_path: Path, monkeypatch: Any) -> None:
    """The file does not remain with another owner."""

    def refused(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refused)
    with pytest.raises(ListenError, match=r"websocket\.unix_owner: this user may not change the owner"):
        make_z(unix_path=str(tmp_path / "s"), unix_owner="0").comm.websocket.start_background()
    assert not (tmp_path / "s").exists()


def test_unix_socket_stale_file_is_removed(make_z: MakeZ, tmp_path: Path) -> None:
    """A socket in use, and a file that is not a socket, are errors."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert stat.S_ISSOCK(path.stat().st_mode)
    with (
        make_z(unix_path=str(path)).comm.websocket.start_background(),
        pytest.raises(ListenError, match="another server listens"),
    ):
        make_z(unix_path=str(path)).comm.websocket.start_background()
    path.write_text("precious")
    with pytest.raises(ListenError, match="is not a socket"):
        make_z(unix_path=str(path)).comm.websocket.start_background()
    assert path.read_text() == "precious"
    with pytest.raises(ListenError, match=r"websocket\.unix_path \(zSpark\): .* does not exist; create it"):
        make_z(unix_path=str(tmp_path / "missing" / "s")).comm.websocket.start_background()


def test_port_argument_overrides_unix_path(make_z: MakeZ, tmp_path: Path) -> None:
    with make_z(unix_path=str(tmp_path / "s")).comm.websocket.start_background(port=0) as handle:
        assert handle.url.startswith("ws://127.0.0.1:")
    assert not (tmp_path / "s").exists()


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="this system has no SO_REUSEPORT")
def test_reuse_port_allows_two_servers(make_z: MakeZ) -> None:
    """The system distributes the connections."""
    with make_z(reuse_port=True).comm.websocket.start_background(port=0) as first:
        second = make_z(reuse_port=True).comm.websocket.start_background(port=first.port)
        with connect(first.url, proxy=None) as client:
            assert talks(client)
        second.stop()


# --- descriptors ---

EXHAUSTED = """
import os, resource, sys
from zCLI import zCLI
z = zCLI({"deployment": "Production", "title": "few", "logger_path": sys.argv[1],
          "websocket": {"port": 0, "loop": sys.argv[2], "open_timeout": 600, "ssl_enabled": len(sys.argv) > 3,
                        **({"ssl_cert": sys.argv[3], "ssl_key": sys.argv[4]} if len(sys.argv) > 3 else {})}})
with z.comm.websocket.start_background() as server:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    print(server.port, flush=True)
    sys.stdin.readline()
    print([os.dup(0) for _ in range(8)], flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the limit is POSIX's")
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_descriptor_limit_is_one_log_line(tmp_path: Path, certificates: Certificates, loop: str, secure: bool) -> None:
    """Not a traceback per client; other clients are accepted, because silent ones are dropped."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    files = map(str, certificates.issue("a")) if secure else ()
    command = [sys.executable, "-c", EXHAUSTED, str(tmp_path), loop, *files]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, **pipes) as program:  # type: ignore[call-overload]
        port = int(program.stdout.readline())
        log = tmp_path / "few.log"
        crowd = [socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) for _ in range(100)]
        eventually(lambda: "new clients cannot be accepted" in log.read_text(), "the line in the log")
        options = {"ssl": certificates.trusting()} if secure else {}
        url = f"{'wss' if secure else 'ws'}://127.0.0.1:{port}"

        def is_let_in() -> bool:
            try:
                with connect(url, proxy=None, open_timeout=DEADLINE, **options) as client:
                    return talks(client)
            except (OSError, EOFError, WebSocketException):
                return False  # uvloop drops connections that it could not accept

        eventually(is_let_in)
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline().startswith("["), "the crowd has the descriptors that the process needs"
        for sock in crowd:
            sock.close()
        eventually(is_let_in)
        _, errors = program.communicate("\n", timeout=DEADLINE)
    lines = [line for line in log.read_text().splitlines() if "ERROR" in line]
    assert len(lines) == 1, lines
    assert "the limit of open files is" in lines[0]
    assert "Traceback" not in errors + log.read_text()


# --- what keeps it from starting ---


def _refused(make_z: MakeZ, **settings: Any) -> str:
    """Return the text of the ConfigError; the port stays closed."""
    port = _free_port()
    z = make_z(**settings)
    with pytest.raises(ConfigError) as raised:
        z.comm.websocket.start(port=port)
    assert _is_closed(port)
    assert not z.comm.websocket.is_running
    return str(raised.value)


def test_require_auth_without_token_is_an_error(make_z: MakeZ) -> None:
    """No client could connect."""
    message = _refused(make_z, require_auth=True)
    for part in ("websocket.require_auth (zSpark)", "WEBSOCKET_TOKEN=", ".zEnv", "zcli token"):
        assert part in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"token": ""}, "websocket.token (zSpark): the token is empty"),
        ({"token": "with space"}, "websocket.token (zSpark): a token must consist of printable ASCII"),
        ({"token": "tökén"}, "websocket.token (zSpark): a token must consist of printable ASCII"),
        ({"token": "x" * 5000}, "websocket.token (zSpark): the token has 5000 characters"),
        ({"tokens": {"alice": ""}}, "websocket.tokens.alice (zSpark): the token is empty"),
        ({"tokens": {"a": "same", "b": "same"}}, "websocket.tokens.b (zSpark): 'a' has the same token"),
        ({"token": "x", "tokens": {"default": "y"}}, "uses the name 'default'"),
    ],
)
def test_token_invalid_error_does_not_show_it(make_z: MakeZ, settings: dict[str, Any], message: str) -> None:
    """Empty, not sendable, or shared."""
    said = _refused(make_z, require_auth=True, **settings)
    assert message in said
    for secret in ("with space", "tökén", "xxxx", "same"):
        assert secret not in said.replace("the same", "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"auth": []}, "websocket.auth (zSpark) names no strategy"),
        ({"auth": ["origin"]}, "websocket.allowed_origins lists no origin"),
        ({"auth": ["origin"], "allowed_origins": []}, "websocket.allowed_origins lists no origin"),
        ({"token": TOKEN, "allowed_origins": ["localhost"]}, "allowed_origins (zSpark): 'localhost' is not an origin"),
    ],
)  # fmt: skip
def test_auth_without_credentials_is_an_error(make_z: MakeZ, settings: dict[str, Any], message: str) -> None:
    """No client could connect."""
    assert message in _refused(make_z, require_auth=True, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"auth": ["tokn"]},
            "no plugin provides the auth strategy 'tokn', which websocket.auth (zSpark) selects; did",
        ),
        ({"transport": "wsprto"}, "no plugin provides the WebSocket transport 'wsprto', which websocket.transport (zS"),
    ],
)
def test_provider_unknown_is_an_error(make_z: MakeZ, settings: dict[str, Any], message: str) -> None:
    """The error lists the installed ones and suggests the closest."""
    with pytest.raises(ConfigError) as raised:
        make_z(**settings)
    assert message in str(raised.value)


def test_errors_are_all_reported(make_z: MakeZ, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        make_z(
            ssl_enabled=True, ssl_cert=str(tmp_path / "missing"), allowed_origins=["a", "b"]
        ).comm.websocket.start_background(port=0)
    assert len(raised.value.problems) == 3


async def _handle(websocket: Any, message: Any) -> None:
    pass


@pytest.mark.parametrize("arguments", [(_handle,), ({"/": _handle},), ("127.0.0.1", _handle)])
@pytest.mark.parametrize("method", ["start", "start_background", "serve"])
def test_handler_as_positional_argument_raises(make_z: MakeZ, method: str, arguments: Any) -> None:
    """The first two arguments are host and port; the error says how to pass a handler."""
    start = getattr(make_z().comm.websocket, method)
    with pytest.raises(TypeError, match=r"(host|port) must not be a handler, got .*; pass it as handler="):
        asyncio.run(start(*arguments)) if method == "serve" else start(*arguments)


def test_start_in_event_loop_raises(make_z: MakeZ) -> None:
    """It would block the loop; the error names serve() and start_background()."""
    server = make_z().comm.websocket

    async def inside() -> None:
        with pytest.raises(RuntimeError, match=r"await z\.comm\.websocket\.serve.*start_background"):
            server.start(port=0)
        with server.start_background(port=0) as handle:
            assert handle.port

    asyncio.run(inside())
    assert not server.is_running


@pytest.mark.parametrize(
    ("settings", "path", "headers", "refused"),
    [
        ({}, f"/?{'x' * 9000}", {}, False),
        ({"max_header_bytes": 4096}, f"/?{'x' * 9000}", {}, True),
        ({"max_header_bytes": 100_000}, f"/?{'x' * 60_000}", {}, False),
        ({"max_headers": 20}, "/", {f"X-{number}": "y" for number in range(20)}, True),
        ({"max_headers": 200}, "/", {f"X-{number}": "y" for number in range(180)}, False),
    ],
)
def test_header_limits_are_settings(
    serve: Serve, settings: dict[str, Any], path: str, headers: dict[str, str], refused: bool
) -> None:
    """Large cookies may need more, and a public server less."""
    served = serve(**settings)
    try:
        with served.client(path, additional_headers=headers) as client:
            let_in = talks(client)
    except (ConnectionClosed, InvalidStatus):
        let_in = False
    assert let_in is not refused


# --- stopping ---


def test_stop_closes_clients_and_frees_port(make_z: MakeZ) -> None:
    """With 1001, and the port can be used again at once."""
    port = _free_port()
    server = make_z().comm.websocket
    for _ in range(5):
        handle = server.start_background(port=port)
        with connect(handle.url, proxy=None) as client:
            assert talks(client)
            stopper = threading.Thread(target=server.stop)
            stopper.start()
            assert end_of(client) == (1001, "the server is shutting down")
            stopper.join(DEADLINE)
        assert (server.is_running, server.client_count, handle.wait(0)) == (False, 0, True)
        assert _is_closed(port)


def test_start_twice_raises(serve: Serve) -> None:
    """One server at a time."""
    served = serve()
    with pytest.raises(RuntimeError, match=rf"is already running at {served.url}"):
        served.websocket.start(port=0)
    with pytest.raises(RuntimeError, match="is already running"):
        served.websocket.start_background(port=0)
    with served.client() as client:
        assert talks(client)


def test_stop_without_server_does_nothing(make_z: MakeZ) -> None:
    """Also twice."""
    server = make_z().comm.websocket
    assert server.stop()
    with server.start_background(port=0) as handle:
        assert handle.stop()
        assert handle.stop()
    assert server.stop()


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
def test_stop_in_handler_does_not_wait(serve: Serve, plain: bool) -> None:
    """It would wait for itself."""

    async def stop(websocket: Any, message: str) -> None:
        served.websocket.stop()

    def stop_plain(websocket: Any, message: str) -> None:
        served.websocket.stop()

    served = serve(stop_plain if plain else stop)
    with served.client() as client:
        client.send("stop")
        assert end_of(client)[0] == 1001
    assert served.handle.wait(DEADLINE)


def test_start_in_other_thread_blocks_until_stop(make_z: MakeZ, capsys: pytest.CaptureFixture[str]) -> None:
    """It leaves signals alone there, and prints where it listens and how it ended."""
    import signal

    server = make_z().comm.websocket
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=server.start, kwargs={"port": 0})
    thread.start()
    url = eventually(lambda: server.url)
    assert signal.getsignal(signal.SIGINT) is before
    with connect(url, proxy=None) as client:
        assert talks(client)
        assert server.stop() or True
        assert end_of(client)[0] == 1001
    thread.join(DEADLINE)
    assert not thread.is_alive()
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"[WebSocket] listening on {url} (no auth); Ctrl+C stops it"
    assert second.startswith(f"[WebSocket] stopped: 1 client closed, port {url.rpartition(':')[2]} released")


def test_stop_during_start_works(make_z: MakeZ) -> None:
    """Before the loop runs, before the port is open, and after."""
    server = make_z().comm.websocket
    for pause in (0, 0.001, 0.003, 0.01, 0.03):
        thread = threading.Thread(target=server.start, kwargs={"port": 0})
        thread.start()
        eventually(lambda: server._run is not None)
        time.sleep(pause)  # the test passes at any moment
        assert server.stop()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_close_stops_the_server(make_z: MakeZ) -> None:
    """As does leaving its ``with`` block."""
    with make_z() as z:
        handle = z.comm.websocket.start_background(port=0)
    assert handle.wait(0)
    assert handle.port is not None
    assert _is_closed(handle.port)


def test_serve_in_own_loop_until_stop(make_z: MakeZ) -> None:
    """Until it is stopped or cancelled; the clients get 1001 in both cases."""
    server = make_z().comm.websocket

    async def run(end: Callable[[asyncio.Task[None]], Any]) -> tuple[int, str]:
        task = asyncio.ensure_future(server.serve(port=0))
        while not server.is_running:
            await asyncio.sleep(0.001)

        def speak() -> tuple[int, str]:
            with connect(server.url, proxy=None) as client:
                assert talks(client)
                loop.call_soon_threadsafe(end, task)
                return end_of(client)

        loop = asyncio.get_running_loop()
        found = await asyncio.to_thread(speak)
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None
        return found

    assert asyncio.run(run(lambda task: server.stop())) == (1001, "the server is shutting down")
    assert asyncio.run(run(lambda task: task.cancel())) == (1001, "the server is shutting down")
    assert not server.is_running


def test_serve_cancelled_twice_forgets_clients(make_z: MakeZ) -> None:
    """The second cancellation interrupts the shutdown, which waits for a handler, and disconnects the clients."""
    websocket = make_z(drain_timeout=60).comm.websocket
    handling: list[str] = []

    async def handler(connection: Any, message: str) -> None:
        handling.append(message)
        await asyncio.sleep(60)

    async def run() -> None:
        task = asyncio.ensure_future(websocket.serve(port=0, handler=handler))
        while not websocket.is_running:
            await asyncio.sleep(0.001)
        async with connect_async(websocket.url, proxy=None) as client:
            await client.send("work")
            while not handling:
                await asyncio.sleep(0.001)
            for _ in range(2):
                task.cancel()
                for _ in range(5):  # steps of the event loop
                    await asyncio.sleep(0)
            assert task.cancelled()
            assert websocket.clients == ()
            await client.wait_closed()

    asyncio.run(run())
    assert websocket.publish("hello").result(0) == 0


def test_two_zcli_objects_serve_separately(serve: Serve) -> None:
    """Each has its own clients and settings."""
    open_to_all, guarded = serve(), serve(require_auth=True, token=TOKEN)
    with open_to_all.client() as client:
        assert talks(client)
        assert guarded.refusal()[0] == 1008
        assert (open_to_all.websocket.client_count, guarded.websocket.client_count) == (1, 0)


def test_stop_leaves_no_tasks_and_sockets(make_z: MakeZ) -> None:
    """Only idle threads of handlers remain."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("this system does not list open files")
    server = make_z().comm.websocket
    server.start_background(port=0).stop()  # imports and opening the log file are done
    before = len(list(descriptors.iterdir())), threading.active_count()
    for _ in range(3):
        with server.start_background(port=0) as handle, connect(handle.url, proxy=None) as client:
            assert talks(client)
    # Fewer are left if something of the first server was still ending.
    eventually(lambda: len(list(descriptors.iterdir())) <= before[0] and threading.active_count() <= before[1])


def test_log_in_development_has_each_client(isolated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also on the console: when it connected and how it disconnected."""
    with zCLI({"title": "dev", "logger_path": str(isolated)}) as z:
        with z.comm.websocket.start_background(port=0) as handle, connect(handle.url, proxy=None) as client:
            client.close(4000, "bye")
            eventually(
                lambda: "disconnected: closed by the client, 4000 'bye'; 0 now" in (isolated / "dev.log").read_text()
            )
        shown = capsys.readouterr().err
    assert "connected; 1 now" in shown
    assert "disconnected: closed by the client, 4000 'bye'; 0 now" in shown


def test_origin_is_escaped_in_the_log(isolated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line about a client cannot control the terminal or forge a line."""
    with zCLI({"title": "dev", "logger_path": str(isolated), "websocket": {"allowed_origins": ["*"]}}) as z:
        strange = {"Origin": "http://a\x9b31m\x9d0;title\x85forged"}
        with (
            z.comm.websocket.start_background(port=0) as handle,
            connect(handle.url, proxy=None, additional_headers=strange) as client,
        ):
            assert talks(client)
    for text in ((isolated / "dev.log").read_text(), capsys.readouterr().err):
        as_sent = text.replace("\xc2", "")  # websockets up to 16 sends UTF-8
        assert "page http://a\\x9b31m\\x9d0;title\\x85forged; 1 now" in as_sent
        assert not {"\x9b", "\x9d", "\x85"} & set(text)


def test_public_server_without_auth_is_warned(make_z: MakeZ, isolated: Path) -> None:
    make_z().comm.websocket.start_background("0.0.0.0", 0).stop()
    assert "every machine that can reach 0.0.0.0 may connect" in (isolated / "logs" / "server-0.log").read_text()


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("0:0:0:0:0:0:0:1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("LocalHost.", True),
        (None, True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.7", False),
        ("::1:2:3", False),
        ("127.evil.example", False),
        ("localhost.corp.example", False),
        ("localhostess", False),
    ],
)
def test_endpoint_is_local_by_its_address(host: str | None, local: bool) -> None:
    """A name that only begins like a loopback address is not local."""
    assert is_local(Endpoint(host=host, port=0)) is local
    assert is_loopback(Endpoint(host=host, port=0)) is (local and host is not None)


def test_endpoint_of_sockets_is_local_by_addresses(tmp_path: Path) -> None:
    """Sockets of systemd: a Unix socket is local, but pages of a proxy behind it may be of other machines."""
    with socket.create_server(("127.0.0.1", 0)) as inet, socket.socket(socket.AF_UNIX) as unix:
        for sockets, loopback in (((inet,), True), ((inet, unix), False), ((unix,), False)):
            endpoint = Endpoint(host=None, port=0, sockets=sockets)
            assert (is_local(endpoint), is_loopback(endpoint)) == (True, loopback)


def test_other_features_import_no_asyncio(isolated: Path) -> None:
    """The server is imported at its first use."""
    code = (
        "import sys; from zCLI import zCLI; zCLI({'deployment': 'Production'}).comm.check_port(9); "
        "print('asyncio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "False", done.stderr


def test_ssl_cert_without_ssl_enabled_is_warned(make_z: MakeZ, certificates: Certificates, isolated: Path) -> None:
    """The user may believe that this is wss://."""
    certificate, _ = certificates.issue("a")
    make_z(ssl_cert=str(certificate)).comm.websocket.start_background(port=0).stop()
    assert "websocket.ssl_enabled is not: serving ws://" in (isolated / "logs" / "server-0.log").read_text()


def test_start_failure_closes_systemd_sockets(make_z: MakeZ, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each start makes new descriptors of the sockets of systemd."""
    passed = socket.create_server(("127.0.0.1", 0))
    endpoint = Endpoint(sockets=(passed,), unix_path=Path("missing") / "s")
    monkeypatch.setattr(server_core, "use_systemd_sockets", lambda _: endpoint)
    with pytest.raises(ListenError):
        make_z().comm.websocket.start_background()
    assert passed.fileno() == -1
