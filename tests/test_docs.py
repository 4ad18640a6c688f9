"""Every code block of README and CONTRIBUTING is executed, top to bottom, as a reader would do it.

Those of PLUGINS.md are in ``tests/scaffold``, for they need an environment of their own.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from documents import ROOT, Reader

from zcli_core.testing.http.peer import closed_port
