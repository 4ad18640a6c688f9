"""The service backends that plugins provide, found by name or alias and made once."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from zcli_core.net.tls_settings import check_tls_files
from zcli_core.plugins.contract import Context
from zcli_core.plugins.host import PluginHost
from zcli_core.plugins.records import SERVICE
from zcli_core.services.contract import ServiceBackend
from zcli_core.suggestions import suggestion

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.plugins.contract import Provider


class Backends:
    """Makes each backend when it is first used."""

    def __init__(self, config: Config, host: PluginHost, log: logging.Logger) -> None:
        self._config = config
        self._host = host
        self._log = log
        self._made: dict[Provider[ServiceBackend], ServiceBackend] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The names of all services, sorted, without aliases."""
        return sorted({provider.name for offers in self._host.providers(SERVICE).values() for _, provider in offers})

    def get(self, name: Any) -> ServiceBackend:
        """Return the backend with a name or alias.

        Raises:
            ValueError: no plugin provides a service of that name.
            ConfigError: the backend or its settings cannot be used, or several plugins provide it.
        """
        offers = self._host.providers(SERVICE)
        if not isinstance(name, str) or name not in offers:
            raise ValueError(self._unknown(name, list(offers)))
        provider = self._host.choose(SERVICE, self._config, name)
        with self._lock:
            backend = self._made.get(provider)
            if backend is None:
                context = Context(self._config, self._log.getChild(provider.name))
                backend = self._host.make(SERVICE, context, name)
                if backend.settings is not None:
                    check_tls_files(self._config, backend.settings.section_name)
                self._made[provider] = backend
        return backend

    def _unknown(self, name: Any, known: list[str]) -> str:
        hint = suggestion(name, known) if isinstance(name, str) else ""
        message = f"unknown service {name!r}{hint}; known services: {', '.join(self.names)}"
        if not self.names:
            message = f"unknown service {name!r}: no plugin in use provides a service"
        return "\n     ".join([message, *self._host.problems()])
