"""The HTTP client behind ``z.comm.http`` and ``z.comm.http_get``; the transports that carry it are plugins."""

from zcli_core.comm.http.client import HttpClient

__all__ = ["HttpClient"]
