"""The demos of zBifrost with their pages in Chromium, each in two windows."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from browser import TIMEOUT
from needs import needs
from playwright.sync_api import Locator, Page, expect
from script_runs import DEMOS, plain_environment, started_script
from service_servers import Cluster, public_folder

FOLDER = DEMOS / "Layer_2" / "zBifrost_Demo"
BOARD = FOLDER / "lvl1_board" / "1_client_board.html"

Open = Callable[..., Page]

pytestmark = [pytest.mark.xdist_group("chromium"), pytest.mark.slow]


@contextlib.contextmanager
def _served(script: Path, folder: Path, **variables: str) -> Iterator[str]:
    """Run a demo on a free port until the end of the block; yields its URL."""
    with started_script(script, folder=folder, variables={"WEBSOCKET_PORT": "0", **variables}) as process:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if line.startswith("[WebSocket] listening on "):
                yield line.split()[3]
                return
        raise AssertionError(printed)


def _open(open_url: Open, file: Path, server: str, **options: object) -> Page:
    return open_url(f"{file.as_uri()}?server={server}", **options)


def _column(page: Page, state: str) -> Locator:
    return page.get_by_role("list", name=state).locator("li > span")


def _add(page: Page, title: str) -> None:
    page.get_by_label("New task").fill(title)
    page.keyboard.press("Enter")


def test_bifrost_demo_hello_answers_and_tells_others(tmp_path: Path, open_url: Open) -> None:
    """The window that asks gets the answer, the other one the event."""
    page = FOLDER / "lvl0_hello" / "1_client_hello.html"
    with _served(FOLDER / "lvl0_hello" / "1_hello.py", tmp_path) as server:
        ann, ben = (_open(open_url, page, server) for _ in range(2))
        for each in (ann, ben):
            expect(each.get_by_role("status")).to_have_text("Connected", timeout=TIMEOUT)
        ann.get_by_label("Your name").fill("<b>Ann</b>")
        ann.keyboard.press("Enter")
        expect(ann.locator("#list li")).to_have_text(["The script says: hello, <b>Ann</b>!"], timeout=TIMEOUT)
        expect(ben.locator("#list li")).to_have_text(
            ["<b>Ann</b> greeted the script from another window."], timeout=TIMEOUT
        )


def _works_in_both(ann: Page, ben: Page) -> None:
    """Add, move and delete tasks in one window each, and see them in the other one."""
    _add(ann, "<i>paint</i>")
    expect(_column(ben, "open")).to_have_text(["<i>paint</i>"], timeout=TIMEOUT)
    _add(ben, "sweep")
    expect(_column(ann, "open")).to_have_text(["<i>paint</i>", "sweep"], timeout=TIMEOUT)
    ben.get_by_role("button", name="Move on: sweep").press("Enter")
    expect(_column(ann, "doing")).to_have_text(["sweep"], timeout=TIMEOUT)
    moved = ben.get_by_role("list", name="doing").get_by_role("button", name="Move on: sweep")
    expect(moved).to_be_focused(timeout=TIMEOUT)
    ann.get_by_role("button", name="Delete: <i>paint</i>").click()
    expect(_column(ben, "open")).to_have_count(0, timeout=TIMEOUT)


def test_bifrost_demo_board_is_live_in_two_windows(tmp_path: Path, open_url: Open) -> None:
    """Each window shows the changes of the other one, and which title is not allowed; the tasks survive a restart."""
    script = FOLDER / "lvl1_board" / "1_task_board.py"
    with _served(script, tmp_path) as server:
        ann, ben = (_open(open_url, BOARD, server) for _ in range(2))
        _works_in_both(ann, ben)
        _add(ann, "x" * 81)
        expect(ann.get_by_role("alert")).to_contain_text("80", timeout=TIMEOUT)
        expect(ann.get_by_label("New task")).to_have_value("x" * 81)
    with _served(script, tmp_path) as server:
        expect(_column(_open(open_url, BOARD, server), "doing")).to_have_text(["sweep"], timeout=TIMEOUT)


@pytest.mark.parametrize("width", [380, 1400])
def test_bifrost_demo_board_fits_the_window(tmp_path: Path, open_url: Open, width: int) -> None:
    """The board needs no horizontal scrolling, and each field has a label."""
    with _served(FOLDER / "lvl1_board" / "1_task_board.py", tmp_path) as server:
        page = _open(open_url, BOARD, server, viewport={"width": width, "height": 800})
        _add(page, "a" * 80)
        expect(_column(page, "open")).to_have_count(1, timeout=TIMEOUT)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.querySelectorAll('input')].every((field) => field.labels.length)")


def test_bifrost_demo_board_on_postgresql_and_workers(tmp_path: Path, open_url: Open) -> None:
    """By settings alone, the board is on PostgreSQL and in four processes; windows of all of them are live."""
    programs = needs("initdb", "postgresql").resolve().parent
    script = FOLDER / "lvl1_board" / "1_task_board.py"
    with contextlib.ExitStack() as stack:
        cluster = Cluster.make(programs, stack.enter_context(public_folder()) / "cluster")
        port = stack.enter_context(cluster.running())
        with psycopg.connect(host="127.0.0.1", port=port, user="postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE board ENCODING 'UTF8' TEMPLATE template0")
        url = f"postgresql+psycopg://postgres@127.0.0.1:{port}/board"
        settings = {"ZCLI_BIFROST_DATABASE": url, "ZCLI_WEBSOCKET_WORKERS": "4", "ZCLI_WEBSOCKET_BACKPLANE": "local"}
        settings["ZCLI_WEBSOCKET_WORKER_TIMEOUT"] = "200"  # on a loaded machine
        server = stack.enter_context(_served(script, tmp_path, **settings))
        ann, ben, *others = (_open(open_url, BOARD, server) for _ in range(4))
        _works_in_both(ann, ben)
        for page in others:
            expect(_column(page, "doing")).to_have_text(["sweep"], timeout=TIMEOUT)


def _command(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "zCLI", "bifrost", *arguments],
        cwd=folder,
        env=plain_environment(folder),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_bifrost_demo_users_see_their_own_rows(tmp_path: Path, open_url: Open) -> None:
    """Each user sees the own tasks, the admin all; a wrong key says so; a revoked key closes its window."""
    folder = shutil.copytree(FOLDER / "lvl2_users", tmp_path / "users")
    keys = {
        name: _command(folder, "add-user", name, "--role", role)
        for name, role in (("ann", "member"), ("ben", "member"), ("eve", "admin"))
    }
    with _served(folder / "1_users.py", folder) as server:
        pages = {name: _open(open_url, BOARD, server) for name in keys}
        pages["ann"].get_by_label("Your key").fill("wrong")
        pages["ann"].keyboard.press("Enter")
        expect(pages["ann"].get_by_role("status")).to_contain_text("does not accept this key", timeout=TIMEOUT)
        expect(pages["ann"].get_by_label("Your key")).to_be_focused()
        for name, page in pages.items():
            page.get_by_label("Your key").fill(keys[name])
            page.keyboard.press("Enter")
            expect(page.get_by_role("status")).to_contain_text(name, timeout=TIMEOUT)
            expect(page.get_by_label("New task")).to_be_focused()
            expect(page.get_by_role("alert")).to_have_count(0)  # an empty one is hidden
        for name in ("ann", "ben"):
            _add(pages[name], f"task of {name}")
        expect(_column(pages["eve"], "open")).to_have_count(2, timeout=TIMEOUT)
        for name in ("ann", "ben"):
            expect(_column(pages[name], "open")).to_have_text([f"task of {name}"], timeout=TIMEOUT)
            expect(pages[name].get_by_role("button", name="Delete")).to_have_count(0)
        pages["eve"].get_by_role("button", name="Move on: task of ann").click()
        expect(_column(pages["ann"], "doing")).to_have_text(["task of ann"], timeout=TIMEOUT)
        _command(folder, "revoke", "ann")
        expect(pages["ann"].get_by_role("status")).to_contain_text("no longer valid", timeout=TIMEOUT)
        expect(pages["ann"].locator("#board li")).to_have_count(0)
        expect(pages["ben"].get_by_role("status")).to_contain_text("Connected as", timeout=TIMEOUT)
