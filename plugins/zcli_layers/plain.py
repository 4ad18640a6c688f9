"""The layers without a file: declared defaults, the environment, zSpark."""

from __future__ import annotations

from collections.abc import Iterator

from zcli_core.config.contract import Entry, LayerContext


class DefaultsLayer:
    """The declared defaults of all settings."""

    name = "defaults"
    order = 0

    def read(self, context: LayerContext) -> Iterator[Entry]:
        """Yield every declared default. The origin is the plugin that declares it."""
        for setting in context.settings.values():
            yield Entry(setting.key, setting.default, setting.provider)


class EnvironmentLayer:
    """The process's environment variables."""

    name = "environment"
    order = 200

    def read(self, context: LayerContext) -> Iterator[Entry]:
        """Yield every variable. Variables that set nothing can be read with ``config.env``."""
        for name, value in context.environ.items():
            yield Entry(name, value, name, is_variable=True)


class ZSparkLayer:
    """The mapping that the script gives to ``zCLI``."""

    name = "zSpark"
    order = 400

    def read(self, context: LayerContext) -> Iterator[Entry]:
        """Yield its top-level items. Nested mappings are sections."""
        for key, value in context.zspark.items():
            yield Entry(str(key), value, "zSpark", folder=context.script_directory)
