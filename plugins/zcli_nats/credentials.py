"""Credentials files of NATS: a JSON Web Token, and the key that signs what the server sends.

https://docs.nats.io/using-nats/developer/connecting/creds
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_BLOCK = re.compile(r"-{3,}BEGIN [A-Z ]+-{3,}\s+(\S+)\s+-{3,}END [A-Z ]+-{3,}")
#: The first bytes of an encoded seed: "S" for seed, "U" for user, in five bits each.
_USER_SEED = "SU"
_SEED_BYTES = 32


class Credentials(NamedTuple):
    """What a credentials file holds. Neither is ever shown."""

    token: str
    sign: Callable[[bytes], bytes]

    def __repr__(self) -> str:
        return "<Credentials>"


def read_credentials(file: Path) -> Credentials:
    """Return what a credentials file holds.

    Raises:
        ValueError: It cannot be read or used. The message has no part of its content.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise ValueError("it needs the package cryptography: pip install cryptography") from None
    try:
        text = file.read_text("ascii")
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'not a text'}") from None
    blocks = _BLOCK.findall(text)
    if len(blocks) != 2 or not blocks[1].startswith(_USER_SEED):
        raise ValueError(f"{file} must hold a JSON Web Token and the seed of a user; nsc writes such files")
    try:
        # Two bytes of type, the seed, and two bytes of checksum.
        seed = base64.b32decode(blocks[1] + "=" * (-len(blocks[1]) % 8))[2:-2]
    except ValueError:
        seed = b""
    if len(seed) != _SEED_BYTES:
        raise ValueError(f"{file} has an invalid seed")
    return Credentials(blocks[0], Ed25519PrivateKey.from_private_bytes(seed).sign)
