"""NATS with accounts: an operator, an account and a user as JSON Web Tokens, as the command ``nsc`` makes them.

https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: The first byte of an encoded key, by what it is the key of.
_KINDS = {"operator": 14 << 3, "account": 0, "user": 20 << 3}
_SEED = 18 << 3


class Key:
    """A key of NATS."""

    def __init__(self, kind: str) -> None:
        self._kind = _KINDS[kind]
        self._private = Ed25519PrivateKey.generate()

    @property
    def public(self) -> str:
        """The public key, which is the name of its owner."""
        return _encode(bytes([self._kind]) + self._private.public_key().public_bytes_raw())

    @property
    def seed(self) -> str:
        """The private key."""
        head = bytes([_SEED | self._kind >> 5, (self._kind & 31) << 3])
        return _encode(head + self._private.private_bytes_raw())

    def claim(self, subject: Key, kind: str, **nats: Any) -> str:
        """Return a token about another key."""
        claims = {"jti": subject.public, "iat": 1_700_000_000, "iss": self.public, "sub": subject.public, "name": kind}
        claims["nats"] = {"type": kind, "version": 2, **nats}
        parts = [_url_encode(json.dumps(each).encode()) for each in ({"typ": "JWT", "alg": "ed25519-nkey"}, claims)]
        return ".".join([*parts, _url_encode(self._private.sign(".".join(parts).encode()))])


def _encode(data: bytes) -> str:
    checked = data + struct.pack("<H", binascii.crc_hqx(data, 0))
    return base64.b32encode(checked).decode().rstrip("=")


def _url_encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def make_accounts() -> tuple[str, str]:
    """Return the configuration of a server with one account, and the credentials file of its user."""
    operator, account, user = Key("operator"), Key("account"), Key("user")
    no_limit = dict.fromkeys(("subs", "conn", "leaf", "imports", "exports", "data", "payload"), -1)
    configuration = (
        f"operator: {operator.claim(operator, 'operator')}\n"
        f"resolver: MEMORY\nresolver_preload: {{ {account.public}: "
        f"{operator.claim(account, 'account', limits={**no_limit, 'wildcards': True})} }}\n"
    )
    token = account.claim(user, "user", subs=-1, data=-1, payload=-1)
    credentials = (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\nNKEY Seed printed below is a secret.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    return configuration, credentials
