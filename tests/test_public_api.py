"""The public names: what ``zCLI`` exports, what an editor can show of it, and what a type checker finds."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import types
from pathlib import Path

import pytest

import zCLI

ROOT = Path(__file__).parents[1]
#: Names that are no classes and no functions, so that Python keeps no docstring for them.
WITHOUT_DOCSTRING = {"Message", "ServiceState", "__version__"}


def test_public_names_are_imported_lazily_and_typed() -> None:
    """Each name that a type checker sees can be imported, and the other way round."""
    (block,) = (node for node in ast.parse(inspect.getsource(zCLI)).body if isinstance(node, ast.If))
    typed = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == zCLI._HOMES
    assert sorted({*typed, "__version__", "print_line", "zCLI"}, key=str.swapcase) == sorted(
        zCLI.__all__, key=str.swapcase
    )
    assert set(zCLI.__all__) <= set(dir(zCLI))


def test_public_members_are_documented() -> None:
    """Every exported class and function, and every public method and property of them."""
    missing = []
    for name in set(zCLI.__all__) - WITHOUT_DOCSTRING:
        exported = getattr(zCLI, name)
        members = {name: exported}
        if isinstance(exported, type):
            own = vars(exported).items()
            members |= {f"{name}.{key}": value for key, value in own if not key.startswith("_") and _is_code(value)}
        missing += [key for key, value in members.items() if not inspect.getdoc(value)]
    assert missing == []


def _is_code(value: object) -> bool:
    return isinstance(value, (types.FunctionType, property, classmethod, staticmethod))


def test_public_name_that_is_misspelt_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="HttpRespons"):
        zCLI.HttpRespons  # noqa: B018


def test_import_zcli_imports_no_server() -> None:
    """The names that most scripts do not use cost nothing."""
    run = subprocess.run(
        [sys.executable, "-c", "import sys, zCLI; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert not {"asyncio", "zcli_core.types", "zcli_core.websocket.connection"} & set(run.stdout.split())


RIGHT = """
from collections.abc import Mapping

from zCLI import ClientInfo, ConnectionInfo, ServerConnection, ServiceStatus, zCLI

z = zCLI({"title": "typed"})
status: ServiceStatus = z.comm.service_status("redis")
every: dict[str, ServiceStatus] = z.comm.service_status()
info: ConnectionInfo | None = z.comm.get_service_connection_info("redis")
if info is not None:
    port: int = info["port"]
started: bool = z.comm.start_service("redis", port=6380, timeout=5)
z.logger.info("%s", status["state"])


async def handler(websocket: ServerConnection, message: str | bytes) -> str:
    client: ClientInfo = z.comm.websocket.auth.get_client_info(websocket)
    name: str | None = client["identity"]
    return name or "nobody"


z.shutdown()
"""

WRONG = {
    'z.comm.service_status("redis")["runing"]': "runing",
    'z.comm.service_status("redis")["ready"].upper()': "upper",
    'z.comm.start_service("redis", prot=6380)': "prot",
    'z.comm.start_service("redis", timeout="5")': "timeout",
    'z.comm.stop_service("redis", launcher="local")': "launcher",
    'z.comm.get_service_connection_info("redis")["host"]': "None",
    "z.comm.service_status(1)": "int",
    'z.comm.service_status("redis")["state"] == "redy"': "redy",
}


@pytest.mark.slow
def test_type_checker_finds_mistakes_and_nothing_else(tmp_path: Path) -> None:
    """mypy --strict accepts what the documentation shows, and finds each mistake by its line."""
    (tmp_path / "right.py").write_text(RIGHT)
    lines = ["from zCLI import zCLI", "z = zCLI({})", *WRONG]
    (tmp_path / "wrong.py").write_text("\n".join(lines) + "\n")
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "right.py", "wrong.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    found: dict[int, str] = {}
    for line in run.stdout.splitlines():
        file, number, text = line.split(":", 2)
        assert file == "wrong.py", run.stdout
        found[int(number)] = found.get(int(number), "") + text
    assert list(found) == list(range(3, 3 + len(WRONG))), run.stdout + run.stderr
    for number, word in enumerate(WRONG.values(), 3):
        assert word in found[number], found[number]
