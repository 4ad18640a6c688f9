"""``bifrost.js`` against zBifrost itself, in Node.js and in a page of another origin."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bifrost_speaker import run_node
from browser import TIMEOUT
from playwright.sync_api import Page, expect

from zcli_core.app import zCLI

pytest.importorskip("sqlalchemy", reason="the extra bifrost is not installed")

MODELS = {
    "tasks": {
        "fields": {
            "title": {"type": "text", "required": True, "max_length": 20},
            "done": {"type": "bool", "default": False},
        }
    }
}


class BifrostApp:
    """zBifrost with a model and an event, which can be stopped and started on the same port."""

    def __init__(self, folder: Path, **websocket: Any) -> None:
        quiet = {"deployment": "Production", "logger": "PROD", "logger_path": str(folder), "zMode": "zBifrost"}
        self.z = zCLI({**quiet, "bifrost": {"models": MODELS}, "websocket": {"drain_timeout": 0.2, **websocket}})
        self.z.bifrost.on("greet")(self.greet)
        self.z.bifrost.on("restart")(self.restart)
        self.handle = self.z.bifrost.start_background(port=0)
        self.port = self.handle.port
        self._restarting: threading.Thread | None = None

    async def greet(self, client: Any, data: dict[str, Any]) -> dict[str, Any]:
        return {"hello": data["name"]}

    async def restart(self, client: Any, data: dict[str, Any]) -> None:
        self._restarting = threading.Thread(target=self._restart)
        self._restarting.start()

    def _restart(self) -> None:
        self.handle.stop()
        self.handle = self.z.bifrost.start_background(port=self.port)

    def close(self) -> None:
        if self._restarting is not None:
            self._restarting.join(30)
        self.z.close()


@pytest.fixture
def make_app(isolated: Path) -> Iterator[Callable[..., BifrostApp]]:
    """Return a function that starts zBifrost; it is stopped after the test."""
    with contextlib.ExitStack() as stack:

        def make(**websocket: Any) -> BifrostApp:
            app = BifrostApp(isolated / "logs", **websocket)
            stack.callback(app.close)
            return app

        yield make


def test_client_uses_models_of_the_server(make_app: Callable[..., BifrostApp]) -> None:
    """CRUD, errors of fields, versions and live updates, each as bifrost.d.ts says."""
    found = run_node(
        """
        const client = new BifrostClient(url, { hooks: { onError() {} } });
        const { models: [model] } = await client.connect();
        const changes = [];
        const open = client.subscribe("tasks", { done: false }, (change) => changes.push(change));
        await open.ready;
        const made = await client.create("tasks", [{ title: "a" }, { title: "b" }]);
        const filters = { id: ["in", made.map(({ id }) => id)] };
        const page = await client.read("tasks", filters, { order_by: "-id", limit: 1 });
        const seen = client.seen;
        const wrong = await outcome(client.create("tasks", { title: "x".repeat(21) }));
        const everything = await outcome(client.update("tasks", {}, { done: true }));
        const changed = await client.update("tasks", { id: made[0].id }, { done: true });
        const deleted = await client.delete("tasks", { id: made[1].id });
        await until(() => changes.filter(({ action }) => action === "delete").flatMap(({ keys }) => keys).length === 2);
        const { hello } = await client.send({ event: "greet", name: "<b>" });
        const unknown = await outcome(client.send({ event: "nothing" }));
        report({ name: model.name, made: made.length, page, wrong, everything, changed, deleted, hello, unknown,
            grown: client.seen > seen, first: changes[0].action, rows: (await client.read("tasks")).rows.length });
        """,
        make_app().handle.url,
    )
    (row,) = found["page"]["rows"]
    assert (row["title"], row["done"], found["page"]["total"]) == ("b", False, 2)
    assert found["wrong"]["code"] == found["everything"]["code"] == "invalid"
    assert list(found["wrong"]["fields"]) == ["title"]
    del found["page"], found["wrong"], found["everything"]
    assert found == {
        "name": "tasks", "made": 2, "changed": 1, "deleted": 1, "hello": "<b>", "grown": True, "first": "insert",
        "rows": 1, "unknown": {"code": "not_found", "fields": {}},
    }  # fmt: skip


@pytest.mark.slow
def test_client_survives_a_restart_of_the_server(make_app: Callable[..., BifrostApp]) -> None:
    """A watched list and a waiting read go on after the server has restarted on its port."""
    found = run_node(
        """
        const client = new BifrostClient(url, backoff);
        await client.connect();
        const lists = [];
        client.watch("tasks", {}, (rows) => lists.push(rows.map(({ title }) => title).join()), { order_by: "id" });
        await client.create("tasks", { title: "before" });
        await until(() => lists.at(-1) === "before");
        await outcome(client.send({ event: "restart" }));
        await until(() => !client.isConnected());
        const { total } = await client.read("tasks");
        await new BifrostClient(url, { ...backoff, autoConnect: true }).create("tasks", { title: "after" });
        await until(() => lists.at(-1) === "before,after");
        report({ total, connected: client.isConnected() });
        """,
        make_app().handle.url,
    )
    assert found == {"total": 1, "connected": True}


_PAGE = """<!doctype html><meta charset="utf-8"><title>page</title><link rel="icon" href="data:,">
<p role="status">loading</p>
<script type="module">
import "SERVER/bifrost.js";
const client = new BifrostClient("SERVER");
await client.connect();
const { hello } = await client.send({ event: "greet", name: "<i>" });
document.querySelector("p").textContent = `${hello} ${typeof BifrostClient.BifrostError}`;
</script>"""


@pytest.mark.slow
@pytest.mark.xdist_group("chromium")
def test_client_module_in_a_page_of_another_origin(
    make_app: Callable[..., BifrostApp],
    open_url: Callable[..., Page],
    tmp_path: Path,
) -> None:
    """A page of an allowed origin imports the file from the server's port as a module, and talks to the server."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as pages:
        threading.Thread(target=pages.serve_forever).start()
        try:
            origin = f"http://shop.example:{pages.server_port}"
            app = make_app(allowed_origins=[origin])
            (tmp_path / "page.html").write_text(_PAGE.replace("SERVER", f"http://127.0.0.1:{app.port}"))
            page = open_url(f"{origin}/page.html")
            expect(page.get_by_role("status")).to_have_text("<i> function", timeout=TIMEOUT)
        finally:
            pages.shutdown()
