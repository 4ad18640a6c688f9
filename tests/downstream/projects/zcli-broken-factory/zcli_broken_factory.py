"""Offers a part of every kind, and can make none of them."""

from zcli_core import hookimpl
from zcli_core.plugins.contract import Provider

ZCLI_CONTRACT = 1


def make(context):
    raise RuntimeError("out of clay")


def offer():
    return [Provider("clay", "what cannot be made", make)]


@hookimpl
def zcli_http_transports():
    return offer()


@hookimpl
def zcli_websocket_transports():
    return offer()


@hookimpl
def zcli_auth_strategies():
    return offer()


@hookimpl
def zcli_service_backends():
    return offer()
