"""A Python that every user of the machine can run, also where we are root and our own Python is private."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

from needs import missing
from service_servers import unprivileged


@cache
def public_interpreter() -> str:
    """A Python from 3.10 up that an ordinary user may run; the test is skipped if there is none."""
    test = "import sys; sys.exit(sys.version_info < (3, 10))"
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            done = subprocess.run(  # type: ignore[call-overload]
                [python, "-c", test], capture_output=True, check=False, cwd="/", **unprivileged()
            )
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return missing("an ordinary user can run no Python from 3.10 up here (Debian package python3)")
