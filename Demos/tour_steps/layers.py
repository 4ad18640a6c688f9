"""Five layers of settings in a temporary project, and the error for invalid values."""

from __future__ import annotations

from tour_steps.walk import StepFailed, Tour, expect, project
from zcli_core.errors import ConfigError

_MACHINE_FILE = """\
http:
  timeout: 20
  retries: 2
"""
_ZENV = """\
ZCLI_HTTP_TIMEOUT=8
WEBSOCKET_PORT=9000
WEBSOCKET_TOKEN=not-shown-anywhere
"""
_VARIABLES = {"ZCLI_HTTP_TIMEOUT": "15", "ZCLI_HTTP_MAX_REDIRECTS": "3"}
_ZSPARK = {"http": {"timeout": 5}}

# A different layer sets each of them, the lowest first. .zEnv sets two, of which one is a secret.
_WINNERS = {
    "http.trust_env": (True, "defaults"),
    "http.retries": (2, "machine"),
    "http.max_redirects": (3, "environment"),
    "websocket.port": (9000, ".zEnv"),
    "websocket.token": ("<secret>", ".zEnv"),
    "http.timeout": (5.0, "zSpark"),
}


def show_layers(tour: Tour) -> str:
    folder = tour.folder / "project"
    folder.mkdir()
    (folder / "zConfig.machine.yaml").write_text(_MACHINE_FILE, encoding="utf-8")
    (folder / ".zEnv").write_text(_ZENV, encoding="utf-8")
    variables = {"ZCLI_CONFIG_DIR": str(folder), **_VARIABLES}
    with project(folder, variables):
        z = tour.app("layers", **_ZSPARK)
    tour.print("a project with a machine file, a .zEnv, two variables and zSpark:\n")
    found = [z.config.explain(key) for key in _WINNERS]
    tour.table(("setting", "value", "layer", "origin"), [(e.key, str(e.value), e.layer, e.origin) for e in found])
    tour.print("\nz.config.explain shows which values another one replaces:\n")
    tour.print(str(z.config.explain("http.timeout")), "cyan")
    for explanation in found:
        value, layer = _WINNERS[explanation.key]
        expect(
            (explanation.value, explanation.layer) == (value, layer),
            f"not {value!r} from {layer}: {explanation}",
        )
    shadowed = [value.layer for value in found[-1].shadowed]
    expect(shadowed == [".zEnv", "environment", "machine", "defaults"], f"http.timeout shadows {shadowed}")
    return "five layers, each value with the file, line or variable that set it"


def show_wrong_values(tour: Tour) -> str:
    folder = tour.folder / "wrong"
    folder.mkdir()
    (folder / ".zEnv").write_text("# The port of the chat\n\nWEBSOCKET_PORT=abc\n", encoding="utf-8")
    with project(folder, {"ZCLI_CONFIG_DIR": str(folder), "ZCLI_HTTP_RETRIES": "eleven"}):
        try:
            tour.app("wrong", http={"timeout": -1})
        except ConfigError as error:
            refusal = error
        else:
            raise StepFailed("three invalid values were accepted")
    tour.print(str(refusal), "cyan")
    for what in (".zEnv:3 (WEBSOCKET_PORT)", "ZCLI_HTTP_RETRIES", "http.timeout"):
        expect(what in str(refusal), f"the error does not mention {what}")
    return "rejected at the start, with all mistakes in one error"
