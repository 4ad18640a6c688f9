"""The public API: the names that ``zCLI`` exports, their documentation, and what type checkers find."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from needs import needs
from zspark_types import make_module

import zCLI
from zcli_core.http.options import RequestOptions

ROOT = Path(__file__).parents[1]
#: Scripts that are not run, only checked.
SCRIPTS = ROOT / "tests/typed_scripts"
#: Type aliases and constants, for which Python keeps no docstring.
WITHOUT_DOCSTRING = {"ConnectionCallback", "Handler", "Message", "ServiceState", "__version__"}


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


def test_public_name_misspelt_raises() -> None:
    """An unknown name is an AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="HttpRespons"):
        zCLI.HttpRespons  # noqa: B018


def test_import_zcli_imports_little() -> None:
    """Names that a script does not use are not imported."""
    run = subprocess.run(
        [sys.executable, "-c", "import sys, zCLI; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert not {"asyncio", "zcli_core.types", "zcli_core.zspark", "zcli_core.websocket.connection"} & set(
        run.stdout.split()
    )


def test_zspark_type_is_current() -> None:
    """zcli_core/zspark.py holds the settings that the core and its plugins declare."""
    if make_module() != (ROOT / "zcli_core/zspark.py").read_text(encoding="utf-8"):
        pytest.fail("zspark.py is not current; renew it: python tests/zspark_types.py > zcli_core/zspark.py")


@pytest.mark.parametrize("verb", ["request", "get", "post"])
def test_http_method_documents_its_arguments(verb: str) -> None:
    """``help(z.comm.http_get)`` names every argument, those of RequestOptions included."""
    method = getattr(zCLI.Comm, f"http_{verb}")
    text = inspect.getdoc(method) or ""
    names = {*inspect.signature(method).parameters, *RequestOptions.__annotations__} - {"self", "options"}
    assert [name for name in sorted(names) if not re.search(rf"^    {name}: ", text, re.MULTILINE)] == []


@pytest.mark.parametrize("verb", ["put", "patch", "delete", "head", "options"])
def test_http_method_is_documented_by_another(verb: str) -> None:
    """The docstring names the method that has the same arguments."""
    method = getattr(zCLI.Comm, f"http_{verb}")
    (other,) = re.findall(r":meth:`http_(get|post)`", inspect.getdoc(method) or "")
    assert inspect.signature(method) == inspect.signature(getattr(zCLI.Comm, f"http_{other}"))


# --- type checkers ---

MISTAKES = {
    number: text.rpartition("  # ")[2]
    for number, text in enumerate((SCRIPTS / "wrong.py").read_text(encoding="utf-8").splitlines(), 1)
    if "  # " in text
}


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_type_checker_finds_each_mistake(checker: str, tmp_path: Path) -> None:
    """The strict modes of mypy and pyright accept right.py, and find each mistake of wrong.py on its line."""
    found = (_mypy if checker == "mypy" else _pyright)(SCRIPTS, tmp_path)
    assert {file for file, _ in found} == {"wrong.py"}, found
    assert sorted(line for _, line in found) == sorted(MISTAKES), found
    assert [text for (_, line), text in found.items() if MISTAKES[line] not in text] == []


@pytest.mark.slow
def test_pyright_accepts_the_guide(tmp_path: Path) -> None:
    """The basic mode finds nothing in the guide's snippets but a handler and an import that they leave out."""
    found = _pyright(ROOT / "tests/guide_snippets", tmp_path)
    assert sorted(found.values()) == ['"my_handler" is not defined', '"zCLI" is not defined']


def _mypy(folder: Path, tmp_path: Path) -> dict[tuple[str, int], str]:
    """What mypy --strict finds in the files of a folder, by file and line."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", "--hide-error-context"]
    run = _run(*command, f"--cache-dir={tmp_path}", *map(str, sorted(folder.glob("*.py"))))
    found: dict[tuple[str, int], str] = {}
    for line in run.splitlines():
        file, number, text = line.split(":", 2)
        place = Path(file).name, int(number)
        found[place] = found.get(place, "") + text
    return found


def _pyright(folder: Path, tmp_path: Path) -> dict[tuple[str, int], str]:
    """What pyright finds in the files of a folder, by file and line; a file may ask for the strict mode."""
    needs("node", "nodejs")
    shutil.copytree(folder, tmp_path / "scripts")
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "basic"}', encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    report = json.loads(_run(*command))
    assert report["summary"]["filesAnalyzed"] == len(list(folder.glob("*.py")))
    found: dict[tuple[str, int], str] = {}
    for item in report["generalDiagnostics"]:
        place = Path(item["file"]).name, item["range"]["start"]["line"] + 1
        found[place] = found.get(place, "") + item["message"]
    return found


def _run(*command: str) -> str:
    run = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=ROOT, timeout=240)
    assert run.returncode in (0, 1), run.stdout + run.stderr
    return run.stdout
