"""The command ``zcli``, run as a program."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


def _plugin(folder: Path, name: str, code: str) -> str:
    """Install a module as a plugin in ``folder``; returns the folder for PYTHONPATH."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[zcli]\n{name} = {name}\n")
    return str(folder)


def test_console_script_equals_module(zcli: Run) -> None:
    """``zcli --version`` and ``python -m zCLI --version`` print the same."""
    script = subprocess.run(
        [str(Path(sys.executable).parent / "zcli"), "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert script.stdout == zcli("--version").stdout
    assert "zcli, version" in script.stdout


def test_plugins_json_describes_each_plugin(zcli: Run) -> None:
    """Each plugin is an object with its name, distribution, providers, hooks and state."""
    listed = {item["name"]: item for item in json.loads(zcli("plugins", "--json").stdout)}
    assert listed["zcli_layers"]["state"] == "active"
    urllib3 = listed["zcli_urllib3"]
    assert (urllib3["state"], urllib3["distribution"], urllib3["cause"]) == ("active", "zcli-core", None)
    assert [(offer["kind"], offer["name"]) for offer in urllib3["provides"]] == [("HTTP transport", "urllib3")]
    assert urllib3["hooks"] == ["zcli_http_transports"]
    assert "zcli_urllib3" in zcli("plugins").stdout


def test_plugins_broken_plugin_shows_its_cause(zcli: Run, tmp_path: Path) -> None:
    """A plugin that raises on import is listed as broken, and the others are active."""
    path = _plugin(tmp_path / "site", "zcli_sad", "raise RuntimeError('no such luck')")
    done = zcli("plugins", "--json", PYTHONPATH=path)
    listed = {item["name"]: item for item in json.loads(done.stdout)}
    assert listed["zcli_sad"]["state"] == "broken"
    assert (listed["zcli_sad"]["distribution"], listed["zcli_sad"]["version"]) == ("zcli-sad", "1.2")
    assert "RuntimeError: no such luck" in listed["zcli_sad"]["cause"]
    assert listed["zcli_urllib3"]["state"] == "active"
    assert "no such luck" in zcli("plugins", PYTHONPATH=path).stdout


def test_plugins_disabled_plugin_is_not_imported(zcli: Run, tmp_path: Path) -> None:
    """The plugin is listed as disabled."""
    marker = tmp_path / "imported"
    path = _plugin(tmp_path / "site", "zcli_blocked", f"open({str(marker)!r}, 'w').close()")
    done = zcli("plugins", "--json", PYTHONPATH=path, ZCLI_PLUGINS_DISABLE="zcli_blocked")
    states = {item["name"]: item["state"] for item in json.loads(done.stdout)}
    assert states["zcli_blocked"] == "disabled"
    assert not marker.exists()


def test_plugins_unselected_transport_is_available(zcli: Run, tmp_path: Path) -> None:
    """It becomes active when http.transport names it, and the other becomes available."""
    code = (
        "from zcli_core import hookimpl\nfrom zcli_core.plugins.contract import Provider\nZCLI_CONTRACT = 1\n"
        "@hookimpl\ndef zcli_http_transports():\n    return [Provider('other', 'another', lambda context: None)]\n"
    )
    path = _plugin(tmp_path / "site", "zcli_other", code)

    def states(**variables: str) -> tuple[str, str]:
        listed = json.loads(zcli("plugins", "--json", PYTHONPATH=path, **variables).stdout)
        found = {item["name"]: item["state"] for item in listed}
        return found["zcli_urllib3"], found["zcli_other"]

    assert states() == ("active", "available")
    assert states(ZCLI_HTTP_TRANSPORT="other") == ("available", "active")


def test_plugins_invalid_configuration_still_lists(zcli: Run) -> None:
    """The mistake in the configuration is printed to stderr."""
    done = zcli("plugins", ZCLI_HTTP_TIMEOUT="soon")
    assert "zcli_urllib3" in done.stdout
    assert "http.timeout must be a number above 0, got 'soon' from ZCLI_HTTP_TIMEOUT" in done.stderr


def test_config_key_shows_origin_and_shadowed(zcli: Run, tmp_path: Path) -> None:
    """One key shows the layer and line that set it, and every lower value."""
    (tmp_path / "project" / ".zEnv").write_text("# a comment\n\nWEBSOCKET_PORT=9001\n")
    found = json.loads(zcli("config", "websocket.port", "--json", WEBSOCKET_PORT="9000").stdout)
    assert (found["value"], found["layer"], found["origin"]) == (9001, ".zEnv", ".zEnv:3 (WEBSOCKET_PORT)")
    assert [item["value"] for item in found["shadowed"]] == [9000, 8765]
    shown = zcli("config", "websocket.port", WEBSOCKET_PORT="9000").stdout
    assert "websocket.port = 9001" in shown
    assert ".zEnv:3 (WEBSOCKET_PORT)" in shown


def test_config_lists_a_section_or_all(zcli: Run) -> None:
    """A section lists its settings; without KEY all settings are listed."""
    section = [item["key"] for item in json.loads(zcli("config", "http", "--json").stdout)]
    assert section
    assert all(key.startswith("http.") for key in section)
    everything = [item["key"] for item in json.loads(zcli("config", "--json").stdout)]
    assert {"deployment", "http.timeout", "websocket.port"} <= set(everything)


def test_config_shows_no_secret(zcli: Run) -> None:
    """A token is hidden in the table, alone and as JSON."""
    variables = {"WEBSOCKET_TOKEN": "hunter2-token", "ZCLI_WEBSOCKET_TOKENS": "alice=hunter2-alice"}
    for arguments in (("config",), ("config", "websocket.token"), ("config", "--json"), ("config", "websocket.tokens")):
        done = zcli(*arguments, **variables)
        assert "hunter2" not in done.stdout + done.stderr
        assert "<secret>" in done.stdout


@pytest.mark.parametrize("arguments", [("config", "websocket.prot"), ("config", "websockt")])
def test_config_unknown_key_suggests_another(zcli: Run, arguments: tuple[str, ...]) -> None:
    """The exit status is 2."""
    done = zcli(*arguments)
    assert done.returncode == 2
    assert "did you mean 'websocket" in done.stderr
    assert "Traceback" not in done.stderr


def test_config_reports_all_mistakes(zcli: Run) -> None:
    """Two wrong variables are both reported, without a traceback."""
    done = zcli("config", WEBSOCKET_PORT="abc", ZCLI_HTTP_TIMEOUT="-1")
    assert done.returncode == 2
    assert "websocket.port must be an integer between 0 and 65535, got 'abc' from WEBSOCKET_PORT" in done.stderr
    assert "http.timeout must be a number above 0, got '-1' from ZCLI_HTTP_TIMEOUT" in done.stderr
    assert "Traceback" not in done.stderr


def test_token_prints_a_new_secret(run_here: Callable[..., Any]) -> None:
    """The token has no character that a URL or a list of tokens would split."""
    tokens = [run_here("token").out.rstrip("\n"), json.loads(run_here("token", "--json").out)["token"]]
    assert len(set(tokens)) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", token) for token in tokens)


def test_ports_shows_state_and_holder(zcli: Run) -> None:
    """The exit status is 1 for a port in use, and 0 for an available one."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        done = zcli("ports", str(port), "--json")
        [found] = json.loads(done.stdout)
        assert (done.returncode, found["available"], found["status"]) == (1, False, "in use")
        if sys.platform == "linux":
            assert found["holder"]["pid"] == os.getpid()
    done = zcli("ports", str(port))
    assert (done.returncode, "available" in done.stdout) == (0, True)


@pytest.mark.parametrize("port", ["0", "70000", "http"])
def test_ports_invalid_port_is_refused(zcli: Run, port: str) -> None:
    """A port outside 1-65535 is a usage error."""
    done = zcli("ports", port)
    assert done.returncode == 2
    assert port in done.stderr


def test_http_prints_the_response(zcli: Run, httpbin: str) -> None:
    """The body goes to stdout and the status line to stderr; JSON has both."""
    done = zcli("http", "POST", f"{httpbin}/post", "-d", '{"name": "Alice"}', "-H", "X-Demo: 1", "-p", "a=b")
    assert (done.returncode, done.stderr[:6]) == (0, "200 OK")
    echoed = json.loads(done.stdout)
    assert (echoed["json"], echoed["args"], echoed["headers"]["X-Demo"]) == ({"name": "Alice"}, {"a": "b"}, "1")
    found = json.loads(zcli("http", "GET", f"{httpbin}/status/404", "--json").stdout)
    assert found["status_code"] == 404


def test_http_keeps_repeated_headers(zcli: Run, httpbin: str) -> None:
    """No header is dropped in the request or in the output."""
    url = f"{httpbin}/response-headers?X-Many=one&X-Many=two"
    back = json.loads(zcli("http", "GET", url, "--json").stdout)["headers"]["X-Many"]
    sent = zcli("http", "GET", f"{httpbin}/headers", "-H", "X-Many: one", "-H", "X-Many: two")
    assert back == "one, two"
    assert json.loads(sent.stdout)["headers"]["X-Many"] == "one,two"


def test_http_invalid_transport_setting_ends_with_2(zcli: Run, tmp_path: Path) -> None:
    """The message is one sentence."""
    done = zcli("http", "GET", "http://127.0.0.1:1/", ZCLI_HTTP_CA_FILE=str(tmp_path / "missing.pem"))
    assert done.returncode == 2
    assert done.stderr.startswith("zcli: http.ca_file")
    assert "Traceback" not in done.stderr


def test_http_without_response_prints_the_reason(zcli: Run) -> None:
    """A refused connection ends with status 1."""
    done = zcli("http", "GET", "http://127.0.0.1:1/")
    assert done.returncode == 1
    assert "no response" in done.stderr
    assert "refused" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [("-d", "{"), ("-d", "1", "--raw", "x"), ("-H", "novalue"), ("-t", "0"), ("-p", "=x")]
)
def test_http_invalid_arguments_are_refused(zcli: Run, arguments: tuple[str, ...]) -> None:
    """Wrong options are usage errors, not tracebacks."""
    done = zcli("http", "GET", "http://127.0.0.1:1/", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("name", "hint"), [("htp", "; did you mean 'http'?"), ("xyzzy", "\n")])
def test_unknown_command_suggests_another(zcli: Run, name: str, hint: str) -> None:
    """Click knows only the subcommands of plugins by name."""
    done = zcli(name)
    assert done.returncode == 2
    assert f"unknown command {name!r}{hint}" in done.stderr
    assert "zcli --help" in done.stderr


def test_plugin_adds_a_subcommand(zcli: Run, tmp_path: Path) -> None:
    """A subcommand from the hook zcli_commands is listed and runs; a hook that raises is reported."""
    code = (
        "import click\nfrom zcli_core import hookimpl\nZCLI_CONTRACT = 1\n"
        "@hookimpl\ndef zcli_commands(cli):\n"
        "    @cli.command('greet', help='Greets.')\n    def greet():\n        click.echo('hello from a plugin')\n"
    )
    path = _plugin(tmp_path / "site", "zcli_greeter", code)
    failing = "from zcli_core import hookimpl\nZCLI_CONTRACT = 1\n@hookimpl\ndef zcli_commands(cli):\n    1 / 0\n"
    _plugin(tmp_path / "site", "zcli_failing", failing)
    assert "hello from a plugin" in zcli("greet", PYTHONPATH=path).stdout
    listing = zcli("--help", PYTHONPATH=path)
    assert "Greets." in listing.stdout
    assert "zcli_failing failed in its hook zcli_commands: ZeroDivisionError" in listing.stderr
