"""Ports: free, held, and waited for."""

from __future__ import annotations

import os
import socket
import sys
import threading

from tour_steps.plugins import main_app
from tour_steps.walk import StepFailed, Tour, expect
from zcli_core.net.ports import port_holder

_SERVES_AFTER = 0.3


def show_ports(tour: Tour) -> str:
    z = tour.once(main_app)
    port = z.comm.find_free_port()
    available = z.comm.check_port(port)
    tour.say(f"port {port} is free: check_port gives {available}")
    expect(available, f"find_free_port gave {port}, which check_port does not call available")

    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        available = z.comm.check_port(port)
        tour.say(f"now something holds it, and is not serving yet: check_port gives {available}")
        expect(not available, f"port {port} is bound, but check_port calls it available")

        opening = threading.Timer(_SERVES_AFTER, server.listen)
        opening.start()
        try:
            serves = z.comm.wait_for_port(port, timeout=10)
        finally:
            opening.cancel()
            opening.join()
        tour.say(f"in {_SERVES_AFTER} s it begins to serve: wait_for_port gives {serves}")
        expect(serves, f"port {port} is served, but wait_for_port did not see it")

        holder = port_holder(port)
        tour.say(f"who holds it: {holder or 'this system does not tell'}")
        if sys.platform == "linux":
            expect(holder and holder.pid == os.getpid(), f"port {port} is held by {os.getpid()}, not by {holder}")

    serves = z.comm.wait_for_port(port, timeout=_SERVES_AFTER)
    tour.say(f"it is closed again: wait_for_port gives {serves} after {_SERVES_AFTER} s")
    expect(not serves, f"nothing serves on port {port}, but wait_for_port says so")
    try:
        z.comm.check_port(70000)
    except ValueError as error:
        tour.say("check_port(70000), which is a mistake of the script's own")
        tour.say(f"  ValueError: {error}", "cyan")
    else:
        raise StepFailed("port 70000 was taken for a port")
    return "free, held and served are told apart"
