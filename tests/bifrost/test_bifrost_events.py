"""Events of zBifrost: every request gets exactly one answer, whatever the client sends and the handler does."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import gc
import json
import socket
import threading
import uuid
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from bifrost_serving import DEADLINE, Served, clients_of, eventually
from zcli_bifrost.events import BUILTIN

from zcli_core import __version__
from zcli_core.app import zCLI
from zcli_core.errors import EventError

Serve = Callable[..., Served]

FAILED = {"error": "the server failed to handle the request", "code": "failed"}


async def greet(client: Any, data: dict[str, Any]) -> dict[str, Any]:
    return {"hello": data["name"]}


async def echo(client: Any, data: dict[str, Any]) -> Any:
    return data.get("value")


# The greeting --------------------------------------------------------------------------------------------------


def test_greeting_comes_first(serve: Serve) -> None:
    """It says what the server can do and who the client is; ``connection_info`` asks for it again."""
    served = serve(websocket={"require_auth": True, "tokens": {"alice": "a-token-of-the-tests"}})
    with served.browser("/?token=a-token-of-the-tests") as browser:
        assert browser.info == {
            "event": "connection_info",
            "data": {
                "server_version": __version__,
                "features": ["events"],
                "models": [],
                "identity": "alice",
                "tier": "none",
                "role": None,
                "requests_max": 32,
            },
        }
        assert browser.ask("connection_info") == {"result": browser.info["data"]}


def test_role_in_claims_of_another_strategy_is_ignored(serve: Serve, site: Any) -> None:
    """Only the strategy ``bifrost`` says which role a client has."""
    site.plugin(
        "claiming",
        """
        from zcli_core.auth.contract import Identified
        class Claiming:
            never_blocks = True
            def authenticate(self, request):
                return Identified("mallory", {"role": "admin", "tier": "zSession", "app": "x"})
        @hookimpl
        def zcli_auth_strategies(): return [Provider("claiming", "of a test", lambda context: Claiming())]
        """,
    )
    served = serve(websocket={"require_auth": True, "auth": ["claiming"]})
    with served.browser() as browser:
        assert (browser.info["data"]["role"], browser.info["data"]["tier"]) == (None, "none")


def listens(port: int) -> bool:
    """Whether a server accepts connections on a port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE):
            return True
    except ConnectionError:
        return False


# Answers -------------------------------------------------------------------------------------------------------


def test_request_gets_its_answer(serve: Serve) -> None:
    """With the id of the request: a number or a text."""
    with serve({"greet": greet}).browser() as browser:
        for request_id in (0, -5, 2**53 - 1, "a", "x" * 64, "é\u0000"):
            browser.send("greet", request_id, name="Ada")
            assert browser.receive() == {"_requestId": request_id, "result": {"hello": "Ada"}}


def test_request_without_id_gets_errors_only(serve: Serve) -> None:
    """A result is not sent, an error is."""
    with serve({"greet": greet}).browser() as browser:
        browser.send("greet", name="Ada")
        browser.send("greet")
        assert browser.receive() == FAILED
        assert browser.ask("greet", name="Bob") == {"result": {"hello": "Bob"}}


def test_plain_handler_runs_in_a_thread(serve: Serve) -> None:
    """It may block, and gets the blocking connection."""

    def join(client: Any, data: dict[str, Any]) -> list[Any]:
        client.join(data["room"])
        return [threading.current_thread() is threading.main_thread(), threading.current_thread().name]

    served = serve({"join": join})
    with served.browser() as browser:
        assert browser.ask("join", room="lobby") == {"result": [False, "zcli-bifrost-handler"]}
        assert served.z.comm.websocket.rooms == {"lobby": 1}


def test_requests_of_one_client_run_at_the_same_time(serve: Serve) -> None:
    """A later request may be answered first."""
    arrived = asyncio.Event()

    async def wait(client: Any, data: dict[str, Any]) -> str:
        await arrived.wait()
        return "waited"

    async def release(client: Any, data: dict[str, Any]) -> str:
        arrived.set()
        return "released"

    with serve({"wait": wait, "release": release}).browser() as browser:
        browser.send("wait", 1)
        browser.send("release", 2)
        answers = {answer["_requestId"]: answer["result"] for answer in (browser.receive(), browser.receive())}
        assert answers == {1: "waited", 2: "released"}


class Color(enum.Enum):
    RED = "red"


RESULTS: list[tuple[Any, Any]] = [
    (None, None),
    ((1, 2.5), [1, 2.5]),
    (datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone.utc), "2026-01-02T03:04:00+00:00"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (decimal.Decimal("0.10"), "0.10"),
    (Color.RED, "red"),
    ({1: "one"}, {"1": "one"}),
    ("\ud800 half", "\ud800 half"),
    ("שלום", "שלום"),
]


def test_result_is_sent_as_json(serve: Serve) -> None:
    """Dates, times, UUIDs and Decimals as texts, enum members as their values."""

    async def give(client: Any, data: dict[str, Any]) -> Any:
        return RESULTS[data["number"]][0]

    with serve({"give": give}).browser() as browser:
        answers = [browser.ask("give", number=number)["result"] for number in range(len(RESULTS))]
        assert answers == [shown for _, shown in RESULTS]


CYCLE: list[Any] = []
CYCLE.append(CYCLE)
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


NOT_JSON = [b"bytes", {1, 2}, float("nan"), float("inf"), CYCLE, DEEP, object(), {(1, 2): 3}, [b"x"]]


def test_result_that_json_cannot_hold_is_an_error(serve: Serve) -> None:
    """The log says what it was; the client gets no detail, and its connection stays."""

    async def give(client: Any, data: dict[str, Any]) -> Any:
        return NOT_JSON[data["number"]]

    served = serve({"give": give, "echo": echo})
    with served.browser() as browser:
        for number in range(len(NOT_JSON)):
            assert browser.ask("give", number=number) == FAILED, number
        assert browser.ask("echo", value=1) == {"result": 1}
        assert served.logged("JSON cannot hold a set").count("the handler of the event 'give' failed for") >= 2


def test_event_error_is_shown_to_the_client(serve: Serve) -> None:
    """It is the way of a handler to say what is wrong."""

    async def refuse(client: Any, data: dict[str, Any]) -> Any:
        raise EventError("there is no board 7", "not_found", {"board": "unknown"})

    served = serve({"refuse": refuse})
    with served.browser() as browser:
        expected = {"error": "there is no board 7", "code": "not_found", "fields": {"board": "unknown"}}
        assert browser.ask("refuse") == expected
        assert "the handler of the event" not in served.log()


ERRORS = [ValueError("secret"), SystemExit("secret"), asyncio.CancelledError("secret"), KeyError("secret")]


def test_handler_that_raises_shows_nothing(serve: Serve) -> None:
    """Whatever it raises ends its own request only. The log has the error."""

    async def fail(client: Any, data: dict[str, Any]) -> Any:
        raise ERRORS[data["number"]]

    def fail_in_thread(client: Any, data: dict[str, Any]) -> Any:
        raise ERRORS[data["number"]]

    served = serve({"fail": fail, "fail_in_thread": fail_in_thread, "echo": echo})
    with served.browser() as browser:
        for number, error in enumerate(ERRORS):
            for event in ("fail", "fail_in_thread"):
                assert browser.ask(event, number=number) == FAILED
            assert "secret" in served.logged(type(error).__name__)
        assert browser.ask("echo", value=1) == {"result": 1}


# Invalid messages ----------------------------------------------------------------------------------------------


NOT_REQUESTS = [
    "",
    "hello",
    "{",
    "[]",
    "[" * 100_000,
    '{"a":' * 100_000,
    "1",
    "null",
    '"text"',
    '{"event": NaN}',
    '{"event": "echo", "value": 1e400}',
    '{"event": "echo", "value": -Infinity}',
    '{"event": "echo", "value": ' + "1" * 10_000 + "}",
    b'{"event": "echo"}',
    b"\xff",
    "[{}]",
    "{}",
    '{"event": null}',
    '{"event": ""}',
    '{"event": 5}',
    '{"event": ["echo"]}',
    json.dumps({"event": "e" * 101}),
    '{"event": "echo", "_requestId": null}',
    '{"event": "echo", "_requestId": true}',
    '{"event": "echo", "_requestId": 1.5}',
    '{"event": "echo", "_requestId": 9007199254740992}',
    '{"event": "echo", "_requestId": ""}',
    '{"event": "echo", "_requestId": {}}',
    json.dumps({"event": "echo", "_requestId": "x" * 65}),
]


def test_message_that_is_not_a_request_is_an_error(serve: Serve) -> None:
    """The answer has no id, because none can be trusted. The connection stays."""
    with serve({"echo": echo}).browser() as browser:
        for message in NOT_REQUESTS:
            browser.connection.send(message)
            answer = browser.receive()
            assert (answer["code"], set(answer)) == ("invalid", {"error", "code"}), message[:50]
        assert browser.ask("echo", value=1) == {"result": 1}


def test_request_without_event_is_answered_with_its_id(serve: Serve) -> None:
    """So that the promise of the client ends."""
    with serve().browser() as browser:
        browser.connection.send('{"_requestId": 7}')
        expected = {"error": "'event' must be a text of 1 to 100 characters", "code": "invalid"}
        assert browser.receive() == {"_requestId": 7, **expected}


def test_unknown_event_is_an_error(serve: Serve) -> None:
    """It is never passed on to other clients."""
    served = serve({"echo": echo})
    with served.browser() as browser, served.browser() as other:
        for event in ("nothing", "__class__", "_handle", "data_updated", "\x00"):
            assert browser.ask(event) == {"error": f"unknown event {event!r}", "code": "not_found"}
        assert other.ask("echo", value=1) == {"result": 1}


def test_event_of_models_without_models_says_so(serve: Serve) -> None:
    """The reason is that no models are set."""
    with serve().browser() as browser:
        for event in sorted(BUILTIN - {"connection_info"}):
            answer = browser.ask(event, model="users")
            assert answer["code"] == "not_found"
            assert answer["error"].startswith("this server has no models")


def test_event_of_models_without_sqlalchemy_has_the_command(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain installation serves events, and says what models need."""
    monkeypatch.setattr("zcli_bifrost.events.find_spec", lambda name: None)
    with serve({"echo": echo}).browser() as browser:
        assert "pip install 'sqlalchemy>=2.0'" in browser.ask("read", model="users")["error"]
        assert browser.ask("echo", value=1) == {"result": 1}


# Limits --------------------------------------------------------------------------------------------------------


def test_requests_over_the_limit_are_refused(serve: Serve) -> None:
    """Each of them gets its answer; afterwards requests are handled again."""
    release = threading.Event()

    def wait(client: Any, data: dict[str, Any]) -> str:
        release.wait(DEADLINE)
        return "done"

    with serve({"wait": wait, "echo": echo}, bifrost={"requests_max": 3}).browser() as browser:
        for number in range(5):
            browser.send("wait", number)
        refused = [browser.receive(), browser.receive()]
        assert [(answer["_requestId"], answer["code"]) for answer in refused] == [(3, "too_many"), (4, "too_many")]
        release.set()
        done = [browser.receive() for _ in range(3)]
        assert sorted(answer["_requestId"] for answer in done) == [0, 1, 2]
        assert browser.ask("echo", value=1) == {"result": 1}


def test_request_id_in_use_is_a_conflict(serve: Serve) -> None:
    """Both requests get a response; the id may be used again afterwards."""
    release = threading.Event()

    def wait(client: Any, data: dict[str, Any]) -> str:
        release.wait(DEADLINE)
        return "done"

    with serve({"wait": wait, "echo": echo}).browser() as browser:
        browser.send("wait", 1)
        assert browser.ask("echo", 1)["code"] == "conflict"
        release.set()
        assert browser.receive() == {"_requestId": 1, "result": "done"}
        assert browser.ask("echo", 1, value=1) == {"result": 1}


def test_plain_handlers_of_one_client_have_few_threads(serve: Serve) -> None:
    """The ninth waits for one of the others, so that one client cannot start a thread for each request."""
    release, running = threading.Event(), []

    def wait(client: Any, data: dict[str, Any]) -> int:
        running.append(1)
        release.wait(DEADLINE)
        return len(running)

    with serve({"wait": wait, "echo": echo}).browser() as browser:
        for number in range(10):
            browser.send("wait", number)
        eventually(lambda: len(running) == 8)
        assert browser.ask("echo", 99, value=1) == {"result": 1}
        assert len(running) == 8
        release.set()
        assert {browser.receive()["_requestId"] for _ in range(10)} == set(range(10))


def test_answer_over_the_send_buffer_is_an_error(serve: Serve) -> None:
    """It would end the connection as that of a slow client. The log names the setting."""
    served = serve({"big": lambda client, data: "x" * data["size"]}, websocket={"max_send_buffer": 200_000})
    with served.browser() as browser:
        assert len(browser.ask("big", size=120_000)["result"]) == 120_000
        error = "the request was handled, but its result is too large to be sent"
        assert browser.ask("big", size=200_000) == {"error": error, "code": "failed"}
        assert "(websocket.max_send_buffer)" in served.logged("a response may have")


def test_large_answers_to_a_slow_client_all_arrive(serve: Serve) -> None:
    """Together they are over ``websocket.max_send_buffer``; one waits for the other."""

    async def big(client: Any, data: dict[str, Any]) -> str:
        return "x" * 1_000_000

    served = serve({"big": big}, websocket={"max_send_buffer": 2_000_000})
    with served.browser(max_size=None, max_queue=1) as browser:
        for number in range(20):
            browser.send("big", number)
        assert {browser.receive()["_requestId"] for _ in range(20)} == set(range(20))


# The end of a connection ---------------------------------------------------------------------------------------


def test_request_ends_with_its_connection(serve: Serve) -> None:
    """A handler that hangs is cancelled when its client has left, and nothing is logged."""
    ended: list[str] = []

    async def hang(client: Any, data: dict[str, Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("hang")

    served = serve({"hang": hang, "echo": echo})
    with served.browser() as browser:
        browser.send("hang", 1)
        assert browser.ask("echo", 2, value=1) == {"result": 1}
    eventually(lambda: ended)
    eventually(lambda: not clients_of(served.z))
    assert "failed" not in served.log()


def test_request_in_flight_is_answered_before_the_server_stops(serve: Serve) -> None:
    """``websocket.drain_timeout`` is its time, as that of a handler."""
    begun, release = threading.Event(), threading.Event()

    def slow(client: Any, data: dict[str, Any]) -> str:
        begun.set()
        release.wait(DEADLINE)
        return "done"

    served = serve({"slow": slow})
    with served.browser() as browser:
        browser.send("slow", 1)
        assert begun.wait(DEADLINE)
        stopping = threading.Thread(target=served.handle.stop)
        stopping.start()
        eventually(lambda: not listens(served.port), "the server has released its port")
        release.set()
        assert browser.receive() == {"_requestId": 1, "result": "done"}
        stopping.join(DEADLINE)


# Registering and sending ---------------------------------------------------------------------------------------


def test_reserved_event_is_refused(make_z: Callable[..., zCLI]) -> None:
    """Neither a handler nor a broadcast may have its name."""
    z = make_z()
    for event in (*BUILTIN, "data_updated"):
        with pytest.raises(ValueError, match=f"the event '{event}' is reserved"):
            z.bifrost.on(event)
        with pytest.raises(ValueError, match=f"the event '{event}' is reserved"):
            z.bifrost.publish(event)


@pytest.mark.parametrize(
    ("event", "function", "error", "text"),
    [
        ("", greet, ValueError, "1 to 100 characters, got 0"),
        ("e" * 101, greet, ValueError, "1 to 100 characters, got 101"),
        (5, greet, TypeError, "must be a text, got int"),
        (greet, greet, TypeError, 'write @z.bifrost.on("name")'),
        ("x", "greet", TypeError, "expected a function of (client, data), got str"),
        ("x", lambda client: None, TypeError, "must accept (client, data)"),
    ],
)
def test_handler_that_cannot_work_is_refused(
    make_z: Callable[..., zCLI], event: Any, function: Any, error: type[Exception], text: str
) -> None:
    """When it is registered, not when a client needs it."""
    with pytest.raises(error) as caught:
        make_z().bifrost.on(event)(function)
    assert text in str(caught.value)


def test_event_with_two_handlers_is_refused(make_z: Callable[..., zCLI]) -> None:
    """The first one stays."""
    z = make_z()
    assert z.bifrost.on("greet")(greet) is greet
    with pytest.raises(ValueError, match="the event 'greet' has a handler already"):
        z.bifrost.on("greet")(echo)


def test_broadcast_reaches_clients_and_rooms(serve: Serve) -> None:
    """As an event with data; ``publish`` does it from any thread."""

    async def join(client: Any, data: dict[str, Any]) -> None:
        await client.join("lobby")

    async def shout(client: Any, data: dict[str, Any]) -> int:
        return await served.z.bifrost.broadcast("news", {"at": datetime.date(2026, 1, 2)}, exclude=client)

    served = serve({"join": join, "shout": shout})
    with served.browser() as one, served.browser() as two:
        assert one.ask("join") == {"result": None}
        assert served.z.bifrost.publish("to_room", [1], to="lobby").result() == 1
        assert one.receive() == {"event": "to_room", "data": [1]}
        assert two.ask("shout") == {"result": 1}
        assert one.receive() == {"event": "news", "data": {"at": "2026-01-02"}}


def test_broadcast_that_cannot_be_sent_raises(serve: Serve) -> None:
    """In the script, before anything is sent."""
    bifrost = serve(websocket={"max_send_buffer": 200_000}).z.bifrost
    with pytest.raises(TypeError, match="JSON cannot hold a set"):
        bifrost.publish("news", {1})
    with pytest.raises(ValueError, match=r"it may have \d+, because of websocket.max_send_buffer"):
        bifrost.publish("news", "x" * 200_000)
    with pytest.raises(TypeError, match="to must be a room"):
        bifrost.publish("news", to=None)  # type: ignore[arg-type]


def test_blocked_handler_keeps_no_client_after_the_stop(serve: Serve) -> None:
    """A plain function that has not returned in time does not keep its client in memory."""
    began, release = threading.Event(), threading.Event()
    clients: list[weakref.ref[Any]] = []

    def block(client: Any, data: dict[str, Any]) -> None:
        clients.append(weakref.ref(client))
        began.set()
        release.wait(DEADLINE)

    served = serve({"block": block}, websocket={"drain_timeout": 0.1, "close_timeout": 0.1})
    try:
        with served.browser() as browser:
            browser.send(event="block")
            assert began.wait(DEADLINE)
            assert served.z.bifrost.stop()
    finally:
        release.set()
    eventually(lambda: gc.collect() >= 0 and clients[0]() is None, "the end of the client")
