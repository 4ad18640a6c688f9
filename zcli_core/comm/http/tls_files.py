"""The files that ``http.ca_file``, ``client_cert`` and ``client_key`` name, tried before a transport needs them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from zcli_core.comm.pem_files import CertificateFiles, CertificateProblem, check_readable, load
from zcli_core.errors import ConfigError

if TYPE_CHECKING:
    from zcli_core.config import Config


def check_tls_files(config: Config) -> None:
    """Raise ConfigError if one of them cannot be used: which setting, who set it, what is wrong."""
    settings = config.http
    problems = []
    if settings.ca_file is not None:
        problems += _authorities_problem(config, settings.ca_file)
    if settings.client_cert is not None:
        problems += _identity_problem(config, settings.client_cert, settings.client_key)
    elif settings.client_key is not None:
        problems.append(f"{_named(config, 'client_key')} is set, but http.client_cert is not: a key alone is of no use")
    if problems:
        raise ConfigError(problems)


def _authorities_problem(config: Config, file: Path) -> list[str]:
    try:
        check_readable("cert", file)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except CertificateProblem as problem:
        return [f"{_named(config, 'ca_file')}: {problem}"]
    except ssl.SSLError:
        return [f"{_named(config, 'ca_file')}: {file} holds no certificate in PEM format"]
    return []


def _identity_problem(config: Config, certificate: Path, key: Path | None) -> list[str]:
    try:
        check_readable("cert", certificate)
        if key is not None:
            check_readable("key", key)
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), CertificateFiles(certificate, key or certificate))
    except CertificateProblem as problem:
        if key is None and problem.part == "key":
            return [
                f"{_named(config, 'client_cert')}: {problem}; http.client_key is not set, so it is looked for there"
            ]
        return [f"{_named(config, f'client_{problem.part}')}: {problem}"]
    return []


def _named(config: Config, setting: str) -> str:
    key = f"http.{setting}"
    return f"{key} ({config.explain(key).origin})"
