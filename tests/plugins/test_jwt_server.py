"""The strategy ``jwt`` in a real server: which clients are admitted, and what is logged about the others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jwt_issuer import (
    DEADLINE,
    SECRET,
    KeyServer,
    ec_key,
    eventually,
    forged,
    hanging,
    jwks,
    public_pem,
    rsa_key,
    showing,
    token,
)
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from zcli_core.app import zCLI
from zcli_core.testing.auth import make_request
from zcli_core.testing.auth_server import connecting
from zcli_core.websocket.contract import Request

ALICE = {"sub": "alice", "exp": int(time.time()) + 3600}
HS256 = {"alg": "HS256", "typ": "JWT"}


class Door:
    """A server whose clients need a token."""

    def __init__(self, settings: dict[str, Any], folder: Path) -> None:
        websocket = {"require_auth": True, "auth": ["jwt"], "max_auth_failures": 1000, "max_refusal_delay": 0}
        websocket |= settings.pop("websocket", {})
        quiet = {"title": "door", "deployment": "Production", "logger": "PROD", "logger_path": str(folder)}
        self.z = zCLI({**quiet, "websocket": websocket, "jwt": settings})
        self._log = folder / "door.log"
        port = self.z.comm.websocket.start_background(port=0).port
        assert port is not None
        self.port = port

    def log(self) -> str:
        """Return everything that was logged so far."""
        return self._log.read_text("utf-8")

    def admits(self, request: Request | str) -> dict[str, Any] | None:
        """Return the information about an admitted client; None if it is refused with 1008."""
        with connecting(self.port, showing(request) if isinstance(request, str) else request) as result:
            if result.code is not None:
                assert (result.code, result.subprotocol) in ((1008, None), (1008, "bearer"))
                return None
            websocket = self.z.comm.websocket
            (client,) = [each for each in websocket.clients if each.remote_address == result.address]
            known: dict[str, Any] = websocket.auth.get_client_info(client)
            return known

    def refusal(self, shown: str) -> str:
        """Return what the log has about a client that is refused; check that it contains nothing of the token."""
        before = len(self.log())
        assert self.admits(shown) is None
        logged = eventually(lambda: self.log()[before:])
        for part in shown.split("."):
            assert len(part) < 8 or part not in self.log()
        return str(logged)


@pytest.fixture
def door(isolated: Path) -> Iterator[Callable[..., Door]]:
    """Starts servers, which are closed with the test."""
    opened: list[Door] = []

    def make(**settings: Any) -> Door:
        opened.append(Door(settings, isolated / f"log-{len(opened)}"))
        return opened[-1]

    yield make
    for each in opened:
        each.z.close()
        assert "Traceback" not in each.log()


def test_client_info_has_the_claims(door: Callable[..., Door]) -> None:
    """It has the name, the strategy and every claim, and nothing of the token's signature."""
    shown = token(role="admin", email="alice@example.com")
    known = door(secret=SECRET).admits(shown)
    assert known is not None
    assert (known["identity"], known["strategy"]) == ("alice", "jwt")
    assert known["claims"].keys() == {"sub", "exp", "role", "email"}
    assert shown.rpartition(".")[2] not in str(known)


def test_invalid_token_is_refused_and_logged(door: Callable[..., Door], tmp_path: Path) -> None:
    """The log contains the cause and nothing of the token."""
    pem = public_pem(rsa_key())
    (tmp_path / "key.pem").write_bytes(pem)
    of_secret = door(secret=SECRET, audience=["chat"], issuer="https://issuer.example")
    ours = {"aud": "chat", "iss": "https://issuer.example"}
    assert of_secret.admits(token(**ours)) is not None
    for shown, cause in (
        (forged({"alg": "none"}, {**ALICE, **ours}, None), "the token's algorithm must be HS256, got 'none'"),
        (token("another-secret-of-more-than-32-bytes", **ours), "the token's signature is invalid"),
        (token(**ours, exp=time.time() - 100), "the token expired 1"),
        (token(**ours, nbf=time.time() + 100), "the token is not valid yet (nbf or iat)"),
        (token(**{**ours, "aud": "mail"}), "the token is for another audience"),
        (token(**{**ours, "iss": "https://eve.example"}), "the token is from another issuer"),
        (token(**ours, sub=None), "the token has no sub"),
        (forged(HS256, {**ALICE, **ours, "sub": 7}), "the token"),
        (forged(HS256, '{"sub": "eve", "sub": "alice"}'), "the token"),
        (forged({**HS256, "crit": ["exp"]}, {**ALICE, **ours}), "the token requires an extension (crit)"),
        (
            forged(HS256, {**ALICE, **ours}) + "A" * 9000,
            "the token must have at most 8192 bytes (jwt.max_token_bytes), got",
        ),
        ("eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl", "the token's header cannot be decoded"),
    ):
        found = of_secret.refusal(shown)
        assert cause in found, found
        assert "(the auth strategy 'jwt' of the plugin zcli_jwt)" in found
    of_public_key = door(public_key_file=str(tmp_path / "key.pem"))
    assert of_public_key.admits(token(rsa_key(), "RS256")) is not None
    confused = of_public_key.refusal(forged(HS256, ALICE, pem))
    assert "the token's algorithm must be RS256, got 'HS256'" in confused
    assert "signature is invalid" in of_public_key.refusal(token(rsa_key("second"), "RS256"))
    assert SECRET not in of_secret.log()


def test_token_of_a_megabyte_is_refused(door: Callable[..., Door]) -> None:
    """The transport refuses the request, and the next client is served."""
    served = door(secret=SECRET)
    assert "head is over 16384 bytes" in served.refusal(token() + "A" * 1_000_000)
    assert served.admits(token()) is not None


def test_client_without_a_token_is_refused(door: Callable[..., Door]) -> None:
    """A token in another format is refused too."""
    served = door(secret=SECRET)
    for request in (make_request(), showing("a-plain-token"), make_request(headers={"Authorization": "Basic YTpi"})):
        assert served.admits(request) is None
    eventually(lambda: "it sent no credential (jwt)" in served.log())


def test_keys_at_a_url_change_without_a_restart(door: Callable[..., Door]) -> None:
    """A new kid is found, and a removed one is refused."""
    old, new = token(rsa_key(), "RS256", "one"), token(ec_key(), "ES256", "two")
    with KeyServer(jwks(one=rsa_key())) as server:
        served = door(jwks_url=server.url, jwks_interval=0.01, jwks_refresh=0.05)
        assert served.admits(old) is not None
        assert "the unknown key 'two'" in served.refusal(new)
        server.body = jwks(one=rsa_key(), two=ec_key())
        eventually(lambda: served.admits(new))
        assert served.admits(old) is not None
        server.body = jwks(two=ec_key())
        eventually(lambda: served.admits(old) is None)
        assert served.admits(new) is not None


@pytest.mark.parametrize("trouble", ["silent", "500", "gone"])
def test_failing_url_keeps_the_keys(door: Callable[..., Door], trouble: str) -> None:
    """The log has the cause, without the query of the URL."""
    good = token(rsa_key(), "RS256", "one")
    with KeyServer(jwks(one=rsa_key())) as server:
        served = door(jwks_url=server.url, jwks_interval=0.01, jwks_refresh=0.05, jwks_timeout=0.5)
        eventually(lambda: served.admits(good) is not None)
        if trouble == "500":
            server.status = 500
        with hanging(server) if trouble == "silent" else pytest.MonkeyPatch.context():
            if trouble != "gone":
                eventually(lambda: served.admits(good) and "the previous keys stay in use" in served.log())
            assert served.admits(good) is not None
    eventually(lambda: served.admits(good) and "the previous keys stay in use" in served.log())
    assert served.admits(good) is not None
    assert "tenant=1" not in served.log()


def test_clients_without_known_keys_are_refused(door: Callable[..., Door]) -> None:
    """They get 1008 and the cause is logged before open_timeout; once there are keys, clients are admitted."""
    good = token(rsa_key(), "RS256", "one")
    with KeyServer(jwks(one=rsa_key())) as server:
        with hanging(server):
            served = door(jwks_url=server.url, jwks_interval=0.01, jwks_timeout=1)
            began = time.monotonic()
            found = served.refusal(good)
            assert time.monotonic() - began < 9  # open_timeout is 10
            assert "the unknown key 'one'; http://127.0.0.1:" in found
        eventually(lambda: served.admits(good))


def test_auth_jwt_then_token_accepts_both(door: Callable[..., Door]) -> None:
    """A token that is not formatted as a JWT is passed to the next strategy."""
    served = door(secret=SECRET, websocket={"auth": ["jwt", "token"], "token": "the-plain-token"})
    for shown, strategy in ((token(), "jwt"), ("the-plain-token", "token")):
        known = served.admits(shown)
        assert known is not None
        assert known["strategy"] == strategy
    assert "(the auth strategy 'jwt'" in served.refusal(token("another-secret-of-more-than-32-bytes"))
    assert "(the auth strategy 'token'" in served.refusal("another-plain-token")


def test_auth_token_then_jwt_rejects_jwt(door: Callable[..., Door]) -> None:
    """The first strategy that rejects a client decides."""
    served = door(secret=SECRET, websocket={"auth": ["token", "jwt"], "token": "the-plain-token"})
    assert served.admits("the-plain-token") is not None
    assert "unknown token (the auth strategy 'token'" in served.refusal(token())


def test_invalid_tokens_count_as_failed_attempts(door: Callable[..., Door]) -> None:
    """They count like every other wrong credential."""
    served = door(secret=SECRET, websocket={"max_auth_failures": 2})
    served.refusal(token(exp=1))
    served.refusal(token("another-secret-of-more-than-32-bytes"))
    assert "too many wrong credentials" in served.refusal(token())


@pytest.mark.parametrize("closes", [True, False])
def test_connection_ends_with_its_token(door: Callable[..., Door], closes: bool) -> None:
    """It is closed with 1008 when the token would no longer be accepted, unless the setting is off."""
    served = door(secret=SECRET, leeway=0.5, close_at_expiry=closes)
    exp = math.ceil(time.time() + 0.5)  # a JSON Web Token has whole seconds
    with connect(f"ws://127.0.0.1:{served.port}/?token={token(exp=exp)}", proxy=None) as client:
        (connection,) = eventually(lambda: served.z.comm.websocket.clients)
        expires_at = served.z.comm.websocket.auth.get_client_info(connection)["expires_at"]
        if not closes:
            assert expires_at is None
            return
        assert expires_at.timestamp() == exp + 0.5
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=DEADLINE)
        assert time.time() >= exp + 0.5
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "the credential has expired")
