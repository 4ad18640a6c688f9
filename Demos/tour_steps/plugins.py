"""The installed plugins and their states."""

from __future__ import annotations

from tour_steps.walk import Tour, expect
from zCLI import zCLI
from zcli_core.plugins.explanation import describe_plugins

_BUILTIN = {"zcli_layers", "zcli_mongodb", "zcli_postgresql", "zcli_redis", "zcli_urllib3"}


def main_app(tour: Tour) -> zCLI:
    """Make a zCLI object with the settings of the user's working directory."""
    return tour.app("tour")


def show_plugins(tour: Tour) -> str:
    z = tour.once(main_app)
    plugins = describe_plugins(z.plugins, z.config)
    tour.table(
        ("plugin", "state", "version", "provides"),
        [
            (p.name, p.state, p.version, ", ".join(f"{o['kind']} {o['name']}" for o in p.provides) or _hooks(p.hooks))
            for p in plugins
        ],
    )
    for plugin in plugins:
        if plugin.cause:
            tour.print(f"{plugin.name}: {plugin.cause}", "yellow")
    active = {p.name for p in plugins if p.state == "active"}
    expect(active >= _BUILTIN, f"not active: {', '.join(sorted(_BUILTIN - active))}")
    return f"{len(plugins)} found through entry points, {len(active)} active"


def _hooks(hooks: tuple[str, ...]) -> str:
    return ", ".join(hook.removeprefix("zcli_").replace("_", " ") for hook in hooks)
