"""Servers of the real engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zcli_core.testing import EngineProcess


class Redis(EngineProcess):
    program = "redis-server"
    slow_limit = 1024 * 1024

    def command(self) -> Sequence[str]:
        return [
            self.executable, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no",
            "--client-output-buffer-limit", "pubsub", "1mb", "1mb", "0",
        ]  # fmt: skip

    def settings(self, port: int) -> Mapping[str, Any]:
        return {"backplane": {"redis": {"url": f"redis://127.0.0.1:{port}"}}}


class Nats(EngineProcess):
    program = "nats-server"
    slow_limit = 4 * 1024 * 1024

    def command(self) -> Sequence[str]:
        file = self.folder / "nats.conf"
        file.write_text(f"listen: 127.0.0.1:{self.port}\nmax_pending: {self.slow_limit}\nwrite_deadline: 1s\n")
        return [self.executable, "-c", str(file)]

    def settings(self, port: int) -> Mapping[str, Any]:
        return {"backplane": {"nats": {"url": f"nats://127.0.0.1:{port}"}}}


ENGINES: Mapping[str, type[EngineProcess]] = {"redis": Redis, "nats": Nats}
