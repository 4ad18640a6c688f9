"""Whether a server certificate names hosts in subjectAltName, as it must (RFC 9525, section 6.3).

If a certificate has no such names, libcurl compares the common name instead, also with an IP address. It has no option
to turn that off. libcurl has verified and parsed the certificate before this module reads it.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator

#: The object identifier of the extension subjectAltName, 2.5.29.17, as DER.
_SUBJECT_ALT_NAME = bytes.fromhex("0603551d11")
_EXTENSIONS, _OCTETS, _DNS_NAME, _IP_ADDRESS = 0xA3, 0x04, 0x82, 0x87


def names_hosts(pem: str) -> bool:
    """Return whether a certificate has a DNS name or an IP address in subjectAltName (RFC 5280, section 4.2.1.6)."""
    try:
        body = pem.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0]
        return any(tag in (_DNS_NAME, _IP_ADDRESS) for tag, _ in _alternative_names(binascii.a2b_base64(body)))
    except (IndexError, ValueError):
        return False


def _alternative_names(certificate: bytes) -> Iterator[tuple[int, bytes]]:
    (_, signed), *_ = _items(certificate)
    (_, content), *_ = _items(signed)
    for extensions in _contents(content, _EXTENSIONS):
        for _, listed in _items(extensions):
            for _, extension in _items(listed):
                if extension.startswith(_SUBJECT_ALT_NAME):
                    for value in _contents(extension, _OCTETS):
                        for _, names in _items(value):
                            yield from _items(names)


def _contents(data: bytes, wanted: int) -> Iterator[bytes]:
    return (content for tag, content in _items(data) if tag == wanted)


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and content of each DER value in a sequence (X.690, section 8.1). Only one-byte tags are read."""
    position = 0
    while position < len(data):
        tag, length = data[position], data[position + 1]
        position += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[position : position + size], "big")
            position += size
        if position + length > len(data):
            raise ValueError("a value is longer than its container")
        yield tag, data[position : position + length]
        position += length
