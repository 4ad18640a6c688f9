"""A plugin whose hook has an unknown argument."""

from zcli_core import hookimpl

ZCLI_CONTRACT = 1


@hookimpl
def zcli_ready(app, weather):
    print(app, weather)
