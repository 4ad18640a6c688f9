"""API keys: a client shows one in the header X-API-Key and is known by its holder's name."""

import hmac
from collections.abc import Mapping

from zcli_core import hookimpl
from zcli_core.auth.contract import Identified, Rejected
from zcli_core.config.settings import Section, setting
from zcli_core.errors import ConfigError
from zcli_core.plugins.contract import Provider

ZCLI_CONTRACT = 1


class ApiKey(Section, name="api_key"):
    """API keys."""

    keys: Mapping[str, str] = setting({}, "the key of each holder: {holder: key}", secret=True)


class ApiKeyStrategy:
    """Compares in constant time."""

    never_blocks = True

    def __init__(self, context):
        self._keys = {holder: key.encode() for holder, key in context.config.section(ApiKey).keys.items()}
        if not self._keys:
            raise ConfigError("api_key.keys is empty, so no client could connect; set it to {holder: key}")

    def authenticate(self, request):
        shown = request.headers.get_all("x-api-key")
        if not shown:
            return None
        if len(shown) > 1:
            return Rejected("several X-API-Key headers")
        key = shown[0].encode("latin-1")
        found = [holder for holder, known in self._keys.items() if hmac.compare_digest(known, key)]
        return Identified(found[0], {"scheme": "api-key"}) if found else Rejected("unknown API key")


@hookimpl
def zcli_settings():
    return [ApiKey]


@hookimpl
def zcli_auth_strategies():
    return [Provider("api-key", "an API key in the header X-API-Key", ApiKeyStrategy)]
