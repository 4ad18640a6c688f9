"""The backplanes ``redis`` and ``nats`` under the contract suite, each with a server of its own."""

from __future__ import annotations

from engines import NatsEngine, RedisEngine
from zcli_nats import zcli_backplanes as nats_backplanes
from zcli_redis_backplane import zcli_backplanes as redis_backplanes

from zcli_core.testing import BackplaneContract


class SlowRedis(RedisEngine):
    slow_limit = 1 << 20


class SlowNats(NatsEngine):
    slow_limit = 2 << 20


class TestRedis(BackplaneContract):
    backplane = next(iter(redis_backplanes()))
    engine = SlowRedis


class TestNats(BackplaneContract):
    backplane = next(iter(nats_backplanes()))
    engine = SlowNats
