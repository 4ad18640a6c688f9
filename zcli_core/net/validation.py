"""Checks of the arguments ``port``, ``host`` and ``timeout``, for every part of zCLI that takes them.

Settings do not need these checks: the configuration has checked them.
"""

from __future__ import annotations

import math
import operator
from typing import Any

#: The longest timeout, in seconds (about 11 days). A socket's timeout cannot hold arbitrarily large numbers.
LONGEST_TIMEOUT = 1e6


def valid_port(port: Any) -> int:
    """Return the port as an int.

    Raises:
        ValueError: It is not an integer from 1 to 65535.
    """
    expected = "port must be an integer between 1 and 65535"
    if isinstance(port, bool):
        raise _wrong_type(expected, port)
    try:
        number = operator.index(port)
    except TypeError:
        hint = f": write {port.strip()} without quotes" if _is_quoted_port(port) else ""
        raise _wrong_type(expected, port, hint) from None
    if number == 0:
        raise ValueError(f"{expected}, got 0; find_free_port() returns a free port")
    if not 1 <= number <= 65535:
        raise ValueError(f"{expected}, got {_shown(number)}")
    return number


def _is_quoted_port(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    digits = value.strip()
    return digits.isascii() and digits.isdigit() and len(digits) <= 5


def valid_timeout(timeout: Any, name: str = "timeout") -> float:
    """Return a timeout in seconds, at most :data:`LONGEST_TIMEOUT`.

    Args:
        timeout: The value of the argument.
        name: What the error calls it.

    Raises:
        ValueError: It is not a finite number above 0.
    """
    expected = f"{name} must be a number of seconds above 0"
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise _wrong_type(expected, timeout)
    if not 0 < timeout < math.inf:
        raise ValueError(f"{expected}, got {_shown(timeout)}")
    return float(min(timeout, LONGEST_TIMEOUT))


def valid_host(host: Any) -> str:
    """Return the host in the form that the resolver takes.

    Raises:
        ValueError: It is neither a host name nor an address. The message does not repeat what may be a URL, because a
            URL may hold a password.
    """
    expected = "host must be a name or an address such as 'localhost' or '192.0.2.7'"
    if not isinstance(host, str):
        raise _wrong_type(expected, host)
    if not host:
        raise ValueError(f"{expected}, got an empty string; '0.0.0.0' stands for every address of this machine")
    if any(c in "/@?#[]" or c.isspace() or not c.isprintable() for c in host):
        raise ValueError(f"{expected}, without a scheme, brackets, spaces or control characters")
    if ":" in host:
        from zcli_core.net.connecting import is_numeric

        if not is_numeric(host):
            raise ValueError(f"{expected}, got {_shown(host)}; give the port as an argument of its own")
    if host.isascii():
        return host
    from zcli_core.net.hosts import ascii_host

    try:
        return ascii_host(host)
    except ValueError:
        raise ValueError(f"{expected}, got {_shown(host)}, which cannot be a host name") from None


def _wrong_type(expected: str, value: Any, hint: str = "") -> ValueError:
    return ValueError(f"{expected}, got {_shown(value)} ({type(value).__name__}){hint}")


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python refuses to format an int of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
