"""The last step: close everything, and check that nothing is left."""

from __future__ import annotations

import threading

from tour_steps.httpbin import find_httpbin
from tour_steps.walk import Tour, expect, open_sockets
from zcli_core.net.ports import check_port


def show_close(tour: Tour) -> str:
    logs = list((tour.folder / "logs").glob("*.log"))
    written = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in logs)
    tour.print(f"{len(tour.apps)} zCLI objects wrote {written} lines into {len(logs)} log files")
    expect(len(logs) == len(tour.apps), "the zCLI objects do not have one log each")
    httpbin = tour.made(find_httpbin)
    tour.resources.close()
    for z in tour.apps:
        z.close()  # a second time, which is allowed
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    expect(not threads, f"threads are still running: {', '.join(threads)}")
    sockets = open_sockets() - tour.sockets_before
    expect(not sockets, f"{len(sockets)} sockets are still open")
    for port in httpbin.local_ports if httpbin else ():
        expect(check_port(port), f"the local httpbin still holds port {port}")
    expect(not tour.folder.exists(), f"{tour.folder} still exists")
    tour.print("closed: the tour has left no thread, socket, server or file")
    return "closed; closing twice is allowed"
