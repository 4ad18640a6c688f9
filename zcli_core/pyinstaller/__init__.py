"""What PyInstaller asks for, through the entry-point group ``pyinstaller40``: the folder with zCLI's hooks.

A frozen program has no installed distributions unless a hook collects them, and zCLI finds plugins by their metadata.
https://pyinstaller.org/en/stable/hooks.html#providing-pyinstaller-hooks-with-your-package
"""

from __future__ import annotations

import os


def hook_dirs() -> list[str]:
    """Return the folder of the hooks; their names are those of the modules that they are for."""
    return [os.path.dirname(__file__)]
