"""The throttle: how often an address may be wrong."""

from __future__ import annotations

import pytest

from zcli_core.comm.websocket.addresses import address_key
from zcli_core.comm.websocket.throttle import MAX_ADDRESSES, FailureThrottle


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _throttle(limit: int = 3, window: float = 60.0) -> tuple[FailureThrottle, Clock]:
    clock = Clock()
    return FailureThrottle(limit, window, clock), clock


def test_an_address_may_be_wrong_as_often_as_the_limit_says() -> None:
    """Then it has to wait until the oldest failure has left the window."""
    throttle, clock = _throttle()
    for _ in range(3):
        assert throttle.wait("192.0.2.1") == 0
        throttle.failed("192.0.2.1")
        clock.now += 10
    assert throttle.wait("192.0.2.1") == 30
    clock.now += 30
    assert throttle.wait("192.0.2.1") == 0
    throttle.failed("192.0.2.1")
    assert throttle.wait("192.0.2.1") == 10


def test_addresses_do_not_answer_for_each_other() -> None:
    """Only whoever was wrong waits."""
    throttle, _ = _throttle(limit=1)
    throttle.failed("192.0.2.1")
    assert throttle.wait("192.0.2.1") > 0
    assert throttle.wait("192.0.2.2") == 0


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
def test_an_ipv6_network_is_one_address(host: str, key: str) -> None:
    """A customer is given a /64, which holds more addresses than could be remembered."""
    assert address_key((host, 50000)) == key


def test_a_unix_socket_is_one_address() -> None:
    """Its clients have none to be told apart by."""
    assert address_key(None) == "unix"


def test_memory_is_bounded_and_what_is_over_is_forgotten() -> None:
    """A crowd of addresses pushes out those that failed longest ago, and time empties it."""
    throttle, clock = _throttle(limit=1)
    for number in range(MAX_ADDRESSES + 50):
        throttle.failed(f"host-{number}")
    assert len(throttle._failures) == MAX_ADDRESSES
    assert throttle.wait("host-0") == 0
    assert throttle.wait(f"host-{MAX_ADDRESSES}") > 0
    clock.now += 61
    assert throttle.wait(f"host-{MAX_ADDRESSES}") == 0
    assert f"host-{MAX_ADDRESSES}" not in throttle._failures
