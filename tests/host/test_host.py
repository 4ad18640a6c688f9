"""The plugin host isolates broken plugins and names their cause and distribution."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest
from installations import Site, http_transport

from zcli_core import __version__
from zcli_core.app import zCLI
from zcli_core.errors import ConfigError
from zcli_core.plugins.discovery import EntryPoint
from zcli_core.plugins.host import PluginHost
from zcli_core.system.installation import install_again

pytestmark = pytest.mark.usefixtures("isolated")

QUIET = {"deployment": "Production", "logger": "PROD"}

#: What a plugin can do wrong, and what is said of it.
BROKEN = {
    "raises on import": ("raise RuntimeError('no luck\\ntoday')", "cannot be imported: RuntimeError: no luck today"),
    "exits on import": ("import sys; sys.exit(3)", "cannot be imported: SystemExit: 3"),
    "panics on import": ("class Panic(BaseException): pass\nraise Panic('at the disco')", "Panic: at the disco"),
    "is not Python": ("def broken(:\n", "cannot be imported: SyntaxError"),
    "lacks a dependency": ("import a_library_that_nobody_has", "No module named 'a_library_that_nobody_has'"),
    "states no contract": (
        "del ZCLI_CONTRACT",
        "does not state the contract version it was written for (ZCLI_CONTRACT",
    ),
    "states a later contract": (
        "ZCLI_CONTRACT = 2",
        f"it was written for version 2 of zCLI's plugin contract, and zcli-core {__version__} has version 1; upgrade "
        f"zcli-core: {install_again('zcli-core', '--upgrade')}",
    ),
    "states an earlier contract": (
        "ZCLI_CONTRACT = 0",
        f"it was written for version 0 of zCLI's plugin contract, and zcli-core {__version__} has version 1; upgrade "
        "the-guilty: pip install --upgrade the-guilty",
    ),
    "states nonsense": ("ZCLI_CONTRACT = 'one'", "ZCLI_CONTRACT in its module must be an integer such as 1, got 'one'"),
    "states the truth": ("ZCLI_CONTRACT = True", "must be an integer such as 1, got True"),
    "has a hook with an unknown argument": ("@hookimpl\ndef zcli_ready(application): pass", "application"),
    "has an unknown hook": ("@hookimpl\ndef zcli_redy(app): pass", "hook 'zcli_redy'; did you mean 'zcli_ready'?"),
    "has an unknown hook by another name": (
        "@hookimpl(specname='zcli_redy')\ndef mine(app): pass",
        "unknown hook 'zcli_redy'",
    ),
    "has a wrapper": ("@hookimpl(wrapper=True)\ndef zcli_ready(app): return (yield)", "'zcli_ready' is a wrapper"),
    "has an old wrapper": ("@hookimpl(hookwrapper=True)\ndef zcli_ready(app): yield", "'zcli_ready' is a wrapper"),
    "has a coroutine": ("@hookimpl\nasync def zcli_ready(app): pass", "'zcli_ready' is a coroutine function"),
    "refuses to be looked at": (
        "class Odd:\n    def __getattr__(self, name):\n"
        "        raise RuntimeError('hands off') if name[0] != '_' else AttributeError\n"
        "import sys; sys.modules[__name__] = Odd()",
        "hands off",
    ),
    "fails to declare": (
        "@hookimpl\ndef zcli_http_transports(): raise KeyError('oops')",
        "its hook zcli_http_transports failed: KeyError: 'oops'",
    ),
    "exits when it declares": (
        "@hookimpl\ndef zcli_http_transports(): raise SystemExit(3)",
        "its hook zcli_http_transports failed: SystemExit: 3",
    ),
    "declares a number": ("@hookimpl\ndef zcli_http_transports(): return 7", "'int' object is not iterable"),
    "declares a text": ("@hookimpl\ndef zcli_http_transports(): return 'abc'", "expected a Provider, got str"),
    "declares a nameless provider": (
        "@hookimpl\ndef zcli_http_transports(): return [Provider('', 'x', print)]",
        "a Provider must have a name and a callable factory",
    ),
    "declares a provider without a factory": (
        "@hookimpl\ndef zcli_http_transports(): return [Provider('x', 'x', None)]",
        "a Provider must have a name and a callable factory",
    ),
    "declares a provider without a summary": (
        "@hookimpl\ndef zcli_http_transports(): return [Provider('x', None, print)]",
        "the summary of a Provider must be a text, got None",
    ),
    "declares a text for aliases": (
        "@hookimpl\ndef zcli_http_transports(): return [Provider('x', 'x', print, aliases='abc')]",
        "aliases of a Provider must be a tuple of names, got 'abc'",
    ),
    "declares a text for needs": (
        "@hookimpl\ndef zcli_http_transports(): return [Provider('x', 'x', print, needs='pycurl')]",
        "needs of a Provider must be a tuple of module names, got 'pycurl'",
    ),
    "declares needs that are not names": (
        "@hookimpl\ndef zcli_http_transports(): return [Provider('x', 'x', print, needs=(None, ''))]",
        "needs of a Provider must be a tuple of module names, got (None, '')",
    ),
    "declares several things to install": (
        "@hookimpl\ndef zcli_http_transports(): return [Provider('x', 'x', print, install=('a', 'b'))]",
        "install of a Provider must be an argument for pip such as 'zcli-mine[extra]', got ('a', 'b')",
    ),
    "panics when it declares": (
        "class Panic(BaseException): pass\n@hookimpl\ndef zcli_http_transports(): raise Panic('at the disco')",
        "its hook zcli_http_transports failed: Panic: at the disco",
    ),
    "declares one, and fails at the next": (
        "@hookimpl\ndef zcli_http_transports():\n    yield Provider('x', 'x', print)\n    raise OSError('no more')",
        "its hook zcli_http_transports failed: OSError: no more",
    ),
    "declares one name twice": (
        "@hookimpl\ndef zcli_http_transports(): return [Provider('x', '', print), Provider('y', '', print, ('x',))]",
        "provides two HTTP transports with the name 'x'",
    ),
    "declares a layer without a name": (
        "@hookimpl\ndef zcli_config_layers(): return [object()]",
        "a configuration layer needs a name and an order",
    ),
    "declares a layer that cannot be read": (
        "class L: name = 'l'; order = 5\n@hookimpl\ndef zcli_config_layers(): return [L()]",
        "the configuration layer 'l' has no method read(context)",
    ),
    "declares a section that is invalid": (
        "@hookimpl\ndef zcli_settings(): return [dict]",
        "is not a settings section",
    ),
}


@pytest.mark.parametrize(("code", "cause"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_plugin_is_named_and_isolated(site: Site, code: str, cause: str) -> None:
    """The log names the plugin, its distribution and the cause; the other plugins work."""
    site.plugin("bad_one", code, distribution="the-guilty")
    site.plugin("good_one", http_transport("good"))
    with zCLI({**QUIET, "http": {"transport": "good"}}) as z:
        record = z.plugins.records["bad_one"]
        log = Path(z.config.logger_path or z._application_log.file).read_text()  # type: ignore[arg-type]
        assert record.state == "broken"
        assert cause in str(record.cause)
        assert "\n" not in str(record.cause)
        assert f"the plugin bad_one (the-guilty 1.0) is broken: {record.cause}" in log
        assert z.plugins.records["good_one"].state == "loaded"
        assert z.comm.check_port(1) in (True, False)


@pytest.mark.parametrize("code", [code for code, _ in BROKEN.values()], ids=BROKEN.keys())
def test_broken_plugin_if_disabled_is_not_reported(site: Site, code: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A plugin in plugins.disable is not imported and not reported."""
    site.plugin("bad_one", f"import sys; sys.modules['bad_one_ran'] = sys\n{textwrap.dedent(code)}")
    with zCLI({"deployment": "Testing", "title": "t", "plugins": {"disable": ["bad_one"]}}) as z:
        z.log.error("a line")
        log = Path(z._application_log.file).read_text()  # type: ignore[arg-type]
        assert z.plugins.records["bad_one"].state == "disabled"
        assert z.plugins.problems() == []
    assert "bad_one" not in sys.modules
    assert "bad_one_ran" not in sys.modules
    assert "bad_one" not in log
    assert capfd.readouterr() == ("", "ERROR zcli.t: a line\n")


def test_plugin_that_prints_is_loaded(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Output of a plugin is not an error."""
    site.plugin("chatty", "print('hello')")
    with zCLI(QUIET) as z:
        assert z.plugins.problems() == []
    assert capsys.readouterr().out == "hello\n"


def test_interrupt_during_import_is_passed_on(site: Site) -> None:
    """Ctrl+C ends the program."""
    site.plugin("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        zCLI(QUIET)


def test_entry_point_without_attribute_breaks_its_plugin(site: Site) -> None:
    """``module:object`` entry points may name what the module no longer has; others name an object that works."""
    site.distribution("objects", "[zcli]\ngone = objects:Gone\nthere = objects:Space.plugin\n")
    site.module(
        "objects",
        """
        from zcli_core import hookimpl
        class Plugin:
            ZCLI_CONTRACT = 1
            @hookimpl
            def zcli_http_transports(self): return ()
        class Space:
            plugin = Plugin()
        """,
    )
    with zCLI(QUIET) as z:
        assert "AttributeError" in str(z.plugins.records["gone"].cause)
        assert z.plugins.records["there"].hooks == ("zcli_http_transports",)


def test_plugin_name_taken_breaks_the_second_plugin(site: Site) -> None:
    """The configuration names plugins, so a name must be unique."""
    site.distribution("aaa", "[zcli]\ntwin = first_twin\n")
    site.distribution("bbb", "[zcli]\ntwin = second_twin\n", "2.0")
    site.module("first_twin", "ZCLI_CONTRACT = 1")
    site.module("second_twin", "raise AssertionError('imported')")
    with zCLI(QUIET) as z:
        assert z.plugins.records["twin"].state == "loaded"
        assert z.plugins.problems() == [
            "the plugin twin (bbb 2.0) is broken: aaa 1.0 already has a plugin of that name; this one is not loaded"
        ]
    assert "second_twin" not in sys.modules


def test_module_under_two_names_is_loaded_once(site: Site) -> None:
    """Its hooks would run twice otherwise."""
    site.distribution("d", "[zcli]\none = shared_module\ntwo = shared_module\n")
    site.module("shared_module", "ZCLI_CONTRACT = 1")
    with zCLI(QUIET) as z:
        assert z.plugins.problems() == [
            "the plugin two (d 1.0) is broken: its module is already loaded as the plugin one"
        ]


def test_plugin_without_hooks_is_loaded(site: Site) -> None:
    """A plugin may do its work when it is imported."""
    site.plugin("idle", "")
    with zCLI(QUIET) as z:
        assert z.plugins.records["idle"].state == "loaded"
        assert z.plugins.problems() == []


def test_hook_optional_and_unknown_is_ignored(site: Site) -> None:
    """``optionalhook`` is pluggy's way of supporting several versions of a host."""
    site.plugin("modern", "@hookimpl(optionalhook=True)\ndef zcli_telepathy(mind): pass")
    with zCLI(QUIET) as z:
        assert z.plugins.records["modern"].state == "loaded"


def test_plugin_that_breaks_late_loses_its_providers(site: Site) -> None:
    """A plugin is used as a whole or not at all."""
    site.plugin(
        "half",
        http_transport("halfway")
        + "\n        @hookimpl\n        def zcli_settings(): raise ValueError('second thoughts')",
    )
    with pytest.raises(ConfigError, match=r"(?s)'halfway'.*half \(dist-half 1.0\) is broken: .*second thoughts"):
        zCLI({**QUIET, "http": {"transport": "halfway"}})


# --- blocking ---------------------------------------------------------------------------------------------------


def _block_by_zspark(names: str, folder: Path) -> dict[str, object]:
    return {"plugins": {"disable": names.split(",")}}


def _block_by_dotted_zspark(names: str, folder: Path) -> dict[str, object]:
    return {"plugins.disable": names.split(",")}


def _block_by_zspark_overlay(names: str, folder: Path) -> dict[str, object]:
    return {"deployments": {"Production": {"plugins": {"disable": names.split(",")}}}}


def _block_by_zenv(names: str, folder: Path) -> dict[str, object]:
    Path(".zEnv").write_text(f"ZCLI_PLUGINS_DISABLE={names}\n")
    return {}


def _block_by_machine_file(names: str, folder: Path) -> dict[str, object]:
    (folder.parent / "machine").mkdir()
    (folder.parent / "machine" / "zConfig.machine.yaml").write_text(f"plugins:\n  disable: [{names}]\n")
    return {}


@pytest.mark.parametrize(
    "block",
    [
        _block_by_zspark,
        _block_by_dotted_zspark,
        _block_by_zspark_overlay,
        _block_by_zenv,
        _block_by_machine_file,
    ],
)
def test_plugin_disabled_is_never_imported(site: Site, isolated: Path, block: object) -> None:
    """Whichever layer says so; not even its errors are seen."""
    site.plugin("unwanted", "raise AssertionError('imported')")
    site.plugin("unwanted_too", "raise AssertionError('imported')")
    with zCLI({**QUIET, **block("unwanted,unwanted_too", isolated)}) as z:  # type: ignore[operator]
        assert [z.plugins.records[name].state for name in ("unwanted", "unwanted_too")] == ["disabled", "disabled"]
        assert z.plugins.problems() == []
    assert "unwanted" not in sys.modules


@pytest.mark.parametrize("names", ["unwanted", "unwanted, other", '["unwanted"]'])
@pytest.mark.parametrize("first", [False, True], ids=["ordinary", "first"])
def test_variable_disables_a_first_plugin(site: Site, monkeypatch: pytest.MonkeyPatch, names: str, first: bool) -> None:
    """ZCLI_PLUGINS_DISABLE is known before any layer is read, as a comma list and as JSON."""
    site.plugin("unwanted", "raise AssertionError('imported')", first=first)
    monkeypatch.setenv("ZCLI_PLUGINS_DISABLE", names)
    with zCLI(QUIET) as z:
        assert z.plugins.records["unwanted"].state == "disabled"
    assert "unwanted" not in sys.modules


@pytest.mark.parametrize("block", [_block_by_zspark, _block_by_dotted_zspark])
def test_zspark_disables_a_first_plugin(site: Site, isolated: Path, block: object) -> None:
    """zSpark is known before any layer is read."""
    site.plugin("unwanted", "raise AssertionError('imported')", first=True)
    with zCLI({**QUIET, **block("unwanted", isolated)}) as z:  # type: ignore[operator]
        assert z.plugins.records["unwanted"].state == "disabled"
    assert "unwanted" not in sys.modules


def test_disable_in_other_overlay_spares_a_first_plugin(site: Site, isolated: Path) -> None:
    """A layer that is read later sets the deployment, so no overlay is known to be in force before."""
    site.plugin("wanted", "", first=True)
    Path(".zEnv").write_text("ZCLI_DEPLOYMENT=Production\n")
    overlay = {"deployments": {"Development": {"plugins": {"disable": ["wanted"]}}}}
    with zCLI({"logger": "CRITICAL", **overlay}) as z:
        assert z.config.deployment == "Production"
        assert z.plugins.records["wanted"].state == "loaded"


def test_disable_unknown_plugin_is_a_warning(isolated: Path) -> None:
    """A misspelt name would leave the plugin enabled."""
    with zCLI({**QUIET, "plugins": {"disable": ["zcli_urlib3"]}}) as z:
        log = Path(z._application_log.file).read_text()  # type: ignore[union-attr]
    assert "plugins.disable names 'zcli_urlib3', but no such plugin is installed; did you mean 'zcli_urllib3'?" in log


def test_interrupt_during_hook_is_passed_on(site: Site) -> None:
    """Ctrl+C ends the program."""
    site.plugin("slow", "@hookimpl\ndef zcli_settings(): raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        zCLI(QUIET)


@pytest.mark.parametrize("value", [5, {"a": "b"}, [["nested"]], [5], ...], ids=repr)
def test_disable_of_another_type_is_an_error(value: object) -> None:
    """The error is a ConfigError."""
    with pytest.raises(ConfigError, match=r"plugins\.disable must be a list of strings .*, got .* from zSpark"):
        zCLI({**QUIET, "plugins": {"disable": value}})


def test_start_without_layers_fails() -> None:
    """The start fails, because the defaults alone may admit more than what was configured."""
    with pytest.raises(ConfigError, match="no plugin in use provides configuration layers") as caught:
        zCLI({"title": "lost", "plugins": {"disable": ["zcli_layers"]}})
    assert "is disabled by plugins.disable" in str(caught.value)


_OTHER_LAYER = """
from zcli_core.config.contract import Entry
class Layer:
    name, order = "other", 150
    def read(self, context):
        yield Entry("http.timeout", 3, "here")
@hookimpl
def zcli_config_layers(): return [Layer()]
"""


def test_start_fails_if_no_layer_reads_zspark(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another layer does not replace it: the script's ``require_auth`` would not be in force."""
    site.plugin("other", _OTHER_LAYER)
    monkeypatch.setenv("ZCLI_PLUGINS_DISABLE", "zcli_layers")
    with pytest.raises(ConfigError, match="no plugin in use reads zSpark, so nothing that the script sets") as caught:
        zCLI({"websocket": {"require_auth": True}})
    assert "the plugin zcli_layers (zcli-core" in str(caught.value)


def test_section_of_disabled_plugin_is_a_warning(
    isolated: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The environment has disabled what the script wants its secrets from."""
    monkeypatch.setenv("ZCLI_PLUGINS_DISABLE", "zcli_secrets_dir")
    with zCLI({"deployment": "Production", "logger_path": ".", "secrets_dir": {"folder": "/run/secrets"}}):
        pass
    assert (
        "zSpark sets 'secrets_dir', which no plugin in use declares; it may belong to a plugin"
        in capfd.readouterr().err
    )


def test_broken_layer_plugin_is_a_warning(site: Site, isolated: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What it sets may have protected something; a plugin that asks to be first most likely gives layers."""
    site.plugin("vault", "@hookimpl\ndef zcli_config_layers(): raise OSError('sealed')")
    site.plugin("early", "raise OSError('no luck')", first=True)
    with zCLI({"deployment": "Production", "logger": "ERROR", "logger_path": "."}):
        pass
    said = capfd.readouterr().err
    for name in ("vault", "early"):
        assert (
            f"the plugin {name} (dist-{name} 1.0) is broken, so the settings of its configuration layers are not in"
            in said
        )


def test_host_with_entry_points_uses_them_only() -> None:
    """For tests of plugins: nothing installed is looked for."""
    host = PluginHost([EntryPoint("zcli_layers", "zcli_layers", "by-hand", "0")])
    host.load()
    assert {name: record.state for name, record in host.records.items()} == {"zcli_layers": "loaded"}
