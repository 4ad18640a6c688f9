"""``zcli plugins``: the list, also with broken plugins, ``--why`` and ``--timings``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from installations import Site, http_transport

from zcli_core import __version__

Run = Callable[..., Any]

#: Ways to be broken that a command might not survive.
BROKEN = {
    "raises": "raise RuntimeError('no luck')",
    "exits": "import sys; sys.exit(3)",
    "panics": "class Panic(BaseException): pass\nraise Panic('at the disco')",
    "invalid syntax": "def broken(:",
    "is for a later zCLI": "ZCLI_CONTRACT = 2",
    "has a hook with an unknown argument": "@hookimpl\ndef zcli_ready(application): pass",
    "fails to declare": "@hookimpl\ndef zcli_settings(): raise SystemExit(3)",
    "fails as a command": "@hookimpl\ndef zcli_commands(cli): raise SystemExit(3)",
}
NEEDY = """
@hookimpl
def zcli_websocket_transports():
    return [Provider("needy", "of a test", None.__class__, needs=("a_library_that_nobody_has",), install="needy[it]")]
"""


# --- the list ---


@pytest.mark.parametrize("command", ["plugins", "config", "doctor", "plugins --timings", "plugins --why redis"])
@pytest.mark.parametrize("code", BROKEN.values(), ids=BROKEN.keys())
def test_commands_work_with_a_broken_plugin(site: Site, run_here: Run, code: str, command: str) -> None:
    """Each command prints its output, and JSON stays valid."""
    site.plugin("zcli_sad", code)
    site.plugin("zcli_chatty", "print('hello from an import')\n@hookimpl\ndef zcli_settings(): print('and a hook')")
    done = run_here(*command.split(), "--json")
    assert json.loads(done.out)
    assert "Traceback" not in done.err
    assert "hello from an import" in done.err
    assert "and a hook" in done.err
    assert done.status == (1 if command == "doctor" and "commands" not in code else 0)


def test_help_works_with_a_broken_plugin(site: Site, run_here: Run) -> None:
    """--version works, too."""
    site.plugin("zcli_sad", BROKEN["fails as a command"])
    site.plugin("zcli_chatty", "@hookimpl\ndef zcli_commands(cli): print('hello from a hook')")
    done = run_here("--help")
    assert (done.status, "doctor" in done.out, "hello" in done.out) == (0, True, False)
    assert "the plugin zcli_sad failed in its hook zcli_commands: SystemExit: 3" in done.err
    assert run_here("--version").status == 0


@pytest.mark.parametrize("arguments", [("plugins",), ("plugins", "--why", "redis"), ("plugins", "--timings")])
def test_plugins_disabled_plugin_is_never_imported(
    site: Site, run_here: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """No form of the command imports it."""
    site.plugin("zcli_sad", "raise RuntimeError('imported')")
    monkeypatch.setenv("ZCLI_PLUGINS_DISABLE", "zcli_sad")
    done = run_here(*arguments)
    assert "zcli_sad" not in sys.modules
    assert (done.status, done.err) == (0, "")
    assert ("zcli_sad" in done.out) == (arguments == ("plugins",))


def test_plugins_missing_module_is_installable(site: Site, run_here: Run) -> None:
    """The table and the JSON show the command that installs it."""
    site.plugin("zcli_needy", NEEDY)
    listed = {item["name"]: item for item in json.loads(run_here("plugins", "--json").out)}
    assert listed["zcli_needy"]["state"] == "installable"
    (offer,) = listed["zcli_needy"]["provides"]
    assert (offer["missing"], offer["install"]) == (["a_library_that_nobody_has"], "pip install 'needy[it]'")
    assert "WebSocket transport needy (pip install 'needy[it]')" in run_here("plugins").out


# --- why ---


def test_why_shows_everything_that_decides(site: Site, run_here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is the value, its layer and origin, shadowed values, the plugin and the alternatives."""
    site.plugin("zcli_mine", http_transport("mine", "('own',)"), distribution="zcli-mine")
    Path(".zEnv").write_text("# transport\nZCLI_HTTP_TRANSPORT=own\n")
    monkeypatch.setenv("ZCLI_HTTP_TRANSPORT", "urllib3")
    found = json.loads(run_here("plugins", "--why", "http.transport", "--json").out)
    assert (found["key"], found["kind"], found["problems"], found["preference"]) == (
        "http.transport",
        "HTTP transport",
        [],
        None,
    )
    assert found["setting"] == {
        "key": "http.transport",
        "value": "own",
        "layer": ".zEnv",
        "origin": ".zEnv:2 (ZCLI_HTTP_TRANSPORT)",
        "shadowed": [
            {"value": "urllib3", "layer": "environment", "origin": "ZCLI_HTTP_TRANSPORT"},
            {"value": "urllib3", "layer": "defaults", "origin": "zcli-core"},
        ],
    }
    (chosen,) = found["chosen"]
    assert (chosen["name"], chosen["plugin"], chosen["distribution"], chosen["version"]) == (
        "mine",
        "zcli_mine",
        "zcli-mine",
        "1.0",
    )
    assert "urllib3" in [item["name"] for item in found["others"]]
    lines = run_here("plugins", "--why", "http.transport").out.splitlines()
    assert lines[:5] == [
        "http.transport = own",
        "  set by      .zEnv: .zEnv:2 (ZCLI_HTTP_TRANSPORT)",
        "  shadows     urllib3 from environment: ZCLI_HTTP_TRANSPORT",
        "  shadows     urllib3 from defaults: zcli-core",
        "  chosen      mine (or own): of a test; plugin zcli_mine of zcli-mine 1.0",
    ]
    assert any(line.startswith("  installed   urllib3: ") for line in lines[5:])


def test_why_names_all_strategies(run_here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is that of websocket.auth."""
    monkeypatch.setenv("ZCLI_WEBSOCKET_AUTH", "origin,token")
    done = run_here("plugins", "--why", "websocket.auth")
    assert done.status == 0
    assert [line.split()[1] for line in done.out.splitlines() if line.startswith("  chosen ")] == ["origin:", "token:"]


@pytest.mark.parametrize("key", ["redis", "services.redis", "valkey"])
def test_why_service_names_its_plugin(run_here: Run, key: str) -> None:
    """A service has a name, a key in the configuration and aliases."""
    done = run_here("plugins", "--why", key)
    assert done.status == 0
    assert f"chosen      redis (or valkey): Redis or Valkey, the in-memory store; plugin zcli_redis of zcli-core {__version__}" in done.out  # fmt: skip # noqa: E501


def test_why_subsystem_names_its_plugin(run_here: Run) -> None:
    """By the name of its attribute."""
    done = run_here("plugins", "--why", "bifrost")
    assert done.status == 0
    assert f"; plugin zcli_bifrost of zcli-core {__version__}" in done.out


@pytest.mark.parametrize("prefer", [True, False])
def test_why_two_providers_shows_the_preference(
    site: Site, run_here: Run, monkeypatch: pytest.MonkeyPatch, prefer: bool
) -> None:
    """Without a preference the exit status is 1."""
    site.plugin("zcli_mine", "@hookimpl\ndef zcli_service_backends(): return [Provider('redis', 'mine', print)]")
    if prefer:
        monkeypatch.setenv("ZCLI_PLUGINS_PREFER", "redis=zcli_mine")
    done = run_here("plugins", "--why", "redis")
    assert done.status == (0 if prefer else 1)
    assert ("  chosen      redis: mine; plugin zcli_mine of dist-zcli-mine 1.0" in done.out) == prefer
    assert "  installed   redis (or valkey): " in done.out
    if prefer:
        assert "  preferred   plugins.prefer = redis=zcli_mine, environment: ZCLI_PLUGINS_PREFER" in done.out
    else:
        assert "the service 'redis' is provided by two plugins" in done.err


def test_why_invalid_choice_is_explained(site: Site, run_here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """All other problems are shown, too."""
    site.plugin("zcli_needy", NEEDY)
    monkeypatch.setenv("WEBSOCKET_TRANSPORT", "needi")
    monkeypatch.setenv("WEBSOCKET_PORT", "abc")
    done = run_here("plugins", "--why", "websocket.transport")
    assert done.status == 1
    assert "websocket.transport = needi\n  set by      environment: WEBSOCKET_TRANSPORT\n" in done.out
    assert (
        "  installable needy: of a test; plugin zcli_needy of dist-zcli-needy 1.0 (pip install 'needy[it]')" in done.out
    )
    assert "did you mean 'needy'?" in done.err
    assert "websocket.port must be an integer between 0 and 65535, got 'abc' from WEBSOCKET_PORT" in done.err
    monkeypatch.setenv("WEBSOCKET_TRANSPORT", "needy")
    done = run_here("plugins", "--why", "websocket.transport")
    assert (done.status, "pip install 'needy[it]'" in done.err) == (1, True)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "http.transprt",
            "not a setting that selects plugins, a service or a subsystem; did you mean 'http.transport'?",
        ),
        ("rediss", "not a setting that selects plugins, a service or a subsystem; did you mean 'redis'?"),
        ("services.rediss", "did you mean 'services.redis'?"),
        ("http.timeout", "the setting http.timeout does not select a plugin; `zcli config http.timeout` shows"),
        ("wsproto", "'wsproto' is the name of a WebSocket transport; use the key websocket.transport"),
        ("", "not a setting that selects plugins, a service or a subsystem"),
    ],
)
def test_why_unknown_key_suggests_another(run_here: Run, key: str, message: str) -> None:
    """The message lists the valid keys; the exit status is 2."""
    done = run_here("plugins", "--why", key)
    assert (done.status, done.out) == (2, "")
    assert message in done.err


def test_why_service_of_broken_plugin_is_explained(site: Site, run_here: Run) -> None:
    """The message does not claim that the service is unknown."""
    site.plugin("zcli_sad", "raise RuntimeError('no luck')")
    done = run_here("plugins", "--why", "sad")
    assert done.status == 2
    assert "the plugin zcli_sad (dist-zcli-sad 1.0) is broken: it cannot be imported: RuntimeError: no luck" in done.err


# --- timings ---


def test_timings_show_each_plugin(site: Site, run_here: Run) -> None:
    """The slowest plugin is first; the shares add up to the whole."""
    site.plugin(
        "zcli_slow",
        """
        import time
        def spend(seconds):
            end = time.perf_counter() + seconds
            while time.perf_counter() < end: pass
        spend(0.2)
        @hookimpl
        def zcli_settings():
            spend(0.1)
            return ()
        @hookimpl
        def zcli_service_backends():
            spend(0.05)
            raise OSError
        """,
    )
    found = json.loads(run_here("plugins", "--timings", "--json").out)
    slow = found[0]
    assert (slow["plugin"], list(slow["hooks_ms"])) == ("zcli_slow", ["zcli_settings", "zcli_service_backends"])
    assert slow["import_ms"] >= 200
    assert slow["hooks_ms"]["zcli_settings"] >= 100
    assert slow["hooks_ms"]["zcli_service_backends"] >= 50
    assert slow["total_ms"] == pytest.approx(slow["import_ms"] + sum(slow["hooks_ms"].values()))
    assert sum(item["share"] for item in found) == pytest.approx(1)
    assert slow["share"] == pytest.approx(slow["total_ms"] / sum(item["total_ms"] for item in found))
    assert {"zcli_layers", "zcli_urllib3"} <= {item["plugin"] for item in found}


def test_timings_explain_the_numbers(run_here: Run) -> None:
    """The text names the unit, and what is not included."""
    out = run_here("plugins", "--timings").out
    assert out.startswith("plugin")
    assert "Wall-clock milliseconds of one start" in out


def test_why_with_timings_is_refused(run_here: Run) -> None:
    """The two options exclude each other."""
    done = run_here("plugins", "--why", "redis", "--timings")
    assert (done.status, "not both" in done.err) == (2, True)
