"""Subsystems: plugins add attributes to the ``zCLI`` object."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from installations import Site, clean_environment

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError
from zcli_core.plugins.records import SUBSYSTEM
from zcli_core.subsystems.contract import SubsystemContext

pytestmark = pytest.mark.usefixtures("isolated")

QUIET = {"deployment": "Production", "logger": "PROD", "title": "subsystems"}

GREETER = """
import threading

made = []
closed = []
barrier = threading.Barrier(2)

class Greeter:
    def __init__(self, context):
        self.context = context
        made.append(self)
    def close(self):
        closed.append("greeter")

@hookimpl
def zcli_subsystems():
    return [Provider("greeter", "says hello", Greeter, aliases=("hello",))]
"""


def module_of(z: zCLI, plugin: str = "greets") -> Any:
    """The module of a plugin."""
    return z.plugins.records[plugin].plugin


def log_of(z: zCLI) -> str:
    assert z._application_log.file is not None
    return Path(z._application_log.file).read_text(encoding="utf-8")


def offering(*subsystems: tuple[str, str]) -> str:
    """The code of a plugin with these subsystems: name, and the body of the factory."""
    code = ["class Closing:\n    def __init__(self, context, name): self.context, self.name = context, name"]
    code.append("    def close(self): closed.append(self.name)\nclosed = []")
    code += [f"def make_{name}(context):\n    {body}" for name, body in subsystems]
    offered = ", ".join(f"Provider({name!r}, 'of a test', make_{name})" for name, _ in subsystems)
    return "\n".join([*code, f"@hookimpl\ndef zcli_subsystems(): return [{offered}]"])


# Making --------------------------------------------------------------------------------------------------------


def test_subsystem_is_made_once_at_its_first_use(site: Site) -> None:
    """Its factory gets the configuration, a log of its own and the application."""
    site.plugin("greets", GREETER)
    with zCLI(QUIET) as z:
        assert module_of(z).made == []
        greeter = z.greeter  # type: ignore[attr-defined]
        assert greeter is z.hello is z.subsystem("greeter", object)  # type: ignore[attr-defined]
        assert module_of(z).made == [greeter]
        context = greeter.context
        assert isinstance(context, SubsystemContext)
        assert (context.config, context.app, context.log.name) == (z.config, z, f"{z.log.name}.greeter")


def test_subsystem_first_used_by_many_threads_is_made_once(site: Site) -> None:
    """All threads get the same object."""
    site.plugin("greets", GREETER)
    with zCLI(QUIET) as z, ThreadPoolExecutor(8) as threads:
        start = threading.Barrier(8)

        def use(_: int) -> Any:
            start.wait()
            return z.greeter  # type: ignore[attr-defined]

        assert len(set(threads.map(use, range(8)))) == 1
        assert len(module_of(z).made) == 1


def test_subsystems_of_two_objects_are_apart(site: Site) -> None:
    """Each object makes and closes its own."""
    site.plugin("greets", GREETER)
    with zCLI(QUIET) as one, zCLI(QUIET) as two:
        assert one.greeter is not two.greeter  # type: ignore[attr-defined]
        one.close()
        assert module_of(two).closed == ["greeter"]


def test_subsystem_of_another_type_is_a_typeerror(site: Site) -> None:
    """``z.subsystem`` proves the type that it promises."""
    site.plugin("greets", GREETER)
    with zCLI(QUIET) as z, pytest.raises(TypeError, match="the subsystem 'greeter' must be a dict, got Greeter"):
        z.subsystem("greeter", dict)


def test_subsystem_may_use_another_one(site: Site) -> None:
    """Also while it is made."""
    inner, outer = (
        ("inner", "return Closing(context, 'inner')"),
        ("outer", "return Closing(context.app.inner, 'outer')"),
    )
    site.plugin("two", offering(inner, outer))
    with zCLI(QUIET) as z:
        assert z.outer.context is z.inner  # type: ignore[attr-defined]


def test_subsystems_that_need_each_other_are_an_error(site: Site) -> None:
    """The error shows the circle."""
    site.plugin("two", offering(("a", "return context.app.b"), ("b", "return context.app.a")))
    with zCLI(QUIET) as z, pytest.raises(ConfigError, match="use each other: a -> b -> a"):
        z.a  # type: ignore[attr-defined] # noqa: B018


# Errors --------------------------------------------------------------------------------------------------------


def test_attribute_misspelt_is_an_error_with_a_suggestion(site: Site) -> None:
    """As for every object, ``hasattr`` is False; subsystems are suggested too."""
    site.plugin("greets", GREETER)
    with zCLI(QUIET) as z:
        with pytest.raises(AttributeError, match="no attribute 'greetr'; did you mean 'greeter'"):
            z.greetr  # type: ignore[attr-defined] # noqa: B018
        with pytest.raises(AttributeError, match="no attribute 'walkr'; did you mean 'walker'"):
            z.walkr  # type: ignore[attr-defined] # noqa: B018
        assert not hasattr(z, "_greeter")
        assert {"greeter", "walker", "comm"} <= set(dir(z))
        assert module_of(z).made == []


def test_attribute_misspelt_is_suggested_once(tmp_path: Path) -> None:
    """Python adds no second suggestion to the traceback."""
    done = subprocess.run(
        [sys.executable, "-c", "from zCLI import zCLI\nzCLI({'deployment': 'Testing'}).walkr"],
        cwd=tmp_path,
        env=clean_environment(os.environ, tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.rstrip().endswith("no attribute 'walkr'; did you mean 'walker'?")


def test_subsystem_of_two_plugins_is_an_error(site: Site) -> None:
    """It names both; ``plugins.prefer`` chooses one."""
    site.plugin("greets", GREETER)
    site.plugin("greets_too", GREETER)
    with zCLI(QUIET) as z, pytest.raises(ConfigError) as caught:
        z.greeter  # type: ignore[attr-defined] # noqa: B018
    assert "provided by two plugins: greets (dist-greets 1.0) and greets_too (dist-greets-too 1.0)" in str(caught.value)
    with zCLI({**QUIET, "plugins": {"prefer": {"greeter": "greets_too"}}}) as z:
        assert type(z.greeter).__module__ == "greets_too"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("config", "'config', but z.config is an attribute of zCLI already"),
        ("not-a-name", "'not-a-name', which cannot be the name of an attribute"),
        ("class", "'class', which cannot be the name of an attribute"),
        ("_own", "'_own', which cannot be the name of an attribute"),
    ],
)
def test_subsystem_with_a_wrong_name_breaks_its_plugin(site: Site, name: str, cause: str) -> None:
    """The object works without it, and the log names the plugin."""
    site.plugin("greets", GREETER.replace('"greeter", ', f"{name!r}, "))
    with zCLI(QUIET) as z:
        assert z.config.title == "subsystems"
        with pytest.raises(ConfigError, match=r"the plugin greets .* is broken"):
            z.subsystem("greeter", object)
        assert z.plugins.records["greets"].state == "broken"
        assert cause in log_of(z)


def test_taken_names_are_the_attributes_of_zcli() -> None:
    """Otherwise a plugin could offer an attribute that is never used."""
    with zCLI(QUIET) as z:
        own = {name for name in dir(z) if not name.startswith("_")} - set(z._subsystems.names)
    assert SUBSYSTEM.taken == own - {"walker", "bifrost"}


def test_subsystem_without_its_extra_is_an_error(site: Site) -> None:
    """The error has the command that installs it."""
    code = GREETER.replace('aliases=("hello",)', 'needs=("no_such_module",), install="zcli-core[greeter]"')
    site.plugin("greets", code)
    with zCLI(QUIET) as z, pytest.raises(ConfigError, match=r"pip install 'zcli-core\[greeter\]'"):
        z.greeter  # type: ignore[attr-defined] # noqa: B018


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("raise AttributeError('not today')", "cannot be created: AttributeError: not today"),
        ("return object()", "without close"),
        ("return None", "without close"),
    ],
)
def test_subsystem_that_cannot_be_made_is_an_error(site: Site, body: str, cause: str) -> None:
    """At each use, and never an AttributeError, which would mean that there is no subsystem."""
    site.plugin("two", offering(("broken", body)))
    with zCLI(QUIET) as z:
        for _ in range(2):
            with pytest.raises(ConfigError, match=cause):
                z.broken  # type: ignore[attr-defined] # noqa: B018


# Closing -------------------------------------------------------------------------------------------------------


def test_subsystems_are_closed_newest_first(site: Site) -> None:
    """Those that were never used are not made; afterwards they cannot be."""
    names = ("one", "two", "three", "unused")
    site.plugin("four", offering(*((name, f"return Closing(context, {name!r})") for name in names)))
    z = zCLI(QUIET)
    _ = z.two, z.one, z.three  # type: ignore[attr-defined]
    z.close()
    z.close()
    assert module_of(z, "four").closed == ["three", "one", "two"]
    with pytest.raises(RuntimeError, match="this zCLI object is closed"):
        z.unused  # type: ignore[attr-defined] # noqa: B018


def test_subsystem_closes_before_comm(site: Site) -> None:
    """So that it can still use what it started there."""
    body = (
        "made = Closing(context, 'x')\n"
        "    made.close = lambda: closed.append(context.app.comm.websocket.is_running)\n    return made"
    )
    site.plugin("serves", offering(("serving", body)))
    with zCLI(QUIET) as z:
        z.comm.websocket.start_background(port=0)
        _ = z.serving  # type: ignore[attr-defined]
        closed = module_of(z, "serves").closed
    assert closed == [True]


def test_subsystem_that_fails_to_close_is_logged(site: Site) -> None:
    """The others are closed all the same."""
    failing = "made = Closing(context, 'x')\n    made.close = lambda: 1 / 0\n    return made"
    site.plugin("two", offering(("first", "return Closing(context, 'first')"), ("second", failing)))
    with zCLI(QUIET) as z:
        _ = z.first, z.second  # type: ignore[attr-defined]
        closed = module_of(z, "two").closed
    assert closed == ["first"]
    assert "closing the subsystem second failed" in log_of(z)
    assert "ZeroDivisionError" in log_of(z)


# zMode ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["zbifrost", "ZBIFROST", "bifrost", "Bifrost "])
def test_zmode_misspelt_is_an_error_with_a_suggestion(given: str) -> None:
    """Its case matters, as in the guide."""
    with pytest.raises(ConfigError, match=f"zMode must be one of Terminal, zBifrost, got {given!r} from zSpark") as e:
        zCLI({**QUIET, "zMode": given})
    assert str(e.value).endswith("; did you mean 'zBifrost'?")


def test_zmode_has_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default is Terminal."""
    with zCLI(QUIET) as z:
        assert z.config.zMode == "Terminal"
    monkeypatch.setenv("ZCLI_ZMODE", "zBifrost")
    with zCLI(QUIET) as z:
        assert z.config.zMode == "zBifrost"
