"""The hooks: each documented, each exercised; running ones are isolated and cost nothing when unused."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from installations import Site

from zcli_core.app import zCLI
from zcli_core.plugins import hookspecs

QUIET = {"deployment": "Production", "logger": "PROD", "title": "hooks"}
HOOKS = [name for name in vars(hookspecs) if name.startswith("zcli_")]
DECLARING = [name for name in HOOKS if getattr(hookspecs, name).phase == "declaring"]
RUNNING = [name for name in HOOKS if getattr(hookspecs, name).phase == "running"]

RECORDER = """
calls = []

@hookimpl
def zcli_ready(app):
    calls.append(("ready", app.config.title))

@hookimpl
def zcli_closing(app):
    app.log.info("closing is heard")
    calls.append(("closing", app.config.title))
"""


def _log_of(z: zCLI) -> str:
    assert z._application_log.file is not None
    return Path(z._application_log.file).read_text()


@pytest.mark.parametrize("name", HOOKS)
def test_hook_is_documented_and_typed(name: str) -> None:
    """``Args`` holds each argument, ``Returns`` what a hook returns, and everything has an annotation."""
    hook = getattr(hookspecs, name)
    text = inspect.getdoc(hook) or ""
    assert re.match(r"[A-Z].*\.", text), "a sentence first"
    signature = inspect.signature(hook)
    for argument in signature.parameters.values():
        assert re.search(rf"^    {argument.name}: \S", text, re.MULTILINE), argument.name
        assert argument.annotation is not inspect.Parameter.empty
    assert signature.return_annotation is not inspect.Signature.empty
    assert ("\nReturns:\n" in text) == (signature.return_annotation not in ("None", None))


@pytest.mark.parametrize("name", HOOKS)
def test_hook_is_implemented_by_a_test(name: str) -> None:
    """A hook that no test implements may never be called."""
    implemented = re.compile(rf"def {name}\(")
    assert any(
        implemented.search(file.read_text(encoding="utf-8")) for file in Path(__file__).parents[1].rglob("test_*.py")
    )


@pytest.mark.usefixtures("isolated")
def test_hooks_ready_and_closing_are_called_once(site: Site) -> None:
    """Closing twice, or closing and leaving the ``with`` block, is one closing."""
    site.plugin("recorder", RECORDER)
    with zCLI(QUIET) as z:
        calls = z.plugins.records["recorder"].plugin.calls
        assert calls == [("ready", "hooks")]
        z.close()
    z.close()
    assert calls == [("ready", "hooks"), ("closing", "hooks")]
    assert "closing is heard" in _log_of(z)


@pytest.mark.usefixtures("isolated")
def test_hook_that_raises_is_logged_and_isolated(site: Site) -> None:
    """The plugins after it are still called, and the object works."""
    site.plugin(
        "aaa_fails",
        """
        @hookimpl(tryfirst=True)
        def zcli_ready(app): raise ValueError("not today")
        @hookimpl(tryfirst=True)
        def zcli_closing(app): raise SystemExit("nor tomorrow")
        """,
    )
    site.plugin("recorder", RECORDER)
    z = zCLI(QUIET)
    z.close()
    assert z.plugins.records["recorder"].plugin.calls == [("ready", "hooks"), ("closing", "hooks")]
    log = _log_of(z)
    assert "the hook zcli_ready of the plugin aaa_fails failed; the other plugins keep working" in log
    assert "ValueError: not today" in log
    assert "SystemExit: nor tomorrow" in log


@pytest.mark.usefixtures("isolated")
def test_hook_gets_only_its_arguments(site: Site) -> None:
    """So that arguments can be added to hooks without breaking plugins."""
    site.plugin(
        "picky",
        """
        calls = []
        @hookimpl
        def zcli_ready(): calls.append("no argument")
        @hookimpl
        def zcli_http_response(outcome, request): calls.append((outcome, request))
        """,
    )
    with zCLI(QUIET) as z:
        notify = z.plugins.notifier("zcli_http_response", z.log)
        assert notify is not None
        notify("the request", "the outcome", "the context")
        assert z.plugins.records["picky"].plugin.calls == ["no argument", ("the outcome", "the request")]


@pytest.mark.usefixtures("isolated")
def test_hook_with_specname_is_called(site: Site) -> None:
    """``specname`` is pluggy's way; the host knows it."""
    site.plugin("renamed", "calls = []\n@hookimpl(specname='zcli_ready')\ndef on_ready(app): calls.append(app)")
    with zCLI(QUIET) as z:
        assert z.plugins.records["renamed"].plugin.calls == [z]
        assert z.plugins.records["renamed"].hooks == ("zcli_ready",)


@pytest.mark.usefixtures("isolated")
def test_hooks_are_called_in_the_order_of_pluggy(site: Site) -> None:
    """``tryfirst`` before all, ``trylast`` after all."""
    site.module("shared_calls", "calls = []")
    for name, options in (("a", "trylast=True"), ("b", ""), ("c", "tryfirst=True")):
        site.plugin(
            f"order_{name}",
            f"import shared_calls\n@hookimpl({options})\ndef zcli_ready(app): shared_calls.calls.append({name!r})",
        )
    with zCLI(QUIET):
        import shared_calls  # type: ignore[import-not-found]

        assert shared_calls.calls == ["c", "b", "a"]


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("hook", ["zcli_ready", "zcli_closing", "zcli_http_request", "zcli_http_response"])
def test_notifier_without_implementation_is_none(hook: str) -> None:
    """A hook without implementation costs nothing."""
    with zCLI(QUIET) as z:
        assert z.plugins.notifier(hook, z.log) is None


@pytest.mark.usefixtures("isolated")
def test_hooks_of_builtin_plugins_do_not_run(site: Site) -> None:
    """However many there are: neither a request nor a connection has anything to call."""
    for number in range(20):
        site.plugin(f"idle_{number}", "@hookimpl\ndef zcli_settings(): return ()")
    with zCLI(QUIET) as z:
        assert sum(record.state == "loaded" for record in z.plugins.records.values()) >= 20
        once_a_start = ["zcli_websocket_serving", "zcli_websocket_ended"]  # of zcli_prometheus
        assert [name for name in HOOKS if z.plugins.notifier(name, z.log) and name in RUNNING] == once_a_start
        assert (z.comm.http._on_request, z.comm.http._on_response) == (None, None)
        assert z.comm.services._on_change is None
        assert z.comm.websocket._observers() == (None, None, None, None)


@pytest.mark.usefixtures("isolated")
def test_hook_with_all_arguments_is_called_directly(site: Site) -> None:
    """No function is in between."""
    site.plugin("whole", "@hookimpl\ndef zcli_http_response(request, outcome, context): pass")
    with zCLI(QUIET) as z:
        ((_, function),) = z.plugins._implementations("zcli_http_response")
        assert function is z.plugins.records["whole"].plugin.zcli_http_response


@pytest.mark.usefixtures("isolated")
def test_hook_closing_that_closes_is_called_once(site: Site) -> None:
    """It is called once, not until the stack is full."""
    site.plugin("eager", "calls = []\n@hookimpl\ndef zcli_closing(app):\n    calls.append(1)\n    app.close()\n")
    z = zCLI(QUIET)
    z.close()
    assert z.plugins.records["eager"].plugin.calls == [1]


@pytest.mark.usefixtures("isolated")
def test_hooks_of_http_see_and_change_a_request(site: Site, httpbin: str) -> None:
    """A header added by the one arrives; the other sees the answer, and the failure where there is none."""
    site.plugin(
        "tracer",
        """
        outcomes = []
        @hookimpl
        def zcli_http_request(request, context):
            request.headers["X-Traced-By"] = context.config.title
        @hookimpl
        def zcli_http_response(request, outcome):
            outcomes.append((request.method, type(outcome).__name__, getattr(outcome, "status_code", None)))
        """,
    )
    with zCLI(QUIET) as z:
        answer = z.comm.http_get(f"{httpbin}/headers")
        assert answer is not None
        assert answer.json()["headers"]["X-Traced-By"] == "hooks"
        assert z.comm.http_get(f"http://127.0.0.1:{z.comm.find_free_port()}/") is None
        assert z.plugins.records["tracer"].plugin.outcomes == [
            ("GET", "HttpResponse", 200),
            ("GET", "HttpFailure", None),
        ]
