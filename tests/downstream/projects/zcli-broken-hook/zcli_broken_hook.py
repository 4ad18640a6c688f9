"""Its hook asks for an argument that nobody gives."""

from zcli_core import hookimpl

ZCLI_CONTRACT = 1


@hookimpl
def zcli_ready(app, weather):
    print(app, weather)
