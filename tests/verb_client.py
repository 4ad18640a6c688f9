"""An HTTP client with the verbs of ``z.comm``, for tests that need no ``zCLI`` object."""

from __future__ import annotations

from zcli_core.comm import Comm
from zcli_core.http.client import HttpClient


class VerbClient(HttpClient):
    """``client.get(url)`` is ``z.comm.http_get(url)``, and so on."""

    get, post, put, patch = Comm.http_get, Comm.http_post, Comm.http_put, Comm.http_patch
    delete, head, options = Comm.http_delete, Comm.http_head, Comm.http_options

    @property
    def http(self) -> HttpClient:
        """What the methods of Comm send with."""
        return self
