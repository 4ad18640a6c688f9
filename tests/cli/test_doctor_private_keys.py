"""Private keys that all users of the machine can read: warnings of ``zcli doctor`` and of their users."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from zCLI import zCLI
from zcli_core.cli import doctor as doctor_module

Keys = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def keys(doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Keys:
    """Runs this check only, with these variables, and returns its findings as (state, detail)."""
    monkeypatch.setattr(doctor_module, "_CHECKS", (("private keys", doctor_module._private_keys),))

    def run(**variables: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = doctor(**variables)[1]["private keys"]
        return found

    return run


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
def test_doctor_world_readable_key_is_reported(
    keys: Keys, key_file: Path, key: str, variables: tuple[str, ...]
) -> None:
    """The warning shows the command that protects the key; a certificate alone is public."""
    certificate = key_file.with_name("certificate.pem")
    certificate.write_text("-----BEGIN CERTIFICATE-----")
    names = {name: str(certificate if name != variables[-1] else key_file) for name in variables}
    key_file.chmod(0o644)
    reported = f"every user of this machine can read the private key {key_file} ({key}): chmod 600 {key_file}"
    assert keys(**names) == [("warning", reported)]
    key_file.chmod(0o640)
    assert keys(**names) == [("ok", "no private key can be read by all users")]
    key_file.chmod(0o644)
    key_file.parent.chmod(0o750)
    assert keys(**names) == [("ok", "no private key can be read by all users")]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_world_readable_key_logs_a_warning(isolated: Path, key_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The server and the HTTP client show it on the console in every deployment."""
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
