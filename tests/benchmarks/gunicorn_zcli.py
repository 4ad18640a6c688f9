"""A zCLI server with gunicorn as supervisor, for :mod:`tests.benchmarks.gunicorn_workers`.

``python gunicorn_zcli.py PORT WORKERS SCRIPT [SETTING=VALUE...]``. It does for gunicorn what can be done without
changing it:

- one listening socket for each slot with SO_REUSEPORT on one address. gunicorn's own ``reuse_port`` lets each worker
  make its sockets, and without it a second ``bind`` to an address fails. So this program makes them and passes them
  as ``fd://``.
- the hook ``pre_fork`` gives each new worker the slot that has the fewest workers.
- the worker class serves its slot's socket. A task of the event loop calls ``notify()``. At SIGTERM it stops accepting
  and closes its clients with 1012, spread over ``SPREAD`` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import runpy
import signal
import socket
import sys
from collections import Counter
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.workers.base import Worker

from zCLI import zCLI
from zcli_core.websocket import endpoint

SPREAD = float(os.environ.get("SPREAD", "3"))


class SlotWorker(Worker):  # type: ignore[misc]
    """Serves the socket of its slot with zCLI."""

    slot = 0

    def run(self) -> None:
        """Serve until SIGTERM, or until the master is gone."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        listening = self.sockets[self.slot % len(self.sockets)].sock
        endpoint.passed_sockets = lambda: (listening.dup(),)
        loop = asyncio.get_running_loop()
        leaving = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, leaving.set)
        # gunicorn's handler raises SystemExit in the middle of whatever hangs, and zCLI goes on after that.
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        z, handler, on_connect = self.wsgi
        serving = asyncio.create_task(z.comm.websocket.serve(handler=handler, on_connect=on_connect))
        while not leaving.is_set():
            self.notify()
            if os.getppid() != self.ppid:
                break
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(leaving.wait(), 0.5)
        heartbeat = asyncio.create_task(self._beat())
        for core in z.comm.websocket._servers:
            core.listener.stop_accepting()
        clients = list(z.comm.websocket.clients)
        random.shuffle(clients)
        for client in clients:
            client._begin_close(1012, "")
            await asyncio.sleep(SPREAD / len(clients))
        heartbeat.cancel()
        z.comm.websocket.stop()
        await serving

    async def _beat(self) -> None:
        while True:
            self.notify()
            await asyncio.sleep(0.5)


def give_slot(arbiter: Any, worker: SlotWorker) -> None:
    """Give a new worker the slot that has the fewest workers."""
    taken = Counter(each.slot for each in arbiter.WORKERS.values())
    worker.slot = min(range(arbiter.cfg.workers), key=lambda slot: taken[slot])


class Application(BaseApplication):  # type: ignore[misc]
    """The script whose handler the workers serve."""

    def load_config(self) -> None:
        """Make the sockets, unless a master that was started by SIGUSR2 has inherited them."""
        port, workers = int(sys.argv[1]), int(sys.argv[2])
        given: dict[str, Any] = {
            "workers": workers, "worker_class": SlotWorker, "pre_fork": give_slot, "timeout": 4,
            "graceful_timeout": int(SPREAD) + 10, "control_socket_disable": True,
        }  # fmt: skip
        given.update(text.split("=", 1) for text in sys.argv[4:])
        if "reuse_port" in given:
            given["bind"] = f"127.0.0.1:{port}"
        elif "GUNICORN_FD" not in os.environ:
            # Called again at a reload, when other addresses would make the arbiter close its sockets.
            if not _bind:
                _bind.extend(f"fd://{slot_socket(port)}" for _ in range(workers))
            given["bind"] = _bind
        for name, value in given.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Run the script."""
        names = runpy.run_path(sys.argv[3])
        return zCLI(names["zSpark"]), names["handler"], names["on_connect"]


#: The addresses of the slots' sockets.
_bind: list[str] = []


def slot_socket(port: int) -> int:
    """Return the descriptor of a new listening socket with SO_REUSEPORT."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(2048)
    return sock.detach()


if __name__ == "__main__":
    Application().run()
