"""What operators see of a running server: the hooks around it, its metrics and its state."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from installations import Site
from websocket_serving import Served, eventually

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError, ListenError
from zcli_core.websocket.running_server import RESTART_REASONS

Serve = Callable[..., Served]
MakeZ = Callable[..., zCLI]

RECORDER = """
calls = []

@hookimpl(tryfirst=True)
def zcli_websocket_serving(server, context):
    calls.append(("serving", server))

@hookimpl
def zcli_websocket_ended(server, context):
    calls.append(("ended", server.metrics()["total"]["clients"], server.status()["workers"][0]["state"]))
"""


def _calls(z: zCLI, name: str = "recorder") -> list[Any]:
    calls: list[Any] = z.plugins.records[name].plugin.calls  # type: ignore[union-attr]
    return calls


def _refusing(error: str) -> str:
    return (
        "from zcli_core.errors import ConfigError, ListenError\n"
        f"@hookimpl\ndef zcli_websocket_serving(server): raise {error}\n"
        "calls = []\n"
        "@hookimpl\ndef zcli_websocket_ended(): calls.append('ended')\n"
    )


def test_hooks_get_a_server_with_its_numbers(site: Site, serve: Serve) -> None:
    """The server is shown before it is announced, and until its last client is gone."""
    site.plugin("recorder", RECORDER)
    served = serve()
    ((what, server),) = _calls(served.z)
    assert what == "serving"
    with served.client():
        eventually(lambda: served.websocket.client_count == 1)
        metrics, status = server.metrics(), server.status()
        assert metrics["total"] == metrics["workers"][1]
        assert (metrics["total"]["clients"], metrics["restarts"]) == (1, dict.fromkeys(RESTART_REASONS, 0))
        assert (status["title"], status["pid"], status["url"]) == ("server-0", os.getpid(), served.url)
        assert (status["clients"], status["backplane"], status["restarts"]) == (1, "local", metrics["restarts"])
        (worker,) = status["workers"]
        assert (worker["number"], worker["pid"], worker["state"]) == (1, os.getpid(), "ready")
        assert (worker["clients"], worker["rooms"], worker["not_ready"]) == (1, 0, [])
        assert status["uptime"] == worker["uptime"] >= 0
        served.handle.stop()
    assert _calls(served.z)[1:] == [("ended", 0, "draining")]


def test_server_without_workers_cannot_reload(site: Site, serve: Serve) -> None:
    """The error says which setting is needed."""
    site.plugin("recorder", RECORDER)
    server = _calls(serve().z)[0][1]
    with pytest.raises(RuntimeError, match=r"no workers; start it with websocket\.workers"):
        server.reload()


@pytest.mark.parametrize("error", [ConfigError, ListenError])
def test_hook_serving_can_stop_the_start(site: Site, make_z: MakeZ, error: type[Exception]) -> None:
    """The port is released, and the plugin before it may clean up."""
    site.plugin("recorder", RECORDER)
    site.plugin("refusing", _refusing(f"{error.__name__}('not like this')"))
    z = make_z()
    port = z.comm.find_free_port()
    with pytest.raises(error, match="not like this"):
        z.comm.websocket.start_background(port=port)
    assert [call[0] for call in _calls(z)] == ["serving", "ended"]
    assert _calls(z, "refusing") == []
    assert not z.comm.websocket.is_running
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_hook_serving_that_fails_is_logged(site: Site, serve: Serve) -> None:
    """The server starts, and the plugin may clean up at its end."""
    site.plugin("failing", _refusing("ZeroDivisionError('a mistake')"))
    served = serve()
    served.logged("the hook zcli_websocket_serving of the plugin failing failed; the other plugins keep working")
    with served.client():
        served.handle.stop()
    assert _calls(served.z, "failing") == ["ended"]


def test_hooks_end_in_reverse_order(site: Site, serve: Serve) -> None:
    """A plugin may use what a plugin before it has opened."""
    site.module("operated_calls", "calls = []")
    for name in ("a", "b"):
        site.plugin(
            f"operator_{name}",
            f"""
            from operated_calls import calls
            @hookimpl
            def zcli_websocket_serving(): calls.append("serving {name}")
            @hookimpl
            def zcli_websocket_ended(): calls.append("ended {name}")
            """,
        )
    served = serve()
    served.handle.stop()
    calls = _calls(served.z, "operator_a")
    assert calls == [*calls[:2], *(call.replace("serving", "ended") for call in reversed(calls[:2]))]
    assert len(calls) == 4
