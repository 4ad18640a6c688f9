"""``bifrost.js`` in Node.js, against a zCLI server that answers as each test wants."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from bifrost_speaker import Speaker, run_node

Speak = Callable[..., Speaker]


def test_client_requests_are_answered(speak: Speak) -> None:
    """connect() gives the greeting, each method sends its event, and ids count from 0."""
    speaker = speak(greeting={"server_version": "7"})
    answers = run_node(
        """
        const client = new BifrostClient(url.replace("ws:", "http:"));
        const info = await client.connect();
        const answers = await Promise.all([
            client.create("tasks", { title: "<b>" }),
            client.read("tasks", { id: ["in", [1, 2]] }, { order_by: "-id", limit: 2 }),
            client.update("tasks", { id: 1 }, { title: "b" }),
            client.delete("tasks", { id: 1 }),
            client.send({ event: "greet", name: "Ann" }),
        ]);
        client.disconnect();
        report([info, ...answers, client.isConnected()]);
        """,
        speaker.url,
    )
    assert answers == [
        {"server_version": "7"},
        {"event": "create", "model": "tasks", "data": {"title": "<b>"}, "_requestId": 0},
        {
            "event": "read",
            "model": "tasks",
            "filters": {"id": ["in", [1, 2]]},
            "order_by": "-id",
            "limit": 2,
            "_requestId": 1,
        },
        {"event": "update", "model": "tasks", "filters": {"id": 1}, "data": {"title": "b"}, "_requestId": 2},
        {"event": "delete", "model": "tasks", "filters": {"id": 1}, "_requestId": 3},
        {"event": "greet", "name": "Ann", "_requestId": 4},
        False,
    ]


def _answers_of_every_kind(speaker: Speaker, client: Any, request: dict[str, Any]) -> dict[str, Any] | None:
    if request["event"] == "create":
        return {"error": "not valid", "code": "invalid", "fields": {"title": "must not be empty"}}
    if request["event"] == "read":
        return {"result": request.get("seen"), "_version": 41}
    if request["event"] == "update":
        return {"result": request.get("seen"), "_version": 12}
    return None


def test_client_errors_and_versions(speak: Speak) -> None:
    """Errors have code and fields; requests about rows carry the highest version of all answers; timeouts end."""
    outcomes = run_node(
        """
        const client = new BifrostClient(url, { hooks: { onError() {} } });
        const early = await outcome(client.send({ event: "greet" }));
        client.connect();
        const created = outcome(client.create("tasks", {}));         // waits for the connection
        const outcomes = [early, await created];
        for (const request of [client.read("tasks"), client.update("tasks", {}, {}), client.read("tasks")])
            outcomes.push(await outcome(request));
        outcomes.push(await outcome(client.update("tasks", {}, {})));
        outcomes.push(await outcome(client.send({ event: "custom" }, 20)));
        outcomes.push(await outcome(client.send({ event: "custom", number: 1n })));
        report([outcomes, client.seen]);
        """,
        speak(_answers_of_every_kind).url,
    )
    nothing: dict[str, str] = {}
    assert outcomes == [
        [
            {"code": "not_connected", "fields": nothing},
            {"code": "invalid", "fields": {"title": "must not be empty"}},
            {"result": None},
            {"result": None},
            {"result": None},
            {"result": 41},
            {"code": "timeout", "fields": nothing},
            {"code": "invalid", "fields": nothing},
        ],
        41,
    ]


def _drop_the_first(speaker: Speaker, client: Any, request: dict[str, Any]) -> Any:
    """Lose the connection at the first ``create``; answer everything that comes later."""
    if speaker.events().count("create") == 0:
        return None
    if speaker.events().count("drop") == 0:
        return None
    if request["event"] == "drop":
        return client.close(1011, "lost")
    return {"result": request["event"]}


def test_client_resumes_reads_never_writes(speak: Speak) -> None:
    """After a lost connection reads are sent again; writes fail with an unknown outcome and are not sent again."""
    speaker = speak(_drop_the_first)
    outcomes = run_node(
        """
        const client = new BifrostClient(url, backoff);
        await client.connect();
        const requests = [
            client.read("tasks"), client.create("tasks", {}), client.send({ event: "custom" }),
            client.send({ event: "drop" }),
        ];
        const outcomes = await Promise.all(requests.map(outcome));
        outcomes.push(await outcome(client.connect().then(() => "again")));
        outcomes.push(await outcome(client.send({ event: "custom" })));
        report(outcomes.map(({ code, result }) => code ?? result));
        """,
        speaker.url,
    )
    unknown = "outcome_unknown"
    assert outcomes == ["read", unknown, unknown, unknown, "again", "custom"]
    assert speaker.events() == ["read", "create", "custom", "drop", "read", "custom"]


def _subscriptions(speaker: Speaker, client: Any, request: dict[str, Any]) -> Any:
    if request["event"] == "drop":
        return client.close(1012, "restart")
    if request["event"] == "subscribe" and request["model"] == "secrets":
        return {"error": "no", "code": "forbidden"}
    if request["event"] == "change":
        change = {"model": request["model"], "action": "update"}
        data = {"event": "data_updated", "_version": 5, "data": change}
        return _then(client.send(json.dumps(data)), {"result": True})
    return {"result": True}


async def _then(first: Any, answer: Any) -> Any:
    await first
    return answer


def test_client_subscriptions_are_resumed(speak: Speak) -> None:
    """One request for equal subscriptions; handlers get changes of their model, and ``refresh`` after a reconnect."""
    speaker = speak(_subscriptions)
    seen = run_node(
        """
        const heard = [], errors = [];
        const note = (name) => ({ model, action }) => heard.push([name, model, action]);
        const client = new BifrostClient(url, { ...backoff, hooks: { onError: ({ code }) => errors.push(code) } });
        const first = client.subscribe("tasks", { done: false }, note("first"));
        const second = client.subscribe("tasks", { done: false }, note("second"));
        client.connect();
        await first.ready;
        const forbidden = client.subscribe("secrets", {}, note("never"));
        const refused = await outcome(forbidden.ready);
        await client.send({ event: "change", model: "tasks" });
        await client.send({ event: "change", model: "other" });
        second();
        second();
        await outcome(client.send({ event: "drop" }));
        await until(() => heard.length === 3);
        await client.send({ event: "change", model: "tasks" });
        first();
        await client.send({ event: "change", model: "tasks" });
        report({ heard, errors, refused: refused.code, seen: client.seen });
        """,
        speaker.url,
    )
    assert seen == {
        "heard": [
            ["first", "tasks", "update"],
            ["second", "tasks", "update"],
            ["first", "tasks", "refresh"],
            ["first", "tasks", "update"],
        ],
        "errors": ["forbidden"],
        "refused": "forbidden",
        "seen": 5,
    }
    assert [request.get("seen") for request in speaker.requests if request["event"] == "subscribe"] == [None, None, 5]
    assert speaker.events()[-2:] == ["unsubscribe", "change"]


def _named_subscriptions(speaker: Speaker, client: Any, request: dict[str, Any]) -> Any:
    if request["event"] == "subscribe":
        return {"result": {"subscription": request["filters"]["list"]}}
    data = {"model": "tasks", "action": "insert", "subscription": "b", "version": 9, "rows": [{"id": 1}]}
    return _then(client.send(json.dumps({"event": "data_updated", "data": data})), {"result": True})


def test_client_subscriptions_have_names(speak: Speak) -> None:
    """With the names that the server gives, a change reaches only the subscription that it belongs to."""
    heard = run_node(
        """
        const client = new BifrostClient(url);
        client.connect();
        const heard = [];
        const note = ({ subscription, rows }) => heard.push([subscription, rows, client.seen]);
        await Promise.all(["a", "b"].map((list) => client.subscribe("tasks", { list }, note).ready));
        await client.send({ event: "change" });
        report(heard);
        """,
        speak(_named_subscriptions).url,
    )
    assert heard == [["b", [{"id": 1}], 9]]


def test_client_sends_no_more_than_the_server_takes(speak: Speak) -> None:
    """Requests beyond the limit that the server states wait for responses, which come in order."""
    seen = run_node(
        """
        let outstanding = 0, most = 0;
        const { send } = WebSocket.prototype;
        WebSocket.prototype.send = function (data) { most = Math.max(most, ++outstanding); send.call(this, data); };
        const client = new BifrostClient(url, { hooks: { onMessage: ({ event }) => { outstanding -= !event; } } });
        await client.connect();
        const results = [];
        for (let number = 0; number < 100; number += 1)
            client.send({ event: "custom", number }).then((result) => results.push(result.number));
        await until(() => results.length === 100);
        report([results, most, outstanding]);
        """,
        speak(greeting={"server_version": "0", "requests_max": 4}).url,
    )
    assert seen == [[*range(100)], 4, 0]


def _slow_read(speaker: Speaker, client: Any, request: dict[str, Any]) -> Any:
    if request["event"] == "read":
        return _three_changes_then_rows(client, speaker.events().count("read"))
    return {"result": True}


async def _three_changes_then_rows(client: Any, number: int) -> Any:
    if number == 1:
        for _ in range(3):
            await client.send('{"event": "data_updated", "data": {"model": "tasks", "action": "create"}}')
    return {"result": {"rows": [{"id": number}], "total": number}}


def test_client_watch_reads_once_for_a_burst(speak: Speak) -> None:
    """watch() reads at first, and once more for the changes that arrive during a read."""
    speaker = speak(_slow_read)
    lists = run_node(
        """
        const client = new BifrostClient(url);
        client.connect();
        const lists = [];
        const stop = client.watch("tasks", { done: false }, (rows, total) => lists.push([rows, total]), { limit: 5 });
        await until(() => lists.length === 2);
        stop();
        await client.send({ event: "custom" });
        report(lists);
        """,
        speaker.url,
    )
    assert lists == [[[{"id": 1}], 1], [[{"id": 2}], 2]]
    assert speaker.events() == ["subscribe", "read", "read", "unsubscribe", "custom"]
    assert speaker.requests[1] == {
        "event": "read", "model": "tasks", "filters": {"done": False}, "limit": 5, "_requestId": 1,
    }  # fmt: skip


@pytest.mark.parametrize("token", ["'wrong'", "async () => 'wrong'"], ids=["string", "function"])
def test_client_refused_stays_away(speak: Speak, token: str) -> None:
    """A refusal (1008) ends connect(), requests and reconnecting; hooks say so, and the token is shown nowhere."""
    speaker = speak(require_auth=True, token="the-token-of-the-server")
    seen = run_node(
        f"const token = {token};"
        """
        const seen = [];
        const hooks = {
            onConnecting: (url) => seen.push(url),
            onConnected: () => seen.push("connected"),
            onDisconnected: ({ code, reason, wasClean, final, retryIn }) =>
                seen.push([code, reason, wasClean, final, retryIn]),
            onError: ({ code }) => seen.push(code),
        };
        const client = new BifrostClient(url, { ...backoff, token, hooks });
        const connected = client.connect();
        const waiting = outcome(client.read("tasks"));
        seen.push((await outcome(connected)).code, (await waiting).code, (await outcome(client.read("tasks"))).code);
        report(seen);
        """,
        speaker.url,
    )
    closed = [1008, "authentication failed", True, True, None]
    assert seen == [speaker.url, "refused", closed, "refused", "refused", "not_connected"]


@pytest.mark.parametrize("place", ["query", "subprotocol"])
def test_client_token_is_made_for_each_attempt(speak: Speak, place: str) -> None:
    """A function gives the token of each attempt; if it fails, it is called again later."""
    speaker = speak(_subscriptions, require_auth=True, token="the-token-of-the-server")
    seen = run_node(
        f"const tokenIn = '{place}';"
        """
        let calls = 0;
        const token = async () => {
            calls += 1;
            if (calls === 1) throw new Error("no network");
            return "the-token-of-the-server";
        };
        const errors = [], urls = [];
        const hooks = { onError: ({ message }) => errors.push(message), onConnected: ({ url }) => urls.push(url) };
        const client = new BifrostClient(`${url}/?app_name=shop`, { ...backoff, token, tokenIn, hooks });
        await client.connect();
        await outcome(client.send({ event: "drop" }));
        await client.connect();
        report({ calls, errors, urls });
        """,
        speaker.url,
    )
    shown = f"{speaker.url}/?app_name=shop" + ("&token=***" if place == "query" else "")
    assert seen == {"calls": 3, "errors": ["no network"], "urls": [shown, shown]}


def _close_as_asked(speaker: Speaker, client: Any, request: dict[str, Any]) -> Any:
    return client.close(request["code"], "")


def test_client_backoff_grows_until_stable(speak: Speak) -> None:
    """The ceiling of the delay doubles up to the limit, is low after 1012 and 1001, and is reset after 10 s only."""
    delays = run_node(
        """
        Math.random = () => 1;
        const setTimer = setTimeout, clock = performance.now.bind(performance);
        let later = 0;
        performance.now = () => clock() + later;
        const delays = [];
        // Delays of 1 to 20 s are those of the backoff; the timeouts of 30 s stay.
        const hooks = { onDisconnected: ({ retryIn }) => delays.push(retryIn), onError() {} };
        globalThis.setTimeout = (call, delay) => setTimer(call, delay >= 1000 && delay < 30000 ? 1 : delay);
        const client = new BifrostClient(url, { maxReconnectDelay: 20000, hooks });
        const drop = async (code) => { await client.connect(); await outcome(client.send({ event: "drop", code })); };
        for (const code of [1011, 1011, 1011, 1011, 1012]) await drop(code);
        await client.connect();
        later += 10001;
        await drop(1001);
        await drop(1000);
        await drop(4001);
        await outcome(client.connect());
        report(delays);
        """,
        speak(_close_as_asked).url,
    )
    assert delays == [3000, 6000, 12000, 20000, 16000, 1000, 6000, None]


def _close_too_big(speaker: Speaker, client: Any, request: dict[str, Any]) -> Any:
    return client.close(1009, "too big") if request["event"] == "read" else {"result": True}


def test_client_read_that_breaks_is_not_repeated(speak: Speak) -> None:
    """A read that the server could not take (1009) fails instead of closing every later connection."""
    speaker = speak(_close_too_big)
    outcomes = run_node(
        """
        const client = new BifrostClient(url, backoff);
        await client.connect();
        report([await outcome(client.read("tasks")), await outcome(client.send({ event: "custom" }))]);
        """,
        speaker.url,
    )
    assert outcomes == [{"code": "invalid", "fields": {}}, {"result": True}]
    assert speaker.events() == ["read", "custom"]


def _silent_at_first(speaker: Speaker, client: Any, request: dict[str, Any]) -> Any:
    return None if speaker.events() == ["connection_info"] else {"result": {"again": True}}


def test_client_silent_server_is_left(speak: Speak) -> None:
    """A server that sends nothing within heartbeat and timeout counts as lost, and the client connects again."""
    speaker = speak(_silent_at_first)
    seen = run_node(
        """
        const ends = [];
        const hooks = { onDisconnected: ({ code, reason }) => ends.push([code, reason]) };
        const client = new BifrostClient(url, { ...backoff, heartbeat: 50, timeout: 1000, hooks });
        await client.connect();
        await until(() => ends.length > 0);
        client.disconnect();
        report(ends);
        """,
        speaker.url,
    )
    assert seen == [[1006, "the server is silent"], [1000, ""]]


def test_client_messages_and_hooks(speak: Speak) -> None:
    """Each message runs onMessage and then its handlers; errors of handlers go to onError and disturb no other."""

    async def answer(_speaker: Speaker, client: Any, _request: dict[str, Any]) -> dict[str, Any]:
        await client.send("no JSON")
        await client.send('{"event": "chat", "data": {"text": "<script>"}}')
        await client.send('{"error": "unknown event", "code": "invalid"}')
        await client.send("[1]")
        return {"result": 1}

    seen = run_node(
        """
        const seen = [];
        const client = new BifrostClient(url, { autoConnect: true, autoRequest: { event: "start" } });
        client.registerHook("onMessage", (message) => seen.push(["message", message.event ?? message]));
        client.registerHook("onBroadcast", (message) => seen.push(["broadcast", message]));
        client.registerHook("onError", (error) => { seen.push(["error", error.message]); throw new Error("own"); });
        console.error = (_, error) => seen.push(["console", error.message]);
        const stop = client.on("chat", async () => { throw new Error("in a handler"); });
        client.on("chat", ({ text }, { event }) => seen.push([event, text]));
        client.registerHook("onConnected", () => seen.push(client.listHooks()));
        let unknown;
        try { client.registerHook("onDisplay", () => {}); } catch (error) { unknown = error.name; }
        const count = (wanted) => seen.filter(([kind]) => kind === wanted).length;
        await until(() => count("broadcast") === 3 && count("console") === 2 && count("message") === 6);
        stop();
        report({ seen, unknown, removed: [client.unregisterHook("onError"), client.unregisterHook("onError")] });
        """,
        speak(answer).url,
    )
    assert (seen["unknown"], seen["removed"]) == ("TypeError", [True, False])
    chat = {"event": "chat", "data": {"text": "<script>"}}
    of_kind = {kind: [rest[0] for first, *rest in seen["seen"] if first == kind] for kind in ("message", "broadcast")}
    unknown = {"error": "unknown event", "code": "invalid"}
    assert of_kind["message"][:4] == ["connection_info", "no JSON", "chat", unknown]
    assert of_kind["broadcast"] == ["no JSON", chat, [1]]
    assert ["onMessage", "onBroadcast", "onError", "onConnected"] in seen["seen"]
    assert ["chat", "<script>"] in seen["seen"]
    assert [entry for entry in seen["seen"] if entry[0] in ("error", "console")] == [
        ["error", "unknown event"],
        ["console", "own"],
        ["error", "in a handler"],
        ["console", "own"],
    ]


def test_client_without_reconnect_ends(speak: Speak) -> None:
    """Without autoReconnect a lost connection is final, and an unreachable server rejects connect()."""
    speaker = speak(_close_as_asked)
    seen = run_node(
        """
        const hooks = { onError() {} };
        const client = new BifrostClient(url, { autoReconnect: false, hooks });
        await client.connect();
        const outcomes = [await outcome(client.send({ event: "drop", code: 1011 })), client.isConnected()];
        const nowhere = new BifrostClient("ws://127.0.0.1:1", { autoReconnect: false, hooks });
        outcomes.push((await outcome(nowhere.connect())).code);
        outcomes.push((await outcome(new BifrostClient("nonsense:", { hooks }).connect())).code);
        report(outcomes);
        """,
        speaker.url,
    )
    assert seen == [{"code": "outcome_unknown", "fields": {}}, False, "not_connected", "not_connected"]
