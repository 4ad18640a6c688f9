"""One GET with its JSON over a kept connection, by both transports and by other HTTP clients."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.benchmarks.report import Row, pinned

TURNS = 25
CALLS_A_TURN = 30

#: What each peer is, and the largest ratio to it (docs/decisions/performance.md).
RAW = "urllib3: PoolManager().request('GET', url).json()"
GET = "requests.get(url).json()"
SESSION = "requests.Session().get(url).json()"
HTTPX = "httpx.Client().get(url).json()"
BUDGETS = {RAW: 0.7, GET: 0.42, SESSION: 0.6, HTTPX: None}

#: The transport curl: whole calls, and the transport alone.
WHOLE, CURL, CURL_ALONE = "http_get().json()", "http_get().json() with curl", "curl's send() and json.loads()"
CURL_BUDGETS = {(CURL, RAW): 0.75, (CURL_ALONE, RAW): 0.6}


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
            scheme = "over HTTPS" if https else "over HTTP"
            rows += [
                Row(f"{WHOLE} {scheme}", costs[WHOLE], peer, costs[peer], "µs", budget)
                for peer, budget in BUDGETS.items()
            ]
            rows += [
                Row(f"{ours} {scheme}", costs[ours], peer, costs[peer], "µs", budget)
                for (ours, peer), budget in CURL_BUDGETS.items()
            ]
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
    z, z_curl = (
        stack.enter_context(
            zCLI(
                {
                    "deployment": "Production",
                    "title": "bench",
                    "logger_path": folder,
                    "http": {"ca_file": ca, "transport": transport},
                }
            )
        )
        for transport in ("urllib3", "curl")
    )
    pool = stack.enter_context(urllib3.PoolManager(ca_certs=ca))
    session = stack.enter_context(requests.Session())
    client = stack.enter_context(httpx.Client(verify=_context(ca) if ca else True))
    return {
        WHOLE: lambda: z.comm.http_get(url).json(),
        CURL: lambda: z_curl.comm.http_get(url).json(),
        CURL_ALONE: _send(stack, url, ca_file),
        RAW: lambda: pool.request("GET", url).json(),
        GET: lambda: requests.get(url, verify=ca or True).json(),
        SESSION: lambda: session.get(url, verify=ca or True).json(),  # here, because the environment overrides it
        HTTPX: lambda: client.get(url).json(),
    }


def _send(stack: contextlib.ExitStack, url: str, ca_file: Path | None) -> Callable[[], Any]:
    from zcli_pycurl.transport import CurlTransport

    from zcli_core.config.sections import Http
    from zcli_core.http.contract import Headers, HttpRequest, Url

    parts = urlsplit(url)
    address = Url(parts.scheme, parts.hostname or "", parts.port or 0, parts.path)
    fields = [("User-Agent", "bench"), ("Accept", "*/*"), ("Accept-Encoding", "gzip, deflate")]
    transport = CurlTransport(Http(ca_file=ca_file))
    stack.callback(transport.close)

    def call() -> Any:
        request = HttpRequest("GET", address, Headers(fields))
        return json.loads(transport.send(request, time.monotonic() + 10, 2**26).body)

    return call


def _context(ca: str) -> Any:
    import ssl

    return ssl.create_default_context(cafile=ca)
