"""The layer of this machine: ``zConfig.machine.yaml`` of the system, then of the user."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zcli_core.config.contract import Entry, LayerContext, LayerProblem
from zcli_core.system.folders import PathError, expand_path, site_config_folders, user_config_folder

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, Node
    from yaml.reader import ReaderError

FILE_NAME = "zConfig.machine.yaml"
#: Limits that stop a hostile file (endless text, nested aliases) from using up the memory of the machine.
MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_ENTRIES = 10_000
# From a quote to the end of the message, unless it quotes one character or a token name such as '<stream end>'.
_QUOTED = re.compile(r"""\s+['"](?!<|(\\?.|\\x..|\\u....)['"]).*""", re.DOTALL)


class MachineLayer:
    """Settings for every script on this computer. ``ZCLI_CONFIG_DIR`` names another folder for the file."""

    name = "machine"
    order = 100

    def read(self, context: LayerContext) -> Iterator[Entry]:
        """Yield the settings with their lines, those of the system before those of the user."""
        found = [(file, _read(context, file, named)) for file, named in _files(context)]
        texts = {file: data for file, data in found if data is not None}
        for file, data in texts.items():
            # If both files exist, only the whole path tells which one is meant.
            yield from _entries(file, os.path.basename(file) if len(texts) == 1 else file, data)


def _files(context: LayerContext) -> list[tuple[str, bool]]:
    """Return (path, whether a user has named its folder by a full path), the file with the lowest rank first."""
    override = context.environ.get("ZCLI_CONFIG_DIR")
    named = False
    if override:
        try:
            folder = expand_path(override, context.environ)
            named = os.path.isabs(folder)
            folders = [os.path.join(context.working_directory, folder)]
        except PathError as problem:
            raise LayerProblem(f"ZCLI_CONFIG_DIR: {override!r} cannot be used: {problem}") from None
    else:
        user = user_config_folder()
        folders = [*reversed(site_config_folders()), *([] if user is None else [user])]
    return [(os.path.join(folder, FILE_NAME), named) for folder in folders]


def _entries(file: str, shown: str, data: bytes) -> Iterator[Entry]:
    import yaml

    loader = None
    try:
        loader = yaml.SafeLoader(data)
        root = loader.get_single_node()
        if root is not None and not root.tag.endswith(":null"):
            yield from _Walk(file, shown, loader).entries(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        what = _without_quotes(error.problem or error.context or "it does not parse")
        raise LayerProblem(f"{file}{where}: invalid or unsafe YAML: {what}") from error
    except yaml.reader.ReaderError as error:
        raise LayerProblem(f"{file}:{_place(data, error)}: text that is not allowed in YAML: {error.reason}") from error
    except RecursionError as error:
        raise LayerProblem(f"{file}: settings are nested too deep") from error
    finally:
        if loader is not None:
            loader.dispose()


def _read(context: LayerContext, file: str, named: bool) -> bytes | None:
    try:
        data = context.read_file(file, MAX_BYTES, named=named, remedy="name its folder: ZCLI_CONFIG_DIR={folder}")
    except OSError as error:
        raise LayerProblem(f"cannot read {file}: {error.strerror}") from error
    if data is not None and len(data) > MAX_BYTES:
        raise LayerProblem(f"{file} is too large; a settings file may have at most {MAX_BYTES} bytes")
    return data


def _place(data: bytes, error: ReaderError) -> str:
    """Return line and column of an error, whose position counts bytes before decoding and characters after it."""
    if error.encoding == "unicode":
        before = data.decode("utf-8", "replace")[: error.position]
    else:
        before = data[: error.position].decode("utf-8", "replace")
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def _without_quotes(problem: str) -> str:
    """Return an error of PyYAML without quoted aliases and tags, which may be secrets: ``token: *hunter2``."""
    return _QUOTED.sub("", problem)


class _Walk:
    """Turns YAML nodes into entries. Unlike the objects made of them, nodes have their lines and texts."""

    def __init__(self, file: str, shown: str, loader: Any) -> None:
        self.file = file
        self.shown = shown
        self.loader = loader

    def entries(self, root: Node) -> Iterator[Entry]:
        from yaml.nodes import MappingNode

        if not isinstance(root, MappingNode):
            raise self._problem(root, "the file must hold a mapping of settings")
        if _size(root, {}) > MAX_ENTRIES:
            raise self._problem(
                root, f"the file has more than {MAX_ENTRIES} values, including those that aliases repeat"
            )
        yield from self._mapping(root, (), 0)

    def _mapping(self, node: MappingNode, path: tuple[str, ...], depth: int) -> Iterator[Entry]:
        from yaml.nodes import MappingNode, ScalarNode

        if depth > MAX_DEPTH:
            raise self._problem(node, f"settings are nested more than {MAX_DEPTH} levels deep")
        self._refuse_duplicates(node)
        self.loader.flatten_mapping(node)
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise self._problem(key_node, "the name of a setting must be a plain string")
            deeper = (*path, key_node.value)
            if isinstance(value_node, MappingNode) and value_node.value and value_node.tag.endswith(":map"):
                yield from self._mapping(value_node, deeper, depth + 1)
                continue
            value = self._value(value_node)
            text = value_node.value if isinstance(value_node, ScalarNode) and value is not None else None
            origin = f"{self.shown}:{key_node.start_mark.line + 1}"
            yield Entry(".".join(deeper), value, origin, text=text, folder=os.path.dirname(self.file))

    def _refuse_duplicates(self, node: MappingNode) -> None:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node.value, str):
                continue
            if key_node.value in seen:
                raise self._problem(key_node, f"duplicate key {key_node.value!r}")
            seen.add(key_node.value)

    def _value(self, node: Node) -> Any:
        import yaml

        try:
            return self.loader.construct_object(node, deep=True)
        except yaml.MarkedYAMLError:
            raise
        except Exception as error:  # an explicit tag such as !!int: PyYAML passes on the errors of int() and dict()
            raise self._problem(node, f"invalid value of the type {node.tag.rpartition(':')[2]}") from error

    def _problem(self, node: Node, what: str) -> LayerProblem:
        mark = node.start_mark
        return LayerProblem(f"{self.file}:{mark.line + 1}:{mark.column + 1}: {what}")


def _size(node: Node, known: dict[int, int]) -> int:
    """Count this node and those below it, following aliases. Each node is visited once."""
    if id(node) not in known:
        known[id(node)] = MAX_ENTRIES  # for a node that contains itself
        children = node.value if isinstance(node.value, list) else ()
        known[id(node)] = 1 + sum(_size(child, known) for item in children for child in _nodes(item))
    return known[id(node)]


def _nodes(item: Any) -> tuple[Node, ...]:
    return item if isinstance(item, tuple) else (item,)
