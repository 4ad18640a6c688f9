"""From errors of the network to failures of a backplane."""

from __future__ import annotations

import os
import ssl

from zcli_core.errors import BackplaneFailure
from zcli_core.printable import printable


def unreachable(address: str, section: str, error: Exception) -> BackplaneFailure:
    """Return the failure for a connection that could not be made.

    Args:
        address: Where the engine is, without credentials.
        section: Section with the setting ``ca_file``: ``"backplane.redis"``.
        error: What was raised.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        what = f"its certificate is not accepted: {error.verify_message}; set {section}.ca_file to its authority"
        return BackplaneFailure("refused", f"{address}: {what}")
    if isinstance(error, ssl.SSLError):
        return BackplaneFailure("protocol", f"{address}: TLS failed ({_reason(error)}); the server may be without TLS")
    return BackplaneFailure("down", f"{address}: cannot connect: {printable(_reason(error))}")


def closed(address: str, error: Exception | None) -> BackplaneFailure:
    """Return the failure for a connection that has ended."""
    if error is None:
        return BackplaneFailure("down", f"{address}: the server closed the connection")
    reason = _reason(error)
    if isinstance(error, ssl.SSLError) and " alert " in reason:
        what = f"the server ended TLS ({reason}); it may require a client certificate, or not accept ours"
        return BackplaneFailure("refused", f"{address}: {what}")
    return BackplaneFailure("down", f"{address}: the connection ended: {printable(reason)}")


def invalid_reply(address: str, product: str, sample: bytes) -> BackplaneFailure:
    """Return the failure for a server that does not speak the protocol of the engine."""
    shown = printable(sample.decode("utf-8", "replace"))
    return BackplaneFailure("protocol", f"{address}: not {product}, or its data is damaged; it sent {shown!r}")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if str(getattr(error, "strerror", None)).startswith("Connect call failed"):  # asyncio's text in place of the reason
        return os.strerror(getattr(error, "errno", 0))
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
