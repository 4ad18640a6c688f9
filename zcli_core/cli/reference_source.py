"""What a module's source says of its public things: read, not imported, so that contract suites need no pytest here.

Docstrings are the core's own; a comment that begins with ``#:`` documents what stands below it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.abc import InspectLoader
from importlib.util import find_spec
from typing import NamedTuple


class Member(NamedTuple):
    """A field, property or method of a class: as it is declared, and the first sentence that documents it."""

    declaration: str
    text: str


class Documented(NamedTuple):
    """A public class, function or name of a module; ``text`` is the first paragraph that documents it."""

    name: str
    declaration: str
    text: str
    members: list[Member]


class ModuleDocument(NamedTuple):
    """A module: the first paragraph of its docstring, and what it defines in public."""

    name: str
    text: str
    contents: list[Documented]


def read_module(name: str) -> ModuleDocument:
    """Read a module's source. Raises ImportError where there is none to be had."""
    spec = find_spec(name)
    loader = None if spec is None else spec.loader
    source = loader.get_source(name) if isinstance(loader, InspectLoader) else None
    if source is None:
        raise ImportError(f"the source of {name} cannot be read", name=name)
    tree = ast.parse(source)
    reader = _Reader(source)
    return ModuleDocument(name, first_paragraph(ast.get_docstring(tree)), list(reader.contents(tree)))


def first_paragraph(docstring: str | None) -> str:
    """The first paragraph on one line, in Markdown."""
    return as_markdown((docstring or "").strip().partition("\n\n")[0])


def as_markdown(text: str) -> str:
    """A docstring's text on one line, its roles and literals as Markdown has them."""
    text = re.sub(r":\w+:`~([^`]+)`", lambda found: f"`{found[1].rpartition('.')[2]}`", text)
    text = re.sub(r":\w+:`([^`]+)`", r"`\1`", text)
    return escaped(" ".join(text.replace("``", "`").split()))


def escaped(text: str) -> str:
    """Text in which only what stands between backticks may mean something to Markdown and HTML."""
    pieces = text.split("`")
    pieces[::2] = [piece.replace("<", "&lt;").replace("*", r"\*") for piece in pieces[::2]]
    return "`".join(pieces)


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source
        self._lines = source.splitlines()

    def contents(self, module: ast.Module) -> Iterator[Documented]:
        for node in module.body:
            if isinstance(node, ast.ClassDef):
                if not node.name.startswith("_"):
                    bases = [self._text(base) for base in node.bases] + [
                        f"{k.arg}={self._text(k.value)}" for k in node.keywords
                    ]
                    declaration = f"class {node.name}" + (f"({', '.join(bases)})" if bases else "")
                    text = first_paragraph(ast.get_docstring(node))
                    yield Documented(node.name, declaration, text, list(self._members(node)))
            elif isinstance(node, ast.FunctionDef):
                if not node.name.startswith("_"):
                    text = first_paragraph(ast.get_docstring(node))
                    yield Documented(node.name, self._signature(node), text, [])
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                comment = self._comment_above(node)
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if comment and isinstance(target, ast.Name) and not target.id.startswith("_"):
                    yield Documented(target.id, self._text(node), comment, [])

    def _members(self, owner: ast.ClassDef) -> Iterator[Member]:
        is_enum = any("Enum" in self._text(base) for base in owner.bases)
        for node in owner.body:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                made = self._signature(node).replace("__init__", owner.name, 1).removesuffix(" -> None")
                yield Member(made, "")
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                if not node.name.startswith("_"):
                    yield Member(self._signature(node), _first_sentence(first_paragraph(ast.get_docstring(node))))
            elif isinstance(node, ast.AnnAssign):
                if isinstance(node.target, ast.Name) and not node.target.id.startswith("_"):
                    yield Member(self._text(node), self._comment_above(node))
            elif isinstance(node, ast.Assign):
                comment = self._comment_above(node)
                if isinstance(node.targets[0], ast.Name) and (comment or is_enum):
                    yield Member(self._text(node), comment)

    def _signature(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
        """``name(argument: type = default) -> type``, without self; a property as ``name: type``."""
        returns = self._text(node.returns) if node.returns is not None else ""
        if any(isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in node.decorator_list):
            return f"{node.name}: {returns}"
        arguments = node.args
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
        shown = [self._argument(*pair) for pair in zip(positional, defaults, strict=True)]
        shown = [text for text in shown if text not in ("self", "cls")]
        if arguments.vararg is not None:
            shown.append("*" + self._argument(arguments.vararg, None))
        elif arguments.kwonlyargs:
            shown.append("*")
        pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        shown += [self._argument(argument, default) for argument, default in pairs]
        if arguments.kwarg is not None:
            shown.append("**" + self._argument(arguments.kwarg, None))
        prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
        return f"{prefix}{node.name}({', '.join(shown)})" + (f" -> {returns}" if returns else "")

    def _argument(self, argument: ast.arg, default: ast.expr | None) -> str:
        annotation = f": {self._text(argument.annotation)}" if argument.annotation is not None else ""
        equals = " = " if annotation else "="
        return argument.arg + annotation + (f"{equals}{self._text(default)}" if default is not None else "")

    def _text(self, node: ast.AST) -> str:
        """The source of a node on one line."""
        return " ".join((ast.get_source_segment(self._source, node) or "").split())

    def _comment_above(self, node: ast.stmt) -> str:
        """The ``#:`` comment that ends right above; each item of a list in it on a line of its own."""
        found: list[str] = []
        for line in reversed(self._lines[: node.lineno - 1]):
            stripped = line.strip()
            if not stripped.startswith("#:"):
                break
            found.append(stripped.removeprefix("#:").strip())
        text, *items = re.split(r"^- ", "\n".join(reversed(found)), flags=re.MULTILINE)
        listed = "\n".join(f"- {as_markdown(item)}" for item in items)
        return as_markdown(text) + (f"\n\n{listed}" if listed else "")


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.?!])\s", text, maxsplit=1)[0]
