"""The configuration in force, as the script and the plugins read it."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from zcli_core.config.explanation import Explanation, Value, explain
from zcli_core.config.layering import Resolution
from zcli_core.config.settings import Section, Setting
from zcli_core.errors import ConfigError
from zcli_core.suggestions import suggestion

if TYPE_CHECKING:
    from zcli_core.config.sections import Http, Plugins, Services, WebSocket

_S = TypeVar("_S", bound=Section)


class Config:
    """Settings by section: ``config.websocket.port``, ``config.get("websocket.port")``, ``config.title``.

    Read only. Its ``repr`` shows no values.
    """

    if TYPE_CHECKING:
        deployment: str
        logger: str
        title: str | None
        http: Http
        plugins: Plugins
        services: Services
        websocket: WebSocket

    def __init__(self, settings: Mapping[str, Setting], resolution: Resolution) -> None:
        self._settings = settings
        self._resolution = resolution
        self._sections: dict[type[Section], Section] = {}

    def get(self, key: str) -> Any:
        """The value in force: of a setting (``"websocket.port"``) or a whole section (``"websocket"``).

        :raises ValueError: no setting or section has that key.
        :raises ConfigError: its value cannot be used. Other software may have set it, so that is no error before.
        """
        setting = self._settings.get(key) if isinstance(key, str) else None
        if setting is not None:
            return self._resolution.usable(key, setting.default)
        section = self._section_of(key)
        if section is None:
            raise ValueError(f"{key!r} is no setting{suggestion(str(key), self._settings)}")
        return section

    def section(self, section: type[_S]) -> _S:
        """A section's settings as an instance of the class that declares it, with its types."""
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
        """Which value a setting has, which layer set it, where exactly, and what that shadows.

        :raises ValueError: no setting has that key.
        """
        setting = self._settings.get(key) if isinstance(key, str) else None
        if setting is None:
            raise ValueError(f"{key!r} is no setting{suggestion(str(key), self._settings)}")
        values = self._resolution.values.get(key)
        values = values or [Value(setting.default, "defaults", setting.provider)]
        return explain(setting, values, self._resolution.is_secret)

    def misspelt_in(self, *sections: str) -> list[str]:
        """Return the problems with names that are nearly those of settings that restrict, in these sections."""
        misspelt = self._resolution.misspelt.items()
        found = [each for key, each in misspelt if self._settings[key].section.section_name in sections]
        return list(dict.fromkeys(one.problem for each in found for one in each))

    def refuse_misspelt(self, *sections: str) -> None:
        """Raise ConfigError with what :meth:`misspelt_in` returns, if anything.

        The part that the sections belong to calls it when it starts. For what a provider's factory makes, zCLI has
        called it with the sections that its plugin declares.
        """
        problems = self.misspelt_in(*sections)
        if problems:
            raise ConfigError(problems)

    def env(self, name: str, default: str | None = None) -> str | None:
        """An environment-style variable: from the ``.zEnv`` in force if it is there, else from the environment."""
        return self._resolution.variables.get(name, default)

    @property
    def env_file_in_use(self) -> str:
        """The ``.zEnv`` that was read, for an error about what is missing in it: a path, or that there was none."""
        return self._resolution.env_file or ".zEnv (none was found)"

    @property
    def settings(self) -> Mapping[str, Setting]:
        """Every declared setting by key."""
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
            raise AttributeError(f"the configuration has no {name!r}{suggestion(name, known)}")
        return section

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise AttributeError(f"the configuration is read only; set {name} in a configuration layer")
        super().__setattr__(name, value)

    def _hidden(self, section: type[Section]) -> frozenset[str]:
        """The attributes of a section whose value in force is a secret because its layer says so."""
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
        """The section of that name, or a namespace of those below it (``services``), or None."""
        own: Section | None = None
        below: dict[str, Any] = {}
        for section in dict.fromkeys(s.section for s in self._settings.values()):
            if section.section_name == key:
                own = self.section(section)
            if section.section_name.startswith(f"{key}."):
                rest = section.section_name[len(key) + 1 :]
                below[rest.partition(".")[0]] = self._section_of(f"{key}.{rest.partition('.')[0]}")
        if own is not None:
            own.__dict__.update(below)  # sections below a section are read like its settings
            return own
        return SimpleNamespace(**below) if below else None

    def __repr__(self) -> str:
        return f"<Config: {len(self._settings)} settings, {self._resolution.deployment}>"
