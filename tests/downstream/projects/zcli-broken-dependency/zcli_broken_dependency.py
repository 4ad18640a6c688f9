"""Imports what it depends on, which is not installed."""

import flibbertigibbet_that_nobody_published  # noqa: F401

ZCLI_CONTRACT = 1
