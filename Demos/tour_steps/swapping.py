"""Replace parts by settings: the HTTP transport and the auth strategy."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tour_steps.httpbin import find_httpbin
from tour_steps.walk import StepFailed, Tour, expect
from tour_steps.websocket import close_of, server_process

_ROOT = Path(__file__).resolve().parent.parent.parent
_FOLDER = Path("Demos", "Layer_0", "zComm_Demo", "lvl5_plugins")
_SERVER, _CLIENT_URL = "1_swap_by_deployment.py", "2_client_url.py"
#: The demos that serve under uvicorn, which the tour does not install. The first needs it only in Production.
_ASGI_DEMOS = ("asgi/1_one_port.py", "asgi/2_live_counter.py", "asgi/live_app.py")
_TIMEOUT = 30.0  # seconds
_DEPLOYMENTS = {"Development": "by token, HTTP over urllib3", "Production": "by jwt, HTTP over curl"}


def show_engines(tour: Tour) -> str:
    httpbin = tour.once(find_httpbin)
    rows, problems = [], []
    for transport in ("urllib3", "curl"):
        z = tour.app(f"http-{transport}", http={**httpbin.settings, "transport": transport})
        response = z.comm.http_get(f"{httpbin.urls[-1]}/get")
        if response is None or not response.ok:
            problems.append(f"{transport}: {z.comm.http.last_failure or response}")
            continue
        codings = response.json()["headers"].get("Accept-Encoding", "nothing")
        rows.append((f"http.transport={transport}", f"{response.status_code} {response.reason}", codings))
    tour.table(("setting", "response", "content codings"), rows)
    expect(not problems, "\n".join(problems))
    return "the same call over urllib3 and over libcurl"


def show_deployments(tour: Tour) -> str:
    folder = tour.folder / _FOLDER.name
    shutil.copytree(_ROOT / _FOLDER, folder, ignore=shutil.ignore_patterns("logs", "__pycache__"))
    tour.print(str(_FOLDER / _CLIENT_URL), "cyan")
    queries = {deployment: _credential(folder, deployment) for deployment in _DEPLOYMENTS}
    tour.print("a URL with a token for Development, and one with a signed token for Production", deeper=2)
    for deployment, expected in _DEPLOYMENTS.items():
        tour.print(f"ZCLI_DEPLOYMENT={deployment} {_FOLDER / _SERVER}", "cyan")
        _check_server(tour, folder / _SERVER, deployment, queries, expected)
    _check_one_port(tour, folder)
    return "one script: urllib3 and a token, then libcurl and a JSON Web Token"


def _credential(folder: Path, deployment: str) -> str:
    """Return the query with the credential for a deployment."""
    done = subprocess.run(
        [sys.executable, str(folder / _CLIENT_URL), "ada"], cwd=folder, env=_environment(deployment),
        capture_output=True, encoding="utf-8", timeout=_TIMEOUT, check=False,
    )  # fmt: skip
    expect(done.returncode == 0, f"{_CLIENT_URL} ended with status {done.returncode}: {done.stderr}")
    return done.stdout.splitlines()[-1].partition("/?")[2]


def _environment(deployment: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ZCLI_", "WEBSOCKET_"))}
    return {**inherited, "ZCLI_DEPLOYMENT": deployment, "PYTHONUTF8": "1"}


def _check_server(tour: Tour, script: Path, deployment: str, queries: dict[str, str], expected: str) -> None:
    """Run the server in a deployment, and check that it accepts its own credential and refuses the other."""
    from websockets.sync.client import connect

    with server_process(script, {"ZCLI_DEPLOYMENT": deployment}) as process:
        url = _listening_url(process, script)
        for owner, query in queries.items():
            with connect(f"{url}/?{query}", proxy=None, open_timeout=_TIMEOUT) as client:
                if owner == deployment:
                    client.send("hello")
                    received = client.recv(timeout=_TIMEOUT)
                    tour.print(f"its own credential: {received!r}", deeper=2)
                    expect(expected in str(received), f"expected {expected!r}")
                else:
                    code, reason = close_of(client)
                    tour.print(f"the credential of {owner}: closed {code}, {reason}", deeper=2)
                    expect(code == 1008, f"the credential of {owner} was not refused with 1008")
        _stop(process)


def _check_one_port(tour: Tour, folder: Path) -> None:
    """Run the first of the ASGI demos as in development, and name the others."""
    from websockets.sync.client import connect

    first, *others = _ASGI_DEMOS
    tour.print(str(_FOLDER / first), "cyan")
    with server_process(folder / first, {"ZCLI_DEPLOYMENT": "Development"}) as process:
        url = _listening_url(process, folder / first)
        with connect(f"{url}/live/", proxy=None, open_timeout=_TIMEOUT) as client:
            received = client.recv(timeout=_TIMEOUT)
        tour.print(f"the connected client receives {received}", deeper=2)
        expect(json.loads(received) == {"clients": 1}, f"received {received}")
        _stop(process)
    for name in others:
        tour.print(str(_FOLDER / name), "cyan")
    tour.print("need FastAPI and uvicorn, as the first does in Production; try them by hand", deeper=2)


def _listening_url(process: subprocess.Popen[str], script: Path) -> str:
    """Wait until a server listens, and return its URL."""
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if " listening on " in line:
            return line.split(" listening on ")[1].split()[0]
    raise StepFailed(f"{script.name} did not start to listen: {printed.strip()}")


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGINT)
    process.communicate(timeout=_TIMEOUT)
    expect(process.returncode == 0, f"the server ended with status {process.returncode}")
