"""Checks of the settings ``ca_file``, ``client_cert`` and ``client_key`` of a section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from zcli_core.config import Config


def check_tls_files(config: Config, section: str) -> None:
    """Check that the files named by a section can be used.

    Args:
        config: The configuration.
        section: Such as ``"http"`` or ``"services.redis"``.

    Raises:
        ConfigError: A file cannot be used. The message names the setting and where it was set.
    """
    settings = config.get(section)
    problems = []
    if settings.ca_file is not None:
        problems += _authorities_problem(config, section, settings.ca_file)
    if settings.client_cert is not None:
        problems += _identity_problem(config, section, settings.client_cert, settings.client_key)
    elif settings.client_key is not None:
        name = _named(config, section, "client_key")
        problems.append(f"{name} is set, but {section}.client_cert is not: set both, or neither")
    if problems:
        raise ConfigError(problems)


def _authorities_problem(config: Config, section: str, file: Path) -> list[str]:
    import ssl

    from zcli_core.net.pem_files import CertificateProblem, check_readable

    try:
        check_readable("cert", file)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except CertificateProblem as problem:
        return [f"{_named(config, section, 'ca_file')}: {problem}"]
    except ssl.SSLError:
        return [f"{_named(config, section, 'ca_file')}: {file} holds no certificate in PEM format"]
    return []


def _identity_problem(config: Config, section: str, certificate: Path, key: Path | None) -> list[str]:
    import ssl

    from zcli_core.net.pem_files import CertificateFiles, CertificateProblem, check_readable, load

    try:
        check_readable("cert", certificate)
        if key is not None:
            check_readable("key", key)
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), CertificateFiles(certificate, key or certificate))
    except CertificateProblem as problem:
        if key is None and problem.part == "key":
            name = _named(config, section, "client_cert")
            return [f"{name}: {problem}; {section}.client_key is not set, so the key is read from this file"]
        return [f"{_named(config, section, f'client_{problem.part}')}: {problem}"]
    return []


def _named(config: Config, section: str, setting: str) -> str:
    key = f"{section}.{setting}"
    return f"{key} ({config.explain(key).origin})"
