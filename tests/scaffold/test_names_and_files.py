"""``zcli new plugin``: the names it accepts, the files it writes, and that it does not change existing files."""

from __future__ import annotations

import ast
import keyword
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from zcli_core.cli.new import command
from zcli_core.cli.scaffold import KINDS, Names, make_files, parse_name, write_files
from zcli_core.plugins.contract import CONTRACT_VERSION

ROOT = Path(__file__).resolve().parents[2]
LONGEST = "-".join(["longest"] * 6) + "-na"

each_kind = pytest.mark.parametrize("kind", list(KINDS))


def new(*arguments: str, into: Path) -> Result:
    """Run ``zcli new plugin``."""
    return CliRunner().invoke(command, ["plugin", "--into", str(into), *arguments])


# Names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["message-queue", "zcli-message-queue", "zcli_message-queue", "ZCLI-message-queue"])
def test_parse_name_returns_all_forms(typed: str) -> None:
    """The prefix zcli- may be given or not."""
    names = parse_name(typed)
    assert names.distribution == "zcli-message-queue"
    assert names.package == "zcli_message_queue"
    assert (names.identifier, names.in_classes) == ("message_queue", "MessageQueue")


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [
        ("MessageQueue", "messagequeue"),
        ("message queue", "message-queue"),
        ("message_queue", "message-queue"),
        ("message.queue", "message-queue"),
        ("message--queue", "message-queue"),
        ("-queue-", "queue"),
        ("2nd-queue", "nd-queue"),
        ("Café", "cafe"),
        ("zcli-Warteschlänge ", "warteschlange"),
        ("../queue", "queue"),
        ("a/b", "a-b"),
        ("C:\\queue", "c-queue"),
        ("queue\n", "queue"),
        ("队列", None),
        ("🐇", None),
        ("zcli-", None),
        ("", None),
        ("...", None),
        ("Class", None),
        ("٣queue", "queue"),
    ],
)
def test_new_plugin_invalid_name_is_refused(typed: str, suggested: str | None, tmp_path: Path) -> None:
    """The message suggests a valid name, and nothing is written."""
    done = new("--kind", "service", "--", typed, into=tmp_path)
    assert done.exit_code == 2
    assert "a plugin's name must be" in done.output
    assert re.findall(r"did you mean '(.*)'\?", done.output) == ([suggested] if suggested else [])
    if suggested:
        parse_name(suggested)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "holder"),
    [
        ("redis", "package zcli_redis"),
        ("zcli-core", "package zcli_core"),
        ("class", "a keyword of Python"),
        ("valkey", "the backplane of zcli_redis_backplane"),
        ("token", "the auth strategy of zcli_auth"),
        ("environment", "the configuration layer of zcli_layers"),
        ("http", "the setting http."),
        ("title", "the setting title"),
        ("folder", "the setting services.folder"),
        ("explain", "z.config.explain"),
        ("target", "would define Target"),
        ("service", "would define ServiceBackend"),
    ],
)
def test_new_plugin_name_in_use_is_refused(name: str, holder: str, tmp_path: Path) -> None:
    """The message says what uses the name."""
    done = new(name, "--kind", "service", into=tmp_path)
    assert done.exit_code == 2
    assert holder in done.output
    assert list(tmp_path.iterdir()) == []


def test_parse_name_too_long_raises(tmp_path: Path) -> None:
    """A name of 50 characters is valid; a longer one is an error."""
    assert len(LONGEST) == 50
    parse_name(LONGEST)
    with pytest.raises(ValueError, match="must have at most 50 characters, got 51"):
        parse_name(LONGEST + "m")
    with pytest.raises(ValueError, match="at most 50 characters, got 1000000"):
        parse_name("a" * 1_000_000)


def test_new_plugin_unknown_kind_is_refused(tmp_path: Path) -> None:
    """The message lists the kinds."""
    for arguments in ((), ("--kind", "widget")):
        done = new("queue", *arguments, into=tmp_path)
        assert done.exit_code == 2
        assert all(kind in done.output for kind in KINDS)


# What is made of a name ---------------------------------------------------------------------------------------


def test_every_kind_has_a_template() -> None:
    """Every template belongs to a kind, too."""
    folders = {file.name for file in (ROOT / "zcli_core" / "cli" / "templates").iterdir() if file.is_dir()}
    assert {name for name in folders if name[0] not in "._"} == {*KINDS, "common"}


@each_kind
@pytest.mark.parametrize("name", ["q", "x-2-y", "message-queue", LONGEST])
def test_make_files_replaces_all_placeholders(kind: str, name: str) -> None:
    """All files are valid code for any name, with the current contract version."""
    files = make_files(kind, parse_name(name))
    for path, text in files.items():
        assert "skeleton" not in (path + text).lower(), path
        assert "<<" not in text, path
        assert text.endswith("\n") or not text
        if path.endswith(".py"):
            ast.parse(text, path)
    assert f"ZCLI_CONTRACT = {CONTRACT_VERSION} " in files[f"{parse_name(name).package}/__init__.py"]


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=60) | st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True))
def test_parse_name_any_text_is_valid_or_raises(text: str) -> None:
    """A valid name is a name of a distribution and an identifier."""
    try:
        names = parse_name(text)
    except ValueError:
        return
    assert re.fullmatch(r"zcli-[a-z0-9]+(-[a-z0-9]+)*", names.distribution)
    assert names.package.isidentifier()
    assert names.in_classes.isidentifier()
    assert not keyword.iskeyword(names.identifier)


@each_kind
def test_contract_test_of_a_kind_is_short(kind: str) -> None:
    """The contract suites promise that to authors."""
    text = make_files(kind, Names("queue"))["tests/test_contract.py"]
    code = [line for line in text.splitlines() if line.strip() and '"""' not in line]
    assert len(code) <= 8


@each_kind
def test_readme_names_existing_files(kind: str) -> None:
    """The names of settings and variables in the README are right, too."""
    files = make_files(kind, Names("message-queue"))
    named = re.findall(r"`((?:zcli_|tests/)[\w/]+\.py)`", files["README.md"])
    assert named
    assert set(named) <= set(files)


def test_workflow_runs_the_supported_pythons() -> None:
    """The list is that of zCLI's classifiers."""
    ours = re.findall(r"Python :: (3\.\d+)\"", (ROOT / "pyproject.toml").read_text())
    workflow = make_files("service", Names("queue"))[".github/workflows/tests.yml"]
    assert re.findall(r'"(3\.\d+)"', workflow.partition("python: [")[2].partition("]")[0]) == ours


# Writing ------------------------------------------------------------------------------------------------------


def test_new_plugin_prints_files_and_next_steps(tmp_path: Path) -> None:
    """The commands can be pasted."""
    into = tmp_path / "my projects"
    into.mkdir()
    done = new("queue", "--kind", "layer", into=into)
    assert done.exit_code == 0, done.output
    written = {f.relative_to(into / "zcli-queue").as_posix() for f in (into / "zcli-queue").rglob("*") if f.is_file()}
    assert {line.strip() for line in done.output.splitlines() if line.strip() in written} == written
    assert f"cd '{into / 'zcli-queue'}'" in done.output
    assert [item.name for item in into.iterdir()] == ["zcli-queue"]
    umask = os.umask(0o022)
    os.umask(umask)
    assert (into / "zcli-queue").stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("there", ["empty folder", "folder", "file", "link to nowhere"])
def test_new_plugin_existing_folder_is_not_changed(there: str, tmp_path: Path) -> None:
    """That holds for an empty folder, too."""
    folder = tmp_path / "zcli-queue"
    if there == "file":
        folder.write_text("mine")
    elif there == "link to nowhere":
        folder.symlink_to(tmp_path / "nowhere")
    else:
        folder.mkdir()
    if there == "folder":
        (folder / "README.md").write_text("mine")
    before = sorted((str(f), f.lstat().st_mtime_ns) for f in tmp_path.rglob("*"))
    done = new("queue", "--kind", "service", into=tmp_path)
    assert done.exit_code == 2
    assert "zcli-queue already exists; nothing was written" in done.output
    assert sorted((str(f), f.lstat().st_mtime_ns) for f in tmp_path.rglob("*")) == before


def test_write_files_concurrent_calls_one_succeeds(tmp_path: Path) -> None:
    """Its folder is complete, and no file of the others remains."""

    def write(number: int) -> bool:
        files = {f"folder-{place}/file.txt": str(number) for place in range(20)}
        try:
            write_files(files, tmp_path / "zcli-queue")
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        succeeded = [number for number, done in enumerate(pool.map(write, range(8))) if done]
    assert len(succeeded) == 1
    texts = [file.read_text() for file in (tmp_path / "zcli-queue").rglob("*.txt")]
    assert texts == [str(succeeded[0])] * 20
    assert [item.name for item in tmp_path.iterdir()] == ["zcli-queue"]


def test_write_files_folder_appears_raises(tmp_path: Path) -> None:
    """A folder that another program creates meanwhile is not changed."""

    class Files(dict[str, str]):
        def items(self):  # type: ignore[no-untyped-def]
            yield "README.md", "ours"
            (tmp_path / "zcli-queue").mkdir()
            (tmp_path / "zcli-queue" / "README.md").write_text("theirs")

    with pytest.raises(FileExistsError, match="already exists"):
        write_files(Files(), tmp_path / "zcli-queue")
    assert (tmp_path / "zcli-queue" / "README.md").read_text() == "theirs"
    assert [item.name for item in tmp_path.iterdir()] == ["zcli-queue"]


def test_write_files_follows_no_link(tmp_path: Path) -> None:
    """No file behind a link that replaces the folder is overwritten or removed."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "pyproject.toml").write_text("other")

    class Files(dict[str, str]):
        def items(self):  # type: ignore[no-untyped-def]
            yield "README.md", "ours"
            fresh = next(tmp_path.glob(".zcli-queue-*"))
            fresh.rename(tmp_path / "away")
            fresh.symlink_to(other)
            yield "pyproject.toml", "ours"

    with pytest.raises(FileExistsError):
        write_files(Files(), tmp_path / "zcli-queue")
    assert {file.name: file.read_text() for file in other.iterdir()} == {"pyproject.toml": "other"}


_ON_A_FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
sys.argv = ["zcli", "new", "plugin", "queue", "--kind", "service"]
sys.dont_write_bytecode = True
from zcli_core.cli.main import main
main()
"""


@pytest.mark.skipif(os.name != "posix", reason="a limit on the size of files is POSIX's")
def test_new_plugin_disk_full_leaves_nothing(tmp_path: Path) -> None:
    """A limit of 700 bytes for files stands for a full disk."""
    done = subprocess.run(
        [sys.executable, "-c", _ON_A_FULL_DISK],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "zcli-queue: File too large; nothing was written" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that not even root can write is Linux's /proc")
def test_new_plugin_unwritable_folder_is_named() -> None:
    """The message has one line with the error of the system."""
    done = new("queue", "--kind", "service", into=Path("/proc"))
    assert done.exit_code == 2
    assert "cannot write /proc/zcli-queue: " in done.output
    assert "Traceback" not in done.output


def test_new_plugin_missing_folder_is_refused(tmp_path: Path) -> None:
    """The folder of --into is not created, because its name may be misspelt."""
    done = new("queue", "--kind", "service", into=tmp_path / "nowhere")
    assert done.exit_code == 2
    assert "nowhere" in done.output
    assert list(tmp_path.iterdir()) == []
