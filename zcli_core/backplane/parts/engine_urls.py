"""Reading the URL of an engine. No message of an error has a part of the URL that may be a password."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit


def split_url(url: str, schemes: Collection[str]) -> SplitResult:
    """Split a URL.

    Args:
        url: The URL.
        schemes: The schemes that it may have.

    Raises:
        ValueError: It is invalid, or has another scheme.
    """
    if not url.isprintable() or " " in url:
        raise ValueError("it has spaces or control characters")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("its host is invalid") from None
    # An unescaped "/", "?" or "#" in a password would make a part of it look like a host or a path.
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError("the part before @ is not escaped; write / as %2F, ? as %3F, # as %23 and @ as %40")
    if parts.scheme not in schemes:
        *first, last = (f"{scheme}://" for scheme in schemes)
        raise ValueError(f"it must begin with {', '.join(first)} or {last}")
    return parts


def host_and_port(parts: SplitResult, default_port: int) -> tuple[str, int]:
    """Return the host and the port of a URL.

    Raises:
        ValueError: The port is invalid, or there is no host.
    """
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("its port must be an integer from 1 to 65535")
    if not parts.hostname:
        raise ValueError("it has no host")
    return parts.hostname, port or default_port
