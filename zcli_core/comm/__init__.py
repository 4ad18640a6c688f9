"""``z.comm``: everything that a script says to other programs."""

from zcli_core.comm.facade import Comm

__all__ = ["Comm"]
