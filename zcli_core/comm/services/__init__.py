"""Local services: which of them run, and starting and stopping them."""

from zcli_core.comm.services.failures import ServiceFailure
from zcli_core.comm.services.services import Services

__all__ = ["ServiceFailure", "Services"]
