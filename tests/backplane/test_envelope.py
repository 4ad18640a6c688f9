"""The binary form of what is published: what comes back, and bytes that are not an envelope."""

from __future__ import annotations

import contextlib
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcli_core.backplane.envelope import Envelope, EnvelopeError, Kind, decode

ORIGIN = b"\x00\x01\xfe\xff1234"
_texts = st.text(st.characters(exclude_categories=["Cs"]))
_names = st.lists(_texts, max_size=5).map(tuple)


_envelopes = st.builds(
    Envelope,
    st.sampled_from(Kind),
    st.binary(min_size=8, max_size=8),
    st.integers(0, 2**63 - 1),
    _texts | st.binary(),
    _names,
    _names,
    st.integers(0, 65535),
)


@given(_envelopes)
def test_decode_encoded_is_the_same(envelope: Envelope) -> None:
    """Every envelope survives, whatever it contains."""
    if envelope.kind is not Kind.DISCONNECT:
        envelope = envelope._replace(code=0)
    assert decode(envelope.encode()) == envelope


@given(st.binary(), st.booleans())
def test_decode_any_bytes_raises_one_error(data: bytes, with_magic: bool) -> None:
    """No bytes raise another error, also after a valid beginning."""
    try:
        envelope = decode(b"zC\x01" + data if with_magic else data)
    except EnvelopeError:
        return
    assert with_magic or data.startswith(b"zC\x01")
    assert isinstance(envelope, Envelope)


@given(st.data())
def test_decode_changed_envelope_raises_one_error(data: st.DataObject) -> None:
    """A cut or changed byte gives another envelope or the one error."""
    whole = bytearray(Envelope(Kind.DISCONNECT, ORIGIN, 2**40, "bye", ("ann", "bob"), ("news", "chat"), 1008).encode())
    position = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        del whole[position:]
    else:
        whole[position] = data.draw(st.integers(0, 255))
    with contextlib.suppress(EnvelopeError):
        decode(bytes(whole))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        pickle.dumps({"method": "emit", "event": "x"}),
        pickle.dumps("zC", protocol=0),
        json.dumps({"room": "news"}).encode(),
        b"zC\x02\x00" + ORIGIN + b"\x01\x00\x00text",
        b"zC\x01\x08" + ORIGIN + b"\x01\x00\x00text",
        b"zC\x01\x04" + ORIGIN + b"\x01\x00\x00\xff",
        b"zC\x01\x00" + ORIGIN + b"\xff" * 9 + b"\x01\x00\x00",
        b"zC\x01\x00" + ORIGIN + b"\x01" + b"\xff" * 8 + b"\x7f",
        b"zC\x01\x01" + ORIGIN + b"\x01\x00\x00\x03",
    ],
    ids=["empty", "pickle", "pickle0", "json", "version", "flags", "utf8", "number", "count", "code"],
)
def test_decode_foreign_bytes_are_refused(data: bytes) -> None:
    """Pickled, foreign, cut off and newer messages are refused."""
    with pytest.raises(EnvelopeError):
        decode(data)


def test_encode_plain_message_adds_few_bytes() -> None:
    """A message for one room grows by at most 20 bytes."""
    assert len(Envelope(Kind.MESSAGE, ORIGIN, 2**34, b"x" * 100).encode()) <= 120
