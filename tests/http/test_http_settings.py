"""Invalid settings of the HTTP client are an error at the start of the program, not at the first call."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from zCLI import zCLI
from zcli_core.errors import ConfigError


@pytest.fixture
def files(isolated: Path) -> Path:
    """A folder, the working directory, with what the settings may name."""
    authority = trustme.CA()
    ours, others = authority.issue_cert("client@example.com"), authority.issue_cert("client@example.com")
    authority.cert_pem.write_to_path("ca.pem")
    ours.private_key_and_cert_chain_pem.write_to_path("both.pem")
    ours.cert_chain_pems[0].write_to_path("cert.pem")
    ours.private_key_pem.write_to_path("key.pem")
    others.private_key_pem.write_to_path("other-key.pem")
    encryption = BestAvailableEncryption(b"passphrase")
    encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    Path("encrypted.pem").write_bytes(encrypted)
    Path("text.pem").write_text("no certificate")
    Path("folder").mkdir()
    return isolated


def start(**http: Any) -> zCLI:
    return zCLI({"deployment": "Testing", "title": "settings", "http": http})


@pytest.mark.parametrize(
    ("http", "why"),
    [
        ({"ca_file": "missing.pem"}, "http.ca_file (zSpark): {}/missing.pem cannot be read: No such file or directory"),
        ({"ca_file": "folder"}, "http.ca_file (zSpark): {}/folder cannot be read: Is a directory"),
        ({"ca_file": "text.pem"}, "http.ca_file (zSpark): {}/text.pem holds no certificate in PEM format"),
        ({"ca_file": "key.pem"}, "http.ca_file (zSpark): {}/key.pem holds no certificate in PEM format"),
        ({"client_cert": "missing.pem"}, "http.client_cert (zSpark): {}/missing.pem cannot be read: No such file"),
        ({"client_cert": "text.pem"}, "http.client_cert (zSpark): {}/text.pem holds no certificate in PEM format"),
        (
            {"client_cert": "cert.pem"},
            "http.client_cert (zSpark): {}/cert.pem holds no private key in PEM format; "
            "http.client_key is not set, so the key is read from this file",
        ),
        (
            {"client_cert": "cert.pem", "client_key": "missing.pem"},
            "http.client_key (zSpark): {}/missing.pem cannot be",
        ),
        (
            {"client_cert": "cert.pem", "client_key": "other-key.pem"},
            "http.client_key (zSpark): {0}/other-key.pem is not the key of the certificate {0}/cert.pem",
        ),
        (
            {"client_cert": "cert.pem", "client_key": "encrypted.pem"},
            "http.client_key (zSpark): {}/encrypted.pem is enc",
        ),
        ({"client_key": "key.pem"}, "http.client_key (zSpark) is set, but http.client_cert is not: set both"),
        ({"user_agent": "a\r\nEvil: 1"}, "http.user_agent must be one line of Latin-1 characters, got"),
        ({"user_agent": "€"}, "http.user_agent must be one line of Latin-1 characters, got '€' from zSpark"),
    ],
)
def test_invalid_setting_is_named_with_its_origin(files: Path, http: dict[str, str], why: str) -> None:
    """The program does not start."""
    with pytest.raises(ConfigError) as caught:
        start(**http)
    assert str(caught.value).startswith(why.format(files))


def test_all_invalid_files_are_named_at_once(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error lists all problems."""
    monkeypatch.setenv("ZCLI_HTTP_CA_FILE", "text.pem")
    with pytest.raises(ConfigError) as caught:
        start(client_cert="missing.pem")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "http.ca_file (ZCLI_HTTP_CA_FILE)",
        "http.client_cert (zSpark)",
    ]


@pytest.mark.parametrize(
    "http",
    [
        {"ca_file": "ca.pem"},
        {"client_cert": "both.pem"},
        {"client_cert": "cert.pem", "client_key": "key.pem", "ca_file": "ca.pem", "user_agent": "mine/1.0 (Grüße)"},
    ],
    ids=["authorities", "one file", "everything"],
)
def test_valid_settings_make_no_transport(files: Path, http: dict[str, str]) -> None:
    """The first request makes it."""
    sys.modules.pop("zcli_urllib3.transport", None)
    with start(**http):
        assert "zcli_urllib3.transport" not in sys.modules


def test_missing_file_at_the_first_call_is_named(files: Path) -> None:
    """The file was removed after the start."""
    with start(ca_file="ca.pem") as z:
        Path("ca.pem").unlink()
        with pytest.raises(ConfigError, match=r"http\.ca_file \(zSpark\): .*ca\.pem cannot be read"):
            z.comm.http_get("http://127.0.0.1:9/")
