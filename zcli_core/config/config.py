"""The configuration in force, as the script and the plugins read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from zcli_core.config.resolution import Explanation, Resolution
from zcli_core.config.settings import Section, Setting
from zcli_core.errors import ConfigError
from zcli_core.suggestions import suggestion

if TYPE_CHECKING:
    from zcli_core.config.sections import Backplane, Http, Plugins, Services, WebSocket

_S = TypeVar("_S", bound=Section)


class Config:
    """Settings by section: ``config.websocket.port``, ``config.get("websocket.port")``, ``config.title``.

    The configuration is read only, and its ``repr`` shows no values.
    """

    if TYPE_CHECKING:
        deployment: str
        logger: str
        title: str | None
        http: Http
        plugins: Plugins
        backplane: Backplane
        services: Services
        websocket: WebSocket

    def __init__(self, settings: Mapping[str, Setting], resolution: Resolution) -> None:
        self._settings = settings
        self._resolution = resolution
        self._sections: dict[type[Section], Section] = {}

    def get(self, key: str) -> Any:
        """Return the value in force of a setting (``"websocket.port"``) or a section (``"websocket"``).

        Raises:
            ValueError: There is no setting or section with that key.
            ConfigError: The value cannot be used. Other software may have set it, so this is an error only now.
        """
        setting = self._settings.get(key) if isinstance(key, str) else None
        if setting is not None:
            return self._resolution.usable(key, setting.default)
        section = self._section_of(key)
        if section is None:
            raise ValueError(f"unknown setting {key!r}{suggestion(str(key), self._settings)}")
        return section

    def section(self, section: type[_S]) -> _S:
        """Return the settings of a section as an instance of the class that declares it, for typed access."""
        found = self._sections.get(section)
        if found is None:
            values = {
                s.attribute: self._resolution.top(s.key, s.default)
                for s in self._settings.values()
                if s.section is section
            }
            found = self._sections[section] = section(**values)
            found.__dict__["_hidden"] = self._hidden(section)
        return found  # type: ignore[return-value]

    def explain(self, key: str) -> Explanation:
        """Explain which value of a setting is in force, where it was set, and which values it shadows.

        Raises:
            ValueError: There is no setting with that key.
        """
        setting = self._settings.get(key) if isinstance(key, str) else None
        if setting is None:
            raise ValueError(f"unknown setting {key!r}{suggestion(str(key), self._settings)}")
        return self._resolution.explain(setting)

    def misspelt_in(self, *sections: str) -> list[str]:
        """Return the problems with misspelt names of settings that restrict, in these sections."""
        misspelt = self._resolution.misspelt.items()
        found = [each for key, each in misspelt if self._settings[key].section.section_name in sections]
        return list(dict.fromkeys(one.problem for each in found for one in each))

    def refuse_misspelt(self, *sections: str) -> None:
        """Check that no setting that restricts is misspelt in these sections.

        Call it when the part that uses the sections starts. Before zCLI calls the factory of a provider, it checks the
        sections that the plugin declares.

        Raises:
            ConfigError: The problems that :meth:`misspelt_in` returns, if there are any.
        """
        problems = self.misspelt_in(*sections)
        if problems:
            raise ConfigError(problems)

    def env(self, name: str, default: str | None = None) -> str | None:
        """Return a variable from the ``.zEnv`` or a secret file, else from the environment, else ``default``."""
        return self._resolution.variables.get(name, default)

    @property
    def env_file_in_use(self) -> str:
        """Path of the ``.zEnv`` that was read, or a note that no file was found, for errors about missing values."""
        return self._resolution.env_file or ".zEnv (no such file was found)"

    @property
    def log_file(self) -> str | None:
        """Path of the log file of a script that runs with this configuration; None if there is no folder for it."""
        from zcli_core.config.sections import Application
        from zcli_core.log import log_file
        from zcli_core.system.trusted import script_file

        return log_file(self.section(Application), script_file())

    def secret_texts(self) -> frozenset[str]:
        """Return every text in the secret values in force, for :class:`zcli_core.redaction.SecretFilter`."""
        found: set[str] = set()
        for key, values in self._resolution.values.items():
            value, layer, _ = values[-1]
            if self._resolution.is_secret(self._settings[key], layer):
                found.update(_texts_in(value))
        return frozenset(found)

    @property
    def settings(self) -> Mapping[str, Setting]:
        """All declared settings by key."""
        return self._settings

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        setting = self._settings.get(name)
        if setting is not None:
            return self._resolution.usable(name, setting.default)
        section = self._section_of(name)
        if section is None:
            known = [key.partition(".")[0] for key in self._settings]
            raise AttributeError(f"unknown setting or section {name!r}{suggestion(name, known)}")
        return section

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise AttributeError(f"the configuration is read only; set {name} in a configuration layer")
        super().__setattr__(name, value)

    def _hidden(self, section: type[Section]) -> frozenset[str]:
        """Return the attributes of a section whose values in force are marked as secret by their layers."""
        found = (self._settings.get(key) for key, _ in self._resolution.secrets)
        return frozenset(
            setting.attribute
            for setting in found
            if setting is not None
            and setting.section is section
            and setting.key in self._resolution.values
            and self._resolution.is_secret(setting, self._resolution.values[setting.key][-1].layer)
        )

    def _section_of(self, key: str) -> Any:
        """Return the section of that name, or a namespace of the sections below it (``services``), or None."""
        own: Section | None = None
        below: dict[str, Any] = {}
        for section in dict.fromkeys(s.section for s in self._settings.values()):
            if section.section_name == key:
                own = self.section(section)
            if section.section_name.startswith(f"{key}."):
                rest = section.section_name[len(key) + 1 :]
                below[rest.partition(".")[0]] = self._section_of(f"{key}.{rest.partition('.')[0]}")
        if own is not None:
            own.__dict__.update(below)  # a section below it is read like a setting of it
            return own
        return SimpleNamespace(**below) if below else None

    def __repr__(self) -> str:
        return f"<Config: {len(self._settings)} settings, {self._resolution.deployment}>"


def _texts_in(value: Any) -> Iterable[str]:
    """Return the texts of a converted value: a text, those of a mapping (nested in a document), or those of a tuple."""
    if isinstance(value, str):
        return (value,)
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    return [text for item in items for text in _texts_in(item)]
