"""``zcli ws``: serve a WebSocket with the settings in force here, or talk to one from the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from zcli_core.cli.session import comm
from zcli_core.errors import ZCLIError

if TYPE_CHECKING:
    from zcli_core.contracts.websocket import Message


@click.group("ws")
def command() -> None:
    """Serve a WebSocket, or talk to one."""


@command.command("serve")
@click.option("--host", help="The address to listen on, instead of websocket.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port, instead of websocket.port; 0 picks a free one.")
@click.option("--broadcast", is_flag=True, help="Pass each message on to all other clients instead of sending it back.")
def serve(host: str | None, port: int | None, broadcast: bool) -> None:
    """Serve until Ctrl+C: send messages back, and print what comes and goes.

    Every setting of the section websocket applies; `zcli config websocket` shows them.
    """
    facade = comm()
    server = facade.websocket

    async def handle(websocket: Any, message: Message) -> None:
        click.echo(f"{_name(websocket)}: {_shown(message)}")
        if broadcast:
            await server.broadcast(message, exclude=websocket)
        else:
            await websocket.send(message)

    def _name(websocket: Any) -> str:
        info = server.auth.get_client_info(websocket)
        address = "{}:{}".format(*info["address"]) if info["address"] else "a client"
        return f"{info['identity']} at {address}" if info["identity"] else address

    async def greet(websocket: Any) -> None:
        click.echo(f"{_name(websocket)} came; {server.client_count} connected")

    async def take_leave(websocket: Any) -> None:
        reason = f" ({websocket.close_reason})" if websocket.close_reason else ""
        click.echo(f"{_name(websocket)} left: {websocket.close_code}{reason}")

    try:
        server.start(host, port, handle, on_connect=greet, on_disconnect=take_leave)
    except (ZCLIError, ValueError) as error:
        click.echo(f"zcli: {error}", err=True)
        sys.exit(2)
    finally:
        facade.close()


@command.command("connect")
@click.argument("url")
@click.option("--token", help="Show this token, as Authorization: Bearer.", envvar="WEBSOCKET_TOKEN", show_envvar=True)
@click.option("--origin", help="Say that you are a page of this origin.")
@click.option("--ca-file", type=click.Path(exists=True, dir_okay=False), help="Trust this certificate for wss://.")
@click.option(
    "--wait", default=1.0, show_default=True, help="Seconds to wait for further answers once input has ended."
)
def connect(url: str, token: str | None, origin: str | None, ca_file: str | None, wait: float) -> None:
    """Send each line of input to URL (ws:// or wss://) and print what comes back.

    The exit status is 0 if the connection ended properly, 1 if it was refused, broken or could not be made.
    """
    from zcli_core.cli.ws_client import Client, ClientError

    headers = [("Authorization", f"Bearer {token}")] if token else []
    headers += [("Origin", origin)] if origin else []
    try:
        client = Client(url, headers, ca_file)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="URL") from error
    except ClientError as error:
        click.echo(f"zcli: {error}", err=True)
        sys.exit(1)
    client.listen(lambda message: click.echo(_shown(message)))
    try:
        for line in sys.stdin:
            if not client.send(line.rstrip("\n")):
                break
    except KeyboardInterrupt:
        wait = 0
    code, reason = client.finish(wait)
    click.echo(f"zcli: closed, {code}{f' ({reason})' if reason else ''}", err=True)
    sys.exit(0 if code in (1000, 1001) else 1)


def _shown(message: Message) -> str:
    return message if isinstance(message, str) else f"{len(message)} bytes: {message[:40].hex(' ')}"
