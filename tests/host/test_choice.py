"""Choosing a provider by name, and making what it provides."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from installations import Site, http_transport

from zcli_core import __version__
from zcli_core.app import zCLI
from zcli_core.errors import ConfigError
from zcli_core.plugins.contract import Context
from zcli_core.plugins.records import AUTH_STRATEGY, HTTP_TRANSPORT, WEBSOCKET_TRANSPORT

pytestmark = pytest.mark.usefixtures("isolated")

QUIET = {"deployment": "Production", "logger": "PROD"}


def _choose(z: zCLI) -> str:
    """What the chosen transport makes: in these tests, its plugin's name."""
    made: str = z.plugins.make(HTTP_TRANSPORT, Context(z.config, z.log))
    return made


def test_choose_by_name_or_alias(site: Site) -> None:
    """The default is urllib3; a name or an alias selects another."""
    site.plugin("mine", http_transport("fast", aliases="('quick', 'swift')"))
    for name in ("fast", "quick", "swift"):
        with zCLI({**QUIET, "http": {"transport": name}}) as z:
            assert _choose(z) == "mine"
    with zCLI(QUIET) as z:
        assert z.plugins.choose(HTTP_TRANSPORT, z.config).name == "urllib3"


def test_choose_name_of_two_plugins_is_an_error(site: Site) -> None:
    """Neither wins by chance."""
    site.plugin("one", http_transport("both"))
    site.plugin("two", http_transport("other", aliases="('both',)"))
    with pytest.raises(ConfigError) as caught:
        zCLI({**QUIET, "http": {"transport": "both"}})
    assert str(caught.value) == (
        "the HTTP transport 'both', which http.transport (zSpark) selects, is provided by two plugins: "
        "one (dist-one 1.0) and two (dist-two 1.0); choose one with plugins.prefer, such as {both: one} or "
        "ZCLI_PLUGINS_PREFER=both=one, or disable the other with plugins.disable"
    )


def test_choose_error_of_two_plugins_advice_works(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable, as it is written there; of three plugins, too."""
    for name in ("one", "two", "three"):
        site.plugin(name, http_transport("both"))
    with pytest.raises(ConfigError, match=r"is provided by 3 plugins: one \(.*\), three \(.*\) and two \("):
        zCLI({**QUIET, "http": {"transport": "both"}})
    monkeypatch.setenv("ZCLI_PLUGINS_PREFER", "both=one")
    with zCLI({**QUIET, "http": {"transport": "both"}}) as z:
        assert _choose(z) == "one"


@pytest.mark.parametrize("winner", ["one", "two"])
def test_prefer_decides_between_two_plugins(site: Site, winner: str) -> None:
    """By the plugin's name, for that one name."""
    site.plugin("one", http_transport("both"))
    site.plugin("two", http_transport("both"))
    with zCLI({**QUIET, "http": {"transport": "both"}, "plugins": {"prefer": {"both": winner}}}) as z:
        assert _choose(z) == winner


@pytest.mark.parametrize("providers", [("one",), ("one", "two")])
@pytest.mark.parametrize(
    ("preferred", "why"),
    [
        ("onne", "which is not installed; did you mean 'one'?"),
        ("broken", "which is broken: it cannot be imported: OSError: no luck"),
        ("blocked", "which plugins.disable disables"),
        ("zcli_urllib3", "which does not provide it"),
    ],
)
def test_prefer_plugin_without_the_name_is_an_error(
    site: Site, providers: tuple[str, ...], preferred: str, why: str
) -> None:
    """Also where one other plugin does: it is not the one that was asked for."""
    for name in providers:
        site.plugin(name, http_transport("both"))
    site.plugin("broken", "raise OSError('no luck')")
    site.plugin("blocked", http_transport("both"))
    plugins = {"prefer": {"both": preferred}, "disable": ["blocked"]}
    with pytest.raises(ConfigError) as caught:
        zCLI({**QUIET, "http": {"transport": "both"}, "plugins": plugins})
    there = {1: "one (dist-one 1.0) does", 2: "one (dist-one 1.0) and two (dist-two 1.0) do"}[len(providers)]
    assert str(caught.value) == (
        f"plugins.prefer (zSpark) wants the HTTP transport 'both' from the plugin {preferred}, {why}; {there}"
    )


def test_prefer_applies_to_the_kind_of_the_plugin(site: Site) -> None:
    """A service and a transport may have the same name."""
    site.plugin("mine", http_transport("both"))
    site.plugin(
        "other",
        """
        @hookimpl
        def zcli_auth_strategies(): return [Provider("both", "of a test", lambda context: __name__)]
        """,
    )
    prefer = {"prefer": {"both": "other"}}
    with zCLI({**QUIET, "http": {"transport": "both"}, "websocket": {"auth": "both"}, "plugins": prefer}) as z:
        assert _choose(z) == "mine"
        assert z.plugins.make(AUTH_STRATEGY, Context(z.config, z.log)) == "other"


def test_disable_decides_between_two_plugins(site: Site) -> None:
    """The one that is left is no longer ambiguous."""
    site.plugin("one", http_transport("both"))
    site.plugin("two", http_transport("both"))
    with zCLI({**QUIET, "http": {"transport": "both"}, "plugins": {"disable": ["one"]}}) as z:
        assert _choose(z) == "two"


NEEDY = """
    @hookimpl
    def zcli_websocket_transports():
        import sys
        assert "needy_engine" not in sys.modules
        make = lambda context: __import__("needy_engine")
        return [Provider("needy", "of a test", make, ("needful",), needs={needs}, install={install})]
"""


def test_choose_unknown_name_is_an_error(site: Site, isolated: Path) -> None:
    """What was chosen, who chose it, what there is, and what there would be."""
    Path(".zEnv").write_text("# transport\nZCLI_WEBSOCKET_TRANSPORT=needi\n")
    site.plugin("needy", NEEDY.format(needs="('a_library_that_nobody_has',)", install="'zcli-needy[engine]'"))
    site.plugin("blocked", "")
    with pytest.raises(ConfigError) as caught:
        zCLI({**QUIET, "plugins": {"disable": ["blocked"]}})
    assert str(caught.value) == (
        "no plugin provides the WebSocket transport 'needi', which websocket.transport (.zEnv:2 "
        "(ZCLI_WEBSOCKET_TRANSPORT)) selects; did you mean 'needy'?\n"
        "     installed: uvicorn, wsproto\n"
        "     installable: needy (pip install 'zcli-needy[engine]')\n"
        "     the plugin blocked (dist-blocked 1.0) is disabled by plugins.disable"
    )


def test_choose_unknown_names_are_reported_at_once(site: Site) -> None:
    """Two strategies and a transport are three mistakes."""
    with pytest.raises(ConfigError) as caught:
        zCLI({**QUIET, "websocket": {"auth": ["tokn", "token", "orign"], "transport": "wsprot"}})
    assert [problem.partition(",")[0] for problem in caught.value.problems] == [
        "no plugin provides the WebSocket transport 'wsprot'",
        "no plugin provides the auth strategy 'tokn'",
        "no plugin provides the auth strategy 'orign'",
    ]


@pytest.mark.parametrize("name", ["needy", "needful"])
@pytest.mark.parametrize(
    ("needs", "install", "said"),
    [
        (
            "('a_library_that_nobody_has',)",
            "'zcli-needy[engine]'",
            "needs the module a_library_that_nobody_has, which is not installed: pip install 'zcli-needy[engine]'",
        ),
        (
            "('a_library_that_nobody_has', 'json', 'nor.this.one')",
            "None",
            "needs the modules a_library_that_nobody_has and nor.this.one, which are not installed",
        ),
    ],
)
def test_choose_missing_module_is_an_error_at_start(site: Site, name: str, needs: str, install: str, said: str) -> None:
    """With the command that brings it; its factory is not called for that."""
    site.plugin("needy", NEEDY.format(needs=needs, install=install))
    site.module("needy_engine", "raise AssertionError('imported')")
    with pytest.raises(ConfigError) as caught:
        zCLI({**QUIET, "websocket": {"transport": name}})
    assert str(caught.value) == (
        "the WebSocket transport 'needy' of the plugin needy (dist-needy 1.0), which websocket.transport (zSpark) "
        f"selects, {said}"
    )
    assert "needy_engine" not in sys.modules


def test_choose_complete_provider_imports_nothing(site: Site) -> None:
    """Looking for what it needs does not import that either."""
    site.plugin("needy", NEEDY.format(needs="('needy_engine',)", install="'zcli-needy'"))
    site.module("needy_engine", "")
    with zCLI({**QUIET, "websocket": {"transport": "needy"}}) as z:
        assert "needy_engine" not in sys.modules
        assert z.plugins.make(WEBSOCKET_TRANSPORT, Context(z.config, z.log)).__name__ == "needy_engine"


def test_provider_not_selected_may_lack_modules(site: Site) -> None:
    """A missing module of it is not an error."""
    site.plugin("needy", NEEDY.format(needs="('a_library_that_nobody_has',)", install="'zcli-needy'"))
    with zCLI(QUIET) as z:
        assert z.plugins.problems() == []
        with pytest.raises(ConfigError, match=r"needs the module .*: pip install 'zcli-needy'$"):
            z.plugins.make(WEBSOCKET_TRANSPORT, Context(z.config, z.log), "needy")


def test_missing_broken_module_is_installed(site: Site) -> None:
    """What pip would say is that it is installed."""
    site.plugin("needy", NEEDY.format(needs="('cracked.part',)", install="'zcli-needy'"))
    site.module("cracked", "raise OSError('cannot open shared object')")
    site.module("needy_engine", "import cracked")
    with (
        zCLI({**QUIET, "websocket": {"transport": "needy"}}) as z,
        pytest.raises(ConfigError, match=r"cannot be created: OSError: cannot open shared object$"),
    ):
        z.plugins.make(WEBSOCKET_TRANSPORT, Context(z.config, z.log))


def test_choose_error_names_broken_and_disabled_plugins(site: Site) -> None:
    """One of them may be what is missed."""
    site.plugin("broken_one", "import a_library_that_nobody_has")
    site.plugin("disabled_one", http_transport("wanted"))
    with pytest.raises(ConfigError) as caught:
        zCLI({**QUIET, "http": {"transport": "wanted"}, "plugins": {"disable": ["disabled_one"]}})
    message = str(caught.value)
    assert (
        "the plugin broken_one (dist-broken-one 1.0) is broken: it cannot be imported: ModuleNotFoundError" in message
    )
    assert "the plugin disabled_one (dist-disabled-one 1.0) is disabled by plugins.disable" in message


def test_default_missing_is_an_error_when_used(isolated: Path) -> None:
    """A script that never calls HTTP runs without any transport."""
    with zCLI({**QUIET, "plugins": {"disable": ["zcli_urllib3"]}}) as z:
        assert z.comm.check_port(1) in (True, False)
        with pytest.raises(ConfigError, match=r"'urllib3', which is the default of http.transport\n     installed: "):
            z.plugins.choose(HTTP_TRANSPORT, z.config)


def test_default_missing_if_set_is_an_error_at_start(isolated: Path) -> None:
    """A setting with the value of its default is a choice."""
    with pytest.raises(ConfigError, match=r"'urllib3', which http.transport \(zSpark\) selects\n"):
        zCLI({**QUIET, "http": {"transport": "urllib3"}, "plugins": {"disable": ["zcli_urllib3"]}})


def test_factory_is_called_when_made_only(site: Site) -> None:
    """Listing a provider imports nothing."""
    site.plugin(
        "lazy",
        """
        def make(context):
            import lazy_heavy
            return (context.config.http.timeout, context.log.name, lazy_heavy.__name__)
        @hookimpl
        def zcli_http_transports():
            return [Provider("lazy", "of a test", make)]
        """,
    )
    site.module("lazy_heavy", "")
    with zCLI({**QUIET, "title": "t", "http": {"transport": "lazy", "timeout": 4}}) as z:
        assert "lazy_heavy" not in sys.modules
        made = z.plugins.make(HTTP_TRANSPORT, Context(z.config, logging.getLogger("zcli.t.http")))
        assert made == (4.0, "zcli.t.http", "lazy_heavy")


def test_factory_that_fails_is_an_error_with_cause(site: Site) -> None:
    """The error keeps its cause, for the author of the plugin."""
    site.plugin(
        "frail",
        """
        def make(context):
            raise OSError("no such library")
        @hookimpl
        def zcli_http_transports():
            return [Provider("frail", "of a test", make)]
        """,
    )
    with zCLI({**QUIET, "http": {"transport": "frail"}}) as z, pytest.raises(ConfigError) as caught:
        _choose(z)
    assert str(caught.value) == (
        "the HTTP transport 'frail' of the plugin frail (dist-frail 1.0), which http.transport (zSpark) selects, "
        "cannot be created: OSError: no such library"
    )
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("statement", "cause"),
    [
        (
            "import a_library_that_nobody_has.part",
            "it imports the module a_library_that_nobody_has, which is not installed, and its Provider does not name "
            "what installs it (needs and install); ask the authors of dist-frail",
        ),
        (
            "import frail.engine",
            "its own module frail.engine is missing: pip install --force-reinstall dist-frail",
        ),
        ("raise ModuleNotFoundError('by hand')", "ModuleNotFoundError: by hand"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_factory_undeclared_module_is_an_error(site: Site, statement: str, cause: str) -> None:
    """The sentence names the plugin."""
    site.plugin(
        "frail",
        f"""
        def make(context):
            {statement}
        @hookimpl
        def zcli_http_transports():
            return [Provider("frail", "of a test", make)]
        """,
    )
    with zCLI({**QUIET, "http": {"transport": "frail"}}) as z, pytest.raises(ConfigError) as caught:
        z.comm.http_get("http://127.0.0.1:1/")
    assert str(caught.value) == (
        "the HTTP transport 'frail' of the plugin frail (dist-frail 1.0), which http.transport (zSpark) selects, "
        f"cannot be created: {cause}"
    )


def test_factory_config_error_is_passed_on(site: Site) -> None:
    """A ConfigError is passed on as it is."""
    site.plugin(
        "strict",
        """
        def make(context):
            from zcli_core.errors import ConfigError
            raise ConfigError("strict.key: it is needed")
        @hookimpl
        def zcli_http_transports():
            return [Provider("strict", "of a test", make)]
        """,
    )
    with (
        zCLI({**QUIET, "http": {"transport": "strict"}}) as z,
        pytest.raises(ConfigError, match=r"^strict.key: it is needed$"),
    ):
        _choose(z)


def test_factory_interrupt_is_passed_on(site: Site) -> None:
    """Ctrl+C ends the program; it does not become an error of the plugin."""
    site.plugin(
        "slow",
        """
        def make(context):
            raise KeyboardInterrupt
        @hookimpl
        def zcli_http_transports():
            return [Provider("slow", "of a test", make)]
        """,
    )
    with zCLI({**QUIET, "http": {"transport": "slow"}}) as z, pytest.raises(KeyboardInterrupt):
        _choose(z)


# --- services, which are all in use ---

SERVICE = """
    from zcli_core.services.contract import ServiceBackend

    class Backend(ServiceBackend):
        name, title, default_port = {name!r}, __name__, 1

    @hookimpl
    def zcli_service_backends(): return [Provider({name!r}, "of a test", Backend, aliases={aliases})]
"""
CALLS = {
    "service_status": lambda comm: comm.service_status("redis"),
    "get_service_connection_info": lambda comm: comm.get_service_connection_info("redis"),
    "start_service": lambda comm: comm.start_service("redis"),
    "stop_service": lambda comm: comm.stop_service("redis"),
    "restart_service": lambda comm: comm.restart_service("redis"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_service_of_two_plugins_is_an_error(site: Site, call: Any) -> None:
    """Both distributions, and the setting that decides; scripts that mean no such service go on."""
    site.plugin("my_redis", SERVICE.format(name="redis", aliases="()"), distribution="zcli-my-redis")
    with zCLI(QUIET) as z:
        assert z.comm.service_status("mongodb")["service"] == "mongodb"
        with pytest.raises(ConfigError) as caught:
            call(z.comm)
    assert str(caught.value) == (
        "the service 'redis' is provided by two plugins: my_redis (zcli-my-redis 1.0) and zcli_redis (zcli-core "
        f"{__version__}); choose one with plugins.prefer, such as {{redis: my_redis}} or "
        "ZCLI_PLUGINS_PREFER=redis=my_redis, or disable the other with plugins.disable"
    )


@pytest.mark.parametrize(("plugin", "title"), [("my_redis", "my_redis"), ("zcli_redis", "Redis")])
def test_prefer_decides_between_two_services(site: Site, plugin: str, title: str) -> None:
    """For that name; an alias that only one of them has is that one's."""
    site.plugin("my_redis", SERVICE.format(name="redis", aliases="('keydb',)"))
    with zCLI({**QUIET, "plugins": {"prefer": {"redis": plugin}}}) as z:
        assert z.comm.services._backends.get("redis").title == title
        assert z.comm.services._backends.get("keydb").title == "my_redis"
        assert z.comm.services._backends.get("valkey").title == "Redis"
