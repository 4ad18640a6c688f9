"""An extension of griffe for the site: a role such as ``:class:`~a.b.C``` in a docstring becomes a link."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":\w+:`(~?)(\.?[\w.]+)`")


def _link(role: re.Match[str]) -> str:
    name = role[2].lstrip(".")
    shown = name.rpartition(".")[2] if role[1] else name
    # Optional: no warning if the name is not on the site, as those of Python's library.
    return f'<autoref optional identifier="{name}"><code>{shown}</code></autoref>'


class DocstringRoles(griffe.Extension):
    """Replaces the roles in every docstring when a package has been read."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Change the docstrings of everything in a package."""
        pending: list[griffe.Object] = [pkg]
        while pending:
            obj = pending.pop()
            if obj.docstring is not None:
                obj.docstring.value = _ROLE.sub(_link, obj.docstring.value)
            pending += [member for member in obj.members.values() if not member.is_alias]
