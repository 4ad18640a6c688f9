"""What a plugin adds to the configuration: sections of its own, and layers among the builtin ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from installations import Site

from zcli_core.app import zCLI
from zcli_core.assembly import assemble
from zcli_core.config.settings import Section, UnusableValue, declared_settings, setting, verify_types
from zcli_core.errors import ConfigError
from zcli_core.plugins.host import PluginHost

Start = Callable[..., zCLI]
Write = Callable[[Any], Path]

SECTION = """
from collections.abc import Mapping
from pathlib import Path
from zcli_core.config.settings import Section, setting

class Memcached(Section, name="services.memcached", variable_prefix="MEMCACHED_"):
    '''Where memcached listens.'''
    port: int = setting(11211, "TCP port", minimum=1, maximum=65535, variables=("MEMCACHE_PORT",))
    servers: tuple[str, ...] = setting(["a", "b"], "others")
    options: Mapping[str, str] = setting({}, "whatever else")
    socket: Path | None = setting(None, "Unix socket")

@hookimpl
def zcli_settings():
    return [Memcached]
"""


def _layer(name: str, order: float, body: str) -> str:
    return f"""
from zcli_core.config.contract import Entry, LayerProblem

class Layer:
    name = {name!r}
    order = {order}
    def read(self, context):
        {body}

@hookimpl
def zcli_config_layers():
    return [Layer()]
"""


@pytest.fixture
def memcached(site: Site) -> None:
    """A plugin with a section."""
    site.plugin("memcached_plugin", SECTION)


@pytest.mark.usefixtures("memcached")
def test_section_of_plugin_is_set_by_every_layer(start: Start, zenv: Write, machine: Write) -> None:
    """Defaults, file, variables derived and declared, zSpark: like the core's own."""
    assert start().config.services.memcached.port == 11211
    machine("services:\n  memcached:\n    port: 1\n    options: {x: 1.10}\n")
    assert start().config.services.memcached.port == 1
    for number, name in enumerate(("MEMCACHE_PORT", "MEMCACHED_PORT", "ZCLI_SERVICES_MEMCACHED_PORT"), start=2):
        zenv(f"{name}={number}\n")
        assert start().config.explain("services.memcached.port")[1:4] == (number, ".zEnv", f".zEnv:1 ({name})")
    config = start({"services": {"memcached": {"port": 9, "socket": "s.sock"}}}).config
    assert config.get("services.memcached").port == config.services.memcached.port == 9
    assert dict(config.services.memcached.options) == {"x": "1.10"}
    assert config.services.memcached.socket == Path.cwd() / "s.sock"


@pytest.mark.usefixtures("memcached")
def test_section_of_plugin_is_explained_and_checked(start: Start) -> None:
    """The default's origin is the plugin; mistakes and misspellings are found."""
    z = start({"services": {"memcached": {"prot": 1}}})
    assert z.config.explain("services.memcached.port").origin == "memcached_plugin"
    assert z._application_log.file is not None
    assert "did you mean 'services.memcached.port'?" in Path(z._application_log.file).read_text()
    with pytest.raises(
        ConfigError, match=r"^services.memcached.port must be an integer between 1 and 65535, got 0 from zSpark"
    ):
        start({"services": {"memcached": {"port": 0}}})


@pytest.mark.usefixtures("memcached")
def test_default_is_read_only(start: Start) -> None:
    """A list as a default becomes a tuple; two objects share it."""
    assert start().config.services.memcached.servers == ("a", "b")


class _Tls:
    ca_file: str | None = setting(None, "authorities")


class _First(_Tls, Section, name="first"):
    port: int = setting(1, "port")


class _Second(_Tls, Section, name="second"):
    port: int = setting(2, "port")


@pytest.mark.parametrize("section", [_First, _Second])
def test_section_has_the_settings_of_any_base_class(section: Any) -> None:
    """A base class need not be a section; sections that share it do not depend on each other."""
    assert [each.attribute for each in declared_settings(section, "")] == ["ca_file", "port"]
    assert section().ca_file is None
    with pytest.raises(ConfigError, match="not readable"):
        _ = section(ca_file=UnusableValue("not readable")).ca_file


def test_section_of_disabled_plugin_is_unknown(start: Start, memcached: None) -> None:
    """Its settings would have no effect, and that is said."""
    z = start({"services": {"memcached": {"port": 1}}, "plugins": {"disable": ["memcached_plugin"]}})
    assert z._application_log.file is not None
    assert (
        "unknown setting 'services.memcached' (zSpark): no plugin in use declares it"
        in Path(z._application_log.file).read_text()
    )


@pytest.mark.parametrize(
    ("declaration", "cause"),
    [
        (
            "class X(Section, name='http'):\n    other: int = setting(1, '')",
            "the section 'http' is already declared by zcli-core",
        ),
        (
            "class X(Section, name=''):\n    title: str = setting('', '')",
            "the section '' is already declared by zcli-core",
        ),
        (
            "class X(Section, name='http.timeout'):\n    unit: str = setting('s', '')",
            "the setting http.timeout.unit clashes with http.timeout of zcli-core",
        ),
        (
            "class X(Section, name='mine'):\n    http: str = setting('', '', variables=('WEBSOCKET_PORT',))",
            "the variable WEBSOCKET_PORT of mine.http already belongs to websocket.port of zcli-core",
        ),
        (
            "class X(Section, name='mine.a'):\n    b: int = setting(1, '')\n"
            "class Y(Section, name='mine'):\n    a_b: int = setting(1, '')",
            "the variable ZCLI_MINE_A_B of mine.a_b already belongs to mine.a.b of greedy",
        ),
        (
            "class X(Section, name='deployments'):\n    a: int = setting(1, '')",
            "the name of the setting deployments.a is reserved",
        ),
        (
            "class X(Section, name='My Section'):\n    a: int = setting(1, '')",
            "the name of X must be lower case, with dots to nest it, got 'My Section'",
        ),
        (
            "class X(Section, name='mine'):\n    a: dict = setting(1, '')",
            "the type of the setting mine.a is not supported",
        ),
        ("class X(Section, name='mine'):\n    a: 'Nothing' = setting(1, '')", "the type of mine.a cannot be resolved"),
        ("class X(Section, name='mine'):\n    a: int = 5", "X.a must be declared with setting()"),
        ("class X: pass", "is not a settings section; derive it from Section and give it a name"),
    ],
)
def test_section_that_is_invalid_breaks_its_plugin(start: Start, site: Site, declaration: str, cause: str) -> None:
    """All of it, even a section that would have been all right; the others go on."""
    names = "[Fine, X, Y]" if "class Y" in declaration else "[Fine, X]"
    site.plugin(
        "greedy",
        "from zcli_core.config.settings import Section, setting\n"
        f"class Fine(Section, name='fine'):\n    a: int = setting(1, '')\n{declaration}\n"
        f"@hookimpl\ndef zcli_settings(): return {names}\n",
    )
    z = start({"http": {"timeout": 3}})
    assert z.plugins.records["greedy"].state == "broken"
    assert cause in str(z.plugins.records["greedy"].cause)
    assert z.config.http.timeout == 3
    assert not hasattr(z.config, "fine")


def test_section_declared_twice_breaks_the_second_plugin(start: Start, site: Site) -> None:
    """The first plugin keeps working."""
    site.plugin("memcached_plugin", SECTION)
    site.plugin("memcached_too", SECTION)
    z = start()
    assert z.plugins.records["memcached_plugin"].state == "loaded"
    assert "the section 'services.memcached' is already declared by memcached_plugin" in str(
        z.plugins.records["memcached_too"].cause
    )


def test_section_nested_in_a_section_works() -> None:
    """The example of the documentation, as written there."""

    class Memcached(Section, name="services.memcached"):
        """Where memcached listens."""

        port: int = setting(11211, "TCP port", minimum=1, maximum=65535)

    assert Memcached(port=11212).port == 11212
    verify_types(declared_settings(Memcached, "test"))
    (port,) = declared_settings(Memcached, "test")
    assert port.variables == ("ZCLI_SERVICES_MEMCACHED_PORT",)


# --- layers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "in_force"),
    [
        (-1, "defaults"),
        (50, "machine"),
        (150, "environment"),
        (250, ".zEnv"),
        (350, "zSpark"),
        (399.5, "zSpark"),
        (500, "vault"),
    ],
)
def test_layer_of_plugin_is_ranked_by_its_order(
    start: Start, site: Site, zenv: Write, machine: Write, monkeypatch: pytest.MonkeyPatch, order: float, in_force: str
) -> None:
    """Between any two builtin ones, below all or above all."""
    site.plugin("vault", _layer("vault", order, "return [Entry('http.timeout', '7', 'vault:secret/http#timeout')]"))
    ranks = {"defaults": 0, "machine": 100, "environment": 200, ".zEnv": 300, "zSpark": 400, "vault": order}
    expected = sorted(
        (name for name in ranks if name == "vault" or ranks[name] <= ranks[in_force]), key=ranks.__getitem__
    )
    if "machine" in expected:
        machine("http: {timeout: 2}\n")
    if "environment" in expected:
        monkeypatch.setenv("ZCLI_HTTP_TIMEOUT", "3")
    if ".zEnv" in expected:
        zenv("ZCLI_HTTP_TIMEOUT=4\n")
    found = start({"http": {"timeout": 5}} if "zSpark" in expected else {}).config.explain("http.timeout")
    assert [found.layer, *(value.layer for value in found.shadowed)] == expected[::-1]
    assert found.layer == expected[-1]
    assert (7.0, "vault", "vault:secret/http#timeout") in [found[1:4], *found.shadowed]


def test_layer_of_first_plugin_can_disable_plugins(start: Start, site: Site) -> None:
    """If it comes first; its text is then read before the others are imported."""
    site.plugin(
        "policy", _layer("policy", 450, "return [Entry('plugins.disable', ['unwanted'], 'policy')]"), first=True
    )
    site.plugin("unwanted", "raise AssertionError('imported')")
    z = start()
    assert z.plugins.records["unwanted"].state == "disabled"


def test_layer_read_again_replaces_its_warnings(site: Site, isolated: Path) -> None:
    """A layer of another plugin names another .zEnv than the one that was read at first."""
    (isolated / ".zEnv").write_text("FIRST=${MISSING}\n")
    (isolated / "other.env").write_text("SECOND=${MISSING}\n")
    site.plugin(
        "elsewhere", _layer("elsewhere", 50, f"return [Entry('env_file', {str(isolated / 'other.env')!r}, 'here')]")
    )
    warnings = assemble(PluginHost(), {}).warnings
    assert [Path(warning.partition(":")[0]).name for warning in warnings] == ["other.env"]


def test_layer_sees_settings_and_adds_a_folder(start: Start, site: Site, isolated: Path) -> None:
    """Its own settings among it, once all plugins have declared theirs."""
    (isolated / "extra").mkdir()
    (isolated / "extra" / "ca.pem").touch()
    site.plugin(
        "extra",
        SECTION
        + _layer(
            "extra",
            150,
            "assert 'services.memcached.port' in context.settings\n"
            "        context.base_directories.append(context.working_directory + '/extra')\n"
            "        yield Entry('websocket', {'ssl_cert': 'ca.pem'}, 'extra')",
        ),
    )
    assert start().config.websocket.ssl_cert == isolated / "extra" / "ca.pem"


def test_layer_variables_set_settings(start: Start, site: Site) -> None:
    """Conversion, foreign names, origin."""
    site.plugin(
        "vars",
        _layer("vars", 150, "return [Entry(n, v, 'v:1', True) for n, v in (('WEBSOCKET_PORT', '5'), ('OTHERS', 'x'))]"),
    )
    z = start()
    assert z.config.explain("websocket.port")[1:4] == (5, "vars", "v:1 (WEBSOCKET_PORT)")
    assert z.config.env("OTHERS") == "x"


_NEEDY = """
from zcli_core.config.settings import Section, setting
from zcli_core.config.contract import Entry

class Vault(Section, name="vault"):
    url: str = setting("none", "where it is", check=lambda value: None if value != "bad" else "a URL")

class Layer:
    name = "vault"
    order = 150
    needs = ("vault.url",)
    def read(self, context):
        where = context.value("vault.url")
        yield Entry("http.user_agent", f"{where} by {context.origin('vault.url')}", "vault")

@hookimpl
def zcli_settings():
    return [Vault]

@hookimpl
def zcli_config_layers():
    return [Layer()]
"""


@pytest.mark.parametrize("first", [False, True])
def test_layer_with_needs_is_read_after_the_others(start: Start, site: Site, zenv: Write, first: bool) -> None:
    """Also below them: what it then says stands where its order says."""
    site.plugin("needy", _NEEDY, first=first)
    assert start().config.http.user_agent == "none by needy"
    zenv("ZCLI_VAULT_URL=there\n")
    config = start({"deployments": {"Testing": {"http.retries": 1}}}).config
    assert config.http.user_agent == "there by .zEnv:1 (ZCLI_VAULT_URL)"
    overlay = {"deployments": {"Testing": {"vault": {"url": "here"}}, "Production": {"vault.url": "elsewhere"}}}
    assert start(overlay).config.http.user_agent == "here by zSpark, deployments.Testing"
    assert start({"http.user_agent": "mine"}).config.explain("http.user_agent").shadowed[0].layer == "vault"


def test_layer_needs_invalid_value_is_reported_once(start: Start, site: Site) -> None:
    """The layer is read as if the setting were not set."""
    site.plugin("needy", _NEEDY)
    with pytest.raises(ConfigError) as caught:
        start({"vault": {"url": "bad"}})
    assert caught.value.problems == (
        "vault.url must be a URL, got 'bad' from zSpark; without it, 'none' from defaults (needy) applies",
    )


def test_layer_value_without_needs_is_an_error(start: Start, site: Site) -> None:
    """Other layers may not have been read yet."""
    site.plugin("vault", _layer("vault", 150, "return [context.value('http.timeout')]"))
    with pytest.raises(ConfigError, match=r"the configuration layer 'vault' failed: LookupError in contract\.py"):
        start({"plugins": {"disable": ["zcli_secrets_dir"]}})


@pytest.mark.parametrize(("looks", "times"), [("context.zspark", 1), ("context.settings", 2)])
def test_layer_of_first_plugin_is_read_once(start: Start, site: Site, looks: str, times: int) -> None:
    """It is read again only if it looks at the settings, which other plugins have declared in between."""
    code = _layer("early", 150, f"reads.append({looks}); return []").replace("class Layer", "reads = []\nclass Layer")
    code = code.replace("    return [Layer()]", "    hooks.append(1)\n    return [Layer()]") + "\nhooks = []\n"
    site.plugin("early", code, first=True)
    plugin = start().plugins.records["early"].plugin
    assert (len(plugin.reads), len(plugin.hooks)) == (times, 1)


def test_files_of_layers_are_parsed_once(
    start: Start, zenv: Any, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the plugins that are loaded first are asked twice for what they set."""
    import dotenv.parser
    import yaml

    parsed: list[str] = []
    for module, name in ((yaml, "SafeLoader"), (dotenv.parser, "parse_stream")):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, _f=original, _n=name: (parsed.append(_n), _f(*a))[1])
    zenv("ZCLI_HTTP_RETRIES=3\n")
    machine("http: {timeout: 7}\n")
    config = start().config
    assert (config.http.retries, config.http.timeout) == (3, 7.0)
    assert sorted(parsed) == ["SafeLoader", "parse_stream"]


def test_layer_needs_of_another_type_breaks_the_plugin(start: Start, site: Site) -> None:
    """A single text is a mistake that would be read letter by letter."""
    site.plugin("needy", _NEEDY.replace('("vault.url",)', '"vault.url"'))
    cause = start().plugins.records["needy"].cause
    assert "the attribute needs of the configuration layer 'vault' must be a tuple of keys, got 'vault.url'" in str(
        cause
    )


def test_layer_export_reaches_the_environment(start: Start, site: Site) -> None:
    """In the process's environment, where it is not set there; never what is ours."""
    entries = "[Entry(n, n.lower(), 'v', True, export=e) for n, e in (('ONE', True), ('TWO', False), ('ZCLI_X', True))]"
    site.plugin("vars", _layer("vars", 150, f"return {entries}"))
    os.environ["ONE"] = "kept"
    start()
    assert os.environ["ONE"] == "kept"
    del os.environ["ONE"]
    z = start()
    assert (os.environ["ONE"], z.config.env("TWO")) == ("one", "two")
    assert not {"TWO", "ZCLI_X"} & os.environ.keys()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("raise LayerProblem('vault:3: it is sealed')", "vault:3: it is sealed"),
        ("yield 5", "the configuration layer 'vault' must yield Entry objects with a name"),
        ("return [('http.timeout', 5, 'x')]", "the configuration layer 'vault' must yield Entry objects"),
        ("return [Entry(5, 5, 'x')]", "the configuration layer 'vault' must yield Entry objects with a name"),
        (
            "return [Entry('A', 5, 'x', True)]",
            "the configuration layer 'vault': the value of the variable A must be a string",
        ),
        ("return 5", "the configuration layer 'vault' failed: TypeError in reading.py"),
        ("return context.nothing", "the configuration layer 'vault' failed: AttributeError in vault.py, line"),
    ],
)
def test_layer_that_fails_is_one_of_the_mistakes(start: Start, site: Site, body: str, problem: str) -> None:
    """What it would have said is not known, so nothing starts."""
    site.plugin("vault", _layer("vault", 150, body))
    with pytest.raises(ConfigError) as caught:
        start({"websocket": {"port": "abc"}})
    assert caught.value.problems[0].startswith(problem)
    assert caught.value.problems[1].startswith(
        "websocket.port must be an integer between 0 and 65535, got 'abc' from zSpark"
    )


@pytest.mark.parametrize("secret", [0, 1])
def test_mapping_with_a_secret_item_is_secret(site: Site, start: Start, secret: int) -> None:
    """Whichever of them it is."""
    entries = [
        f"Entry('plugins.prefer.{name}', 'hunter2', 'here', secret={place == secret})"
        for place, name in enumerate(("a", "b"))
    ]
    site.plugin("mixed", _layer("mixed", 250, f"return [{', '.join(entries)}]"))
    z = start()
    assert z.config.plugins.prefer == {"a": "hunter2", "b": "hunter2"}
    assert z.config.explain("plugins.prefer").value == {"a": "<secret>", "b": "<secret>"}
    assert "hunter2" not in repr(z.config.plugins)


def test_layer_of_other_plugin_cannot_disable(site: Site, start: Start) -> None:
    """If it were ignored, the disabled plugin would be loaded."""
    site.plugin("late", _layer("late", 250, "return [Entry('plugins.disable', 'zcli_redis', 'late.txt:1')]"))
    with pytest.raises(ConfigError, match=r"disable \(late\.txt:1\): the layer 'late' is read after"):
        start()


def test_layer_that_exits_is_one_of_the_mistakes(site: Site, start: Start) -> None:
    """Like one that raises."""
    site.plugin("leaving", _layer("leaving", 250, "raise SystemExit(3)"))
    with pytest.raises(ConfigError, match="the configuration layer 'leaving' failed: SystemExit"):
        start()
