"""``bifrost.js`` as a script, a CommonJS module and an ES module; its types; the package ``ws`` of Node.js."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from bifrost_speaker import CLIENT, TIMEOUT, Speaker, run_node
from needs import missing, needs
from playwright.sync_api import Page, expect

Speak = Callable[..., Speaker]


def test_client_file_works_as_both_modules_of_node(speak: Speak) -> None:
    """require() and import give the same class; without a global WebSocket the error says what to do."""
    program = """
    import { createRequire } from "node:module";
    const { default: imported } = await import(process.env.BIFROST_JS);
    const required = createRequire(process.env.BIFROST_JS)(process.env.BIFROST_JS);
    const client = new imported(process.env.BIFROST_URL);
    const { server_version } = await client.connect();
    client.disconnect();
    delete globalThis.WebSocket;
    const hooks = { onError() {} };
    const without = await new imported(process.env.BIFROST_URL, { hooks }).connect().catch((error) => error.message);
    console.log(JSON.stringify([imported === required, imported.BifrostClient === imported, server_version, without]));
    """
    same, named, version, without = run_node(program, speak().url, kind="module")
    assert (same, named, version) == (True, True, "0")
    assert "pass one" in without


@pytest.fixture(scope="module")
def packages(pytestconfig: pytest.Config) -> Path:
    """A folder with the packages typescript and ws of npm, which is filled once."""
    npm = needs("npm", "npm")
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("bifrost-js")
    if not (folder / "node_modules" / "typescript").exists():
        command = [npm, "install", "--no-audit", "--no-fund", "--fetch-retries=0", "--prefix", folder]
        installed = subprocess.run([*command, "typescript@5", "ws@8"], check=False, capture_output=True, text=True)
        if installed.returncode != 0:
            missing(f"npm could not install typescript and ws: {installed.stderr.strip()[-500:]}")
    return folder


@pytest.mark.slow
@pytest.mark.xdist_group("npm")
def test_client_works_with_ws(speak: Speak, packages: Path) -> None:
    """The class of the package ws can be passed; a refused attempt raises no unhandled error."""
    answers = run_node(
        f"const WebSocket = require({str(packages / 'node_modules' / 'ws')!r});"
        """
        delete globalThis.WebSocket;
        const client = new BifrostClient(url, { WebSocket });
        await client.connect();
        const found = await client.send({ event: "greet", name: "é" });
        client.disconnect();
        const hooks = { onError() {} };
        const nowhere = new BifrostClient("ws://127.0.0.1:1", { WebSocket, autoReconnect: false, hooks });
        const early = new BifrostClient(url, { WebSocket });
        const left = outcome(early.connect());
        early.disconnect();
        report([found.name, (await outcome(nowhere.connect())).code, (await left).code]);
        """,
        speak().url,
    )
    assert answers == ["é", "not_connected", "not_connected"]


@pytest.mark.slow
@pytest.mark.xdist_group("npm")
def test_client_types_hold(packages: Path, tmp_path: Path) -> None:
    """Tsc --strict accepts right uses in each kind of program, and finds each wrong one."""
    for file in (CLIENT, CLIENT.with_suffix(".d.ts"), Path(__file__).with_name("task.ts")):
        shutil.copy(file, tmp_path)
    (tmp_path / "node.mts").write_text(
        'import Client from "./bifrost.js";\nexport const client: Client = new Client();\n'
    )
    (tmp_path / "page.mts").write_text(
        'import "./bifrost.js";\nexport const client = new globalThis.BifrostClient();\n'
    )
    (tmp_path / "page.js").write_text(
        "new BifrostClient().watch('tasks', {}, (rows, total) => rows.length === total);\n"
    )
    tsc = [str(packages / "node_modules" / ".bin" / "tsc"), "--noEmit", "--strict", "--target", "es2022"]
    for options in (
        ["--module", "nodenext", "--lib", "es2022,dom", "task.ts", "node.mts", "page.mts"],
        ["--allowJs", "--checkJs", "--lib", "es2022,dom", "page.js", "bifrost.d.ts"],
    ):
        run = subprocess.run(
            [*tsc, *options], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        assert (run.stdout, run.returncode) == ("", 0)


_PAGE = """<!doctype html><meta charset="utf-8"><title>page</title><p role="status"></p>
<script src="bifrost.js"></script>
<script>
const show = (text) => { document.querySelector("p").textContent = text; };
const client = new BifrostClient("URL", { autoConnect: true, reconnectDelay: 50, hooks: {
    onConnected: ({ info }) => show(`connected to ${info.server_version}`),
    onDisconnected: ({ code }) => show(`closed ${code}`),
    onError() {},
} });
</script>"""


@pytest.mark.slow
@pytest.mark.xdist_group("chromium")
def test_client_in_a_page_survives_a_restart(
    speak: Speak,
    open_url: Callable[..., Page],
    tmp_path: Path,
) -> None:
    """A page from the disk loads the file as a script, and its waiting read is answered after the server's restart."""
    shutil.copy(CLIENT, tmp_path)
    speaker = speak(allowed_origins=["file://"])
    file = tmp_path / "page.html"
    file.write_text(_PAGE.replace("URL", speaker.url))
    page = open_url(file.as_uri())
    expect(page.get_by_role("status")).to_have_text("connected to 0")
    assert page.evaluate("client.send({ event: 'greet', name: '<b>' })")["name"] == "<b>"
    speaker.handle.stop()
    expect(page.get_by_role("status")).to_contain_text("closed")
    page.evaluate("void (window.waiting = client.read('tasks'))")
    speaker.start(speaker.handle.port)
    assert page.evaluate("waiting.then(({ model }) => model)") == "tasks"
    expect(page.get_by_role("status")).to_have_text("connected to 0")
