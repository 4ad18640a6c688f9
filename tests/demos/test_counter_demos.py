"""The demos of level 5 with FastAPI: one port for everything, and zCLI mounted in an application."""

from __future__ import annotations

import contextlib
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from demo_pages import TIMEOUT
from playwright.sync_api import Page, expect
from script_runs import DEMOS, run_script, started_script
from websockets.sync.client import connect

FOLDER = DEMOS / "Layer_0" / "zComm_Demo" / "lvl5_plugins" / "asgi"
PAGE = FOLDER / "live_page" / "index.html"
ONE_PORT = FOLDER / "1_one_port.py"
COUNTER = FOLDER / "2_live_counter.py"

#: The script and its deployment.
WAYS = {
    "own server": (ONE_PORT, "Development"),
    "transport uvicorn": (ONE_PORT, "Production"),
    "mounted": (COUNTER, "Production"),
}
WITH_FASTAPI = ["transport uvicorn", "mounted"]


@contextlib.contextmanager
def serving(way: str, folder: Path) -> Iterator[str]:
    """Run a demo on a free port; yield host and port."""
    script, deployment = WAYS[way]
    if way in WITH_FASTAPI:
        pytest.importorskip("fastapi")
    variables = {"WEBSOCKET_PORT": "0", "ZCLI_DEPLOYMENT": deployment}
    with started_script(script, folder=folder, variables=variables) as process:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if found := re.search(r"(?:listening|running) on \w+://(\S+?)/? ", line):
                yield found[1]
                return
        raise AssertionError(printed)


def get(url: str) -> tuple[int, str, str]:
    """Return status, type and text of a response."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT / 1000) as response:
            return response.status, response.headers.get_content_type(), response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_content_type(), error.read().decode()


def received(client: Any) -> Any:
    """Return the next event that the server has sent."""
    return json.loads(client.recv(timeout=TIMEOUT / 1000))


@pytest.mark.parametrize("way", WAYS)
def test_counter_demo_counts_its_clients(way: str, tmp_path: Path) -> None:
    """The same clients get the same events in each deployment, and mounted in an application."""
    with serving(way, tmp_path) as address, connect(f"ws://{address}/live/", proxy=None) as one:
        assert received(one) == {"clients": 1}
        with connect(f"ws://{address}/live/", proxy=None) as two:
            assert [received(one), received(two)] == [{"clients": 2}] * 2
            two.send("hello")
            assert [received(one), received(two)] == [{"message": "hello"}] * 2
        assert received(one) == {"clients": 1}


@pytest.mark.parametrize("way", WITH_FASTAPI)
def test_counter_demo_serves_fastapi_on_its_port(way: str, tmp_path: Path) -> None:
    """The page, its static files, FastAPI's docs page and its routes are beside the WebSockets."""
    with serving(way, tmp_path) as address, connect(f"ws://{address}/live/", proxy=None):
        base = f"http://{address}"
        status, kind, text = get(f"{base}/")
        assert (status, kind, "<h1>Live counter</h1>" in text) == (200, "text/html", True)
        assert get(f"{base}/page/live.css")[:2] == (200, "text/css")
        status, kind, text = get(f"{base}/docs")
        assert (status, kind, "Live counter - Swagger UI" in text) == (200, "text/html", True)
        assert "/greeting/{name}" in json.loads(get(f"{base}/openapi.json")[2])["paths"]
        assert json.loads(get(f"{base}/greeting/Ada")[2]) == {"greeting": "Hello, Ada"}
        assert get(f"{base}/nothing") == (404, "application/json", '{"detail":"Not Found"}')
        if way == "mounted":
            (client,) = json.loads(get(f"{base}/clients")[2])
            assert client.startswith("127.0.0.1:")


@pytest.mark.slow
@pytest.mark.xdist_group("chromium")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("width", [360, 1200])
def test_counter_page_shows_the_count(way: str, width: int, open_url: Callable[..., Page], tmp_path: Path) -> None:
    """Two windows show the count and a message; the page fits its window and says when the server has ended."""
    with serving(way, tmp_path) as address:
        page = f"{PAGE.as_uri()}?server=ws://{address}" if way == "own server" else f"http://{address}/"
        one, two = (open_url(page, viewport={"width": width, "height": 800}) for _ in range(2))
        for window in (one, two):
            expect(window.locator("#count")).to_have_text("2", timeout=TIMEOUT)
            expect(window.locator("#status")).to_have_text("Connected")
            assert window.evaluate("document.documentElement.scrollWidth") <= width
        one.get_by_label("Message").fill("<b>hello</b>")
        one.get_by_role("button", name="Send").click()
        expect(two.locator("#messages li")).to_have_text("<b>hello</b>", timeout=TIMEOUT)
        two.close()
        expect(one.locator("#count")).to_have_text("1", timeout=TIMEOUT)
    expect(one.locator("#status")).to_contain_text("next try in", timeout=TIMEOUT)


@pytest.mark.parametrize("script", [ONE_PORT, COUNTER], ids=lambda script: script.name)
def test_counter_demo_without_fastapi_says_so(script: Path, tmp_path: Path) -> None:
    """The last line of the demo's output has the command that installs what is missing."""
    (tmp_path / "fastapi.py").write_text("raise ModuleNotFoundError(\"No module named 'fastapi'\", name='fastapi')")
    variables = {"WEBSOCKET_PORT": "0", "ZCLI_DEPLOYMENT": "Production", "PYTHONPATH": str(tmp_path)}
    done = run_script(script, folder=tmp_path, variables=variables)
    assert done.returncode != 0
    assert "pip install fastapi uvicorn" in done.stderr.splitlines()[-1]
