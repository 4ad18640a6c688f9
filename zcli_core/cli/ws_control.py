"""``zcli ws status`` and ``zcli ws reload``: the running servers of this user, asked over their control sockets."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from zcli_core.cli.output import json_option, print_error, print_json, print_table, print_text
from zcli_core.websocket.control_folder import AVAILABLE, RunFolder

if TYPE_CHECKING:
    from zcli_core.types import ServerStatus, WorkerStatus

#: Seconds that a server may take to respond.
_TIMEOUT = 10.0
_LONGEST_RESPONSE = 4 * 1024 * 1024


class _Server(NamedTuple):
    """A server that has responded."""

    #: The name of its control socket.
    socket: str
    status: ServerStatus

    def __str__(self) -> str:
        return f"{self.status['title']} (pid {self.status['pid']})"


@click.command("status")
@json_option
def status(as_json: bool) -> None:
    """Show the WebSocket servers that this user runs on this machine.

    A room with clients of two workers counts twice. The exit status is 1 if no server runs.
    """
    servers = _servers()
    if as_json:
        print_json([server.status for server in servers])
    if not servers:
        print_error(_NO_SERVER)
        sys.exit(1)
    if not as_json:
        columns = ("title", "pid", "url", "uptime", "clients", "rooms", "workers", "backplane", "not ready")
        print_table(columns, (_row(server.status) for server in servers))


@click.command("reload")
@click.argument("pid", type=click.IntRange(min=1), required=False)
@click.option("--title", help="Reload all servers with this title.")
def reload(pid: int | None, title: str | None) -> None:
    """Replace the workers of a WebSocket server by new ones, which run the code that is on the disk now.

    PID is the process that `zcli ws status` shows. Without PID and --title, the only server that runs is reloaded. The
    server closes each client once, with code 1012. Its log tells how the reload went. The exit status is 1 if a server
    did not begin it.
    """
    if pid is not None and title is not None:
        raise click.UsageError("give PID or --title, not both")
    failed = False
    for server in _chosen(_servers(), pid, title):
        try:
            _ask(server.socket, "reload")
        except (OSError, ValueError) as error:
            print_error(f"{server}: {_reason(error)}")
            failed = True
        else:
            print_text(f"{server}: the reload has begun; its log tells how it goes")
    sys.exit(1 if failed else 0)


_NO_SERVER = "no WebSocket server of this user runs on this machine"


def _chosen(servers: list[_Server], pid: int | None, title: str | None) -> list[_Server]:
    """Return the servers that the arguments name; end the command if there is none, or more than one without them."""
    if not servers:
        found, problem = [], _NO_SERVER
    elif pid is not None:
        found = [server for server in servers if server.status["pid"] == pid]
        problem = f"no WebSocket server of this user has the pid {pid}"
    elif title is not None:
        found = [server for server in servers if server.status["title"] == title]
        problem = f"no WebSocket server of this user has the title {title!r}"
    else:
        found = servers if len(servers) == 1 else []
        problem = f"{len(servers)} servers run: {', '.join(map(str, servers))}; name one by its PID, or use --title"
    if not found:
        print_error(problem)
        sys.exit(1)
    return found


def _servers() -> list[_Server]:
    """Return the servers that respond, by title and pid; report the others."""
    if not AVAILABLE:
        print_error("this system has no Unix sockets, so running servers cannot be asked")
        return []
    found = []
    try:
        with RunFolder() as folder:
            for name, connection in folder.connections(_TIMEOUT):
                try:
                    found.append(_Server(name, _request(connection, "status")["status"]))
                except (OSError, ValueError, KeyError) as error:
                    print_error(f"{folder.path}/{name} does not respond: {_reason(error)}")
    except FileNotFoundError:  # no server has made it
        return []
    except OSError as error:
        print_error(_reason(error))
        return []
    return sorted(found, key=lambda server: (server.status["title"], server.status["pid"]))


def _ask(name: str, request: str) -> dict[str, Any]:
    """Send a request to the server with a control socket.

    Raises:
        OSError: It has ended, or does not respond.
        ValueError: It refuses.
    """
    with RunFolder() as folder:
        for found, connection in folder.connections(_TIMEOUT):
            if found == name:
                return _request(connection, request)
            if isinstance(connection, socket.socket):
                connection.close()
    raise ProcessLookupError(3, "the server has ended")


def _request(connection: socket.socket | OSError, request: str) -> dict[str, Any]:
    """Send a request and return the response, at most 4 MiB.

    Raises:
        OSError: The server does not respond in time.
        ValueError: The response is not valid, or it is an error of the server.
    """
    if isinstance(connection, OSError):
        raise connection
    deadline = time.monotonic() + _TIMEOUT
    received = b""
    with connection:
        connection.sendall(f"{request}\n".encode())
        while data := connection.recv(65536):
            received += data
            if len(received) > _LONGEST_RESPONSE:
                raise ValueError("its response is too long")
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
    response = json.loads(received)
    if not isinstance(response, dict):
        raise ValueError("its response is not a JSON object")  # noqa: TRY004 - not an argument
    if "error" in response:
        raise ValueError(response["error"])
    return response


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return "it has closed the connection without a response"
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _row(server: ServerStatus) -> tuple[str, ...]:
    workers = server["workers"]
    return (
        server["title"],
        str(server["pid"]),
        server["url"],
        _duration(server["uptime"]),
        str(server["clients"]),
        str(sum(worker["rooms"] for worker in workers)),
        ", ".join(f"{count} {state}" for state, count in Counter(worker["state"] for worker in workers).items()),
        server["backplane"],
        "; ".join(_not_ready(worker, len(workers) > 1) for worker in workers if worker["not_ready"]) or "-",
    )


def _not_ready(worker: WorkerStatus, several: bool) -> str:
    reasons = ", ".join(worker["not_ready"])
    return f"worker {worker['number']}: {reasons}" if several else reasons


def _duration(seconds: float) -> str:
    """Return a duration with its two largest units: ``3 d 4 h``, ``5 min 20 s``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((place for place, (number, _) in enumerate(parts) if number), 3)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2])
