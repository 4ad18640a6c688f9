"""From errors of Redis and of the network to failures of the backplane."""

from __future__ import annotations

from zcli_core.errors import BackplaneFailure, FailureKind
from zcli_core.printable import printable
from zcli_redis_backplane.resp import ErrorReply

_LOGIN = "set backplane.redis.url with user and password, or backplane.redis.password"
_CLUSTER = "a Redis Cluster is not supported as a backplane; use a single server with replicas"
_READ_ONLY = "it is a read-only replica; set backplane.redis.url to the primary"

#: By the first word of the error: the kind of the failure, and what to do.
_REFUSALS: dict[str, tuple[FailureKind, str]] = {
    "NOAUTH": ("refused", f"it needs a password; {_LOGIN}"),
    "NOPERM": (
        "refused",
        "its ACL does not allow the user what the backplane needs: the channels &<backplane.namespace>:* and the keys "
        "~<backplane.namespace>:*, with +@pubsub +@read +@write +@scripting +@connection +info",
    ),
    "DENIED": ("refused", "its protected mode admits only clients of its own machine; set a password on the server"),
    "READONLY": ("refused", _READ_ONLY),
    "MISCONF": ("refused", "it cannot save its data to disk and refuses writes; see the log of the server"),
    "OOM": ("refused", "it has no memory left (maxmemory)"),
    "MOVED": ("refused", _CLUSTER),
    "CROSSSLOT": ("refused", _CLUSTER),
    "CLUSTERDOWN": ("refused", _CLUSTER),
    "LOADING": ("down", "it is still loading its data"),
    "MASTERDOWN": ("down", "it is a replica without a primary"),
}


def refusal(address: str, reply: ErrorReply) -> BackplaneFailure:
    """Return the failure for an error that Redis sent."""
    kind, what = _REFUSALS.get(reply.word, ("refused", f"it refuses: {printable(reply.text)[:200]}"))
    return BackplaneFailure(kind, f"{address}: {what}")


def login_refusal(address: str, reply: ErrorReply, source: str) -> BackplaneFailure:
    """Return the failure for an error in reply to AUTH. Its text is not shown, because it may repeat the password.

    Args:
        address: Where the engine is.
        reply: The error.
        source: The setting of the password and where it was set.
    """
    if reply.word in _REFUSALS:
        return refusal(address, reply)
    if "without any password" in reply.text:
        what = f"it asks for no password, but {source} has one; remove that, or set requirepass on the server"
    elif "unknown command" in reply.text:
        what = "it does not have the command AUTH"
    elif "max number of clients" in reply.text:
        return refusal(address, reply)
    else:
        what = f"it refuses the user or the password; check {source}"
    return BackplaneFailure("refused", f"{address}: {what}")


def read_only(address: str, primary: str | None) -> BackplaneFailure:
    """Return the failure for a replica."""
    return BackplaneFailure("refused", f"{address}: {_READ_ONLY}{f' ({primary})' if primary else ''}")


def cluster(address: str) -> BackplaneFailure:
    """Return the failure for a node of a cluster."""
    return BackplaneFailure("refused", f"{address}: {_CLUSTER}")


def too_old(address: str, engine: str, oldest: str) -> BackplaneFailure:
    """Return the failure for an engine that lacks commands."""
    return BackplaneFailure("refused", f"{address}: {engine} is too old; install Redis {oldest} or later, or Valkey")
