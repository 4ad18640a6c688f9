"""The application's log: a logger ``zcli.<title>`` with one rotating file and the console.

The logger does not propagate to the root logger, so that the deployment alone decides what the console shows.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, Literal, TextIO

from zcli_core.printable import encodable, print_line, printable
from zcli_core.redaction import SecretFilter
from zcli_core.system.folders import user_log_folder

if TYPE_CHECKING:
    from zcli_core.config.sections import Application

PROD = "PROD"
#: ``extra`` of a record that the console does not show, because a banner or the program's own output says the same.
FILE_ONLY = {"zcli_file_only": True}
_FILE_FORMAT = "%(asctime)s %(levelname)-8s %(name)s{worker}: %(message)s"
_CONSOLE_FORMAT = "%(levelname)s %(name)s{worker}: %(message)s"

#: Stays on a logger whose log is closed: with no handler at all, logging prints warnings on the console.
_NOWHERE = logging.NullHandler()

_names_lock = threading.RLock()  # an object may be collected, and its name freed, while another takes one
_names_in_use: set[str] = set()


class ApplicationLog:
    """The log of one ``zCLI`` object.

    Two objects with the same title get separate loggers (``zcli.title``, ``zcli.title-2``), so that closing one does
    not affect the other.

    Attributes:
        title: Title of the log.
        logger: The logger.
        file: Path of the log file; None if there is no folder for it.
    """

    def __init__(
        self,
        title: str,
        level: str,
        deployment: str,
        folder: str | os.PathLike[str] | None,
        max_bytes: int = 5_000_000,
        backups: int = 3,
        secrets: Collection[str] = (),
        line_format: Literal["text", "json"] = "text",
        worker: int | None = None,
    ) -> None:
        """Set up the handlers. The file is opened, and its folder made, with the first record.

        Args:
            title: Name of the logger below ``zcli`` and of the file.
            level: DEBUG, INFO, WARNING, ERROR or CRITICAL; or PROD, which shows nothing on the console and writes all
                levels to the file.
            deployment: In Production, the console shows ERROR, CRITICAL and security warnings only
                (:func:`zcli_core.security_warnings.warn_security`).
            folder: Folder of the log file; None writes no file.
            max_bytes: Size at which the file is rotated, in bytes.
            backups: How many rotated files are kept.
            secrets: Texts that are replaced in every record.
            line_format: How records are written, in the file and on the console.
            worker: Number of the worker that this process is, which its lines have; None if it is not a worker.
        """
        self.title = title
        self.file = None if folder is None else os.path.join(folder, f"{title}.log")
        self._closed = False
        self._name = _reserve_name(f"zcli.{title.replace('.', '_')}")
        self.logger = logging.getLogger(self._name)
        self.logger.addHandler(_NOWHERE)
        self.logger.propagate = False
        self._handlers: list[logging.Handler] = []
        remover = _SecretRemover(secrets) if secrets else None
        if remover is not None:
            self._add(remover)
        file_format, console_format = _formatters(line_format, worker, remover)
        self._json = console_format if line_format == "json" else None
        file_level = logging.DEBUG if level == PROD else logging.getLevelName(level)
        self.logger.setLevel(file_level)
        if level != PROD:
            console = logging.StreamHandler(_CurrentStderr())
            console.setFormatter(console_format)
            console_level = max(file_level, logging.ERROR) if deployment == "Production" else file_level
            console.addFilter(lambda record: _is_for_console(record, console_level))
            self._add(console)
        if self.file is None:
            self._print_problem("this user has no home folder, so there is no log file. Set logger_path to a folder.")
        else:
            file_handler = _LogFile(self.file, max_bytes, backups, self._print_problem)
            file_handler.setFormatter(file_format)
            self._add(file_handler)

    def _add(self, handler: logging.Handler) -> None:
        self.logger.addHandler(handler)
        self._handlers.append(handler)

    def _print_problem(self, problem: str) -> None:
        """Print a problem of the log itself to stderr, whatever the level of the log."""
        if sys.stderr is not None:
            record = self.logger.makeRecord(self._name, logging.ERROR, "", 0, problem, (), None)
            print_line(f"zCLI: {problem}" if self._json is None else self._json.format(record), sys.stderr)

    def close(self) -> None:
        """Close the file and release the name of the logger. Later records are dropped. A second call does nothing."""
        with _names_lock:
            if self._closed:
                return
            self._closed = True
            _names_in_use.discard(self._name)
        for handler in reversed(self._handlers):
            self.logger.removeHandler(handler)
            handler.close()


def _is_for_console(record: logging.LogRecord, level: int) -> bool:
    if hasattr(record, "zcli_file_only"):
        return False
    return record.levelno >= level or hasattr(record, "zcli_security")


class _SecretRemover(logging.Handler):
    """Replaces secrets in each record. It is the first handler, so no other one gets the secrets.

    That is true of handlers that the script adds, too, and of records from child loggers.
    """

    def __init__(self, secrets: Collection[str]) -> None:
        super().__init__()
        self.secrets = SecretFilter(secrets)
        self.addFilter(self.secrets)

    def emit(self, record: logging.LogRecord) -> None:
        pass


def _formatters(
    line_format: str, worker: int | None, remover: _SecretRemover | None
) -> tuple[logging.Formatter, logging.Formatter]:
    """Return the formatters of the file and of the console."""
    if line_format == "json":
        from zcli_core.log_json import JsonFormatter

        formatter = JsonFormatter(worker) if remover is None else JsonFormatter(worker, remover.secrets.redact)
        return formatter, formatter
    shown = "" if worker is None else f" worker {worker}"
    return _Formatter(_FILE_FORMAT.format(worker=shown)), _Formatter(_CONSOLE_FORMAT.format(worker=shown))


class _Formatter(logging.Formatter):
    """Formats a record so that only its first line looks like a record.

    Messages and tracebacks may hold text of other programs. Further lines are indented and control characters escaped,
    so that such text can neither forge a record nor control the terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n\t").replace("\n", "\n    ")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        """Return the local time with its offset from UTC: ``2026-11-28 16:00:00.123+01:00`` (RFC 3339)."""
        local = time.localtime(record.created)
        offset = time.strftime("%z", local)
        return f"{time.strftime('%Y-%m-%d %H:%M:%S', local)}.{int(record.msecs):03}{offset[:3]}:{offset[3:]}"


class _LogFile(logging.FileHandler):
    """A rotating log file that tolerates rotation by other processes.

    A file that cannot be rotated is still written. Each kind of error is reported once on the console, then ignored.
    """

    def __init__(self, file: str, max_bytes: int, backups: int, print_problem: Callable[[str], None]) -> None:
        # Records may hold lone surrogates, as in file names that are not UTF-8.
        super().__init__(file, encoding="utf-8", delay=True, errors="backslashreplace")
        self._max_bytes = max_bytes
        #: Size at which rotation is tried; it grows when rotation fails, so that not every record tries again.
        self._full = max_bytes
        self._backups = backups
        self._print_problem = print_problem
        self._reported: set[str] = set()

    def _open(self) -> Any:
        if os.name != "posix":
            os.makedirs(os.path.dirname(self.baseFilename), exist_ok=True)
            return super()._open()
        from zcli_core.system.safe_files import open_to_append

        # A user who may write the folder, or one above it, must not choose which file of this user is written.
        return open(open_to_append(self.baseFilename), "a", encoding=self.encoding, errors=self.errors)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._close_if_rotated_or_full()
            super().emit(record)
        except OSError:
            self.handleError(record)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a write error, such as a full disk, has been reported
            super().close()

    def _close_if_rotated_or_full(self) -> None:
        there = self._stat()
        if self.stream is not None:
            here = os.fstat(self.stream.fileno())
            # Another process with the same title may have renamed the open file: write to the new file of that name.
            if there is None or (here.st_ino, here.st_dev) != (there.st_ino, there.st_dev):
                self._close_stream()
        if there is not None and there.st_size >= self._full:
            self._close_stream()
            try:
                self._rotate()
                self._full = self._max_bytes
            except OSError as error:
                self._full = there.st_size + self._max_bytes
                self._report(
                    f"cannot be rotated ({_reason(error)}) and keeps growing. Set logger_path to a folder of your own."
                )
        elif there is not None and there.st_size < self._max_bytes:
            self._full = self._max_bytes  # another program has rotated or truncated it

    def _stat(self) -> os.stat_result | None:
        try:
            return os.stat(self.baseFilename)
        except FileNotFoundError:
            return None

    def _close_stream(self) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.close()

    def _rotate(self) -> None:
        """Rotate the files, unless another process does so now: two rotations at once would lose a file.

        Any user who can read the folder can hold its lock, so a file of twice the size is rotated without the lock.
        """
        with _alone_in(os.path.dirname(self.baseFilename)) as (alone, folder):
            there = self._stat()
            if there is None or there.st_size < self._max_bytes * (1 if alone else 2):
                return
            # The file is moved first: if it cannot be moved, no older file may be deleted.
            name = self.baseFilename if folder is None else os.path.basename(self.baseFilename)
            if os.path.lexists(f"{self.baseFilename}.0"):
                self._number_up(name, folder)
            os.replace(name, f"{name}.0", src_dir_fd=folder, dst_dir_fd=folder)
            self._number_up(name, folder)

    def _number_up(self, name: str, folder: int | None) -> None:
        for number in reversed(range(self._backups)):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{name}.{number}", f"{name}.{number + 1}", src_dir_fd=folder, dst_dir_fd=folder)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        else:
            self._report(
                f"cannot be written ({_reason(error)}); zCLI continues without it. "
                "Set logger_path to a folder that you may write."
            )

    def _report(self, problem: str) -> None:
        kind = problem.partition(" (")[0]
        if kind not in self._reported:
            self._reported.add(kind)
            self._print_problem(f"the log file {self.baseFilename} {problem}")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


@contextlib.contextmanager
def _alone_in(folder: str) -> Iterator[tuple[bool, int | None]]:
    """Try to lock a folder against other processes while its files are rotated, without waiting.

    Yields:
        Whether this process has the lock, and a descriptor of the folder (None on Windows).
    """
    if os.name != "posix":  # on Windows, a file that another process has open cannot be renamed
        yield True, None
        return
    import fcntl

    from zcli_core.system.safe_files import open_folder

    found = open_folder(folder)
    try:
        descriptor = os.open(".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=found)
    finally:
        os.close(found)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False, descriptor
        else:
            yield True, descriptor
    finally:
        os.close(descriptor)


class _CurrentStderr:
    """A stream that writes to the current ``sys.stderr``, so that it can be redirected after the log is opened."""

    def write(self, text: str) -> None:
        if _is_open(sys.stderr):
            sys.stderr.write(encodable(text, sys.stderr))

    def flush(self) -> None:
        if _is_open(sys.stderr):
            sys.stderr.flush()


def _is_open(stream: TextIO | None) -> bool:
    """Return whether a stream can be written. A daemon may have closed it, or have none."""
    return stream is not None and not getattr(stream, "closed", False)


def _reserve_name(wanted: str) -> str:
    with _names_lock:
        name, count = wanted, 1
        while name in _names_in_use:
            count += 1
            name = f"{wanted}-{count}"
        _names_in_use.add(name)
        return name


def application_title(title: str | None, script: str | None) -> str:
    """Return the title of an application: the setting ``title``, or the name of the script without one."""
    if title is not None:
        return title
    if script is None:
        return "zcli"
    folder, name = os.path.split(script)
    stem = os.path.splitext(name)[0]
    # python -m package runs package/__main__.py
    return os.path.basename(folder) or stem if stem == "__main__" else stem


def log_file(application: Application, script: str | None) -> str | None:
    """Return the path of the log file that the configuration describes; None if there is no folder for it.

    Args:
        application: Settings of the log.
        script: Path of the running script, which names the log if no title is set.
    """
    folder = application.logger_path or user_log_folder()
    return None if folder is None else os.path.join(folder, f"{application_title(application.title, script)}.log")


def open_log(
    application: Application, script: str | None, secrets: Collection[str], worker: int | None
) -> ApplicationLog:
    """Open the log that the configuration describes.

    Args:
        application: Settings of the log.
        script: Path of the running script, which names the log if no title is set.
        secrets: Texts that are replaced in every record.
        worker: Number of the worker that this process is; None if it is not a worker.
    """
    return ApplicationLog(
        application_title(application.title, script),
        application.logger,
        application.deployment,
        application.logger_path or user_log_folder(),
        application.logger_max_bytes,
        application.logger_backups,
        secrets,
        application.logger_format,
        worker,
    )
