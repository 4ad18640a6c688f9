"""Host names in the form that DNS, TLS and HTTP use: ASCII, lower case, one spelling for each host.

All code of zCLI that resolves or compares hosts uses this module, so that both sides of a comparison agree.
"""

from __future__ import annotations

import re

_MAX_NAME = 253
_MAX_LABEL = 63
_NAME = re.compile(r"[a-z0-9_.-]+")
_ZONE = re.compile(r"[A-Za-z0-9._~-]+")
_HOST_AND_PORT = re.compile(r"(\[[^\[\]]+\]|[^:\[\]]+):([0-9]{1,5})")
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)")


def ascii_host(name: str) -> str:
    """Return the ASCII form of a host name or an address.

    International names follow IDNA 2008 with the mapping of UTS 46 (non-transitional), as browsers and curl do: upper
    case and full-width letters are mapped, ``ß`` and ``ς`` are kept. Numbers that browsers read as an IPv4 address
    (``127.1``, ``0x7f.1``, ``2130706433``) become that address. A trailing dot of a name is kept.

    Args:
        name: A name, an IPv4 address, or an IPv6 address without brackets. An IPv6 address may have a zone, with
            ``%`` or ``%25`` before it (RFC 6874).

    Raises:
        ValueError: The text is not a host. The message is the reason and does not repeat the text.
    """
    if ":" in name:
        return _ipv6(name)
    if len(name) > _MAX_NAME + 1:
        raise ValueError(f"it is longer than {_MAX_NAME} characters")
    name = name.lower() if name.isascii() else _to_ascii(name)
    if not _NAME.fullmatch(name):
        raise ValueError("it is empty or contains a character that is not allowed")
    labels = name.split(".")
    if not labels[-1] and len(labels) > 1:
        labels.pop()
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(labels)
    if len(".".join(labels)) > _MAX_NAME or not all(0 < len(label) <= _MAX_LABEL for label in labels):
        raise ValueError("it has a part that is empty or too long")
    return name


def split_host(text: str) -> tuple[str, int | None]:
    """Return a host in its ASCII form, and the port after it or None.

    Args:
        text: ``api.example``, ``api.example:8443``, ``10.0.0.1``, ``[::1]:8443`` or ``::1``.

    Raises:
        ValueError: The text is not a host, or the port is not an integer between 1 and 65535.
    """
    found = _HOST_AND_PORT.fullmatch(text)
    host, port = found.groups() if found else (text, None)
    if port is not None and not 1 <= int(port) <= 65535:
        raise ValueError("the port is not an integer between 1 and 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return ascii_host(host), None if port is None else int(port)


def _to_ascii(name: str) -> str:
    """Apply UTS 46 and IDNA 2008. ASCII labels are kept, because names such as ``my_service`` are used."""
    import idna  # imported late, because its tables are large

    try:
        labels = idna.uts46_remap(name, std3_rules=False).split(".")
        return ".".join(label if label.isascii() else idna.alabel(label).decode("ascii") for label in labels)
    except ValueError:
        raise ValueError("it is not a valid international domain name (IDNA 2008)") from None


def _ipv6(text: str) -> str:
    import ipaddress

    address, mark, zone = text.partition("%")
    if mark and zone.startswith("25") and len(zone) > 2:
        zone = zone[2:]
    try:
        if mark and not _ZONE.fullmatch(zone):
            raise ValueError  # noqa: TRY301
        return str(ipaddress.IPv6Address(address)) + mark + zone
    except ValueError:
        raise ValueError("it is not an IPv6 address") from None


def _ipv4(parts: list[str]) -> str:
    """Read an IPv4 address as browsers do (WHATWG URL Standard, "IPv4 parser")."""
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        raise ValueError("it ends with a number but is not an IPv4 address")
    try:
        *numbers, last = [_number(part) for part in parts]
    except ValueError:
        raise ValueError("it ends with a number but is not an IPv4 address") from None
    if any(number > 255 for number in numbers) or last >= 256 ** (5 - len(parts)):
        raise ValueError("it ends with a number but is not an IPv4 address")
    value = last + sum(number << (24 - 8 * place) for place, number in enumerate(numbers))
    return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))


def _number(part: str) -> int:
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    return int(part, 8 if len(part) > 1 and part.startswith("0") else 10)
