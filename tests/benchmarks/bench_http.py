"""One GET and its JSON over a connection that is kept alive, beside the other HTTP clients."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.report import Row, pinned

TURNS = 25
CALLS_A_TURN = 30

#: What each peer is, and the budget that DESIGN gives us beside it.
RAW = "urllib3: PoolManager().request('GET', url).json()"
GET = "requests.get(url).json()"
SESSION = "requests.Session().get(url).json()"
HTTPX = "httpx.Client().get(url).json()"
BUDGETS = {RAW: 1.12, GET: 0.42, SESSION: 0.6, HTTPX: None}


def measure(turns: int = TURNS) -> list[Row]:
    """CPU microseconds of this process for a call, user and system: medians of interleaved turns, over HTTP and HTTPS.

    httpbin serves from another process, on another processor where there is one. Every peer reuses its connection but
    ``requests.get``, which cannot.
    """
    rows = []
    processors = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
    with pinned(), contextlib.ExitStack() as stack:
        for https in (False, True):
            url, ca_file = stack.enter_context(_httpbin_process(https, min(processors)))
            costs = _costs(stack, f"{url}/get", ca_file, turns)
            ours = costs.pop("zCLI")
            what = f"http_get().json() over {'HTTPS' if https else 'HTTP'}"
            rows += [Row(what, ours, peer, theirs, "µs", BUDGETS[peer]) for peer, theirs in costs.items()]
    return rows


def _httpbin_process(https: bool, processor: int) -> Any:
    sys.path.insert(0, str(Path(__file__).parents[2] / "Demos"))
    try:
        from local_httpbin import httpbin_process
    finally:
        del sys.path[0]
    return httpbin_process(https=https, cpu=processor)


def _costs(stack: contextlib.ExitStack, url: str, ca_file: Path | None, turns: int) -> dict[str, float]:
    clients = _clients(stack, url, ca_file)
    found: dict[str, list[float]] = {name: [] for name in clients}
    for call in clients.values():
        assert call()["url"] == url
    for _ in range(turns):
        for name, call in clients.items():
            before = time.process_time()
            for _ in range(CALLS_A_TURN):
                call()
            found[name].append((time.process_time() - before) / CALLS_A_TURN * 1e6)
    return {name: statistics.median(values) for name, values in found.items()}


def _clients(stack: contextlib.ExitStack, url: str, ca_file: Path | None) -> dict[str, Callable[[], Any]]:
    import httpx
    import requests
    import urllib3

    from zCLI import zCLI

    ca = str(ca_file) if ca_file else None
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    z = stack.enter_context(
        zCLI({"deployment": "Production", "title": "bench", "logger_path": folder, "http": {"ca_file": ca}})
    )
    pool = stack.enter_context(urllib3.PoolManager(ca_certs=ca))
    session = stack.enter_context(requests.Session())
    client = stack.enter_context(httpx.Client(verify=_context(ca) if ca else True))
    return {
        "zCLI": lambda: z.comm.http_get(url).json(),
        RAW: lambda: pool.request("GET", url).json(),
        GET: lambda: requests.get(url, verify=ca or True).json(),
        SESSION: lambda: session.get(url, verify=ca or True).json(),  # given here, or the environment would override it
        HTTPX: lambda: client.get(url).json(),
    }


def _context(ca: str) -> Any:
    import ssl

    return ssl.create_default_context(cafile=ca)
