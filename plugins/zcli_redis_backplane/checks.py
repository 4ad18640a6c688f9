"""What kind of engine this is, and whether its configuration suits a backplane."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from zcli_core.backplane.contract import EngineReport
from zcli_core.errors import BackplaneFailure
from zcli_redis_backplane import failures
from zcli_redis_backplane.resp import ErrorReply, encode

#: Below this version, commands that the backplane uses are missing.
OLDEST = "6.2"
_OLDEST = (6, 2)
INFO = (encode("INFO", "server"), encode("INFO", "replication"))
CONFIG = tuple(
    encode("CONFIG", "GET", name) for name in ("client-output-buffer-limit", "maxmemory", "maxmemory-policy")
)
#: What Redis needs in addition to a message to send it to a subscriber, in bytes, with a margin.
_FRAME = 4096


def read_info(replies: list[Any]) -> dict[str, str]:
    """Return what the replies to :data:`INFO` say; nothing if the user may not run INFO."""
    text = "\n".join(reply.decode("utf-8", "replace") for reply in replies if isinstance(reply, bytes))
    return dict(line.strip().split(":", 1) for line in text.splitlines() if ":" in line)


def check_engine(address: str, info: Mapping[str, str]) -> BackplaneFailure | None:
    """Return why an engine cannot be a backplane, or None if it can.

    A replica accepts subscriptions, but what is published there reaches only the clients of this replica.
    """
    version = re.match(r"(\d+)\.(\d+)", info.get("redis_version", ""))
    if version is not None and (int(version[1]), int(version[2])) < _OLDEST:
        return failures.too_old(address, engine_name(info), OLDEST)
    if info.get("role") == "slave":
        host, port = info.get("master_host"), info.get("master_port")
        return failures.read_only(address, f"{host}:{port}" if host else None)
    if info.get("redis_mode") == "cluster":
        return failures.cluster(address)
    return None


def engine_name(info: Mapping[str, str]) -> str:
    """Return name and version: ``"Valkey 9.1.0"``."""
    if info.get("server_name") == "valkey":
        return f"Valkey {info.get('valkey_version', info.get('redis_version', ''))}"
    return f"Redis {info.get('redis_version', '(unknown version)')}"


def report(info: Mapping[str, str], config: list[Any], largest_message: int) -> EngineReport:
    """Return the report from the replies to :data:`INFO` and :data:`CONFIG`."""
    values: dict[str, str] = {}
    for reply in config:
        if isinstance(reply, list):
            texts = [str(item, "utf-8", "replace") for item in reply]
            values.update(zip(texts[::2], texts[1::2], strict=False))
    limit = re.search(r"pubsub (\d+) (\d+) (\d+)", values.get("client-output-buffer-limit", ""))
    problems = []
    if limit is None:
        reason = next((reply.text for reply in config if isinstance(reply, ErrorReply)), "the reply has no such value")
        problems.append(
            f"client-output-buffer-limit could not be read ({reason}); check on the server that its limit for pubsub "
            f"is at least {largest_message + _FRAME} bytes, the size of the largest message"
        )
    elif 0 < int(limit[1]) < largest_message + _FRAME:
        problems.append(
            f"client-output-buffer-limit is {limit[1]} bytes for pubsub, but a message may have {largest_message} "
            "bytes, and one larger than the limit disconnects every process; raise the limit on the server, or lower "
            "backplane.max_message"
        )
    policy = values.get("maxmemory-policy", "noeviction")
    if values.get("maxmemory", "0") != "0" and policy != "noeviction":
        problems.append(
            f"maxmemory-policy is {policy}, so when the memory is full, the server removes clients from presence; set "
            "it to noeviction, or use another server for the backplane"
        )
    return EngineReport(engine_name(info), tuple(problems))
