"""Content codings, which both transports decode by the same code: gzip, deflate, br and zstd."""

from __future__ import annotations

import gzip
import importlib
import random
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcli_core.http.client import HttpClient
from zcli_core.http.contract import TransportFailure
from zcli_core.http.parts import codings
from zcli_core.http.parts.bodies import BodyReceiver
from zcli_core.http.parts.codings import BLOCK, decoder_for
from zcli_core.http.parts.heads import Framing
from zcli_core.testing.http.peer import ScriptedServer, responding, response

zstd: Any = codings._zstd_module()

LIMIT = 100_000


def compress_zstd(data: bytes, window_log: int = 20) -> bytes:
    return bytes(zstd.compress(data, options={zstd.CompressionParameter.window_log: window_log}))


def deflate_raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "br": lambda data: brotli.compress(data, quality=1),
    "zstd": compress_zstd,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate, without zlib's head": deflate_raw,
}
NAMES = {case: case.partition(",")[0] for case in PACKERS}
#: Those that the contract suite does not test.
OWN = ("br", "zstd")


def noise(size: int) -> bytes:
    return random.Random(1).randbytes(size)


@pytest.fixture
def limited(make_curl: Callable[..., HttpClient]) -> HttpClient:
    return make_curl(max_response_bytes=LIMIT)


def fetch(http: HttpClient, coding: str, body: bytes) -> bytes | None:
    with ScriptedServer(responding(response(body, "200 OK", f"Content-Encoding: {coding}"))) as server:
        found = http.get(server.url)
    return None if found is None else found.content


def decoded(coding: str, *parts: bytes) -> bytes:
    decoder = decoder_for(coding, float("inf"))
    assert decoder is not None
    body = b"".join(block for part in parts for block in decoder.decode(part))
    if not decoder.is_at_end:
        raise EOFError
    return body


def test_accept_encoding_has_the_decodable_codings(limited: HttpClient) -> None:
    """Servers are asked for the codings that can be decoded."""
    with ScriptedServer(responding(response())) as server:
        assert limited.get(server.url)
        assert b"\r\nAccept-Encoding: zstd, br, gzip, deflate\r\n" in server.requests[0]


@pytest.mark.parametrize("case", PACKERS)
@pytest.mark.parametrize(
    "body",
    [bytes(LIMIT), noise(LIMIT), b"", b"a", bytes(BLOCK + 1)],
    ids=["zeros", "noise", "empty", "a", "a block and a byte"],
)
def test_decoder_any_body_is_decoded(case: str, body: bytes) -> None:
    """Whatever coding it has, and also if the decoder holds the last byte back."""
    assert decoded(NAMES[case], PACKERS[case](body)) == body


@pytest.mark.parametrize("coding", OWN)
@pytest.mark.parametrize("body", [bytes(LIMIT + 1), noise(LIMIT + 1)], ids=["zeros", "noise"])
def test_body_above_max_bytes_is_too_large(limited: HttpClient, coding: str, body: bytes) -> None:
    """The largest body allowed has max_bytes bytes."""
    assert fetch(limited, coding, PACKERS[coding](body[:-1])) == body[:-1], limited.last_failure
    assert fetch(limited, coding, PACKERS[coding](body)) is None
    assert limited.last_failure is not None
    assert limited.last_failure.kind == "too_large"


@pytest.mark.parametrize("case", PACKERS)
def test_body_of_single_bytes_is_decoded(case: str) -> None:
    """The blocks of a body may be single bytes."""
    packed = PACKERS[case](noise(300) + bytes(3000))
    assert decoded(NAMES[case], *(packed[i : i + 1] for i in range(len(packed)))) == noise(300) + bytes(3000)


@pytest.mark.parametrize("case", PACKERS)
def test_decoder_body_cut_off_anywhere_is_incomplete(case: str) -> None:
    """After any of its bytes."""
    packed = PACKERS[case](noise(300) + bytes(3000))
    for end in range(1, len(packed)):
        with pytest.raises(EOFError):
            decoded(NAMES[case], packed[:end])


@pytest.mark.parametrize("coding", OWN)
def test_body_cut_off_gives_none(limited: HttpClient, coding: str) -> None:
    """Even if the message as such is complete."""
    assert fetch(limited, coding, PACKERS[coding](noise(300))[:-1]) is None
    assert limited.last_failure is not None
    assert limited.last_failure.kind == "protocol"
    assert "Content-Encoding" in limited.last_failure.message


@pytest.mark.parametrize("coding", OWN)
def test_body_of_another_coding_gives_none(limited: HttpClient, coding: str) -> None:
    """The failure has the kind ``protocol``."""
    assert fetch(limited, coding, b"\xff this is not coded \xff" * 10) is None
    assert limited.last_failure is not None
    assert limited.last_failure.kind == "protocol"
    assert "not in the coding that Content-Encoding states" in limited.last_failure.message


def test_several_codings_are_decoded(limited: HttpClient) -> None:
    """A body may be coded several times."""
    body = noise(1000)
    packed = compress_zstd(brotli.compress(gzip.compress(zlib.compress(body))))
    assert fetch(limited, "deflate, GZIP ,br\r\nContent-Encoding: identity, zstd", packed) == body


def test_too_many_codings_are_refused(limited: HttpClient) -> None:
    """Each coding multiplies the work that one byte can cause."""
    assert fetch(limited, "gzip, " * 5 + "gzip", b"") is None
    assert limited.last_failure is not None
    assert limited.last_failure.kind == "protocol"


@pytest.mark.parametrize("coding", ["x-own", "gzip, x-own", "x-own, gzip", "identity", ""])
def test_body_of_unknown_coding_is_unchanged(limited: HttpClient, coding: str) -> None:
    """The header tells the script about the coding."""
    assert fetch(limited, coding, b"as it is") == b"as it is"


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("zstd", compress_zstd)])
def test_several_members_are_one_body(coding: str, pack: Callable[[bytes], bytes]) -> None:
    """A coded body may have several members or frames."""
    packed = pack(b"one") + pack(b"") + pack(b"two")
    assert decoded(coding, packed) == b"onetwo"
    assert decoded(coding, *(packed[i : i + 1] for i in range(len(packed)))) == b"onetwo"
    with pytest.raises(EOFError):
        decoded(coding, packed[:-1])


@pytest.mark.parametrize("size", [1, 7, 65536])
def test_gzip_padding_is_ignored(size: int) -> None:
    """Data that does not begin like a member is padding; a member that is cut off or corrupt is a failure."""
    members = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(bytes(20_000))
    for padding in (b"", bytes(1000), b"\n", b"rubbish"):
        assert decoded("gzip", *cut(members + padding, size)) == b"one " + bytes(20_000)
    with pytest.raises(EOFError):
        decoded("gzip", *cut(members[:-1], size))
    with pytest.raises(TransportFailure):
        decoded("gzip", *cut(members + b"\x1f\x8b corrupt", size))


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


@settings(deadline=None, max_examples=50)
@given(
    body=st.binary(max_size=100_000),
    size=st.integers(1, 70_000),
    names=st.lists(st.sampled_from(["gzip", "deflate"]), min_size=1, max_size=3),
)
def test_decoder_blocks_of_any_size_are_one_body(body: bytes, size: int, names: list[str]) -> None:
    """Wherever the blocks end; and a body that is cut off is incomplete."""
    whole, coding = body, ", ".join(names)
    for name in names:
        whole = PACKERS[name](whole)
    assert decoded(coding, *cut(whole, size)) == body
    for end in {1, len(whole) // 2, len(whole) - 1}:
        with pytest.raises(EOFError):
            decoded(coding, *cut(whole[:end], size))


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=2000))
def test_decoder_any_bytes_are_a_body_or_a_failure(body: bytes) -> None:
    """No other exception comes out."""
    for coding in ("gzip", "deflate", "gzip, deflate", "br", "zstd"):
        try:
            decoded(coding, body)
        except EOFError:
            pass
        except TransportFailure as failure:
            assert failure.kind == "protocol"  # noqa: PT017 - or none at all


@pytest.mark.parametrize("size", [1, 65536])
def test_deflate_raw_stream_is_detected(size: int) -> None:
    """The first two bytes decide, at every compression level."""
    body = bytes(range(256)) * 20
    for level in range(10):
        raw = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
        for whole in (zlib.compress(body, level), raw.compress(body) + raw.flush()):
            assert decoded("deflate", *cut(whole, size)) == body


def test_decoder_deadline_ends_work_without_output() -> None:
    """Data that is coded twice may decode to gigabytes of padding."""
    packed = gzip.compress(gzip.compress(b"") + bytes(1_000_000))
    decoder = decoder_for("gzip, gzip", 0.0)
    assert decoder is not None
    with pytest.raises(TransportFailure, match="timeout"):
        list(decoder.decode(packed))


def test_deflate_padding_is_ignored() -> None:
    """As with gzip."""
    assert decoded("deflate", zlib.compress(b"body") + bytes(100), bytes(100)) == b"body"


def test_zstd_large_window_is_refused() -> None:
    """The window of a response has at most 8 MiB (RFC 9659)."""
    packed = compress_zstd(noise(100) + bytes(32 * 1024 * 1024), window_log=27)
    with pytest.raises(TransportFailure, match="Content-Encoding"):
        decoded("zstd", packed)


@pytest.mark.parametrize("coding", ["br", "zstd", "br, zstd", "zstd, br"])
def test_compression_bomb_is_not_inflated(limited: HttpClient, coding: str) -> None:
    bomb = bytes(64 * 1024 * 1024)
    for name in coding.split(", "):
        bomb = PACKERS[name](bomb)
    assert fetch(limited, coding, bomb) is None  # imports what it needs
    tracemalloc.start()
    try:
        assert fetch(limited, coding, bomb) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert limited.last_failure is not None
    assert limited.last_failure.kind == "too_large"
    assert peak < 8 * 1024 * 1024


def test_body_past_its_deadline_times_out() -> None:
    """Also if there is no output, because the inner gzip ignores the zeros as padding."""
    packed = gzip.compress(gzip.compress(b"") + bytes(1_000_000))
    framing = Framing(None, False, "gzip, gzip", True)
    receiver = BodyReceiver(framing, LIMIT, time.monotonic() + 60)
    receiver.add(packed)
    assert receiver.finish() == b""
    with pytest.raises(TransportFailure) as caught:
        BodyReceiver(framing, LIMIT, time.monotonic() - 1).add(packed)
    assert caught.value.kind == "timeout"


def test_missing_decoder_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coding whose package is not installed is not in Accept-Encoding."""

    class OldBrotli:
        Decompressor = object

    absent: dict[str, Any] = {"compression": None, "compression.zstd": None, "backports": None, "backports.zstd": None}
    for name, module in {**absent, "brotli": OldBrotli}.items():
        monkeypatch.setitem(sys.modules, name, module)
    try:
        assert importlib.reload(codings).CONTENT_CODINGS == ("gzip", "deflate")
        monkeypatch.undo()
    finally:
        assert importlib.reload(codings).CONTENT_CODINGS == ("zstd", "br", "gzip", "deflate")
