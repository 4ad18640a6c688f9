"""Extensions of griffe for the site: roles in docstrings become links, and ``**options`` become the options.

A role is ``:class:`~a.b.C```. A parameter ``**options: Unpack[Options]`` stands for the keys of the TypedDict
``Options``; it is kept if the docstring describes ``**options`` itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

_ROLE = re.compile(r":\w+:`(~?)(\.?[\w.]+)`")


def _members(pkg: griffe.Module) -> Iterator[griffe.Object]:
    """Yield a package and everything in it."""
    pending: list[griffe.Object] = [pkg]
    while pending:
        obj = pending.pop()
        yield obj
        pending += [member for member in obj.members.values() if not member.is_alias]


def _link(role: re.Match[str]) -> str:
    name = role[2].lstrip(".")
    shown = name.rpartition(".")[2] if role[1] else name
    # Optional: no warning if the name is not on the site, as those of Python's library.
    return f'<autoref optional identifier="{name}"><code>{shown}</code></autoref>'


class DocstringRoles(griffe.Extension):
    """Replaces the roles in every docstring when a package has been read."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Change the docstrings of everything in a package."""
        for obj in _members(pkg):
            if obj.docstring is not None:
                obj.docstring.value = _ROLE.sub(_link, obj.docstring.value)


class UnpackedOptions(griffe.Extension):
    """Replaces ``**options: Unpack[Options]`` by keyword-only parameters when a package has been read."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Change the parameters of every function in a package."""
        for obj in _members(pkg):
            if isinstance(obj, griffe.Function):
                obj.parameters = griffe.Parameters(*self._parameters(obj))

    def _parameters(self, function: griffe.Function) -> Iterator[griffe.Parameter]:
        for parameter in function.parameters:
            annotation = parameter.annotation
            described = function.docstring is not None and f"**{parameter.name}:" in function.docstring.value
            if (
                described
                or not isinstance(annotation, griffe.ExprSubscript)
                or not annotation.canonical_path.endswith(".Unpack")
            ):
                yield parameter
                continue
            inner = annotation.slice
            assert isinstance(inner, griffe.Expr)
            options = function.modules_collection[inner.canonical_path]
            for name, key in options.attributes.items():
                kind = griffe.ParameterKind.keyword_only
                yield griffe.Parameter(name, annotation=key.annotation, kind=kind, default="...")
