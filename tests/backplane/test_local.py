"""The backplane ``local`` under the contract suite."""

from zcli_local import zcli_backplanes

from zcli_core.testing import BackplaneContract


class TestLocal(BackplaneContract):
    backplane = next(iter(zcli_backplanes()))
