"""Local services: all detected by their protocols, and one started, used and stopped."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tour_steps.demos import run_demo
from tour_steps.plugins import main_app
from tour_steps.walk import Tour, expect


def show_services(tour: Tour) -> str:
    z = tour.app("services")
    found = z.comm.service_status()
    tour.table(
        ("service", "state", "version", "detail"),
        [(name, s["state"], s["version"] or "", s.get("error", "")) for name, s in found.items()],
    )
    with _other_server(b"SSH-2.0-tour\r\n") as port:
        other = tour.app("other", services={"redis": {"port": port}})
        status = other.comm.service_status("redis")
    tour.print(f"with another server on the port of Redis: {status['error']}")
    expect(not status["running"] and status["state"] == "foreign", f"an SSH server was detected as Redis: {status}")
    expect("another protocol" in status["error"], f"the status does not name the cause: {status}")
    ready = [name for name, status in found.items() if status["ready"]]
    return f"{len(found)} services checked at once, {len(ready)} ready; an open port alone is not enough"


@contextlib.contextmanager
def _other_server(greeting: bytes) -> Iterator[int]:
    """Run a server that sends a greeting to each client, and no more; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):  # closed
                while True:
                    connection, _ = server.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.sendall(greeting)
                        connection.settimeout(5)
                        connection.recv(64)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
            thread.join()


def show_lifecycle(tour: Tour) -> str:
    driver = _driver()
    if os.name != "posix" or driver is None:
        return "skipped: no driver for Redis or Valkey is installed, or zCLI starts no servers on this system"
    folder = tour.once(servers_folder)
    z = tour.app("lifecycle", services={"folder": str(folder)})
    port = z.comm.find_free_port()
    started = z.comm.start_service("redis", port=port, launcher="local")
    tour.print(f"start_service('redis', port={port}) returns {started}")
    if not started:
        tour.print(f"  {z.comm.services.last_failure}", "yellow")
    expect(started, "Redis or Valkey could not be started")
    try:
        info = z.comm.get_service_connection_info("redis")
        version = z.comm.service_status("redis")["version"]
        tour.print(f"version {version} responds at {info['url'] if info else None}")
        expect(info is not None, "the server was started, but is not running")
        _use(driver, str(info["url"]), "tour", "was here")  # type: ignore[index]
        tour.print(f"wrote and read a value with the driver {driver.__name__}")
        expect(z.comm.restart_service("redis"), f"the server did not restart: {z.comm.services.last_failure}")
        kept = _read(driver, str(info["url"]), "tour")  # type: ignore[index]
        tour.print(f"restart_service('redis') returns True; the value is still {kept!r}")
        expect(kept == "was here", f"after the restart the value is {kept!r}")
    finally:
        stopped = z.comm.stop_service("redis")
    tour.print(f"stop_service('redis') returns {stopped}")
    expect(stopped, f"the server did not stop: {z.comm.services.last_failure}")
    expect(z.comm.check_port(port), f"the server was stopped, but port {port} is still in use")
    return "started, used, restarted with its data, and stopped"


def show_starting_demo(tour: Tour) -> str:
    if os.name != "posix":
        return "skipped: zCLI starts no servers on this system"
    folder = tour.once(servers_folder)
    port = tour.once(main_app).comm.find_free_port()
    settings = {"ZCLI_SERVICES_FOLDER": str(folder), "ZCLI_SERVICES_POSTGRESQL_LAUNCHER": "local"}
    variables = {**settings, "ZCLI_SERVICES_POSTGRESQL_PORT": str(port)}
    z = tour.app("after-the-demo", services={"folder": str(folder), "postgresql": {"port": port}})
    try:
        printed = run_demo(tour, "lvl4_lifecycle/1_service_start.py", variables)
        expect(
            "✓ Ready" in printed or "not installed" in printed,
            "the server did not start, and the demo did not print what to install",
        )
        expect(
            "✓ Ready" not in printed or z.comm.service_status("postgresql")["ready"], "the server ended with the script"
        )
    finally:
        stopped = z.comm.stop_service("postgresql")
    expect(stopped, f"the server did not stop: {z.comm.services.last_failure}")
    if "✓ Ready" not in printed:
        return "PostgreSQL is not installed; the demo shows how to install it"
    return "the server kept running after the demo; another program stopped it"


def servers_folder(tour: Tour) -> Path:
    """Make a folder for the data of servers.

    Servers that root starts run as other accounts, which cannot enter the folder of the tour.
    """
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    public = (place for place in places if all(each.stat().st_mode & 0o001 for each in (place, *place.parents)))
    within = next(public, places[0])
    folder = Path(tour.resources.enter_context(tempfile.TemporaryDirectory(prefix="zcli-tour-", dir=within)))
    folder.chmod(0o711)
    return folder


def _driver() -> ModuleType | None:
    """Return the module redis or valkey if one is installed, else None."""
    for name in ("redis", "valkey"):
        with contextlib.suppress(ImportError):
            return __import__(name)
    return None


def _client(driver: ModuleType, url: str) -> Any:
    return driver.from_url(url, decode_responses=True)


def _use(driver: ModuleType, url: str, key: str, value: str) -> None:
    with contextlib.closing(_client(driver, url)) as client:
        client.set(key, value)
        expect(client.get(key) == value, "the value that was written could not be read")


def _read(driver: ModuleType, url: str, key: str) -> Any:
    with contextlib.closing(_client(driver, url)) as client:
        return client.get(key)
