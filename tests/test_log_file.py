"""The log's file: rotation, and what happens when it cannot be written."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from installations import clean_environment, needs_to_become_somebody_else

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError
from zcli_core.log import ApplicationLog

pytestmark = pytest.mark.usefixtures("isolated")

needs_full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")

Open = Callable[..., ApplicationLog]


def _text(log: ApplicationLog) -> str:
    assert log.file is not None
    return Path(log.file).read_text(encoding="utf-8")


def _run(code: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in that folder, with warnings as errors, as a program of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env={**clean_environment(os.environ, folder), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# --- rotation ---------------------------------------------------------------------------------------------------


def test_log_file_full_is_rotated(open_log: Open) -> None:
    """``logger_max_bytes`` and ``logger_backups``; the settings have the same names."""
    log = open_log(max_bytes=1000, backups=2)
    for number in range(100):
        log.logger.info("%03d %s", number, "x" * 60)
    assert log.file is not None
    files = sorted(Path(log.file).parent.iterdir())
    assert [file.name for file in files] == ["t.log", "t.log.1", "t.log.2"]
    assert all(file.stat().st_size <= 1000 + 200 for file in files)
    kept = [int(n) for file in reversed(files) for n in re.findall(r"t: (\d{3}) ", file.read_text())]
    assert kept == list(range(kept[0], 100))


def test_log_file_rotation_follows_the_settings() -> None:
    """At least 1000 bytes, at least one file kept."""
    with zCLI(
        {"title": "t", "logger": "PROD", "logger_path": "logs", "logger_max_bytes": 1000, "logger_backups": 1}
    ) as z:
        for _ in range(100):
            z.log.info("x" * 100)
    assert sorted(file.name for file in Path("logs").iterdir()) == ["t.log", "t.log.1"]
    with pytest.raises(ConfigError, match="must be an integer of at least 1000"):
        zCLI({"logger_max_bytes": 999})


@pytest.mark.parametrize("what", ["the folder", "a backup"])
def test_file_that_cannot_be_rotated_is_still_written(
    open_log: Open, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """No line is lost, no older file is pushed out, and it is said once. Here the system refuses to rename."""
    log = open_log(level="PROD", max_bytes=1000, backups=2)
    assert log.file is not None
    folder = Path(log.file).parent
    folder.mkdir(parents=True)
    for number in (1, 2):
        (folder / f"t.log.{number}").write_text(f"old {number}\n")
    rename = os.replace

    def refuse(source: str, target: str, **folders: int) -> None:
        if what == "the folder" or source.endswith(".1"):
            raise OSError(errno.EBUSY, "Device or resource busy")
        rename(source, target, **folders)

    monkeypatch.setattr(os, "replace", refuse)
    for number in range(100):
        log.logger.info("%03d %s", number, "x" * 60)
    monkeypatch.undo()
    text = "".join(file.read_text() for file in sorted(folder.iterdir(), reverse=True))
    assert sorted(re.findall(r"t: (\d{3}) ", text)) == [f"{number:03}" for number in range(100)]
    assert {"old 1", "old 2"} <= set(text.splitlines())
    err = capsys.readouterr().err
    assert err.count("cannot be rotated (Device or resource busy) and keeps growing") == 1
    assert err.count("\n") == 1


def test_log_rotation_completes_an_interrupted_one(open_log: Open) -> None:
    """A program that was killed in the middle of it has left t.log.0."""
    log = open_log(max_bytes=1000, backups=3)
    assert log.file is not None
    Path(log.file).parent.mkdir(parents=True)
    Path(f"{log.file}.0").write_text("interrupted\n")
    for _ in range(11):  # just enough
        log.logger.info("x" * 60)
    files = {file.name: file.read_text() for file in Path(log.file).parent.iterdir()}
    assert sorted(files) == ["t.log", "t.log.1", "t.log.2"]
    assert files["t.log.2"] == "interrupted\n"


@pytest.mark.skipif(os.name != "posix", reason="there is no lock on Windows")
def test_log_rotation_works_with_a_held_lock(open_log: Open) -> None:
    """Every user who can read the folder can hold it, and so can a program that was stopped while it rotated."""
    import fcntl

    log = open_log(max_bytes=1000)
    log.logger.info("x")
    assert log.file is not None
    holder = os.open(os.path.dirname(log.file), os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        for _ in range(60):
            log.logger.info("x" * 100)
    finally:
        os.close(holder)
    assert os.path.getsize(log.file) < 3000
    assert os.path.exists(f"{log.file}.1")


def test_log_file_removed_is_made_again(open_log: Open) -> None:
    """Such as by logrotate."""
    log = open_log()
    log.logger.info("first")
    assert log.file is not None
    Path(log.file).rename(Path(log.file).with_name("moved"))
    log.logger.info("second")
    assert "second" in _text(log)
    assert "first" not in _text(log)


def test_file_rotated_by_another_process_is_followed(open_log: Open) -> None:
    """The other process has already made a new file of that name."""
    log = open_log()
    log.logger.info("first")
    assert log.file is not None
    Path(log.file).rename(Path(log.file).with_name("moved"))
    Path(log.file).write_text("of the other process\n", encoding="utf-8")
    log.logger.info("second")
    assert "second" in _text(log)


WRITER = """
import sys
from pathlib import Path
from zcli_core.log import ApplicationLog
log = ApplicationLog("shared", "PROD", "Testing", Path("logs"), max_bytes=20_000, backups=1000)
print("ready", flush=True)
sys.stdin.readline()
for number in range(1500):
    log.logger.info("%s-%04d.", sys.argv[1], number)
log.close()
"""


def test_log_rotation_by_two_processes_loses_no_line(isolated: Path) -> None:
    """Nor is a rotation done twice, which would leave nearly empty files behind and push full ones out."""
    environment = clean_environment(os.environ, isolated)
    command = [sys.executable, "-W", "error", "-c", WRITER]
    writers = [
        subprocess.Popen(
            [*command, name],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert (writer.returncode, errors) == (0, "")
    files = sorted(Path("logs").iterdir())
    lines = sorted(re.findall(r"([ab]-\d{4})\.\n", "".join(file.read_text() for file in files)))
    assert lines == [f"{name}-{number:04}" for name in "ab" for number in range(1500)]
    assert min(file.stat().st_size for file in files if file.name != "shared.log") > 10_000


# --- trouble ----------------------------------------------------------------------------------------------------


def test_log_folder_impossible_is_reported_once(isolated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message is printed with PROD too."""
    (isolated / "file").touch()
    with zCLI({"deployment": "Testing", "logger": "PROD", "title": "t", "logger_path": "file/logs"}) as z:
        for _ in range(5):
            z.log.error("lost")
        assert z.comm.check_port(1) in (True, False)
    assert capsys.readouterr().err == (
        f"zCLI: the log file {isolated}/file/logs/t.log cannot be written (Not a directory); zCLI continues without "
        "it. Set logger_path to a folder that you may write.\n"
    )


def test_log_console_works_without_the_file(isolated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The console does not depend on the file."""
    (isolated / "file").touch()
    with zCLI({"deployment": "Testing", "title": "t", "logger_path": "file/logs"}) as z:
        z.log.error("seen")
    assert "ERROR zcli.t: seen" in capsys.readouterr().err


@needs_to_become_somebody_else
def test_log_folder_read_only_is_reported_once(isolated: Path) -> None:
    """As another user, who may look into it."""
    code = """
import os, pathlib, shutil, tempfile, logging.handlers
from zCLI import zCLI
import zcli_core.net.ports, zcli_layers.machine, zcli_layers.zenv, zcli_layers.plain
folder = tempfile.mkdtemp()
os.chmod(folder, 0o755)
child = os.fork()
if child == 0:
    os.setuid(65534)
    with zCLI({"deployment": "Testing", "logger": "PROD", "title": "t", "logger_path": folder}) as z:
        z.log.error("lost")
        z.log.error("lost")
    print("went on", flush=True)
    os._exit(0)
print("status", os.waitpid(child, 0)[1])
shutil.rmtree(folder)
"""
    done = _run(code, isolated)
    assert done.stdout == "went on\nstatus 0\n", done.stderr
    assert done.stderr.count("\n") == 1
    assert "cannot be written (Permission denied); zCLI continues without it" in done.stderr


@needs_full_disk
@pytest.mark.parametrize("buffered", [False, True], ids=["short lines", "long lines"])
def test_log_disk_full_is_reported_once(isolated: Path, capsys: pytest.CaptureFixture[str], buffered: bool) -> None:
    """Whatever is left in the buffers."""
    (isolated / "t.log").symlink_to("/dev/full")
    with zCLI({"deployment": "Testing", "logger": "PROD", "title": "t", "logger_path": "."}) as z:
        for _ in range(5):
            z.log.error("x" * (100_000 if buffered else 10))
    printed = capsys.readouterr().err
    assert printed.count("zCLI:") == printed.count("\n") == 1
    assert "t.log cannot be written (No space left on device); zCLI continues without it" in printed


def test_log_file_resumes_when_writable(isolated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A network drive may become available again."""
    (isolated / "logs").touch()
    with zCLI({"deployment": "Testing", "logger": "PROD", "title": "t", "logger_path": "logs"}) as z:
        z.log.error("lost")
        (isolated / "logs").unlink()
        z.log.error("kept")
    assert "kept" in (isolated / "logs" / "t.log").read_text()


@pytest.mark.parametrize("closing", ["sys.stderr.close()", "sys.stderr = None", "sys.stdout = sys.stderr = None"])
def test_log_without_console_works(isolated: Path, closing: str) -> None:
    """As under pythonw, or a daemon that closed it; nothing is printed to the wrong place."""
    code = f"""
import sys, os
from zCLI import zCLI
{closing}
with zCLI({{"deployment": "Testing", "title": "t", "logger_path": "/dev/null/x"}}) as z:
    z.log.error("where to?")
os.write(1, b"went on")
"""
    if "close()" in closing:
        code = code.replace("sys.stderr.close()", "sys.stderr = open(os.devnull, 'w')")
    assert _run(code, isolated).stdout == "went on"


def test_log_console_is_the_current_stderr(capsys: pytest.CaptureFixture[str], isolated: Path) -> None:
    """Redirecting it later works as people expect."""
    with zCLI({"deployment": "Testing", "title": "t"}) as z:
        with (isolated / "redirected").open("w") as file:
            before, sys.stderr = sys.stderr, file
            try:
                z.log.error("to the file")
            finally:
                sys.stderr = before
        z.log.error("to the console")
    assert (isolated / "redirected").read_text() == "ERROR zcli.t: to the file\n"
    assert capsys.readouterr().err == "ERROR zcli.t: to the console\n"
