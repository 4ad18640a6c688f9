"""The section "security" of ``zcli doctor``: what other users, pages and hosts can read, reach or change.

The fixture ``security`` runs this section only, because the whole command probes every service.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from zCLI import zCLI
from zcli_core.cli import checks

Security = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def security(doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Security:
    """Runs the section with these variables and returns its findings as (state, detail)."""
    monkeypatch.setattr(checks, "_CHECKS", (("security", checks._security),))

    def run(**variables: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = doctor(**variables)[1]["security"]
        return found

    return run


def test_security_without_problems_says_so(security: Security) -> None:
    """An empty folder and the defaults give one line."""
    assert security() == [("ok", "no problem found")]


def test_security_check_that_raises_hides_no_other(security: Security, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other checks still report."""

    def broken(session: object) -> Any:
        raise OSError("no such disk")

    def finds(session: object) -> Any:
        yield "warning", "a finding"

    monkeypatch.setattr(checks, "SECURITY_CHECKS", (broken, finds))
    assert security() == [
        ("wrong", "the check broken failed: OSError: no such disk"),
        ("warning", "a finding"),
    ]


CA = trustme.CA()


@pytest.fixture
def key_file() -> Iterator[Path]:
    """A key of a certificate in a folder that every user can enter, which ``tmp_path`` is not."""
    with tempfile.TemporaryDirectory() as folder:
        if not all(above.stat().st_mode & 0o001 for above in Path(folder).resolve().parents):
            pytest.skip("the folder of temporary files is private")
        Path(folder).chmod(0o755)
        file = Path(folder) / "own.pem"
        CA.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(file)
        yield file


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
@pytest.mark.parametrize(
    ("key", "variables"),
    [
        ("websocket.ssl_key", ("WEBSOCKET_SSL_CERT", "WEBSOCKET_SSL_KEY")),
        ("websocket.ssl_cert", ("WEBSOCKET_SSL_CERT",)),
        ("http.client_key", ("ZCLI_HTTP_CLIENT_CERT", "ZCLI_HTTP_CLIENT_KEY")),
        ("services.redis.client_cert", ("ZCLI_SERVICES_REDIS_CLIENT_CERT",)),
    ],
)
def test_security_world_readable_key_is_reported(
    security: Security, key_file: Path, key: str, variables: tuple[str, ...]
) -> None:
    """With the command that protects it; a certificate alone is public."""
    certificate = key_file.with_name("certificate.pem")
    certificate.write_text("-----BEGIN CERTIFICATE-----")
    names = {name: str(certificate if name != variables[-1] else key_file) for name in variables}
    key_file.chmod(0o644)
    reported = f"every user of this machine can read the private key {key_file} ({key}): chmod 600 {key_file}"
    assert security(**names) == [("warning", reported)]
    key_file.chmod(0o640)
    assert security(**names) == [("ok", "no problem found")]
    key_file.chmod(0o644)
    key_file.parent.chmod(0o750)
    assert security(**names) == [("ok", "no problem found")]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_world_readable_key_is_warned_of_when_it_is_used(
    isolated: Path, key_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the server and by the HTTP client, on the console of every deployment."""
    key_file.chmod(0o644)
    tls = {"ssl_enabled": True, "ssl_cert": str(key_file), "port": 0}
    settings = {"deployment": "Production", "http": {"client_cert": str(key_file)}, "websocket": tls}
    with zCLI(settings) as z:
        z.comm.http_get("http://127.0.0.1:1/")
        with z.comm.websocket.start_background(handler=print):
            pass
    warning = f"every user of this machine can read the private key {key_file}"
    assert [line.partition(f"{warning} ")[2] for line in capfd.readouterr().err.splitlines() if warning in line] == [
        f"(http.client_cert): chmod 600 {key_file}",
        f"(websocket.ssl_cert): chmod 600 {key_file}",
    ]
