"""RFC 6455 (and RFC 7692) from a client's side of the wire: what must be accepted, what must be refused, and how."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest
from websocket_frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close, frame
from wsproto_server import Client, Frame, Server

from zcli_core.contracts.websocket import Compression, Limits

DEFLATE = "permessage-deflate; client_max_window_bits"
BYTES = bytes(range(256))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(Limits(max_size=1 << 24, compression=Compression(threshold=0))) as running:
        yield running


@pytest.fixture(params=["plain", "deflate agreed"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    """Every rule holds with and without compression agreed on."""
    with server.connect(extensions=DEFLATE if "deflate" in request.param else None) as connected:
        yield connected


def inflated(answer: Frame) -> tuple[int, bytes]:
    """Opcode and payload of an answer, whichever way it came."""
    assert answer.fin
    if answer.rsv == 0:
        return answer.opcode, answer.payload
    assert answer.rsv == 4
    return answer.opcode, zlib.decompressobj(-15).decompress(answer.payload + b"\x00\x00\xff\xff")


def deflated(payload: bytes, bits: int = 15, level: int = 6, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """The payload of one compressed message."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -bits)
    return (compressor.compress(payload) + compressor.flush(flush))[:-4]


# Framing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 65535, 65536, 65537, 1_000_000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_of_any_length_comes_back(client: Client, opcode: int, size: int) -> None:
    """All three forms of the length."""
    payload = b"*" * size if opcode == TEXT else (BYTES * (size // 256 + 1))[:size]
    client.send(frame(opcode, payload))
    assert inflated(client.read()) == (opcode, payload)


@pytest.mark.parametrize("chop", [1, 2, 997])
@pytest.mark.parametrize("size", [5, 300, 70_000])
def test_it_makes_no_difference_where_tcp_cuts(client: Client, size: int, chop: int) -> None:
    """Byte by byte as well as in odd pieces."""
    data = frame(TEXT, b"*" * size)
    for at in range(0, min(len(data), 300 * chop), chop):
        client.send(data[at : at + chop])
    client.send(data[300 * chop :])
    assert inflated(client.read()) == (TEXT, b"*" * size)


def test_messages_in_one_segment_are_answered_in_order(client: Client) -> None:
    """A thousand of them."""
    client.send(*[frame(BINARY, b"%d" % at) for at in range(1000)])
    assert [inflated(client.read())[1] for _ in range(1000)] == [b"%d" % at for at in range(1000)]


def test_the_server_sends_unmasked_final_frames(client: Client) -> None:
    """RFC 6455, 5.1; read() checks the mask."""
    client.send(frame(TEXT, b"x"))
    answer = client.read()
    assert (answer.opcode, answer.fin, answer.rsv & 3) == (TEXT, True, 0)


@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04"])
@pytest.mark.parametrize("size", [5, 1500, 100_001])
def test_any_mask_is_taken_off(client: Client, mask: bytes, size: int) -> None:
    """Also that of zeros."""
    payload = (BYTES * (size // 256 + 1))[:size]
    client.send(frame(BINARY, payload, mask=mask))
    assert inflated(client.read()) == (BINARY, payload)


# Pings and pongs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"hello", b"\x00\xff\xfe\xfd", b"\xfe" * 125])
def test_a_ping_is_answered_with_its_payload(client: Client, payload: bytes) -> None:
    """Any payload up to 125 bytes; never compressed."""
    client.send(frame(PING, payload))
    assert client.read() == Frame(PONG, payload)


def test_ten_pings_are_answered_in_order_also_byte_by_byte(client: Client) -> None:
    """RFC 6455, 5.5.2."""
    data = b"".join(frame(PING, b"%d" % at) for at in range(10))
    for at in range(len(data)):
        client.send(data[at : at + 1])
    assert [client.read() for _ in range(10)] == [Frame(PONG, b"%d" % at) for at in range(10)]


@pytest.mark.parametrize("payload", [b"", b"unasked for"])
def test_a_pong_that_nobody_asked_for_is_no_event(client: Client, payload: bytes) -> None:
    """RFC 6455, 5.5.3."""
    client.send(frame(PONG, payload), frame(PING, b"next"))
    assert client.read() == Frame(PONG, b"next")


# Fragments ------------------------------------------------------------------------------------------------------


def test_fragments_become_one_message(client: Client) -> None:
    """Empty ones too."""
    client.send(
        frame(TEXT, b"", fin=False), frame(CONTINUATION, b"frag", fin=False), frame(CONTINUATION, b"", fin=False),
        frame(CONTINUATION, b"ment", fin=False), frame(CONTINUATION),
    )  # fmt: skip
    assert inflated(client.read()) == (TEXT, b"fragment")


def test_control_frames_between_fragments_are_dealt_with_at_once(client: Client) -> None:
    """RFC 6455, 5.4: before the message is complete."""
    client.send(frame(BINARY, b"a", fin=False), frame(PING, b"p"))
    assert client.read() == Frame(PONG, b"p")
    client.send(frame(CONTINUATION, b"b", fin=False), frame(PONG, b"q"), frame(PING, b"r"), frame(CONTINUATION, b"c"))
    assert client.read() == Frame(PONG, b"r")
    assert inflated(client.read()) == (BINARY, b"abc")


def test_a_close_frame_between_fragments_ends_the_connection(client: Client) -> None:
    """The message that was not finished never arrives."""
    client.send(frame(TEXT, b"a", fin=False), close(1000))
    assert client.close_code() == 1000


# What breaks the protocol ---------------------------------------------------------------------------------------

BAD_FRAMES = {
    "a reserved bit": frame(TEXT, b"x", rsv=1),
    "another reserved bit": frame(BINARY, b"x", rsv=2),
    "two reserved bits": frame(TEXT, b"x", rsv=3),
    "a reserved bit on a ping": frame(PING, b"x", rsv=2),
    "compressed ping": frame(PING, b"x", rsv=4),
    "compressed close": frame(CLOSE, b"\x03\xe8", rsv=4),
    "compressed continuation": frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"y", rsv=4),
    **{f"opcode {opcode}": frame(opcode, b"x") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "opcode 3 without payload": frame(3),
    "opcode 11 not final": frame(11, fin=False),
    "no mask": frame(TEXT, b"x", mask=None),
    "a ping without mask": frame(PING, b"x", mask=None),
    "a ping of 126 bytes": frame(PING, b"x" * 126),
    "a pong of 126 bytes": frame(PONG, b"x" * 126),
    "a close of 126 bytes": frame(CLOSE, b"\x03\xe8" + b"x" * 124),
    "a ping in fragments": frame(PING, b"x", fin=False),
    "a pong in fragments": frame(PONG, b"x", fin=False),
    "a close in fragments": frame(CLOSE, b"\x03\xe8", fin=False),
    "a continuation of nothing": frame(CONTINUATION, b"x"),
    "an unfinished continuation of nothing": frame(CONTINUATION, b"x", fin=False),
    "a message inside a message": frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"),
    "a binary message inside a text message": frame(TEXT, b"x", fin=False) + frame(BINARY, b"y"),
    "a length of two bytes that one would hold": frame(TEXT, b"x", length_bytes=2),
    "a length of eight bytes that two would hold": frame(TEXT, b"x" * 200, length_bytes=8),
    "a length with the highest bit": frame(TEXT, declared=1 << 63, length_bytes=8),
    "a close frame of one byte": frame(CLOSE, b"\x03"),
}


@pytest.mark.parametrize("bad", BAD_FRAMES.values(), ids=BAD_FRAMES)
@pytest.mark.parametrize("chop", [False, True], ids=["whole", "byte by byte"])
def test_what_came_before_a_bad_frame_is_answered_and_then_1002(client: Client, bad: bytes, chop: bool) -> None:
    """In that order, and nothing that comes after is looked at."""
    good = frame(TEXT, b"before") + frame(PING, b"too")
    data = good + bad + (b"" if chop else frame(TEXT, b"after"))
    pieces = [data[at : at + 1] for at in range(len(data))] if chop else [data]
    for piece in pieces:
        client.try_to_send(piece)
    (message, pong), code, reason = client.ending()
    assert (inflated(message), pong) == ((TEXT, b"before"), Frame(PONG, b"too"))
    assert code == 1002
    assert reason


def test_without_an_agreement_a_compressed_frame_is_1002(server: Server) -> None:
    """RSV1 means nothing then."""
    with server.connect() as client:
        client.send(frame(TEXT, deflated(b"hello"), rsv=4))
        assert client.close_code() == 1002


# Text -----------------------------------------------------------------------------------------------------------

GOOD_TEXTS = [
    "Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\x00", "\x7f", "\x80", "\u07ff", "\u0800", "\uffff", "\U00010000",
    "\U0010ffff", "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\U0001fffe", "\ufeffbom",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD_TEXTS, ids=ascii)
@pytest.mark.parametrize("way", ["whole", "fragments of a byte", "segments of a byte"])
def test_good_utf8_comes_back_however_it_is_cut(client: Client, text: str, way: str) -> None:
    """Also inside a character."""
    data = text.encode()
    if way == "fragments of a byte":
        client.send(frame(TEXT, fin=False), *[frame(CONTINUATION, bytes([byte]), fin=False) for byte in data])
        client.send(frame(CONTINUATION))
    else:
        stream = frame(TEXT, data)
        for piece in [stream] if way == "whole" else [stream[at : at + 1] for at in range(len(stream))]:
            client.send(piece)
    assert inflated(client.read()) == (TEXT, data)


BAD_TEXTS = {
    "a stray continuation byte": b"\x80",
    "bytes that never occur": b"\xfe\xff",
    "a surrogate": b"\xed\xa0\x80",
    "a pair of surrogates": b"\xed\xa1\x8c\xed\xbe\xb4",
    "an overlong slash": b"\xc0\xaf",
    "an overlong null": b"\xe0\x80\x80",
    "an overlong of four bytes": b"\xf0\x8f\xbf\xbf",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "a character that is broken off": "κ".encode()[:1] + b"a",
}


@pytest.mark.parametrize("bad", BAD_TEXTS.values(), ids=BAD_TEXTS)
@pytest.mark.parametrize("way", ["whole", "fragments of a byte"])
def test_bad_utf8_is_1007(client: Client, bad: bytes, way: str) -> None:
    """After what came before was answered."""
    client.send(frame(TEXT, b"before"))
    if way == "whole":
        client.send(frame(TEXT, b"good " + bad + b" good"))
    else:
        client.send(frame(TEXT, b"good ", fin=False))
        client.try_to_send(b"".join(frame(CONTINUATION, bytes([byte]), fin=False) for byte in bad + b" good"))
    (message,), code, _ = client.ending()
    assert (inflated(message), code) == ((TEXT, b"before"), 1007)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_text_that_ends_inside_a_character_is_1007(client: Client, cut: int) -> None:
    """In a frame or at the last fragment."""
    client.send(frame(TEXT, b"a", fin=False), frame(CONTINUATION, "😀".encode()[:cut]))
    assert client.close_code() == 1007


@pytest.mark.parametrize("way", ["unfinished frame", "unfinished fragment", "unfinished message"])
def test_bad_utf8_fails_at_once_although_more_is_to_come(client: Client, way: str) -> None:
    """RFC 6455, 8.1: nobody waits for the rest."""
    bad = b"good \xf4\x90"
    if way == "unfinished message":
        client.send(frame(TEXT, bad, fin=False))
    else:
        client.send(frame(TEXT, bad + b"x" * 90_000, fin=way == "unfinished frame")[: len(bad) + 14])
    assert client.close_code() == 1007


def test_binary_messages_may_hold_anything(client: Client) -> None:
    """UTF-8 is no matter there."""
    client.send(frame(BINARY, b"\xff\xfe", fin=False), frame(CONTINUATION, b"\xed\xa0\x80"))
    assert inflated(client.read()) == (BINARY, b"\xff\xfe\xed\xa0\x80")


# Close codes ----------------------------------------------------------------------------------------------------

GOOD_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
BAD_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


@pytest.mark.parametrize("code", GOOD_CODES)
def test_a_good_close_code_is_echoed(server: Server, client: Client, code: int) -> None:
    """And told to the core with its reason."""
    client.send(close(code, "wärum".encode()))
    assert client.close_code() == code
    client.sock.close()
    assert server.wait(server.connections[-1].wait_closed())[:2] == (code, "wärum")


@pytest.mark.parametrize("code", BAD_CODES)
def test_a_bad_close_code_is_1002(client: Client, code: int) -> None:
    """RFC 6455, 7.4."""
    client.send(close(code))
    assert client.close_code() == 1002


def test_a_close_without_a_code_is_answered_in_kind(client: Client) -> None:
    """An empty close frame for an empty close frame."""
    client.send(close(None))
    assert client.close_code() is None


def test_a_close_of_125_bytes_is_good(client: Client) -> None:
    """The longest there is."""
    client.send(close(1000, b"*" * 123))
    assert client.ending() == ([], 1000, "*" * 123)


def test_a_reason_that_is_no_utf8_is_1007(client: Client) -> None:
    """RFC 6455, 5.5.1."""
    client.send(close(1000, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"))
    assert client.close_code() == 1007


@pytest.mark.parametrize("after", [frame(TEXT, b"x"), frame(PING, b"x"), close(1000), b"\xff" * 100_000])
def test_what_comes_after_a_close_frame_is_ignored(server: Server, client: Client, after: bytes) -> None:
    """At once and later; the client still gets its answer."""
    handled = len(server.messages)
    client.send(close(1000) + after)
    assert client.read().opcode == CLOSE
    client.try_to_send(after)
    with pytest.raises(EOFError):
        client.read()
    assert len(server.messages) == handled


# permessage-deflate ---------------------------------------------------------------------------------------------


@pytest.fixture
def deflating(server: Server) -> Iterator[Client]:
    with server.connect(extensions=DEFLATE) as connected:
        yield connected


@pytest.mark.parametrize("size", [0, 1, 64, 1000, 16_384, 131_072, 1_000_000])
@pytest.mark.parametrize("parts", [1, 3, 40])
def test_compressed_messages_come_back_compressed(deflating: Client, size: int, parts: int) -> None:
    """In one frame or in fragments, of which only the first has RSV1 (RFC 7692, 6.1)."""
    payload = (b"the quick brown fox " * (size // 20 + 1))[:size]
    data = deflated(payload, 12)
    step = max(1, -(-len(data) // parts))
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    for at, piece in enumerate(pieces):
        last = at == len(pieces) - 1
        deflating.send(frame(CONTINUATION if at else BINARY, piece, fin=last, rsv=0 if at else 4))
        if not last:
            deflating.send(frame(PING, b"between"))  # must not disturb the inflating
            assert deflating.read() == Frame(PONG, b"between")
    answer = deflating.read()
    assert inflated(answer) == (BINARY, payload)
    assert size < 64 or (answer.rsv == 4 and len(answer.payload) < size)


def test_the_clients_window_lasts_over_messages(deflating: Client) -> None:
    """Unless the client says otherwise (RFC 7692, 7.1.1.2)."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -12)
    sizes = []
    for _ in range(5):
        data = (compressor.compress(BYTES) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        sizes.append(len(data))
        deflating.send(frame(BINARY, data, rsv=4))
        assert inflated(deflating.read()) == (BINARY, BYTES)
    assert sizes[-1] < sizes[0] / 5, "otherwise it has not been put to use"


def test_compressed_and_uncompressed_messages_may_alternate(deflating: Client) -> None:
    """RSV1 is per message."""
    for _ in range(3):
        deflating.send(frame(TEXT, b"plain"), frame(TEXT, deflated(b"pressed"), rsv=4))
        assert [inflated(deflating.read())[1] for _ in range(2)] == [b"plain", b"pressed"]


@pytest.mark.parametrize(
    "data",
    [
        b"\xf2\x48\xcd\xc9\xc9\x07\x00",  # RFC 7692, 7.2.3.1
        b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",  # 7.2.3.3: a block with no compression
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",  # 7.2.3.4: a final block
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",  # 7.2.3.5: two blocks
        deflated(b"Hello", level=0),
        deflated(b"Hello", level=9),
    ],
)
def test_the_rfcs_examples_inflate(deflating: Client, data: bytes) -> None:
    """Every form of deflate block; a second message shows that the state is sound."""
    deflating.send(frame(TEXT, data, rsv=4), frame(TEXT, deflated(b"again", level=1), rsv=4))
    assert [inflated(deflating.read())[1] for _ in range(2)] == [b"Hello", b"again"]


@pytest.mark.parametrize("data", [b"\x06", b"\xff" * 20, b"\x00\x05\x00\x00\x00"])
def test_what_is_no_deflate_data_is_1007(deflating: Client, data: bytes) -> None:
    """After the answers to what came before."""
    deflating.send(frame(TEXT, b"before"), frame(TEXT, data, rsv=4))
    (message,), code, _ = deflating.ending()
    assert (inflated(message)[1], code) == (b"before", 1007)


def test_bad_utf8_is_found_in_compressed_text_too(deflating: Client) -> None:
    """As soon as it is inflated."""
    deflating.send(frame(TEXT, deflated(b"good \xff bad"), rsv=4, fin=False))
    assert deflating.close_code() == 1007
