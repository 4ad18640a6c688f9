"""A Python that every user of the machine can run, also if we are root and our Python is private."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

from needs import missing
from service_servers import unprivileged


@cache
def public_interpreter() -> str:
    """Return a Python 3.10 or later that an ordinary user may run. Without one, the test is skipped."""
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
