"""Which files and folders are trusted, by their owner and their mode."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zcli_core.system import trusted
from zcli_core.system.trusted import UntrustedError, check_below, open_trusted, script_file, why_untrusted

pytestmark = pytest.mark.skipif(os.name != "posix", reason="files have no owners of this kind here")

ME = 4242
FILE = stat.S_IFREG | 0o644
STRANGER = 65534
as_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files away")


def _status(uid: int = ME, gid: int = ME, mode: int = FILE) -> Any:
    return SimpleNamespace(st_uid=uid, st_gid=gid, st_mode=mode)


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account database: me and bob, with private groups, in the groups devs and users."""
    users = [("root", 0, 0), ("sync", 4, 0), ("me", ME, ME), ("bob", 1001, 1001), ("ann", 1002, 100)]
    groups = [("root", 0, []), ("me", ME, []), ("bob", 1001, ["me"]), ("devs", 50, ["me", "bob"]), ("users", 100, [])]
    by_uid = {uid: SimpleNamespace(pw_name=name, pw_uid=uid, pw_gid=gid) for name, uid, gid in users}
    by_gid = {gid: SimpleNamespace(gr_name=name, gr_mem=members) for name, gid, members in groups}
    monkeypatch.setattr(pwd, "getpwuid", by_uid.__getitem__)
    monkeypatch.setattr(pwd, "getpwall", lambda: list(by_uid.values()))
    monkeypatch.setattr(grp, "getgrgid", by_gid.__getitem__)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (_status(), None),
        (_status(0, 0), None),
        (_status(1001, 1001), "belongs to the user bob (uid 1001)"),
        (_status(7, 7), "belongs to uid 7"),
        (_status(mode=FILE | 0o020), None),
        (_status(0, 0, FILE | 0o020), None),
        (_status(gid=50, mode=FILE | 0o020), "belongs to the user me (uid 4242), but the group devs may write it"),
        (_status(gid=1001, mode=FILE | 0o020), "belongs to the user me (uid 4242), but the group bob may write it"),
        (_status(gid=9, mode=FILE | 0o020), "belongs to the user me (uid 4242), but the group 9 may write it"),
        (_status(mode=FILE | 0o002), "belongs to the user me (uid 4242), but every user may write it"),
        (_status(0, 0, stat.S_IFDIR | 0o1777), "belongs to the user root (uid 0), but every user may write it"),
    ],
)
@pytest.mark.usefixtures("accounts")
def test_owner_and_mode_decide_trust(status: Any, reason: str | None) -> None:
    """The reason names the owner and who else may write the file."""
    assert why_untrusted(status, {0, ME}) == reason


@pytest.mark.usefixtures("accounts")
def test_private_group_with_another_member_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another account may have it as its primary group, which the list of members does not show."""
    intruder = SimpleNamespace(pw_name="intruder", pw_uid=5, pw_gid=ME)
    everybody = [*pwd.getpwall(), intruder]
    monkeypatch.setattr(pwd, "getpwall", lambda: everybody)
    assert why_untrusted(_status(mode=FILE | 0o020), {ME}) is not None


def test_group_without_an_account_is_private_by_number() -> None:
    """A container may run as a number that its account database does not have."""
    number = 3_999_999_998
    assert why_untrusted(_status(number, number, FILE | 0o020), {number}) is None


def test_script_owner_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner could change the script."""
    script = tmp_path / "script.py"
    script.touch()
    monkeypatch.setattr("__main__.__file__", str(script), raising=False)
    assert trusted.trusted_owners() == {0, os.geteuid(), script.stat().st_uid}
    if os.geteuid() == 0:
        os.chown(script, STRANGER, STRANGER)
        assert STRANGER in trusted.trusted_owners()
    script.unlink()
    assert trusted.trusted_owners() == {0, os.geteuid()}
    monkeypatch.delattr("__main__.__file__")
    assert script_file() is None
    assert trusted.trusted_owners() == {0, os.geteuid()}


def test_open_trusted_reads_own_file(tmp_path: Path) -> None:
    """Also through a link; a missing file or a folder is an OSError."""
    (tmp_path / "a").write_text("text")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        with os.fdopen(open_trusted(tmp_path / name)) as stream:
            assert stream.read() == "text"
    with pytest.raises(FileNotFoundError):
        open_trusted(tmp_path / "b")
    with pytest.raises(IsADirectoryError):
        open_trusted(tmp_path)


@pytest.mark.parametrize("part", ["file", "folder", "target"])
def test_open_trusted_writable_part_is_refused(tmp_path: Path, part: str) -> None:
    """Others must not write the file, its folder or the target of a link."""
    folder, target = tmp_path / "folder", tmp_path / "target"
    folder.mkdir()
    target.touch()
    file = folder / "a"
    file.touch()
    (folder / "link").symlink_to(target)
    {"file": file, "folder": folder, "target": target}[part].chmod(0o777)
    with pytest.raises(UntrustedError, match=r"but every user may write it$"):
        open_trusted(folder / "link" if part == "target" else file)
    with pytest.raises(FileNotFoundError):  # there is no file to distrust
        open_trusted(folder / "missing")


def test_open_trusted_foreign_pipe_does_not_block(tmp_path: Path) -> None:
    """Its owner might never write to it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipe").chmod(0o666)
    with pytest.raises(UntrustedError):
        open_trusted(tmp_path / "pipe")


@as_root
def test_open_trusted_names_the_other_owner(tmp_path: Path) -> None:
    """It is the owner of the file or of the folder."""
    file = tmp_path / "a"
    file.touch()
    os.chown(file, STRANGER, STRANGER)
    with pytest.raises(UntrustedError, match=rf"^{file} belongs to .*uid {STRANGER}"):
        open_trusted(file)
    os.close(open_trusted(file, owners={0, STRANGER}))
    os.chown(file, 0, 0)
    os.chown(tmp_path, STRANGER, STRANGER)
    with pytest.raises(UntrustedError, match=rf"^its folder {tmp_path} belongs to .*uid {STRANGER}"):
        open_trusted(file)


def test_check_below_checks_every_folder(tmp_path: Path) -> None:
    """A folder between the base and the file could be replaced."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    check_below(tmp_path, "a/./b/../b/file")
    for place in (tmp_path, tmp_path / "a", inner, inner / "file"):
        mode = place.stat().st_mode
        place.chmod(0o777)
        with pytest.raises(UntrustedError) as caught:
            check_below(tmp_path, "a/b/file")
        assert caught.value.path == str(place)
        place.chmod(stat.S_IMODE(mode))
