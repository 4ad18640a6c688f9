"""The backplanes of real engines under the contract suite."""

from __future__ import annotations

import zcli_nats
import zcli_redis_backplane
from engine_processes import Nats, Redis

from zcli_core.testing import BackplaneContract


class TestRedis(BackplaneContract):
    backplane = next(iter(zcli_redis_backplane.zcli_backplanes()))
    engine = Redis


class TestNats(BackplaneContract):
    backplane = next(iter(zcli_nats.zcli_backplanes()))
    engine = Nats
