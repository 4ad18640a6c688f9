"""The machine's layer: ``zConfig.machine.yaml`` of the system, then of the user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zcli_core.contracts.config_layer import Entry, LayerContext, LayerProblem
from zcli_core.folders import site_config_folder, user_config_folder

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, Node

FILE_NAME = "zConfig.machine.yaml"
#: A settings file is small; these bounds keep a hostile one (endless text, nested aliases) from using up the machine.
MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_ENTRIES = 10_000


class MachineLayer:
    """Settings of this computer, for every script on it. ``ZCLI_CONFIG_DIR`` names another folder for the file."""

    name = "machine"
    order = 100

    def read(self, context: LayerContext) -> Iterator[Entry]:
        """Yield the files' settings with their lines, the system's before the user's."""
        for folder in _folders(context):
            file = folder / FILE_NAME
            if file.is_file():
                yield from _entries(file)


def _folders(context: LayerContext) -> list[Path]:
    override = context.environ.get("ZCLI_CONFIG_DIR")
    if override:
        return [context.working_directory / Path(override).expanduser()]
    return [site_config_folder(), user_config_folder()]


def _entries(file: Path) -> Iterator[Entry]:
    import yaml

    try:
        data = file.read_bytes()
    except OSError as error:
        raise LayerProblem(f"{file}: it cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise LayerProblem(f"{file}: it has {len(data)} bytes; a settings file has at most {MAX_BYTES}")
    loader = None
    try:
        loader = yaml.SafeLoader(data)
        root = loader.get_single_node()
        if root is not None:
            yield from _Walk(file, loader).entries(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise LayerProblem(
            f"{file}{where}: not YAML that can be read safely: {error.problem or error.context}"
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise LayerProblem(f"{file}: not YAML that can be read safely: {what}") from error
    finally:
        if loader is not None:
            loader.dispose()


class _Walk:
    """From nodes to entries. Nodes, unlike the objects made of them, know their lines and how they were written."""

    def __init__(self, file: Path, loader: Any) -> None:
        self.file = file
        self.loader = loader
        self.count = 0

    def entries(self, root: Node) -> Iterator[Entry]:
        from yaml.nodes import MappingNode

        if not isinstance(root, MappingNode):
            raise self._problem(root, "expected a mapping of settings")
        yield from self._mapping(root, (), 0)

    def _mapping(self, node: MappingNode, path: tuple[str, ...], depth: int) -> Iterator[Entry]:
        from yaml.nodes import MappingNode, ScalarNode

        if depth > MAX_DEPTH:
            raise self._problem(node, f"settings are nested more than {MAX_DEPTH} deep")
        self._refuse_twins(node)
        self.loader.flatten_mapping(node)
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise self._problem(key_node, "a setting's name is a plain text")
            self._count(key_node)
            deeper = (*path, key_node.value)
            if isinstance(value_node, MappingNode) and value_node.value and value_node.tag.endswith(":map"):
                yield from self._mapping(value_node, deeper, depth + 1)
                continue
            value = self.loader.construct_object(value_node, deep=True)
            text = value_node.value if isinstance(value_node, ScalarNode) and value is not None else None
            origin = f"{self.file.name}:{key_node.start_mark.line + 1}"
            yield Entry(".".join(deeper), value, origin, text=text)

    def _refuse_twins(self, node: MappingNode) -> None:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node.value, str):
                continue
            if key_node.value in seen:
                raise self._problem(key_node, f"{key_node.value!r} stands here twice")
            seen.add(key_node.value)

    def _count(self, node: Node) -> None:
        self.count += 1
        if self.count > MAX_ENTRIES:
            raise self._problem(node, f"more than {MAX_ENTRIES} settings")

    def _problem(self, node: Node, what: str) -> LayerProblem:
        mark = node.start_mark
        return LayerProblem(f"{self.file}:{mark.line + 1}:{mark.column + 1}: {what}")
