"""Written against a name that zCLI does not have."""

from zcli_core import a_name_that_never_was  # noqa: F401

ZCLI_CONTRACT = 1
