"""What auth strategies share: finding the bearer token of a request, and comparing it with configured tokens."""

from zcli_core.auth.parts.bearer import BEARER, BearerToken, find_bearer_token
from zcli_core.auth.parts.static_tokens import MAX_LENGTH, StaticTokens, configured_tokens

__all__ = ["BEARER", "MAX_LENGTH", "BearerToken", "StaticTokens", "configured_tokens", "find_bearer_token"]
