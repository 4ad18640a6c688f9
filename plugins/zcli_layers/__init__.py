"""The five configuration layers: defaults < machine < environment < .zEnv < zSpark."""

from zcli_core import hookimpl

ZCLI_CONTRACT = 1


@hookimpl
def zcli_config_layers():  # type: ignore[no-untyped-def]
    """Return the five layers."""
    from zcli_layers.machine import MachineLayer
    from zcli_layers.plain import DefaultsLayer, EnvironmentLayer, ZSparkLayer
    from zcli_layers.zenv import ZEnvLayer

    return [DefaultsLayer(), MachineLayer(), EnvironmentLayer(), ZEnvLayer(), ZSparkLayer()]
