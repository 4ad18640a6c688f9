"""Written for the next version of the contract."""

from zcli_core.plugins.contract import CONTRACT_VERSION

ZCLI_CONTRACT = CONTRACT_VERSION + 1
