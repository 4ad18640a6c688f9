"""Attempts of a client over the connection: hostile JSON, request ids, several connections, tiers and revoked keys."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bifrost_serving import Served, clients_of, eventually
from websocket_serving import end_of
from websockets.exceptions import ConnectionClosed
from zcli_bifrost.access.key_table import KeyTable
from zcli_bifrost.access.tier_layer import TierCheckLayer
from zcli_bifrost.data.database import Database

from zcli_core.app import zCLI

SECRET = "the-secret-of-another-user"
TOKENS = {"root": "a-long-token-of-root", "mallory": "a-long-token-of-mallory"}
MODELS = {
    "notes": {
        "fields": {"title": {"type": "text", "required": True}, "owner": "text"},
        "owner": "owner",
        "all_rows": ["admin"],
    },
    "staff": {"fields": {"name": "text"}, "access": {"read": ["admin"], "create": ["admin"]}},
}


class Application(Served):
    """A server with the tier ``dual``, and its keys as another process sees them."""

    keys: KeyTable

    def user(self, name: str, role: str = "member", app: str = "default") -> Any:
        """Add a user and connect it."""
        return self.as_(self.keys.add(name, role, app).text)

    def subscribers(self) -> Any:
        """The connections that have subscriptions."""
        (run,) = self.z.bifrost._runs.values()  # type: ignore[attr-defined]
        return run.data._live.subscriptions._of

    def as_(self, credential: str) -> Any:
        return self.browser(additional_headers={"Authorization": f"Bearer {credential}"})


@pytest.fixture
def app(make_z: Callable[..., zCLI], tmp_path: Path) -> Iterator[Application]:
    url = f"sqlite:///{tmp_path}/data.db"
    bifrost = {
        "models": MODELS,
        "database": url,
        "auth_tier": "dual",
        "operators": {"root": "admin", "mallory": "member"},
    }
    z = make_z(bifrost=bifrost, websocket={"tokens": TOKENS, "max_refusal_delay": 0, "max_auth_failures": 1000})
    served = Application(z, z.bifrost.start_background(port=0))
    served.keys = KeyTable(Database(url, 5.0, logging.getLogger("zcli.tests")))  # type: ignore[misc]
    yield served
    served.keys.close()


def test_users_of_equal_names_are_different(app: Application) -> None:
    """The operator mallory, and mallory of two apps, do not see each other's rows."""
    with app.user("mallory") as one, app.user("mallory", app="shop") as two, app.as_(TOKENS["mallory"]) as three:
        for browser in (one, two, three):
            browser.ask("create", model="notes", data={"title": browser.info["data"]["identity"]})
        for browser in (one, two, three):
            found = browser.ask("read", model="notes", no_cache=True)["result"]
            assert [row["title"] for row in found["rows"]] == [browser.info["data"]["identity"]]
    with app.as_(TOKENS["root"]) as root:
        assert root.ask("read", model="notes")["result"]["total"] == 3


def test_client_cannot_say_who_it_is(app: Application) -> None:
    """Keys of a request that look like claims, roles or Python names have no effect, or are refused."""
    extra = {
        "actor": {"identity": "zSession:root", "role": "admin"}, "identity": "zSession:root", "role": "admin",
        "tier": "zSession", "sight": None, "connection": 1, "subscriber": "x", "__class__": "x",
    }  # fmt: skip
    with app.as_(TOKENS["root"]) as root, app.user("mallory") as mallory:
        root.ask("create", model="notes", data={"title": SECRET})
        for event in ("read", "discover", "get_schema", "connection_info", "update", "delete", "create"):
            answer = json.dumps(
                mallory.ask(event, model="notes", filters={"title": SECRET}, data={"title": "x"}, **extra)
            )
            assert SECRET not in answer
            assert "zSession:root" not in answer
        for key, value in extra.items():
            assert mallory.ask("read", model="staff", **{key: value})["code"] == "invalid"
        for event in ("clear_cache", "set_cache_ttl"):
            assert mallory.ask(event, ttl=0, **extra)["code"] == "forbidden"
        assert root.ask("read", model="notes", no_cache=True)["result"]["rows"][0]["title"] == SECRET


def test_schema_shows_only_what_the_role_may_know(app: Application) -> None:
    """A model of another role is in no list, and its name gives the error of an unknown one."""
    with app.user("mallory") as mallory:
        for answer in (mallory.info, mallory.ask("discover"), mallory.ask("connection_info")):
            assert "staff" not in json.dumps(answer)
        assert mallory.ask("cache_stats")["result"].keys() == {"hits", "misses", "expired", "ttl"}
        for event in ("get_schema", "subscribe", "unsubscribe"):
            answers = [json.dumps(mallory.ask(event, model=model)).replace(model, "M") for model in ("staff", "ffats")]
            assert answers[0] == answers[1]


#: Messages that are invalid requests.
HOSTILE = [
        "[" * 100_000, '{"a":' * 50_000, '{"event":"read","model":"notes","filters":' + "[" * 5000 + "]" * 5000 + "}",
        '{"event":"read","_requestId":1' + "0" * 5000 + "}", '{"event":"read","_requestId":1e400}',
        '{"event":"read","model":"notes","limit":' + "9" * 4000 + "}", '{"event":"read","model":"notes","limit":NaN}',
        '{"event":"read","model":"notes","filters":{"id":-Infinity}}', "nul", "", "\\u0000", '"read"', "[1]", "1", "{}",
        '{"event":["read"]}', '{"event":"__init__"}', '{"event":"_handle"}', '{"event":"\\ud800"}',
        '{"event":"read","model":"\\ud800"}',
    '{"event":"read","model":["notes"]}', '{"event":"read","model":{"notes":1}}',
        '{"event":"read","model":"notes","filters":{"\\ud800":1}}',
    '{"event":"create","model":"notes","data":{"title":"\\udfff"}}',
        '{"event":"read","model":"notes","_requestId":"\\ud800","filters":1}', '{"event":"x","_requestId":true}',
    '{"event":"create","model":"notes","data":{"title":"x","owner":{}}}',
]  # fmt: skip


def test_hostile_json_is_answered_and_harmless(app: Application) -> None:
    """Each gets one error with a known code; the connection and the rows stay as they were."""
    with app.as_(TOKENS["root"]) as root, app.user("mallory") as mallory:
        root.ask("create", model="notes", data={"title": SECRET})
        for text in HOSTILE:
            mallory.connection.send(text)
            answer = mallory.receive()
            assert answer["code"] in ("invalid", "not_found"), (text[:100], answer)
            assert SECRET not in json.dumps(answer)
        assert mallory.ask("read", 7, model="notes") == {"result": {"rows": [], "total": 0}, "_version": 1}
    assert "Traceback" not in app.log()


def test_duplicate_keys_have_one_meaning(app: Application) -> None:
    """The last one counts, for the filters that select and for those that are checked."""
    with app.user("anna") as anna, app.user("mallory") as mallory:
        anna.ask("create", model="notes", data={"title": SECRET})
        mallory.ask("create", model="notes", data={"title": "mine"})
        mallory.connection.send(
            '{"event":"delete","event":"read","_requestId":5,"_requestId":6,"model":"staff","model":"notes",'
            f'"filters":{{"title":"{SECRET}"}},"filters":{{"title":"mine"}}}}'
        )
        answer = mallory.receive()
        assert answer["_requestId"] == 6
        assert [row["title"] for row in answer["result"]["rows"]] == ["mine"]


def test_large_message_is_refused(app: Application) -> None:
    """A megabyte of filters gets a response; a message over the limit of the server ends the connection."""
    with app.user("mallory") as mallory:
        size = app.z.config.websocket.max_size
        values = ["x" * 20] * 40_000
        assert mallory.ask("read", model="notes", filters={"title": ["in", values]})["code"] == "invalid"
        mallory.connection.send("x" * (size + 1))
        assert end_of(mallory.connection)[0] == 1009


def test_request_ids_belong_to_one_connection(app: Application) -> None:
    """Equal ids on two connections, and an id twice on one, get their own answers only."""
    with app.user("anna") as anna, app.user("mallory") as mallory:
        anna.ask("create", model="notes", data={"title": SECRET})
        for browser in (anna, mallory, anna, mallory):
            browser.send("read", 1, model="notes")
        for browser, total in ((anna, 1), (mallory, 0)):
            answers = [browser.receive() for _ in range(2)]
            for answer in answers:
                assert answer["_requestId"] == 1
                assert answer.get("code") == "conflict" or answer["result"]["total"] == total


def test_unsubscribe_of_another_connection_has_no_effect(app: Application) -> None:
    """A connection ends its own subscriptions only, also with the same filters and the same user."""
    key = app.keys.add("anna", "member", "default")
    with app.as_(key.text) as first, app.as_(key.text) as second, app.user("mallory") as mallory:
        name = first.ask("subscribe", model="notes")["result"]
        for browser in (second, mallory):
            assert browser.ask("subscribe", model="notes")["result"] == name
            assert "result" in browser.ask("unsubscribe", model="notes")
        second.ask("create", model="notes", data={"title": "new"})
        event = first.receive()
        assert (event["event"], event["data"]["action"]) == ("data_updated", "insert")
        assert mallory.ask("read", model="notes")["result"]["rows"] == []


# --- revoked while connected -----------------------------------------------------------------------------------


def test_revoked_client_gets_no_event_and_no_answer(app: Application) -> None:
    """Its subscriptions end with its connection, and a new one is refused."""
    key = app.keys.add("mallory", "admin", "default")
    with app.as_(key.text) as mallory, app.user("anna") as anna:
        mallory.ask("subscribe", model="notes")
        app.keys.revoke(key.id)
        assert end_of(mallory.connection) == (1008, "the key is no longer valid")
        anna.ask("create", model="notes", data={"title": SECRET})
        with pytest.raises(Exception, match="1008"):
            app.as_(key.text).__enter__()
    eventually(lambda: not clients_of(app.z), "no client")
    assert not app.subscribers()


def test_subscription_of_a_client_that_leaves_is_forgotten(app: Application) -> None:
    """Requests that are still being handled when their connection ends leave nothing behind."""
    key = app.keys.add("mallory", "member", "default")
    for round_ in range(5):
        with app.as_(key.text) as mallory:
            for number in range(30):
                mallory.send("subscribe", number, model="notes", filters={"title": f"{round_}-{number}"})
            mallory.connection.socket.close()
    eventually(lambda: not clients_of(app.z), "no client")
    with app.as_(key.text) as again:
        again.ask("read", model="notes")  # the requests before it are done
    eventually(lambda: not app.subscribers(), "no subscription")


def test_requests_behind_a_revocation_are_dropped(app: Application) -> None:
    """A client that floods the server writes nothing after it was closed."""
    key = app.keys.add("mallory", "member", "default")
    with app.as_(key.text) as mallory, app.as_(TOKENS["root"]) as root:
        app.keys.revoke(key.id)
        with pytest.raises((ConnectionClosed, OSError)):
            _flood(mallory)
        eventually(lambda: len(clients_of(app.z)) == 1, "the client is gone")
        total = root.ask("read", model="notes", no_cache=True)["result"]["total"]
        root.ask("create", model="notes", data={"title": "of root"})
        assert root.ask("read", model="notes", no_cache=True)["result"]["total"] == total + 1


def _flood(browser: Any) -> None:
    while True:
        browser.send("create", model="notes", data={"title": "flood"})


def test_changed_role_ends_the_connection(app: Application) -> None:
    """A user whose role is taken away cannot go on with the old one."""
    key = app.keys.add("mallory", "admin", "default")
    with app.as_(key.text) as mallory:
        assert mallory.ask("read", model="staff")["result"]["total"] == 0
        app.keys.revoke("mallory")
        new = app.keys.add("mallory", "member", "default")
        assert end_of(mallory.connection)[0] == 1008
    with app.as_(new.text) as mallory:
        assert mallory.info["data"]["role"] == "member"
        assert mallory.ask("read", model="staff")["code"] == "not_found"


# --- the tier --------------------------------------------------------------------------------------------------


def test_client_without_tier_is_never_served(
    make_z: Callable[..., zCLI], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the check of the settings did not exist, a server with a tier serves no client of another strategy."""
    monkeypatch.setattr(TierCheckLayer, "read", lambda self, context: [])
    url = f"sqlite:///{tmp_path}/data.db"
    z = make_z(
        bifrost={"models": MODELS, "database": url, "auth_tier": "application"},
        websocket={"require_auth": False, "allowed_origins": []},
    )
    served = Served(z, z.bifrost.start_background(port=0))
    with pytest.raises(Exception, match="1011"), served.browser() as browser:
        pytest.fail(f"it was served: {browser.info}")


def test_page_of_another_origin_is_refused(app: Application) -> None:
    """A valid key does not help a page that may not connect."""
    key = app.keys.add("mallory", "member", "default")
    with pytest.raises(Exception, match="1008"):
        app.browser(f"/?token={key.text}", origin="https://evil.example").__enter__()


def test_key_is_in_no_answer_and_no_log(app: Application) -> None:
    """Neither that of an admitted client nor a wrong one."""
    key = app.keys.add("mallory", "member", "default")
    secret = key.text.split("_", 2)[2]
    with app.browser(f"/?token={key.text}&app_name=default") as mallory:
        shown = json.dumps([mallory.info, mallory.ask("connection_info"), mallory.ask("discover")])
        assert key.id not in shown
        assert secret not in shown
    with pytest.raises(Exception, match="1008"):
        app.browser(f"/?token={key.text}x").__enter__()
    app.handle.stop()
    assert secret not in app.log()
