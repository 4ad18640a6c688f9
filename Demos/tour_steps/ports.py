"""Ports: free, in use, and waited for."""

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
    tour.say(f"port {port} is free: check_port returns {available}")
    expect(available, f"find_free_port gave {port}, but check_port returns False")

    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        available = z.comm.check_port(port)
        tour.say(f"bound, but not listening yet: check_port returns {available}")
        expect(not available, f"port {port} is bound, but check_port returns True")

        opening = threading.Timer(_SERVES_AFTER, server.listen)
        opening.start()
        try:
            serves = z.comm.wait_for_port(port, timeout=10)
        finally:
            opening.cancel()
            opening.join()
        tour.say(f"a server listens after {_SERVES_AFTER} s: wait_for_port returns {serves}")
        expect(serves, f"port {port} is served, but wait_for_port did not see it")

        holder = port_holder(port)
        tour.say(f"the process that has it: {holder or 'this system does not say'}")
        if sys.platform == "linux":
            expect(holder and holder.pid == os.getpid(), f"port {port} is held by {os.getpid()}, not by {holder}")

    serves = z.comm.wait_for_port(port, timeout=_SERVES_AFTER)
    tour.say(f"closed again: wait_for_port returns {serves} after {_SERVES_AFTER} s")
    expect(not serves, f"nothing serves on port {port}, but wait_for_port says so")
    try:
        z.comm.check_port(70000)
    except ValueError as error:
        tour.say("check_port(70000), an invalid argument")
        tour.say(f"  ValueError: {error}", "cyan")
    else:
        raise StepFailed("port 70000 was taken for a port")
    return "free, in use and listening are distinguished"
