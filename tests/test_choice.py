"""Choosing a provider by name, and making what it provides."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from installations import Site, http_transport

from zcli_core.app import zCLI
from zcli_core.contracts.provider import Context
from zcli_core.errors import ConfigError
from zcli_core.host import HTTP_TRANSPORT

pytestmark = pytest.mark.usefixtures("isolated")

QUIET = {"deployment": "Production", "logger": "PROD"}


def _choose(z: zCLI) -> str:
    """What the chosen transport makes: in these tests, its plugin's name."""
    made: str = z.plugins.make(HTTP_TRANSPORT, Context(z.config, z.log))
    return made


def test_configuration_chooses_by_name_or_alias(site: Site) -> None:
    """The default is urllib3; a name or an alias selects another."""
    site.plugin("mine", http_transport("fast", aliases="('quick', 'swift')"))
    for name in ("fast", "quick", "swift"):
        with zCLI({**QUIET, "http": {"transport": name}}) as z:
            assert _choose(z) == "mine"
    with zCLI(QUIET) as z:
        assert z.plugins.choose(HTTP_TRANSPORT, z.config).name == "urllib3"


def test_two_plugins_of_one_name_are_an_error_that_names_both_and_the_setting(site: Site) -> None:
    """Neither wins by chance."""
    site.plugin("one", http_transport("both"))
    site.plugin("two", http_transport("other", aliases="('both',)"))
    with pytest.raises(ConfigError) as caught:
        zCLI({**QUIET, "http": {"transport": "both"}})
    assert str(caught.value) == (
        "the HTTP transport 'both' is provided by one (dist-one 1.0) and two (dist-two 1.0); say which one with "
        "plugins.prefer: {both: one}, or disable one with plugins.disable"
    )


@pytest.mark.parametrize("winner", ["one", "two"])
def test_plugins_prefer_decides_between_two(site: Site, winner: str) -> None:
    """By the plugin's name, for that one name."""
    site.plugin("one", http_transport("both"))
    site.plugin("two", http_transport("both"))
    with zCLI({**QUIET, "http": {"transport": "both"}, "plugins": {"prefer": {"both": winner}}}) as z:
        assert _choose(z) == winner


def test_preferring_a_plugin_that_does_not_offer_the_name_is_said(site: Site) -> None:
    """A typing error there must not look as if the setting had no effect."""
    site.plugin("one", http_transport("both"))
    site.plugin("two", http_transport("both"))
    with pytest.raises(ConfigError, match=r"\(it names 'onne', which is none of them\)"):
        zCLI({**QUIET, "http": {"transport": "both"}, "plugins": {"prefer": {"both": "onne"}}})


def test_disabling_one_of_two_decides_as_well(site: Site) -> None:
    """The one that is left is no longer ambiguous."""
    site.plugin("one", http_transport("both"))
    site.plugin("two", http_transport("both"))
    with zCLI({**QUIET, "http": {"transport": "both"}, "plugins": {"disable": ["one"]}}) as z:
        assert _choose(z) == "two"


def test_a_name_that_nobody_provides_is_an_error_with_origin_and_suggestion(isolated: Path) -> None:
    """What was chosen, who chose it, what there is."""
    Path(".zEnv").write_text("# transport\nZCLI_HTTP_TRANSPORT=urlib3\n")
    with pytest.raises(ConfigError) as caught:
        zCLI(QUIET)
    assert str(caught.value) == (
        "no plugin provides the HTTP transport 'urlib3', which http.transport (.zEnv:2 (ZCLI_HTTP_TRANSPORT)) asks for"
        "; did you mean 'urllib3'?; on offer: urllib3"
    )


def test_broken_and_disabled_plugins_are_named_where_something_is_missing(site: Site) -> None:
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


def test_a_default_that_is_missing_matters_only_when_it_is_used(isolated: Path) -> None:
    """A script that never calls HTTP runs without any transport."""
    with zCLI({**QUIET, "plugins": {"disable": ["zcli_urllib3"]}}) as z:
        assert z.comm.check_port(1) in (True, False)
        with pytest.raises(
            ConfigError, match=r"'urllib3', which http.transport \(zcli-core\) asks for; none is on offer"
        ):
            z.plugins.choose(HTTP_TRANSPORT, z.config)


def test_the_factory_is_called_only_when_the_thing_is_made(site: Site) -> None:
    """A name costs nothing, a choice costs its import."""
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


def test_a_factory_that_fails_is_an_error_with_plugin_setting_and_cause(site: Site) -> None:
    """Its cause stays attached for whoever debugs the plugin."""
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
        "the HTTP transport 'frail' of the plugin frail (dist-frail 1.0), which http.transport (zSpark) asks for, "
        "cannot be made: OSError: no such library"
    )
    assert isinstance(caught.value.__cause__, OSError)


def test_a_factory_may_refuse_the_configuration_in_its_own_words(site: Site) -> None:
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
