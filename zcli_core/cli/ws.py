"""``zcli ws``: run a WebSocket server with the settings in force, or use one from the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from zcli_core.cli.http import pairs
from zcli_core.cli.output import print_error, print_text, write_bytes
from zcli_core.cli.secret_files import secret_from_file
from zcli_core.cli.session import comm
from zcli_core.cli.ws_control import reload, status
from zcli_core.errors import ZCLIError
from zcli_core.printable import print_line, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from zcli_core.cli.ws_client import Client, InputLines
    from zcli_core.http.contract import Url
    from zcli_core.websocket.contract import Message

#: Close codes of a normal end. 1005 is a close frame without a code (RFC 6455, section 7.1.5).
_NORMAL_CODES = (1000, 1001, 1005)
_CLOSE_TIMEOUT = 5.0
_LONGEST_WAIT = 1e6


@click.group("ws")
def command() -> None:
    """Run a WebSocket server, connect to one, or look after those that run."""


command.add_command(status)
command.add_command(reload)


@command.command("serve")
@click.option("--host", help="The address to listen on; websocket.host if not given.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port; websocket.port if not given; 0 picks one.")
@click.option("--broadcast", is_flag=True, help="Send each message to all other clients, not back to its sender.")
def serve(host: str | None, port: int | None, broadcast: bool) -> None:
    """Run a WebSocket server until Ctrl+C. It sends each message back.

    Messages, connects and disconnects are printed; control characters in them appear as escapes such as \\x1b. The
    settings of the section websocket apply; `zcli config websocket` shows them.
    """
    facade = comm()
    server = facade.websocket

    async def handle(websocket: Any, message: Message) -> None:
        print_line(f"{client_label(websocket)}: {_shown(message)}")
        if broadcast:
            await server.broadcast(message, exclude=websocket)
        else:
            await websocket.send(message)

    def client_label(websocket: Any) -> str:
        info = server.auth.get_client_info(websocket)
        address = "{}:{}".format(*info["address"]) if info["address"] else "a client"
        return f"{info['identity']} at {address}" if info["identity"] else address

    async def connected(websocket: Any) -> None:
        print_line(f"{client_label(websocket)} connected; clients: {server.client_count}")

    async def disconnected(websocket: Any) -> None:
        reason = f" ({websocket.close_reason})" if websocket.close_reason else ""
        print_line(f"{client_label(websocket)} disconnected: {websocket.close_code}{reason}")

    try:
        server.start(host, port, handle, on_connect=connected, on_disconnect=disconnected)
    except (ZCLIError, ValueError) as error:
        print_error(error)
        sys.exit(2)
    finally:
        facade.close()


@command.command("connect")
@click.argument("url")
@click.option("--token", help="A token for Authorization: Bearer. Other users can see it; prefer --token-file.")
@click.option(
    "--token-file", callback=secret_from_file, type=click.Path(allow_dash=True, dir_okay=False),
    help="A file with a token for Authorization: Bearer; - is the first line of standard input.",
)  # fmt: skip
@click.option(
    "-H", "--header", "headers", multiple=True, callback=pairs,
    help="A header, as 'Name: value'. @FILE reads one from each line of a file.",
)  # fmt: skip
@click.option("--origin", help="The Origin header to send, such as https://example.com.")
@click.option(
    "--ca-file", type=click.Path(exists=True, dir_okay=False), help="PEM file of the authority to trust for wss://."
)
@click.option(
    "--max-size", type=click.IntRange(min=1), default=16 * 1024 * 1024, show_default=True,
    help="Largest message that is accepted, in bytes.",
)  # fmt: skip
@click.option(
    "--wait", type=click.FloatRange(min=0), default=1.0, show_default=True,
    help="Seconds to wait for further messages after the end of the input.",
)  # fmt: skip
def connect(
    url: str,
    token: str | None,
    token_file: str | None,
    headers: list[tuple[str, str]],
    origin: str | None,
    ca_file: str | None,
    max_size: int,
    wait: float,
) -> None:
    """Connect to a server at URL (ws:// or wss://).

    Each line of the input is sent, and the messages of the server are printed. The command ends when the server closes
    the connection, when the input has ended and no more messages arrive, or with Ctrl+C. The exit status is 0 if the
    connection was closed with code 1000, 1001 or none, and otherwise 1.

    A file or a program gets the messages unchanged; on a terminal, control characters are printed as escapes. A token
    is sent only if an option or the URL contains it.
    """
    from zcli_core.cli.ws_client import ClientError, read_url

    try:
        address, user_info = read_url(url)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="URL") from error
    if token is not None and token_file is not None:
        raise click.UsageError("give --token or --token-file, not both")
    fields = [*headers, *_credentials(token if token_file is None else token_file, user_info)]
    fields += [("Origin", origin)] if origin else []
    try:
        code = asyncio.run(_talk(address, _checked(fields), ca_file, max_size, wait))
    except ClientError as error:
        print_error(printable(str(error)))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if code in _NORMAL_CODES else 1)


def _credentials(token: str | None, user_info: tuple[str, str] | None) -> Iterator[tuple[str, str]]:
    from zcli_core.http.auth import authorize
    from zcli_core.http.contract import Headers, HttpRequest, Url

    if token is not None and user_info is not None:
        raise click.UsageError("give credentials in the URL or --token, not both")
    if token is None and user_info is None:
        return
    request = HttpRequest("GET", Url("http", "", 80, "/"), Headers())
    try:
        authorize(user_info or token or "")(request)
    except ValueError as error:
        raise click.UsageError(str(error).replace("auth:", "--token:" if token is not None else "URL:")) from error
    yield from request.headers.items()


def _checked(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    from zcli_core.http.contract import check_header

    for name, value in fields:
        try:
            check_header(name, value)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    return fields


async def _talk(url: Url, headers: list[tuple[str, str]], ca_file: str | None, max_size: int, wait: float) -> int:
    """Connect, send the input, print messages and how the connection ended; return the close code."""
    from zcli_core.cli.ws_client import Client, Ending, InputLines

    with _sigint(signal.default_int_handler):  # the handler of asyncio.run() would wait for blocking calls
        client = await Client.connect(url, headers, ca_file, max_size)
    print_error(f"connected to ws{url.redacted().removeprefix('http')}")
    lines = InputLines(asyncio.get_running_loop())
    with _first_ctrl_c() as interrupted:
        printing = asyncio.ensure_future(_print_messages(client))
        sending = asyncio.ensure_future(_send_lines(client, lines))
        stopping = asyncio.ensure_future(interrupted.wait())
        try:
            await asyncio.wait({printing, sending, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await _wait_for_silence(client, min(wait, _LONGEST_WAIT), {printing, stopping})
            if not printing.done():
                client.send_close()
                await asyncio.wait({printing}, timeout=_CLOSE_TIMEOUT)
            if printing.done():
                printing.result()
        finally:
            for task in (printing, sending, stopping):
                task.cancel()
            await asyncio.gather(printing, sending, stopping, return_exceptions=True)
            await client.disconnect()
    ending = client.ending or Ending(1006, "the server did not reply to the close frame", by_server=False)
    by = " by the server" if ending.by_server else ""
    reason = f" ({printable(ending.reason)})" if ending.reason else ""
    print_error(f"closed{by}: {ending.code}{reason}; messages: {client.sent} sent, {client.received} received")
    if lines.problem or (lines.has_unsent and not interrupted.is_set()):
        print_error(lines.problem or "the connection ended before all of the input was sent")
        return 1006
    return ending.code


async def _print_messages(client: Client) -> None:
    async for message in client.messages():
        if sys.stdout.isatty():
            print_text(f"< {_shown(message)}", keep="\n\t")
        else:  # click.echo() would remove ANSI colour codes
            write_bytes(f"{_shown(message)}\n".encode(sys.stdout.encoding, "backslashreplace"))


async def _send_lines(client: Client, lines: InputLines) -> None:
    while (line := await lines.get()) is not None:
        if not await client.send(line):
            lines.put_back(line)
            await asyncio.Event().wait()  # until _print_messages has printed the last messages
        lines.task_done()


async def _wait_for_silence(client: Client, seconds: float, until: set[asyncio.Future[Any]]) -> None:
    client.last_message_at = time.monotonic()
    while not any(task.done() for task in until) and (left := client.last_message_at + seconds - time.monotonic()) > 0:
        await asyncio.wait(until, timeout=left, return_when=asyncio.FIRST_COMPLETED)


@contextlib.contextmanager
def _first_ctrl_c() -> Iterator[asyncio.Event]:
    """Set an event at the first Ctrl+C; a second Ctrl+C ends the program at once."""
    loop = asyncio.get_running_loop()
    interrupted = asyncio.Event()

    def set_event(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        loop.call_soon_threadsafe(interrupted.set)

    with _sigint(set_event):
        yield interrupted


@contextlib.contextmanager
def _sigint(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Set the handler of Ctrl+C, unless Ctrl+C is ignored, as in a background job of a shell script."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _shown(message: Message) -> str:
    if isinstance(message, str):
        return message
    return f"{len(message)} bytes: {message[:40].hex(' ')}{' ...' if len(message) > 40 else ''}"
