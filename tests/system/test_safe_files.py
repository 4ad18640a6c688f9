"""Opening files below a folder that another account may change: its links, pipes and hard links are refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from needs import needs_root

from zcli_core.log import ApplicationLog
from zcli_core.system.safe_files import ForeignPathError, open_folder, open_private, open_to_append

_OTHER = 65534


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder of another account."""
    needs_root("giving a folder to another account")
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, _OTHER, _OTHER)
    return folder


def _link(link: Path, target: Path, owner: int = _OTHER) -> Path:
    link.symlink_to(target)
    os.lchown(link, owner, owner)
    return link


def test_folder_through_own_links_is_opened(tmp_path: Path) -> None:
    """Links are relative, absolute, or lead up; missing folders below are made."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "up").symlink_to("../a/b")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    folder = open_folder(tmp_path / "link" / "up" / "c" / "d", 0o755)
    try:
        assert os.path.samestat(os.fstat(folder), (tmp_path / "a" / "b" / "c" / "d").stat())
    finally:
        os.close(folder)


def test_circle_of_links_is_eloop(tmp_path: Path) -> None:
    """The error is that of the system."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError) as caught:
        open_folder(tmp_path / "a" / "c", 0o755)
    assert caught.value.errno == errno.ELOOP


def test_folder_through_a_foreign_link_is_refused(theirs: Path, tmp_path: Path) -> None:
    """No folder is made behind the link, and the error names the link and its owner."""
    target = tmp_path / "target"
    target.mkdir()
    _link(theirs / "logs", target)
    with pytest.raises(ForeignPathError, match=r"is a link that the user \w+ \(uid 65534\) controls"):
        open_folder(theirs / "logs" / "new", 0o755)
    assert list(target.iterdir()) == []


def test_own_link_in_a_foreign_folder_is_refused(theirs: Path, tmp_path: Path) -> None:
    """The other user may have moved it there."""
    _link(theirs / "logs", tmp_path, owner=os.geteuid())
    with pytest.raises(ForeignPathError):
        open_folder(theirs / "logs")


@pytest.mark.parametrize(("mode", "refused"), [(0o755, False), (0o777, True), (0o1777, False)])
def test_folder_only_ours_refuses_a_writable_one(tmp_path: Path, mode: int, refused: bool) -> None:
    """A sticky folder is accepted, because others cannot replace files in it."""
    open_to_all = tmp_path / "open"
    (open_to_all / "ours").mkdir(parents=True)
    open_to_all.chmod(mode)
    if refused:
        with pytest.raises(ForeignPathError, match="every user may write"):
            open_folder(open_to_all / "ours", only_ours=True)
    else:
        os.close(open_folder(open_to_all / "ours", only_ours=True))


@pytest.mark.parametrize("kind", ["link", "second name", "pipe", "folder"])
def test_log_file_of_another_user_is_refused(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """The program reports it once and continues; the file is not written."""
    victim = tmp_path / "passwd"
    victim.write_text("root:x:0:0\n")
    folder = theirs
    if kind == "link":
        _link(theirs / "t.log", victim)
    elif kind == "second name":
        os.link(victim, theirs / "t.log")
    elif kind == "pipe":
        os.mkfifo(theirs / "t.log")
        os.chown(theirs / "t.log", _OTHER, _OTHER)
    else:
        victim.rename(tmp_path / "t.log")
        victim = tmp_path / "t.log"
        folder = _link(theirs / "logs", tmp_path)
    log = ApplicationLog("t", "PROD", "Testing", folder)
    log.logger.info("evil::0:0")
    log.logger.info("evil::0:0")
    log.close()
    assert victim.read_text() == "root:x:0:0\n"
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_log_in_a_foreign_folder_is_written(theirs: Path) -> None:
    """Root in a container has its log in a mounted folder of another user."""
    log = ApplicationLog("t", "PROD", "Testing", theirs / "logs", max_bytes=1000)
    for _ in range(30):
        log.logger.info("x" * 60)
    log.close()
    assert {"t.log", "t.log.1"} <= {file.name for file in (theirs / "logs").iterdir()}


def test_foreign_file_is_appended_to(theirs: Path) -> None:
    """A file of another user is not a file of this user."""
    file = theirs / "t.log"
    file.write_text("theirs\n")
    os.chown(file, _OTHER, _OTHER)
    with open(open_to_append(file), "a") as stream:
        stream.write("ours\n")
    assert file.read_text() == "theirs\nours\n"


@pytest.mark.parametrize("make", [lambda at: at.parent / "other.log", lambda at: Path("sub/other.log")])
def test_log_through_an_own_link_is_written(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """The link leads to a file in a folder that do not exist yet."""
    link = tmp_path / "t.log"
    target = make(link)
    link.symlink_to(target)
    with open(open_to_append(link), "a") as stream:
        stream.write("x")
    assert (tmp_path / target).read_text() == "x"


def test_log_to_standard_output_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    """Container images link log files to /dev/stdout."""
    with open(open_to_append("/dev/stdout"), "a") as stream:
        stream.write("line")
    assert capfd.readouterr().out == "line"


def test_private_file_has_mode_600_and_is_no_link(tmp_path: Path) -> None:
    """A file that others could read before is private afterwards."""
    file = tmp_path / "lock"
    file.touch(0o644)
    os.close(open_private(file))
    assert file.stat().st_mode & 0o777 == 0o600
    (tmp_path / "link").symlink_to(file)
    with pytest.raises(OSError):
        open_private(tmp_path / "link")
