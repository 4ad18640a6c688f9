"""The throttle: how many wrong credentials an address may send."""

from __future__ import annotations

import asyncio

import pytest

from zcli_core.websocket.addresses import Networks, throttled_networks
from zcli_core.websocket.parts.addresses import address_key
from zcli_core.websocket.throttle import MAX_ADDRESSES, FailureThrottle


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _throttle(limit: int = 3, window: float = 60.0) -> tuple[FailureThrottle, Clock]:
    clock = Clock()
    return FailureThrottle(limit, window, clock), clock


def _at(host: str) -> Networks:
    return throttled_networks((host, 50000))


ONE, TWO = _at("192.0.2.1"), _at("192.0.2.2")


def test_throttle_limit_reached_waits() -> None:
    """Until the oldest failure has left the window."""
    throttle, clock = _throttle()
    for _ in range(3):
        assert throttle.wait(ONE) == 0
        throttle.failed(ONE)
        clock.now += 10
    assert throttle.wait(ONE) == 30
    clock.now += 30
    assert throttle.wait(ONE) == 0
    throttle.failed(ONE)
    assert throttle.wait(ONE) == 10


def test_throttle_addresses_are_separate() -> None:
    throttle, _ = _throttle(limit=1)
    throttle.failed(ONE)
    assert throttle.wait(ONE) > 0
    assert throttle.wait(TWO) == 0


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:2", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_throttle_ipv6_64_is_one_address(host: str, key: str) -> None:
    """A customer gets a /64, which has more addresses than could be remembered."""
    assert address_key((host, 50000)) == key


def test_throttle_unix_socket_is_one_address() -> None:
    """Its clients have no address."""
    assert address_key(None) == "unix"


def _subnet(number: int, size: int) -> Networks:
    """Return the networks of an address in another subnet, of that size, of one /48."""
    return _at(f"2001:db8:0:{number << (64 - size):x}::1")


@pytest.mark.parametrize(("size", "admitted"), [(64, 8), (56, 32)])
def test_throttle_counts_larger_ipv6_networks(size: int, admitted: int) -> None:
    """A /56 or /48 gets a few times as many guesses, not one limit for each /64 in it."""
    throttle, clock = _throttle(limit=2)
    guesses = 0
    for number in range(250):
        while not throttle.wait(_subnet(number, size)):
            throttle.failed(_subnet(number, size))
            guesses += 1
    assert guesses == admitted
    assert throttle.wait(_at("2001:db8:1::1")) == 0
    clock.now += 60
    assert throttle.wait(_subnet(0, size)) == 0


def test_throttle_mapped_address_is_ipv4() -> None:
    """A dual-stack socket shows mapped addresses."""
    assert _at("::ffff:192.0.2.1") == ONE
    assert throttled_networks(None) == throttled_networks(None)


def test_throttle_memory_is_bounded() -> None:
    """Time empties it, and so does the end of each address's window."""
    throttle, clock = _throttle(limit=1)
    for number in range(MAX_ADDRESSES + 50):
        throttle.failed(_at(f"host-{number}"))
    assert len(throttle) == MAX_ADDRESSES
    last = _at(f"host-{MAX_ADDRESSES}")
    assert throttle.wait(last) > 0
    clock.now += 61
    assert throttle.wait(last) == 0
    assert len(throttle) == MAX_ADDRESSES - 1


def test_throttle_keeps_throttled_addresses() -> None:
    """One failure from each of thousands of addresses does not displace an address that is throttled."""
    throttle, _ = _throttle(limit=2)
    throttle.failed(ONE)
    throttle.failed(ONE)
    for number in range(MAX_ADDRESSES + 50):
        throttle.failed(_at(f"host-{number}"))
    assert throttle.wait(ONE) > 0
    assert len(throttle) == MAX_ADDRESSES + 1


# --- places ---


def test_throttle_begin_waits_for_other_checks() -> None:
    """As many credentials are checked at once as may fail; a success lets the next one begin."""

    async def main() -> None:
        throttle, _ = _throttle(limit=2)
        assert await throttle.begin(ONE) == 0
        assert await throttle.begin(ONE) == 0
        assert await throttle.begin(TWO) == 0
        waiting = [asyncio.ensure_future(throttle.begin(ONE)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        waiting.pop(0).cancel()
        throttle.end(ONE, failed=False)
        assert await waiting[0] == 0
        assert not waiting[1].done()
        throttle.end(ONE, failed=True)
        await asyncio.sleep(0)
        assert not waiting[1].done()
        throttle.end(ONE, failed=True)
        assert await waiting[1] == 60
        throttle.end(TWO, failed=False)
        assert not throttle._pending
        assert not throttle._waiting

    asyncio.run(main())


def test_throttle_begin_counts_ipv6_networks() -> None:
    """Simultaneous guesses from many /64 of one /48 are limited too."""

    async def main() -> None:
        throttle, _ = _throttle(limit=1)
        tasks = [asyncio.ensure_future(throttle.begin(_subnet(number, 56))) for number in range(50)]
        await asyncio.sleep(0)
        assert [task.done() for task in tasks] == [True] * 16 + [False] * 34
        throttle.end(_subnet(0, 56), failed=False)
        await asyncio.sleep(0)
        assert sum(task.done() for task in tasks) == 17
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
