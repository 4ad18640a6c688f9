"""The tokens that the strategy ``jwt`` accepts, and the cause for each one that it rejects."""

from __future__ import annotations

import functools
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt_issuer import SECRET, ec_key, forged, jwks, private_pem, public_pem, rsa_key, showing, token
from zcli_jwt.strategy import JwtStrategy, make_strategy

from zcli_core.auth.contract import Identified, Rejected
from zcli_core.testing.auth import make_request
from zcli_core.testing.contract import make_context

pytestmark = pytest.mark.usefixtures("isolated")
HOUR = 3600
HS256 = {"alg": "HS256", "typ": "JWT"}
LATER = int(time.time()) + HOUR
ALICE = {"sub": "alice", "exp": LATER}


def strategy(**settings: Any) -> JwtStrategy:
    if not {"public_key_file", "jwks_file"} & settings.keys():
        settings["secret"] = SECRET
    made = make_strategy(make_context(jwt=settings))
    assert isinstance(made, JwtStrategy)
    return made


def cause(shown: str, **settings: Any) -> str:
    """Return why a token is rejected."""
    verdict = strategy(**settings).authenticate(showing(shown))
    assert isinstance(verdict, Rejected), verdict
    assert shown not in verdict.cause
    return verdict.cause


def test_valid_token_gives_identity_and_claims() -> None:
    """All claims are there, read only."""
    verdict = strategy().authenticate(showing(token(role="admin", groups=["a", "b"])))
    assert isinstance(verdict, Identified)
    assert verdict.identity == "alice"
    assert {**verdict.claims, "exp": None} == {"sub": "alice", "exp": None, "role": "admin", "groups": ["a", "b"]}
    with pytest.raises(TypeError):
        verdict.claims["role"] = "root"  # type: ignore[index]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        pytest.param(forged({"alg": "none"}, ALICE, None), "algorithm must be HS256, got 'none'", id="alg none"),
        pytest.param(forged({"alg": "nOnE"}, ALICE, None), "algorithm must be HS256, got 'nOnE'", id="alg nOnE"),
        pytest.param(forged({"alg": "none"}, ALICE), "got 'none'", id="alg none and a signature"),
        pytest.param(forged({}, ALICE), "algorithm must be HS256, got a NoneType", id="no alg"),
        pytest.param(forged({"alg": ["HS256"]}, ALICE), "algorithm must be HS256, got a list", id="alg a list"),
        pytest.param(forged({"alg": "HS512"}, ALICE), "algorithm must be HS256, got 'HS512'", id="another alg"),
        pytest.param(forged({"alg": "a\n" * 500}, ALICE), "got 'a\\\\n", id="an alg that would forge a log"),
        pytest.param(forged(HS256, ALICE, None), "signature is invalid", id="no signature"),
        pytest.param(token("x" * 32), "signature is invalid", id="wrong secret"),
        pytest.param(token(exp=time.time() - HOUR), r"expired [3-9]\d\d\d s ago", id="expired"),
        pytest.param(token(exp=time.time() - 2), r"expired \d+ s ago", id="just expired"),
        pytest.param(token(nbf=time.time() + HOUR), "not valid yet", id="not yet valid"),
        pytest.param(token(iat=time.time() + HOUR), "not valid yet", id="issued in the future"),
        pytest.param(token(exp=None), "has no exp", id="no exp"),
        pytest.param(token(sub=None), "has no sub", id="no sub"),
        pytest.param(token(aud="others"), "jwt.audience is not set", id="for another audience"),
        pytest.param(forged(HS256, {"sub": "a", "exp": "soon"}), "malformed", id="exp is a word"),
        pytest.param(forged(HS256, {"sub": "a", "exp": [LATER]}), "is invalid|malformed", id="exp is a list"),
        pytest.param(forged(HS256, {"sub": "a", "exp": {}}), "is invalid|malformed", id="exp is an object"),
        pytest.param(forged(HS256, {"sub": "a", "exp": None}), "has no exp", id="exp is null"),
        pytest.param(forged(HS256, '{"sub": "a", "exp": 1e999}'), "is invalid|malformed", id="exp beyond all bounds"),
        pytest.param(forged(HS256, '{"sub": "a", "exp": Infinity}'), "is invalid|malformed", id="exp Infinity"),
        pytest.param(forged(HS256, '{"sub": "a", "exp": NaN}'), "malformed", id="exp NaN"),
        pytest.param(forged(HS256, f'{{"sub": "a", "exp": {LATER}, "x": NaN}}'), "cannot be decoded", id="NaN"),
        pytest.param(forged(HS256, {**ALICE, "nbf": "later"}), "malformed", id="nbf is a word"),
        pytest.param(forged(HS256, {**ALICE, "iat": "once"}), "iat must be a number", id="iat is a word"),
        pytest.param(forged(HS256, {"sub": 7, "exp": LATER}), "must be a string|is invalid", id="sub is a number"),
        pytest.param(forged(HS256, {"sub": {"a": 1}, "exp": LATER}), "a string|is invalid", id="sub is an object"),
        pytest.param(forged(HS256, {"sub": "", "exp": LATER}), "sub must have 1 to 255", id="sub is empty"),
        pytest.param(forged(HS256, {"sub": " ", "exp": LATER}), "sub must have 1 to 255", id="sub is blank"),
        pytest.param(forged(HS256, {"sub": "a\nb", "exp": LATER}), "sub must have 1 to 255", id="sub has a line break"),
        pytest.param(forged(HS256, {"sub": "a" * 256, "exp": LATER}), "sub must have 1 to 255", id="sub is too long"),
        pytest.param(forged(HS256, f'{{"sub": "eve", "sub": "alice", "exp": {LATER}}}'), "claims contains a duplicate name", id="two subs"),  # noqa: E501
        pytest.param(forged('{"alg": "none", "alg": "HS256"}', ALICE), "header contains a duplicate", id="two algs"),
        pytest.param(forged({**HS256, "crit": ["exp"]}, ALICE), "requires an extension", id="crit"),
        pytest.param(forged({**HS256, "crit": []}, ALICE), "requires an extension", id="crit, empty"),
        pytest.param(forged({**HS256, "b64": False, "crit": ["b64"]}, ALICE), "requires an extension", id="b64"),
        pytest.param(forged({**HS256, "kid": 1}, ALICE), "kid must be a string", id="kid a number"),
        pytest.param(forged("[]", ALICE), "header cannot be decoded", id="header a list"),
        pytest.param(forged("{", ALICE), "header cannot be decoded", id="header no JSON"),
        pytest.param(forged("[" * 3000, ALICE), "header cannot be decoded", id="header very deep"),
        pytest.param(forged(HS256, "[1]"), "malformed", id="claims a list"),
        pytest.param(forged(HS256, "not JSON"), "malformed", id="claims no JSON"),
        pytest.param(forged(HS256, "[" * 3000), "is invalid|malformed", id="claims very deep"),
        pytest.param(f"{forged(HS256, ALICE)}AA", "signature is invalid|malformed", id="a longer signature"),
        pytest.param("..", "header cannot be decoded", id="nothing but dots"),
        pytest.param("_w.e30.", "header cannot be decoded", id="header not UTF-8"),
        pytest.param("a.e30.", "header cannot be decoded", id="header no base64"),
        pytest.param(f"{'a' * 4000}.{'b' * 4000}.{'c' * 4000}", "jwt.max_token_bytes.*got 12002", id="too long"),
        pytest.param(f"{forged(HS256, ALICE)}{'A' * 1_000_000}", "at most 8192 bytes .jwt.max_token_bytes", id="1 MB"),
        pytest.param("a" * 1_000_000, "at most 8192 bytes .jwt.max_token_bytes., got 1000000", id="1 MB of anything"),
    ],
)  # fmt: skip
def test_invalid_token_is_rejected_with_its_cause(shown: str, expected: str) -> None:
    """The cause is one line and does not quote PyJWT."""
    import re

    found = cause(shown)
    assert re.search(expected, found), found
    assert found.isprintable()
    assert len(found) < 200


@pytest.mark.parametrize("header", ["jku", "x5u", "jwk", "x5c"])
def test_token_header_cannot_bring_a_key(header: str, tmp_path: Path) -> None:
    """Addresses and keys in its header are ignored."""
    import jwt

    (tmp_path / "jwks.json").write_bytes(jwks(one=rsa_key()))
    brought = {
        "jku": "http://127.0.0.1:1/",
        "x5u": "http://127.0.0.1:1/",
        "x5c": ["x"],
        "jwk": json.loads(jwks(one=rsa_key("second")))["keys"][0],
    }
    headers = {"kid": "one", header: brought[header]}
    signed = {key: jwt.encode(dict(ALICE), rsa_key(key), "RS256", headers=headers) for key in ("first", "second")}
    asked = strategy(jwks_file=tmp_path / "jwks.json")
    assert isinstance(asked.authenticate(showing(signed["first"])), Identified)
    assert asked.authenticate(showing(signed["second"])) == Rejected(
        "the token's signature is invalid for the key 'one'"
    )


@pytest.mark.parametrize("form", ["PEM", "PEM without its last line break", "DER", "the key set"])
def test_token_signed_with_a_public_key_is_rejected(form: str, tmp_path: Path) -> None:
    """A token with HS256 and the public key as its secret is not accepted (key confusion)."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = public_pem(rsa_key())
    der = rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "jwks.json").write_bytes(jwks(one=rsa_key()))
    key = {"PEM": pem, "DER": der, "the key set": jwks(one=rsa_key())}.get(form, pem.strip())
    for source in ({"public_key_file": tmp_path / "key.pem"}, {"jwks_file": tmp_path / "jwks.json"}):
        for header in (HS256, {**HS256, "kid": "one"}):
            assert "got 'HS256'" in cause(forged(header, ALICE, key), **source)
        # The same signature with an accepted algorithm.
        assert "signature is invalid" in cause(forged({"alg": "RS256"}, ALICE, key), **source)


def test_key_verifies_one_algorithm(tmp_path: Path) -> None:
    """A token with one key's name and another key's algorithm is refused without a fetch."""
    (tmp_path / "jwks.json").write_bytes(jwks(one=rsa_key(), two=ec_key()))
    found = cause(token(ec_key(), "ES256", "one"), jwks_file=tmp_path / "jwks.json")
    assert found == "the key 'one' is not for ES256"


def test_algorithms_setting_limits_a_key_set(tmp_path: Path) -> None:
    """Only the listed algorithms of the key set are accepted."""
    (tmp_path / "jwks.json").write_bytes(jwks(one=rsa_key(), two=ec_key()))
    settings: Any = {"jwks_file": tmp_path / "jwks.json", "algorithms": ["ES256"]}
    assert isinstance(strategy(**settings).authenticate(showing(token(ec_key(), "ES256", "two"))), Identified)
    assert "algorithm must be ES256, got 'RS256'" in cause(token(rsa_key(), "RS256", "one"), **settings)


# --- who issued it, for whom, and when ---


def test_issuer_must_be_equal() -> None:
    """A part of the name, a list with it and no name are refused."""
    settings = {"issuer": "https://issuer.example"}
    assert isinstance(strategy(**settings).authenticate(showing(token(iss="https://issuer.example"))), Identified)
    assert cause(token(iss=None), **settings) == "the token has no iss"
    for wrong in ("https://other.example", "https://issuer", "https://issuer.example/", ""):
        assert cause(token(iss=wrong), **settings) == "the token is from another issuer"
    assert "another issuer" in cause(forged(HS256, {**ALICE, "iss": ["https://issuer.example"]}), **settings)


def test_audience_must_contain_a_configured_one() -> None:
    """One of the token's audiences is enough; a token without an audience is refused."""
    settings = {"audience": ["chat", "alerts"]}
    for right in ("chat", ["other", "alerts"]):
        assert isinstance(strategy(**settings).authenticate(showing(token(aud=right))), Identified)
    for wrong in ("other", "cha", ["other"], "chat,alerts"):
        assert cause(token(aud=wrong), **settings) == "the token is for another audience"
    assert cause(token(), **settings) == "the token has no aud"
    assert "audience" in cause(forged(HS256, {**ALICE, "aud": {"chat": 1}}), **settings)


def test_leeway_tolerates_clock_differences() -> None:
    """It works in both directions."""
    for claims in ({"exp": time.time() - 30}, {"nbf": time.time() + 30}, {"iat": time.time() + 30}):
        assert isinstance(strategy(leeway=60).authenticate(showing(token(**claims))), Identified)
        assert isinstance(strategy(leeway=10).authenticate(showing(token(**claims))), Rejected)


@pytest.mark.parametrize(
    ("claims", "settings", "expected"),
    [
        ({"exp": LATER}, {}, LATER),
        ({"exp": LATER + 0.9}, {}, LATER),
        ({"exp": str(LATER)}, {}, LATER),
        ({"exp": LATER}, {"leeway": 30}, LATER + 30),
        ({"exp": LATER}, {"close_at_expiry": False}, None),
        ({}, {"required_claims": []}, None),
        ({"exp": 10**400}, {}, 2**53),
    ],
    ids=["exp", "fraction", "text", "leeway", "off", "no exp", "huge"],
)
def test_verdict_has_the_expiry_of_the_token(
    claims: dict[str, Any], settings: dict[str, Any], expected: float | None
) -> None:
    """It is exp plus the leeway, or None without exp or if the setting is off."""
    verdict = strategy(**settings).authenticate(showing(forged(HS256, {"sub": "alice", **claims})))
    assert isinstance(verdict, Identified)
    assert verdict.expires_at == expected


def test_token_in_the_cookie_is_found() -> None:
    """The cookie is that of the WebSocket server's settings."""
    made = make_strategy(make_context(jwt={"secret": SECRET}, websocket={"token_cookie": "session"}))
    request = make_request(headers={"Cookie": f"a=b; session={token()}"})
    assert isinstance(made.authenticate(request), Identified)


def test_required_claims_must_be_present() -> None:
    """exp is required by default; without that setting, a token may be valid forever."""
    assert cause(token(), required_claims=["exp", "jti"]) == "the token has no jti"
    assert isinstance(strategy(required_claims=[]).authenticate(showing(token(exp=None))), Identified)


def test_identity_claim_names_the_client() -> None:
    """It is required then, whatever the sub is."""
    asked = strategy(identity_claim="email")
    verdict = asked.authenticate(showing(token(email="alice@example.com")))
    assert isinstance(verdict, Identified)
    assert verdict.identity == "alice@example.com"
    assert asked.authenticate(showing(token())) == Rejected("the token has no email")
    assert asked.authenticate(showing(token(email=["a"]))) == Rejected("the token's email must be a string")


def test_identity_can_be_non_ascii() -> None:
    """It must be printable."""
    verdict = strategy().authenticate(showing(token(sub="Bärbel Müller")))
    assert isinstance(verdict, Identified)
    assert verdict.identity == "Bärbel Müller"


# --- which key it is signed with ---


def test_token_without_kid_needs_one_key(tmp_path: Path) -> None:
    """Only the keys of its algorithm count."""
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(one=rsa_key(), two=ec_key()))
    assert isinstance(strategy(jwks_file=file).authenticate(showing(token(rsa_key(), "RS256"))), Identified)
    file.write_bytes(jwks(one=rsa_key(), two=rsa_key("second")))
    found = cause(token(rsa_key(), "RS256"), jwks_file=file)
    assert found == "the token matches 2 keys; its kid must name one of them"


def test_key_without_a_name_fits_any_kid(tmp_path: Path) -> None:
    """A key set of one key need not name it; PEM files and secrets have no names."""
    from jwt_issuer import jwk

    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [jwk(rsa_key())]}))
    (tmp_path / "key.pem").write_bytes(public_pem(rsa_key()))
    shown = showing(token(rsa_key(), "RS256", "any"))
    for source in ({"jwks_file": tmp_path / "jwks.json"}, {"public_key_file": tmp_path / "key.pem"}):
        assert isinstance(strategy(**source).authenticate(shown), Identified)
    assert isinstance(strategy().authenticate(showing(token(kid="any"))), Identified)


def test_unknown_kid_is_logged_short_and_escaped(tmp_path: Path) -> None:
    """The text comes from the client."""
    (tmp_path / "jwks.json").write_bytes(jwks(one=rsa_key(), two=rsa_key("second")))
    for kid in ("three", "\n\x1b[31mINFO forged", "../../etc/passwd", "ü" * 100, ""):
        found = cause(token(rsa_key(), "RS256", kid), jwks_file=tmp_path / "jwks.json")
        assert "names the unknown key" in found
        assert found.isascii()
        assert found.isprintable()
        assert len(found) < 200


# --- where it is sent ---


def test_token_is_found_in_three_places() -> None:
    """As a subprotocol, the response contains ``bearer`` and never the token."""
    shown = token()
    for request, subprotocol in (
        (showing(shown), None),
        (make_request(headers={"Authorization": f"bEARER  {shown}"}), None),
        (make_request(subprotocols=["chat", "bearer", shown]), "bearer"),
    ):
        verdict = strategy().authenticate(request)
        assert isinstance(verdict, Identified)
        assert verdict.subprotocol == subprotocol


def test_two_tokens_are_rejected() -> None:
    """The same token twice is rejected too."""
    shown = token()
    for request in (
        make_request(query=f"token={shown}&token={shown}"),
        make_request(query=f"token={shown}", headers={"Authorization": "Bearer other"}),
        make_request(headers=[("Authorization", f"Bearer {shown}"), ("Authorization", f"Bearer {shown}")]),
    ):
        assert strategy().authenticate(request) == Rejected("more than one token was given")


@pytest.mark.parametrize(
    "shown", ["", "a-plain-token", "a.b", "a.b.c.d.e", "a.b.c ", "a.b.c=", "ä.b.c", "a.b+.c", "a\0.b.c"]
)
def test_other_credentials_return_none(shown: str) -> None:
    """Another strategy may accept them."""
    from urllib.parse import quote

    assert strategy().authenticate(showing(quote(shown))) is None


def test_strategy_repr_hides_its_secret(tmp_path: Path) -> None:
    """It hides the keys too."""
    asked = strategy()
    assert SECRET not in f"{asked!r} {asked._keys.current()!r} {asked._keys.current().keys!r}"
    assert private_pem(rsa_key()).decode() not in repr(asked)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_NAMES = ("alg", "kid", "typ", "cty", "crit", "jku", "b64", "zip", "sub", "exp", "nbf", "iat", "iss", "aud", "jti")


@functools.cache
def _lenient() -> JwtStrategy:
    return strategy(required_claims=[])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(header=st.dictionaries(st.sampled_from(_NAMES), _JSON), claims=st.dictionaries(st.sampled_from(_NAMES), _JSON))
def test_signed_token_of_any_values_raises_nothing(header: dict[str, Any], claims: dict[str, Any]) -> None:
    """The result is a verdict, with a name that can be written into a log."""
    verdict = _lenient().authenticate(showing(forged({**header, "alg": "HS256"}, {"sub": "alice", **claims})))
    if isinstance(verdict, Identified):
        assert verdict.identity.isprintable()
    else:
        assert isinstance(verdict, Rejected)
        assert verdict.cause.isprintable()
