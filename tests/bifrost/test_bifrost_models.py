"""Models of zBifrost over the wire: requests, answers, live updates, and what the greeting says about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bifrost_serving import Browser, Served
from broken_engines import engine
from needs import needs
from zcli_bifrost.data import follower

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError

Serve = Callable[..., Served]

MODELS = {
    "notes": {
        "fields": {"id": {"type": "int", "pk": True}, "text": {"type": "text", "required": True, "max_length": 20}},
        "access": {"read": ["*"], "create": ["*"], "update": ["*"], "delete": ["*"]},
    }
}


@pytest.fixture
def served(serve: Serve) -> Served:
    """A server with one model, in which every client may do everything."""
    return serve(bifrost={"models": MODELS})


def data_updated(browser: Browser) -> dict[str, Any]:
    """Return the data of the next live update."""
    message = browser.receive()
    assert message["event"] == "data_updated"
    data: dict[str, Any] = message["data"]
    return data


def test_model_is_created_read_updated_and_deleted(served: Served) -> None:
    """Each answer has the version of the data; a read after a write shows the write."""
    with served.browser() as browser:
        assert browser.info["data"]["features"] == ["events", "models", "cache", "subscriptions"]
        assert [model["name"] for model in browser.info["data"]["models"]] == ["notes"]
        created = browser.ask("create", model="notes", data=[{"text": "one"}, {"text": "two"}])
        assert created["result"] == [{"id": 1, "text": "one"}, {"id": 2, "text": "two"}]
        updated = browser.ask("update", model="notes", filters={"id": 1}, data={"text": "1"})
        assert (updated["result"], updated["_version"] > created["_version"]) == (1, True)
        read = browser.ask("read", model="notes", filters={"id": ["<", 2]}, seen=updated["_version"])
        assert read["result"] == {"rows": [{"id": 1, "text": "1"}], "total": 1}
        assert read["_version"] >= updated["_version"]
        again = browser.ask("read", model="notes", filters={"id": ["<", 2]}, seen=updated["_version"])
        assert again == {**read, "_cached": True}
        assert browser.ask("delete", model="notes", filters={"id": 1})["result"] == 1
        assert browser.ask("read", model="notes")["result"]["total"] == 1
        assert browser.ask("get_schema", model="notes")["result"]["name"] == "notes"
        assert browser.ask("discover")["result"] == browser.info["data"]["models"]
        assert browser.ask("cache_stats")["result"]["hits"] == 1


def test_model_errors_have_code_and_fields(served: Served) -> None:
    """As the data library says them."""
    with served.browser() as browser:
        invalid = browser.ask("create", model="notes", data={"text": "x" * 21})
        assert (invalid["code"], list(invalid["fields"])) == ("invalid", ["text"])
        assert browser.ask("read", model="users")["code"] == "not_found"
        for model in (None, 5, ["notes"], {"notes": 1}):
            answer = browser.ask("read", model=model)
            assert (answer["code"], list(answer["fields"])) == ("invalid", ["model"])
        assert browser.ask("delete", model="notes")["code"] == "invalid"
        for event in ("clear_cache", "set_cache_ttl"):
            assert browser.ask(event, ttl=5)["code"] == "forbidden"


@pytest.mark.parametrize(
    ("event", "keys", "error"),
    [
        ("read", {"filter": {"id": 1}}, "unknown key 'filter'; did you mean 'filters'?"),
        ("subscribe", {"filter": {"id": 1}}, "unknown key 'filter'; did you mean 'filters'?"),
        ("update", {"filters": {"id": 1}, "dta": {}}, "unknown key 'dta'; did you mean 'data'?"),
        ("delete", {"filters": {"id": 1}, "x" * 5000: 1}, f"unknown key {'x' * 100!r}"),
        ("create", {"data": {"text": "a"}, "\ud800": 1}, "unknown key '?'"),
    ],
)
def test_model_request_with_unknown_key_is_refused(
    served: Served, event: str, keys: dict[str, Any], error: str
) -> None:
    """Without a misspelt filter, it would concern all rows."""
    with served.browser() as browser:
        assert browser.ask(event, model="notes", **keys) == {"error": error, "code": "invalid"}


def test_subscription_sends_changes_until_it_ends(served: Served) -> None:
    """To its client only, with the name that the response gave."""
    with served.browser() as reader, served.browser() as writer:
        subscription = reader.ask("subscribe", model="notes", filters={"text": "a"})["result"]["subscription"]
        writer.ask("create", model="notes", data={"text": "a"})
        change = data_updated(reader)
        assert (change["subscription"], change["model"], change["action"]) == (subscription, "notes", "insert")
        assert change["rows"] == [{"id": 1, "text": "a"}]
        assert reader.ask("unsubscribe", model="notes", filters={"text": "a"})["result"] is None
        writer.ask("create", model="notes", data={"text": "a"})
        assert reader.ask("read", model="notes")["result"]["total"] == 2


def test_live_update_over_the_send_buffer_is_a_refresh(serve: Serve) -> None:
    """The client reads again, instead of being closed as a slow one."""
    models = json.loads(json.dumps(MODELS).replace(', "max_length": 20', ""))
    served = serve(bifrost={"models": models}, websocket={"max_send_buffer": 200_000})
    with served.browser() as reader, served.browser() as writer:
        reader.ask("subscribe", model="notes")
        assert writer.ask("create", model="notes", data=[{"text": "x" * 60_000}, {"text": "y"}])["result"]
        assert data_updated(reader)["action"] == "insert"
        writer.ask("create", model="notes", data=[{"text": "x" * 60_000}] * 3)
        change = data_updated(reader)
        assert (change["action"], "rows" in change) == ("refresh", False)


def test_models_without_sqlalchemy_stop_the_start(make_z: Callable[..., zCLI], monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the command that installs it."""
    z = make_z(bifrost={"models": MODELS})
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(ConfigError, match=r"bifrost\.models \(zSpark\) needs .* pip install 'sqlalchemy>=2.0'"):
        z.bifrost.start_background(port=0)


def test_models_that_no_client_can_use_are_logged(serve: Serve) -> None:
    """Without a tier clients have no role; a model that they can use is not named."""
    fields = {"text": "text", "who": "text"}
    rules: dict[str, Any] = {"mine": {"owner": "who"}, "staff": {"access": {"read": ["member"]}}, "free": {}}
    log = serve(bifrost={"models": {name: {"fields": fields, **each} for name, each in rules.items()}}).log()
    assert "no client can use the model 'mine'" in log
    assert "no client can use the model 'staff'" in log
    assert "ZCLI_BIFROST_AUTH_TIER=application" in log
    assert "the model 'free'" not in log


def test_table_that_does_not_fit_stops_the_start(make_z: Callable[..., zCLI]) -> None:
    """The error lists the differences; the port is not opened."""
    with make_z(title="same", bifrost={"models": MODELS}).bifrost.start_background(port=0):
        pass
    models = json.loads(
        json.dumps(MODELS).replace('"text", "required"', '"int", "required"').replace(', "max_length": 20', "")
    )
    z = make_z(title="same", bifrost={"models": models})
    with pytest.raises(ConfigError, match="notes"):
        z.bifrost.start_background(port=0)
    assert not z.comm.websocket.is_running


def test_write_is_shown_at_once_in_other_processes(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a backplane, which wakes them: a write is not found by the polls here, which are a minute apart."""
    monkeypatch.setattr(follower, "INTERVAL", 60.0)
    monkeypatch.setattr(follower, "MAX_AGE", 120.0)
    needs("redis-server", "redis-server")
    with engine("redis") as running:
        settings: dict[str, Any] = {
            "bifrost": {"models": MODELS, "database": f"sqlite:///{tmp_path}/shared.db"},
            "websocket": {"backplane": "redis"},
            "backplane": {"redis": {"url": running.url}},
        }
        with serve(**settings).browser() as writer, serve(**settings).browser() as reader:
            reader.ask("subscribe", model="notes")
            assert reader.ask("read", model="notes")["result"]["total"] == 0
            writer.ask("create", model="notes", data={"text": "one"})
            assert data_updated(reader)["rows"] == [{"id": 1, "text": "one"}]
            read = reader.ask("read", model="notes")
            assert (read["result"]["total"], read.get("_cached")) == (1, None)
