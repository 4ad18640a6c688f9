"""An issuer of JSON Web Tokens, valid and forged, and a server that publishes its keys or fails to."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from zcli_core.testing.auth import make_request
from zcli_core.websocket.contract import Request

DEADLINE = 20.0
SECRET = "a-secret-of-the-tests-with-more-than-32-bytes"


_pairs: dict[tuple[Any, ...], Any] = {}


def rsa_key(name: str = "first", bits: int = 2048) -> Any:
    """Return an RSA key pair, the same one for the same name."""
    if (name, bits) not in _pairs:
        _pairs[name, bits] = rsa.generate_private_key(65537, bits)
    return _pairs[name, bits]


def ec_key(name: str = "first", curve: type[ec.EllipticCurve] = ec.SECP256R1) -> Any:
    """Return a key pair on a curve, the same one for the same name."""
    if (name, curve) not in _pairs:
        _pairs[name, curve] = ec.generate_private_key(curve())
    return _pairs[name, curve]


def public_pem(key: Any) -> bytes:
    """Return the public key of a pair in PEM."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: Any) -> bytes:
    """Return a key pair in PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def jwk(key: Any, kid: str | None = None, **more: Any) -> dict[str, Any]:
    """Return the public key of a pair as a JSON Web Key, or the whole pair with ``private=True``."""
    key = key if more.pop("private", False) else key.public_key()
    family = RSAAlgorithm if isinstance(key, (rsa.RSAPublicKey, rsa.RSAPrivateKey)) else ECAlgorithm
    shown = family.to_jwk(key, as_dict=True)
    shown.pop("key_ops", None)
    return {**shown, **({} if kid is None else {"kid": kid}), **more}


def jwks(**keys: Any) -> bytes:
    """Return a key set of these key pairs, by their kid."""
    return json.dumps({"keys": [jwk(key, kid) for kid, key in keys.items()]}).encode()


# Tokens ----------------------------------------------------------------------------------------------------------


def token(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **claims: Any) -> str:
    """Return a valid token for alice, for an hour unless the claims say otherwise; None removes a claim."""
    claims = {"sub": "alice", "exp": time.time() + 3600, **claims}
    return jwt.encode(
        {name: value for name, value in claims.items() if value is not None},
        key,
        algorithm,
        headers=None if kid is None else {"kid": kid},
    )


def forged(header: Any, claims: Any, key: bytes | None = SECRET.encode()) -> str:
    """Return a token of any header and claims, as objects or JSON text, signed with HS256 or, for None, unsigned."""
    signed = f"{_part(header)}.{_part(claims)}"
    signature = b"" if key is None else hmac.digest(key, signed.encode(), hashlib.sha256)
    return f"{signed}.{_encoded(signature)}"


def _part(value: Any) -> str:
    return _encoded(value.encode() if isinstance(value, str) else json.dumps(value).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def showing(shown: str) -> Request:
    """Return a request with a token in its query."""
    return make_request(query=f"token={shown}")


def eventually(condition: Callable[[], Any]) -> Any:
    """Return the result of the condition once it is true."""
    end = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)
    return found


# A server that publishes keys -------------------------------------------------------------------------------------


class KeyServer:
    """Publishes ``body`` with ``status`` at its ``url`` and counts the ``requests``.

    ``behave(handler)``, if it is set, responds instead.
    """

    def __init__(self, body: bytes = b"", tls: ssl.SSLContext | None = None) -> None:
        self.body, self.status, self.headers = body, 200, {"Content-Type": "application/json"}
        self.behave: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.requests = 0
        place = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                place.requests += 1
                with contextlib.suppress(OSError):  # the client may have closed the connection
                    if place.behave is not None:
                        place.behave(self)
                        return
                    self.send_response(place.status)
                    for name, value in {**place.headers, "Content-Length": str(len(place.body))}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(place.body)

            do_CONNECT = do_GET

            def log_message(self, *_: Any) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None: ...

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}/jwks.json?tenant=1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> KeyServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def hanging(server: KeyServer) -> Iterator[None]:
    """Let the server accept requests but send no response inside the block."""
    over = threading.Event()
    server.behave = lambda handler: over.wait(DEADLINE) and None
    try:
        yield
    finally:
        server.behave = None
        over.set()


def write(path: Path, data: bytes) -> Path:
    """Replace a file in one step, as deployments do."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    return fresh.replace(path)
