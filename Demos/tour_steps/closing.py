"""A clean close: what was started has ended, and nothing is left behind."""

from __future__ import annotations

import threading

from tour_steps.httpbin import find_httpbin
from tour_steps.walk import Tour, expect, open_sockets
from zcli_core.net.ports import check_port


def show_close(tour: Tour) -> str:
    logs = list((tour.folder / "logs").glob("*.log"))
    written = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in logs)
    tour.say(f"{len(tour.apps)} zCLI objects wrote {written} lines into {len(logs)} log files")
    expect(len(logs) == len(tour.apps), "each zCLI object has a title, and so a log, of its own")
    httpbin = tour.made(find_httpbin)
    tour.resources.close()
    for z in tour.apps:
        z.close()  # a second time: no error
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    expect(not threads, f"threads are left: {', '.join(threads)}")
    sockets = open_sockets() - tour.sockets_before
    expect(not sockets, f"{len(sockets)} sockets are left open")
    for port in httpbin.local_ports if httpbin else ():
        expect(check_port(port), f"the local httpbin still holds port {port}")
    expect(not tour.folder.exists(), f"{tour.folder} is still there")
    tour.say("all closed: no thread, socket, server or file of the tour is left")
    return "closed, and closing twice is no error"
