"""The names that configuration layers use: keys of settings, environment variables, and what is not a setting."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from zcli_core.config.settings import Setting

#: The key of the overlays: settings for one deployment each.
OVERLAYS = "deployments"
VARIABLE_PREFIX = "ZCLI_"
OVERLAYS_VARIABLE = VARIABLE_PREFIX + OVERLAYS.upper()
#: Variables of zCLI that are not settings, because they are needed before any file is read, with their help texts.
OTHER_VARIABLES = MappingProxyType(
    {
        "ZCLI_CONFIG_DIR": "the folder of zConfig.machine.yaml, instead of the system's and the user's",
        "ZCLI_TRACE_HOOKS": "1 logs every call of a plugin's hook, with its arguments, result and duration",
    }
)
# Kubernetes sets these in every container for each Service of its namespace, whatever the name of the Service is.
# https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
_SERVICE_LINK = r"(tcp|udp|sctp)://[^/]+:\d+"
_SERVICE_VARIABLE = r".+_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"


class SettingNames:
    """Every name of the declared settings.

    Attributes:
        settings: Settings by key.
        by_variable: Settings by the names of their own environment variables.
        composites: By variable, the section and declaration of variables that set several settings.
        prefixes: Variable prefixes of sections, such as ``"WEBSOCKET_"``.
        branches: By key of a section, the names in it; ``""`` is the top level.
    """

    def __init__(self, settings: Mapping[str, Setting]) -> None:
        self.settings = settings
        self.by_variable = {name: s for s in settings.values() for name in s.variables}
        sections = {s.section for s in settings.values()}
        self.composites = {each.variable: (section, each) for section in sections for each in section.composites}
        self.prefixes = {section.variable_prefix for section in sections if section.variable_prefix}
        self.branches = _branches(settings)

    def is_for_others(self, variable: str) -> bool:
        """Return whether other libraries may read a variable, even if a setting uses it too, such as ``PGHOST``."""
        if variable.startswith(VARIABLE_PREFIX):
            return False
        setting = self.by_variable.get(variable)
        return setting is None or variable in setting.declaration.variables

    def setting_above(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return the path of the setting that has this path as a part of its value, or None."""
        for length in range(1, len(path)):
            if ".".join(path[:length]) in self.settings:
                return path[:length]
        return None


def is_service_link(value: Any) -> bool:
    """Return whether a value has the form that Kubernetes gives to ``<SERVICE>_PORT``."""
    return isinstance(value, str) and "://" in value and re.fullmatch(_SERVICE_LINK, value) is not None


def is_service_variable(name: str, value: str) -> bool:
    """Return whether Kubernetes may have set a variable for a Service."""
    return re.fullmatch(_SERVICE_VARIABLE, name) is not None or is_service_link(value)


def _branches(keys: Iterable[str]) -> dict[str, set[str]]:
    branches: dict[str, set[str]] = {"": {OVERLAYS}, OVERLAYS: set()}
    for key in keys:
        parts = key.split(".")
        for length in range(len(parts)):
            branches.setdefault(".".join(parts[:length]), set()).add(parts[length])
    return branches
