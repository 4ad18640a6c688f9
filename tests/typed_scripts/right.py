# pyright: strict
"""Right uses of the public API. Type checkers must find no mistake here; ``assert_type`` names the exact types."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from logging import Logger
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

from zCLI import (
    BackgroundServer,
    BackplaneFailure,
    BlockingConnection,
    ClientInfo,
    ConfigError,
    ConnectionClosed,
    ConnectionInfo,
    Delivery,
    EventError,
    Explanation,
    Handler,
    Histogram,
    HttpFailure,
    HttpMetrics,
    HttpRequest,
    HttpResponse,
    HttpStatusError,
    ListenError,
    Member,
    Message,
    Section,
    ServerConnection,
    ServiceFailure,
    ServiceState,
    ServiceStatus,
    WebSocketMetrics,
    ZSpark,
    setting,
    zCLI,
)

URL = "https://api.example/items"

# --- settings ---

zSpark: ZSpark = {
    "title": "typed",
    "zMode": "zBifrost",
    "deployment": "Testing",
    "logger": "PROD",
    "logger_path": Path("logs"),
    "http": {"timeout": 5, "retries": 2, "ca_file": "ca.pem"},
    "websocket": {"port": 0, "require_auth": True, "allowed_origins": ["https://example.com"], "tokens": {"a": "t"}},
    "services": {"start_timeout": 5, "redis": {"port": 6380}},
    "jwt": {"audience": ("api",)},
    "deployments": {"Production": {"http": {"timeout": 20}}},
}
z = zCLI(zSpark)
zCLI().close()
untyped: dict[str, Any] = {"title": "typed", "stopwatch": {"slow": 2}}
with zCLI(untyped) as other:
    other.logger.info("a third-party plugin declares this setting")

assert_type(z.logger, Logger)
assert_type(z.config.http.timeout, float)
assert_type(z.config.websocket.port, int)
assert_type(z.config.services.start_timeout, float)
assert_type(z.config.deployment, str)
assert_type(z.config.explain("http.timeout"), Explanation)


class Stopwatch(Section, name="stopwatch"):
    """Settings of a plugin."""

    slow: float = setting(1.0, "seconds from which a call is slow", minimum=0)


assert_type(z.config.section(Stopwatch).slow, float)

# --- HTTP ---

response = z.comm.http_get(URL, params={"page": 1}, timeout=(1, 5), auth=("user", "password"))
assert_type(response, HttpResponse | None)
if response is not None:
    assert_type(response.status_code, int)
    assert_type(response.text, str)
    assert_type(response.headers.get("Content-Type"), str | None)
    assert_type(response.elapsed, float)
    found: dict[str, int] = response.json()
    try:
        assert_type(response.raise_for_status(), HttpResponse)
    except HttpStatusError as error:
        print(error.response.reason)


def sign(request: HttpRequest) -> None:
    request.headers["X-Signature"] = "..."


def blocks() -> Iterator[bytes]:
    yield b"..."


z.comm.http_post(URL, {"name": "Alice"}, {"X-Mine": "1"}, 5)
z.comm.http_post(URL, json=None, auth="token", retries=2, retry_all_methods=True)
z.comm.http_put(URL, data=blocks(), auth=sign)
z.comm.http_patch(URL, form={"name": "Alice"}, files={"file": Path("file.txt")})
z.comm.http_delete(URL, {"id": 1})
z.comm.http_head(URL, follow_redirects=False)
z.comm.http_options(URL, headers=[("X-Mine", "1")])
z.comm.http_request("SEARCH", URL, data=b"...")
failure = z.comm.http.last_failure
assert_type(failure, HttpFailure | None)

# --- ports ---

assert_type(z.comm.check_port(8080), bool)
assert_type(z.comm.wait_for_port(8080, timeout=0.1), bool)
assert_type(z.comm.find_free_port(), int)

# --- counters ---

assert_type(z.comm.websocket.metrics(), WebSocketMetrics)
assert_type(z.comm.websocket.metrics()["closed"], dict[str, int])
assert_type(z.comm.http.metrics(), HttpMetrics)
assert_type(z.comm.http.metrics()["seconds"], Histogram)

# --- services ---

status = z.comm.service_status("redis")
assert_type(status, ServiceStatus)
assert_type(status["state"], ServiceState)
assert_type(status["port"], int | None)
assert_type(z.comm.service_status(), dict[str, ServiceStatus])
assert_type(z.comm.start_service("redis", port=6380, data_dir=Path("data"), timeout=5), bool)
assert_type(z.comm.stop_service("redis"), bool)
assert_type(z.comm.restart_service("redis", timeout=5), bool)
assert_type(z.comm.health_check_all(), dict[str, bool])
assert_type(z.comm.services.last_failure, ServiceFailure | None)
info: ConnectionInfo | None = z.comm.get_service_connection_info("redis")
if info is not None:
    assert_type(info["port"], int)

# --- WebSocket ---


async def chat(websocket: ServerConnection, message: Message) -> None:
    client: ClientInfo = z.comm.websocket.auth.get_client_info(websocket)
    await websocket.send(client["identity"] or "anonymous")
    assert_type(await z.comm.websocket.broadcast(message, exclude=websocket), Delivery)
    await websocket.join("news", data={"name": "Ann"})
    sent = await z.comm.websocket.broadcast(message, to=["news", "@alice", websocket])
    assert_type(sent.failure, BackplaneFailure | None)
    assert_type(await z.comm.websocket.presence("news"), tuple[Member, ...])
    assert_type(await z.comm.websocket.send(websocket, b"..."), bool)
    async for following in websocket:
        assert_type(following, Message)


def plain(websocket: BlockingConnection, message: str | bytes) -> None:
    try:
        websocket.send(message)
    except ConnectionClosed as error:
        print(error.code)


handlers: Mapping[str, Handler] = {"/chat": chat, "/plain": plain}
try:
    with z.comm.websocket.start_background(port=0, handler=handlers) as server:
        assert_type(server, BackgroundServer)
        assert_type(server.url, str)
    z.comm.websocket.start("127.0.0.1", 8765, chat)
except (ConfigError, ListenError) as problem:
    print(problem)
published: Future[Delivery] = z.comm.websocket.publish("news")
assert_type(z.comm.websocket.url, str | None)


async def main() -> None:
    await z.comm.websocket.serve(handler=plain, on_connect=greet, on_disconnect=lambda websocket: None)


async def greet(websocket: ServerConnection) -> None:
    await websocket.send(f"hello {websocket.remote_address}")


# --- subsystems ---


@z.bifrost.on("greet")
async def answer(client: ServerConnection, data: dict[str, Any]) -> dict[str, Any]:
    if "name" not in data:
        raise EventError("say who you are", "invalid", {"name": "missing"})
    assert_type(await z.bifrost.broadcast("greeted", data["name"], exclude=client), Delivery)
    return {"hello": data["name"]}


@z.bifrost.on("leave")
def leave(client: BlockingConnection, data: dict[str, Any]) -> None:
    assert_type(z.bifrost.publish("left", to="room"), Future[Delivery])


class Greeter:
    """A subsystem of a plugin."""

    word = "hello"


assert_type(z.subsystem("greeter", Greeter).word, str)
assert_type(z.bifrost.start_background(port=0), BackgroundServer)
z.walker.run()
z.shutdown()
