"""Ports: free, in use, and listening."""

from __future__ import annotations

import os
import socket
import sys
import threading

from tour_steps.plugins import main_app
from tour_steps.walk import StepFailed, Tour, expect
from zcli_core.net.ports import port_holder

_LISTENS_AFTER = 0.3  # seconds


def show_ports(tour: Tour) -> str:
    z = tour.once(main_app)
    port = z.comm.find_free_port()
    available = z.comm.check_port(port)
    tour.print(f"port {port} is free: check_port returns {available}")
    expect(available, f"find_free_port gave {port}, but check_port returns False")

    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        available = z.comm.check_port(port)
        tour.print(f"bound, but not listening yet: check_port returns {available}")
        expect(not available, f"port {port} is bound, but check_port returns True")

        opening = threading.Timer(_LISTENS_AFTER, server.listen)
        opening.start()
        try:
            listens = z.comm.wait_for_port(port, timeout=10)
        finally:
            opening.cancel()
            opening.join()
        tour.print(f"a server listens after {_LISTENS_AFTER} s: wait_for_port returns {listens}")
        expect(listens, f"a server listens on port {port}, but wait_for_port returns False")

        holder = port_holder(port)
        tour.print(f"held by: {holder or 'unknown on this system'}")
        if sys.platform == "linux":
            expect(holder and holder.pid == os.getpid(), f"port {port} is held by {os.getpid()}, not by {holder}")

    listens = z.comm.wait_for_port(port, timeout=_LISTENS_AFTER)
    tour.print(f"closed again: wait_for_port returns {listens} after {_LISTENS_AFTER} s")
    expect(not listens, f"no server listens on port {port}, but wait_for_port returns True")
    try:
        z.comm.check_port(70000)
    except ValueError as error:
        tour.print("check_port(70000), an invalid argument")
        tour.print(f"  ValueError: {error}", "cyan")
    else:
        raise StepFailed("check_port accepted port 70000")
    return "free, in use and listening are distinguished"
