"""From errors of NATS to failures of the backplane."""

from __future__ import annotations

from zcli_core.errors import BackplaneFailure, FailureKind
from zcli_core.printable import printable

#: Replaced by what to do about the login.
_LOGIN = "<login>"
_SET_LOGIN = "set backplane.nats.url with user and password, backplane.nats.token or backplane.nats.credentials_file"

#: By the beginning of the error, in lower case: the kind of the failure, and what to do.
_ERRORS: tuple[tuple[str, FailureKind, str], ...] = (
    ("authorization violation", "refused", f"it refuses the login, or needs one; {_LOGIN}"),
    ("user authentication", "refused", f"the login has expired or was revoked; {_LOGIN}"),
    ("authentication timeout", "refused", f"it has waited too long for the login; {_LOGIN}"),
    ("permissions violation", "refused", "its permissions do not allow the subjects <backplane.namespace>.>"),
    ("maximum payload", "too_large", "the message is larger than its max_payload"),
    ("maximum connections", "refused", "it has no free place (max_connections)"),
    ("maximum subscriptions", "refused", "it allows no further subscriptions (max_subscriptions)"),
    ("slow consumer", "down", "it has disconnected this process for reading too slowly"),
    ("secure connection", "refused", "it requires TLS; set backplane.nats.url to a tls:// URL"),
)


def server_error(address: str, text: str, login_from: str | None) -> BackplaneFailure:
    """Return the failure for an error that NATS sent.

    Args:
        address: Where the server is.
        text: The error.
        login_from: The setting of the credential and where it was set; None without a credential.
    """
    for beginning, kind, what in _ERRORS:
        if text.lower().startswith(beginning):
            advice = f"check {login_from}" if login_from else _SET_LOGIN
            return BackplaneFailure(kind, f"{address}: {what.replace(_LOGIN, advice)}")
    return BackplaneFailure("refused", f"{address}: it refuses: {printable(text)[:200]}")


def no_tls(address: str) -> BackplaneFailure:
    """Return the failure for a server without TLS behind a tls:// URL."""
    return BackplaneFailure("refused", f"{address}: it offers no TLS; set tls on the server, or use a nats:// URL")
