"""What ``zcli new plugin`` takes for a name, what it makes of it, and that it never harms what is there."""

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
def test_the_forms_of_a_name_follow_from_one(typed: str) -> None:
    """With or without the prefix that every distribution has."""
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
def test_what_is_no_name_is_refused_with_one_that_is(typed: str, suggested: str | None, tmp_path: Path) -> None:
    """The suggestion is a name itself, and nothing is written."""
    done = new("--kind", "service", "--", typed, into=tmp_path)
    assert done.exit_code == 2
    assert "is no name for a plugin" in done.output
    assert re.findall(r"how about '(.*)'\?", done.output) == ([suggested] if suggested else [])
    if suggested:
        parse_name(suggested)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "holder"),
    [
        ("redis", "package zcli_redis"),
        ("zcli-core", "package zcli_core"),
        ("class", "a word of Python's own"),
        ("valkey", "the service of zcli_redis"),
        ("token", "the auth strategy of zcli_auth"),
        ("environment", "the configuration layer of zcli_layers"),
        ("http", "the setting http."),
        ("title", "the setting title"),
        ("folder", "the setting services.folder"),
        ("explain", "z.config.explain"),
        ("target", "a class Target"),
        ("service", "a class ServiceBackend"),
    ],
)
def test_a_name_that_would_stand_in_somebodys_way_is_refused(name: str, holder: str, tmp_path: Path) -> None:
    """The message says who has it."""
    done = new(name, "--kind", "service", into=tmp_path)
    assert done.exit_code == 2
    assert holder in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_name_may_be_so_long_and_no_longer(tmp_path: Path) -> None:
    """Fifty characters will do; a folder's name, a module's and a program's have to fit in."""
    assert len(LONGEST) == 50
    parse_name(LONGEST)
    with pytest.raises(ValueError, match="the name has 51 characters; a plugin's has at most 50"):
        parse_name(LONGEST + "m")
    with pytest.raises(ValueError, match="the name has 1000000 characters"):
        parse_name("a" * 1_000_000)


def test_the_kind_has_to_be_given_and_known(tmp_path: Path) -> None:
    """The message lists them."""
    for arguments in ((), ("--kind", "widget")):
        done = new("queue", *arguments, into=tmp_path)
        assert done.exit_code == 2
        assert all(kind in done.output for kind in KINDS)


# What is made of a name ---------------------------------------------------------------------------------------


def test_there_is_a_template_for_every_kind() -> None:
    """And no template without a kind."""
    folders = {file.name for file in (ROOT / "zcli_core" / "cli" / "templates").iterdir() if file.is_dir()}
    assert {name for name in folders if name[0] not in "._"} == {*KINDS, "common"}


@each_kind
@pytest.mark.parametrize("name", ["q", "x-2-y", "message-queue", LONGEST])
def test_nothing_of_the_template_is_left_and_all_of_it_is_code(kind: str, name: str) -> None:
    """Whatever the name looks like; and the contract's version is the one in force."""
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
def test_any_text_is_a_good_name_or_a_value_error(text: str) -> None:
    """What is taken is a distribution's name and an identifier, whatever was typed."""
    try:
        names = parse_name(text)
    except ValueError:
        return
    assert re.fullmatch(r"zcli-[a-z0-9]+(-[a-z0-9]+)*", names.distribution)
    assert names.package.isidentifier()
    assert names.in_classes.isidentifier()
    assert not keyword.iskeyword(names.identifier)


@each_kind
def test_the_contract_suite_is_asked_for_in_a_few_lines(kind: str) -> None:
    """That is what the suites promise to authors."""
    text = make_files(kind, Names("queue"))["tests/test_contract.py"]
    code = [line for line in text.splitlines() if line.strip() and '"""' not in line]
    assert len(code) <= 8


@each_kind
def test_the_readme_names_files_that_are_there(kind: str) -> None:
    """And settings by their variables' right names."""
    files = make_files(kind, Names("message-queue"))
    named = re.findall(r"`((?:zcli_|tests/)[\w/]+\.py)`", files["README.md"])
    assert named
    assert set(named) <= set(files)


def test_ci_runs_the_pythons_that_zcli_runs_on() -> None:
    """The list in the workflow is that of our own classifiers."""
    ours = re.findall(r"Python :: (3\.\d+)\"", (ROOT / "pyproject.toml").read_text())
    workflow = make_files("service", Names("queue"))[".github/workflows/tests.yml"]
    assert re.findall(r'"(3\.\d+)"', workflow.partition("python: [")[2].partition("]")[0]) == ours


# Writing ------------------------------------------------------------------------------------------------------


def test_it_says_what_it_wrote_and_what_comes_next(tmp_path: Path) -> None:
    """Every file, and commands that can be typed as they stand."""
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
def test_what_is_there_is_left_as_it_is(there: str, tmp_path: Path) -> None:
    """Not even an empty folder is taken over."""
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
    assert "zcli-queue is there already; nothing was written" in done.output
    assert sorted((str(f), f.lstat().st_mtime_ns) for f in tmp_path.rglob("*")) == before


def test_of_many_that_write_at_once_one_succeeds(tmp_path: Path) -> None:
    """The folder is that one's, whole; of the others nothing is left."""

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


def test_a_folder_that_comes_while_it_writes_is_left_as_it_is(tmp_path: Path) -> None:
    """Its name was free at first and is taken at the end."""

    class Files(dict[str, str]):
        def items(self):  # type: ignore[no-untyped-def]
            yield "README.md", "ours"
            (tmp_path / "zcli-queue").mkdir()
            (tmp_path / "zcli-queue" / "README.md").write_text("theirs")

    with pytest.raises(FileExistsError, match="is there already"):
        write_files(Files(), tmp_path / "zcli-queue")
    assert (tmp_path / "zcli-queue" / "README.md").read_text() == "theirs"
    assert [item.name for item in tmp_path.iterdir()] == ["zcli-queue"]


def test_link_that_replaces_the_folder_leads_to_no_file(tmp_path: Path) -> None:
    """The owner of the folder above can put one there; nothing behind it is overwritten or removed."""
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
def test_where_it_cannot_be_written_to_the_end_nothing_is_left(tmp_path: Path) -> None:
    """No file may grow over 700 bytes here, which is how a full disk looks to a program."""
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
    assert "zcli-queue cannot be written: File too large; nothing was left behind" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that not even root can write is Linux's /proc")
def test_a_folder_that_cannot_be_written_is_named() -> None:
    """In one line, with what the system says."""
    done = new("queue", "--kind", "service", into=Path("/proc"))
    assert done.exit_code == 2
    assert "/proc/zcli-queue cannot be written: " in done.output
    assert "Traceback" not in done.output


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """It is not made: a slip of the pen would go unnoticed."""
    done = new("queue", "--kind", "service", into=tmp_path / "nowhere")
    assert done.exit_code == 2
    assert "nowhere" in done.output
    assert list(tmp_path.iterdir()) == []
