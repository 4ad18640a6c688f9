"""The section ``jwt``: unusable and unsafe settings are refused, and the port stays closed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from installations import clean_environment
from jwt_issuer import SECRET, ec_key, jwk, jwks, private_pem, public_pem, rsa_key
from zcli_jwt.strategy import make_strategy

from zcli_core.errors import ConfigError
from zcli_core.testing.contract import make_context

pytestmark = pytest.mark.usefixtures("isolated")


def complaint(**settings: Any) -> str:
    """Return the error of the strategy for these settings."""
    with pytest.raises(ConfigError) as error:
        make_strategy(make_context(jwt=settings))
    assert SECRET not in str(error.value)
    return str(error.value)


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Makes files."""

    def make(data: bytes, name: str = "key") -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return make


def test_config_without_a_key_is_refused() -> None:
    """The error names the settings, and where the strategy was selected."""
    with pytest.raises(ConfigError) as error:
        make_strategy(make_context(websocket={"auth": ["jwt"]}))
    assert str(error.value) == (
        "websocket.auth (zSpark) uses JSON Web Tokens, but no key is set, so no client could connect; "
        "set one of jwt.secret, jwt.public_key_file, jwt.jwks_file, jwt.jwks_url, for example in .zEnv "
        "(no such file was found)"
    )


def test_config_two_keys_are_refused(
    file: Callable[..., Path], isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names both settings with their origins."""
    monkeypatch.setenv("ZCLI_JWT_SECRET", SECRET)
    found = complaint(public_key_file=str(file(public_pem(rsa_key()))))
    assert found.startswith(
        "jwt.secret (ZCLI_JWT_SECRET) and jwt.public_key_file (zSpark) are set; set only one of them"
    )


@pytest.mark.parametrize("secret", ["", "letmein", "x" * 31, "ü" * 15])
def test_config_short_secret_is_refused(secret: str) -> None:
    """RFC 7518, 3.2: it needs as many bytes as the hash; the error contains their number and not the secret."""
    found = complaint(secret=secret)
    assert f"must have at least 32 bytes, got {len(secret.encode())} (RFC" in found
    assert "jwt.secret (zSpark)" in found
    assert not secret or secret not in found


def test_config_secret_of_32_bytes_is_accepted() -> None:
    """The length counts bytes, not characters."""
    for secret in ("x" * 32, "ü" * 16):
        assert make_strategy(make_context(jwt={"secret": secret}))


def test_config_public_key_as_secret_is_refused() -> None:
    """Every owner of the public key could sign tokens with it."""
    for text in (public_pem(rsa_key()).decode(), json.dumps(jwk(rsa_key()))):
        found = complaint(secret=text)
        assert "put a public key into a file" in found
        assert text[50:80] not in found


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(private_pem(rsa_key()), "contains a private key", id="private"),
        pytest.param(private_pem(ec_key()), "contains a private key", id="private, EC"),
        pytest.param(b"-----BEGIN RSA PRIVATE KEY-----\nx", "contains a private key", id="private, PKCS 1"),
        pytest.param(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nx", "contains a private key", id="private, encrypted"),
        pytest.param(public_pem(rsa_key()) + private_pem(rsa_key()), "contains a private key", id="both"),
        pytest.param(b"-----BEGIN CERTIFICATE-----\nx", "contains a certificate", id="certificate"),
        pytest.param(b"", "no public key in PEM format", id="empty"),
        pytest.param(b"\xff\0" * 100, "no public key in PEM format", id="binary"),
        pytest.param(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key", id="broken"),
        pytest.param(
            public_pem(rsa_key("small", 1024)), "an RSA key must have 2048 to 8192 bits, got 1024", id="RSA, small"
        ),
        pytest.param(
            public_pem(ec_key("other", ec.SECP384R1)), "the curve must be P-256 (ES256), got secp384r1", id="P-384"
        ),
        pytest.param(public_pem(ed25519.Ed25519PrivateKey.generate()), "must be an RSA key or a key on", id="Ed25519"),
    ],
)
def test_config_invalid_public_key_file_is_refused(data: bytes, expected: str, file: Callable[..., Path]) -> None:
    """The error names the setting, its origin, the file and the problem."""
    path = file(data)
    found = complaint(public_key_file=str(path))
    assert found.startswith(f"jwt.public_key_file (zSpark): {path}: ")
    assert expected in found


@pytest.mark.parametrize("name", ["public_key_file", "jwks_file"])
def test_config_unreadable_file_is_refused(name: str, tmp_path: Path) -> None:
    """The file is missing or a folder."""
    assert f"jwt.{name} (zSpark): {tmp_path / 'x'}: cannot read the file: No such file" in complaint(
        **{name: tmp_path / "x"}
    )
    assert "cannot read the file: " in complaint(**{name: tmp_path})


def _keys(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", "not a JSON Web Key Set", id="empty"),
        pytest.param(b"\xff", "not a JSON Web Key Set", id="no text"),
        pytest.param(b"[" * 100_000, "not a JSON Web Key Set", id="deep"),
        pytest.param(b"[]", "not a JSON Web Key Set", id="a list"),
        pytest.param(b'{"keys": {}}', "not a JSON Web Key Set", id="keys that are an object"),
        pytest.param(json.dumps(jwk(rsa_key())).encode(), "not a JSON Web Key Set", id="one key"),
        pytest.param(_keys(), "no key for RS256 or ES256 found (the key set is empty)", id="no keys"),
        pytest.param(_keys(1, None, "x"), "key 1 ignored: not a JSON object; key 2 ignored: not", id="no objects"),
        pytest.param(
            _keys({"kty": "oct", "k": "c2VjcmV0", "kid": "s"}), "key 1 ('s') ignored: a symmetric key", id="a secret"
        ),
        pytest.param(
            _keys(jwk(rsa_key(), "p", private=True)), "key 1 ('p') ignored: a private key", id="a private key"
        ),
        pytest.param(_keys(jwk(ec_key(), private=True)), "key 1 ignored: a private key", id="a private EC key"),
        pytest.param(
            _keys(jwk(rsa_key(), use="enc")), "key 1 ignored: not for verifying signatures", id="for encryption"
        ),
        pytest.param(
            _keys(jwk(rsa_key(), key_ops=["encrypt"])), "not for verifying signatures", id="not to verify with"
        ),
        pytest.param(_keys(jwk(rsa_key(), key_ops=7)), "not for verifying signatures", id="operations a number"),
        pytest.param(_keys(jwk(rsa_key(), alg="RS512")), "for another algorithm", id="another algorithm"),
        pytest.param(_keys(jwk(rsa_key(), alg="HS256")), "for another algorithm", id="said to be for HS256"),
        pytest.param(_keys(jwk(rsa_key("small", 1024))), "bits, got 1024", id="small"),
        pytest.param(_keys(jwk(ec_key("other", ec.SECP384R1))), "got secp384r1", id="another curve"),
        pytest.param(_keys({"kty": "RSA"}), "invalid key parameters", id="no numbers"),
        pytest.param(_keys({"kty": "RSA", "n": 7, "e": []}), "invalid key parameters", id="numbers of other types"),
        pytest.param(_keys({"kty": "RSA", "n": "!", "e": "AQAB"}), "key 1 ignored: ", id="no base64"),
        pytest.param(
            _keys({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}), "invalid key parameters", id="no point"
        ),
        pytest.param(_keys({**jwk(ec_key()), "x": "A" * 43}), "invalid key parameters", id="a point off the curve"),
        pytest.param(_keys({"kty": ["RSA"]}), "unsupported key type", id="a type that is a list"),
        pytest.param(_keys(jwk(rsa_key(), kid=None) | {"kid": 7}), "kid must be a string", id="kid a number"),
        pytest.param(jwks(one=rsa_key()) + b" " * 300_000, "larger than 262144 bytes", id="huge"),
    ],
)
def test_config_invalid_key_set_file_is_refused(data: bytes, expected: str, file: Callable[..., Path]) -> None:
    """The error names the problem of each key, up to five."""
    path = file(data)
    found = complaint(jwks_file=str(path))
    assert found.startswith(f"jwt.jwks_file (zSpark): {path}: ")
    assert expected in found


def test_config_ignored_keys_are_logged(file: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    """A published private key is the most important example."""
    make_strategy(
        make_context(jwt={"jwks_file": str(file(_keys(jwk(rsa_key(), "a"), jwk(ec_key(), "b", private=True))))})
    )
    assert "key 2 ('b') ignored: a private key was published" in caplog.text


@pytest.mark.parametrize("algorithm", ["none", "NONE", "HS512", "RS512", "hs256", ""])
def test_config_other_algorithms_are_refused(algorithm: str) -> None:
    """``none`` is refused too."""
    with pytest.raises(ConfigError, match=r"jwt\.algorithms must be a list of HS256, RS256, ES256, got .* from zSpark"):
        make_context(jwt={"secret": SECRET, "algorithms": [algorithm]})


def test_config_algorithm_must_match_the_key(file: Callable[..., Path]) -> None:
    """HS256 with a public key would allow key confusion."""
    rsa_file, ec_file = file(public_pem(rsa_key()), "rsa"), file(public_pem(ec_key()), "ec")
    key_set = file(jwks(a=ec_key()), "set")
    found = complaint(public_key_file=rsa_file, algorithms=["HS256"])
    assert found == ("jwt.algorithms (zSpark) contains HS256, but the key of jwt.public_key_file (zSpark) is for RS256")
    assert "contains ES256, but the key" in complaint(public_key_file=rsa_file, algorithms=["RS256", "ES256"])
    assert "is for ES256" in complaint(public_key_file=ec_file, algorithms=["RS256"])
    assert "is for RS256 or ES256" in complaint(jwks_file=key_set, algorithms=["HS256", "ES256"])
    assert "the key of jwt.secret (zSpark) is for HS256" in complaint(secret=SECRET, algorithms=["RS256"])


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/jwks.json", "http://10.0.0.1/jwks.json", "ftp://127.0.0.1/", "file:///etc/jwks.json",
        "https://", "issuer.example", "https://user:pass@issuer.example/", "https://issuer.example:port/",
        "https://issuer.example/a b", "https://issuer.example/\r\nX: y", "https://[::1", "http://127.0.0.1.example/",
        "http://localhost.example/", "https://ïssuer.example/", "",
    ],
)  # fmt: skip
def test_config_unsafe_jwks_url_is_refused(url: str) -> None:
    """Keys that come over plain HTTP from another machine could be replaced on the way."""
    with pytest.raises(ConfigError, match=r"jwt\.jwks_url.*https://"):
        make_context(jwt={"jwks_url": url})


def test_config_safe_jwks_url_is_accepted() -> None:
    """https:// anywhere, and http:// on this machine."""
    for url in (
        "https://issuer.example/a/jwks.json?x=1",
        "http://127.0.0.1:8080/",
        "http://localhost/",
        "http://[::1]/",
    ):
        assert make_context(jwt={"jwks_url": url}).config.get("jwt.jwks_url") == url


def test_config_empty_identity_claim_is_refused() -> None:
    """An empty name is an error."""
    assert "jwt.identity_claim (zSpark) must not be empty" in complaint(secret=SECRET, identity_claim="")


def test_server_without_a_key_does_not_start(isolated: Path) -> None:
    """The start raises the error, and the port stays closed."""
    from zcli_core.app import zCLI

    settings = {"websocket": {"require_auth": True, "auth": ["jwt"]}, "logger_path": str(isolated)}
    with zCLI({**settings, "deployment": "Testing"}) as z, pytest.raises(ConfigError, match="no key is set"):
        z.comm.websocket.start_background(port=0)


def test_unused_jwt_loads_no_cryptography(tmp_path: Path) -> None:
    """Only the section of settings is declared."""
    code = (
        "import sys; from zCLI import zCLI; z = zCLI({'deployment': 'Testing'}); z.config.jwt; "
        "print([name for name in ('jwt', 'cryptography', 'ssl', 'zcli_jwt.strategy') if name in sys.modules])"
    )
    environment = clean_environment(os.environ, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"
