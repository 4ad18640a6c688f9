"""Metrics for Prometheus, from running hooks alone.

They are in the client's default registry, as that client's users expect; the label ``app`` tells objects apart.
"""

from prometheus_client import Counter, Gauge, Histogram

from zcli_core import hookimpl

ZCLI_CONTRACT = 1

CALLS = Histogram("zcli_http_call_seconds", "HTTP calls, whatever came of them", ["app", "method", "outcome"])
CLIENTS = Gauge("zcli_websocket_clients", "WebSocket clients that are connected", ["app"])
CLOSED = Counter("zcli_websocket_closed", "WebSocket connections that have ended", ["app", "code"])
READY = Gauge("zcli_service_ready", "Whether a service that was started or stopped is ready", ["app", "service"])
RUNNING = Gauge("zcli_running", "zCLI objects that are open", ["app"])


def _app(config):
    return config.title or "zcli"


@hookimpl
def zcli_ready(app):
    RUNNING.labels(_app(app.config)).inc()


@hookimpl
def zcli_closing(app):
    RUNNING.labels(_app(app.config)).dec()


@hookimpl
def zcli_http_response(request, outcome, context):
    came = getattr(outcome, "status_code", None) or outcome.kind
    CALLS.labels(_app(context.config), request.method, came).observe(outcome.elapsed)


@hookimpl
def zcli_websocket_opened(context):
    CLIENTS.labels(_app(context.config)).inc()


@hookimpl
def zcli_websocket_closed(code, context):
    CLIENTS.labels(_app(context.config)).dec()
    CLOSED.labels(_app(context.config), code).inc()


@hookimpl
def zcli_service_changed(name, status, context):
    READY.labels(_app(context.config), name).set(status["ready"])
