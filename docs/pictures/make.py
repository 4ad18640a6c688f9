"""Make the pictures of the documentation from the real program.

    python docs/pictures/make.py            # all pictures
    python docs/pictures/make.py doctor     # one of them

Terminal pictures are SVG: a command runs on a terminal, and Rich draws what it printed. Pictures of the demo pages are
PNG from Chromium, in light and dark. Each PNG holds the checksum of the sources of its page. ``tests/test_pictures.py``
fails if a picture no longer shows what the program prints, or if a page has changed since.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DEMOS = ROOT / "Demos" / "Layer_0" / "zComm_Demo" / "lvl2_websocket"
#: The folder that pictures show in place of the temporary one, which has a path of the same length.
_SHOWN_FOLDER = "/home/ann/projects/first"
_TEMPORARY = "/tmp"  # noqa: S108 - mkdtemp makes a private folder in it
_DRAWING = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{unique_id}-matrix {{
        font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
        font-size: {char_height}px;
        line-height: {line_height}px;
    }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""

# --- terminals ---


def _in_terminal(command: list[str], folder: Path, variables: Mapping[str, str], width: int) -> str:
    """Return what a command writes to a terminal of this width."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    environment = {**kept, "HOME": str(folder), "TERM": "xterm-256color", "COLUMNS": str(width), **variables}
    terminal, end = pty.openpty()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=end, stdout=end, stderr=end)
    os.close(end)
    written = bytearray()
    try:
        while block := os.read(terminal, 65536):
            written += block
    except OSError:  # how Linux reports the end of a terminal
        pass
    os.close(terminal)
    if process.wait():
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}:\n{written.decode()}")
    return written.decode().replace("\r\n", "\n").replace(str(folder), _SHOWN_FOLDER)


def draw(title: str, text: str, width: int) -> str:
    """Return a picture of a terminal as SVG.

    Args:
        title: Text of the title bar.
        text: What the terminal shows, with its escape sequences.
        width: Columns of the terminal.
    """
    console = Console(record=True, file=io.StringIO(), width=width, force_terminal=True, legacy_windows=False)
    console.print(Text.from_ansi(text.rstrip("\n")), soft_wrap=False)
    console.print()  # Rich cuts off what is below the baseline of the last line, such as underscores
    return console.export_svg(title=title, theme=MONOKAI, code_format=_DRAWING, unique_id="terminal")


def text_of(picture: str) -> list[str]:
    """Return the lines that a picture of a terminal shows."""
    lines: dict[float, str] = {}
    for y, text in re.findall(r'<text class="terminal-r\d+"[^>]* y="([\d.]+)"[^>]*>([^<]*)</text>', picture):
        lines[float(y)] = lines.get(float(y), "") + unescape(text).replace("\N{NO-BREAK SPACE}", " ")
    return [lines[y].rstrip() for y in sorted(lines)]


def _program(name: str) -> str:
    """Return the path of a program of this environment."""
    return str(Path(sys.executable).with_name(name))


def _project() -> Path:
    """Make a folder whose path is as long as the one that is shown, so that the columns of a table stay."""
    parent = Path(tempfile.mkdtemp(dir=_TEMPORARY))
    folder = parent / ("p" * (len(_SHOWN_FOLDER) - len(str(parent)) - 1))
    folder.mkdir()
    return folder


def config() -> str:
    """``zcli config KEY``: the value of a setting and its origin."""
    folder = _project()
    try:
        (folder / ".zEnv").write_text("ZCLI_HTTP_TIMEOUT=5\n")
        (folder / ".zEnv").chmod(0o600)
        command = "ZCLI_HTTP_TIMEOUT=30 zcli config http.timeout"
        printed = _in_terminal([_program("zcli"), "config", "http.timeout"], folder, {"ZCLI_HTTP_TIMEOUT": "30"}, 80)
        return draw("zcli config KEY", f"$ {command}\n{printed}", 80)
    finally:
        shutil.rmtree(folder.parent)


def doctor() -> str:
    """``zcli doctor``: the checks of this machine. Its services are looked for at free ports."""
    from zcli_core.net.ports import find_free_port

    folder = _project()
    try:
        (folder / ".zEnv").write_text("ZCLI_LOGGER_PATH=./logs\n")
        (folder / ".zEnv").chmod(0o600)
        names = [
            "WEBSOCKET_PORT",
            *(f"ZCLI_SERVICES_{name}_PORT" for name in ("MONGODB", "NATS", "POSTGRESQL", "REDIS")),
        ]
        ports = {name: str(find_free_port()) for name in names}
        printed = _in_terminal([_program("zcli"), "doctor"], folder, ports, 100)
        return draw("zcli doctor", f"$ zcli doctor\n{printed}", 100)
    finally:
        shutil.rmtree(folder.parent)


def tour() -> str:
    """The first steps of the tour, and its last line."""
    folder = _project()
    try:
        printed = _in_terminal([sys.executable, str(ROOT / "Demos" / "tour.py"), "--local"], folder, {}, 80)
    finally:
        shutil.rmtree(folder.parent)
    steps = re.split(r"\n(?:\x1b\[[\d;]*m)*4  ", printed)[0].rstrip()
    end = printed.rstrip().rpartition("\n")[2]
    return draw("the tour", f"$ python Demos/tour.py\n{steps}\n\n ...\n\n{end}", 80)


TERMINALS = {"config": config, "doctor": doctor, "tour": tour}

# --- pages ---

#: The pages in pictures, and the demo that serves each.
PAGES = {"5_client_broadcast": "5_websocket_broadcast", "3_client_secure": "3_websocket_secure"}
SCHEMES = ("light", "dark")
_TOKEN = "demo_secure_token_123"  # noqa: S105 - published with the demos
#: What the page sends, and what another client sends after it.
_MESSAGES = {"Hello from the browser": "Hello from another client", "How are you?": "Fine, thank you"}
_CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
_CHROMIUM += ["--disable-component-update", "--disable-sync"]


def checksum_of(page: str) -> str:
    """Return the checksum of the sources of a page: its HTML, style and script."""
    digest = hashlib.sha256()
    for name in (f"{page}.html", "client.css", "client.js"):
        digest.update((DEMOS / name).read_bytes())
    return digest.hexdigest()


def checksum_in(picture: Path) -> str | None:
    """Return the checksum that a PNG file holds, or None."""
    found = re.search(rb"tEXtSources\x00([0-9a-f]{64})", picture.read_bytes())
    return found[1].decode() if found else None


def _with_checksum(png: bytes, checksum: str) -> bytes:
    """Add a text chunk to a PNG image (PNG specification, 11.3.3)."""
    import zlib

    body = b"tEXtSources\x00" + checksum.encode()
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    after_header = 8 + 25  # the signature, and the chunk IHDR
    return png[:after_header] + chunk + png[after_header:]


def pages() -> None:
    """Take a picture of each page in both colour schemes, connected and with a few messages."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or sys.exit("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_CHROMIUM)
        for page, demo in PAGES.items():
            for scheme in SCHEMES:
                context = browser.new_context(
                    color_scheme=scheme,  # type: ignore[arg-type]
                    reduced_motion="reduce",  # no picture in the middle of an animation
                    viewport={"width": 960, "height": 640},
                )
                picture = _photograph(context.new_page(), page, demo)
                (HERE / f"{page}-{scheme}.png").write_bytes(_with_checksum(picture, checksum_of(page)))
                context.close()
        browser.close()


def _photograph(page: Any, name: str, demo: str) -> bytes:
    """Return a picture of a page after an exchange of messages, with the server or with another client."""
    with _demo_server(demo) as url, _other_client(url) as other:
        page.goto(f"{(DEMOS / f'{name}.html').as_uri()}?server={url}")
        page.get_by_role("button", name="Connect", exact=True).click()
        page.wait_for_selector("body[data-state=open]")
        for number, (text, reply) in enumerate(_MESSAGES.items()):
            page.get_by_label("Message").fill(text)
            page.get_by_role("button", name="Send").click()
            other.send(reply)  # the broadcast page receives it, and the other page an echo of its own message
            page.locator("#transcript .received").nth(number).wait_for()
        picture: bytes = page.screenshot(full_page=True)
        return picture


def _other_client(url: str) -> Any:
    from websockets.sync.client import connect

    return connect(f"{url}/?token={_TOKEN}", origin="null", proxy=None)  # type: ignore[arg-type]


@contextlib.contextmanager
def _demo_server(demo: str) -> Iterator[str]:
    """Run the server of a demo on a free port and yield its URL."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-u", str(DEMOS / f"{demo}.py")]
        environment = {**os.environ, "WEBSOCKET_PORT": "0"}
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            yield next(line.split()[3] for line in process.stdout if line.startswith("[WebSocket] listening on "))
        finally:
            process.terminate()
            process.wait()


def main(names: list[str]) -> None:
    """Make the pictures with these names; all if there are none."""
    for name, make in TERMINALS.items():
        if not names or name in names:
            (HERE / f"{name}.svg").write_text(make(), encoding="utf-8")
    if not names or "pages" in names:
        pages()


if __name__ == "__main__":
    main(sys.argv[1:])
