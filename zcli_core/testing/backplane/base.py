"""What all parts of the suite need: the backplane, its engine, and a path that can fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from zcli_core.backplane.contract import Backplane, Capability
from zcli_core.plugins.contract import Context
from zcli_core.testing.backplane.engine import EngineProcess, FaultyPath
from zcli_core.testing.contract import Contract, Offered, make_context

_engine: pytest.StashKey[EngineProcess] = pytest.StashKey()


class Base(Contract):
    """The fixtures of the suite."""

    backplane: ClassVar[Offered[Backplane]]
    engine: ClassVar[type[EngineProcess] | None] = None

    @pytest.fixture
    def server(self, request: pytest.FixtureRequest) -> Iterator[EngineProcess | None]:
        """The running engine, one for the class; None if there is none. A test may kill or freeze it."""
        make = type(self).engine
        if make is None:
            yield None
            return
        node: Any = request.node.getparent(pytest.Class)
        if _engine not in node.stash:
            server = node.stash[_engine] = make()
            node.addfinalizer(server.end)
            node.addfinalizer(lambda: node.stash.__delitem__(_engine))
        server = node.stash[_engine]
        server.start()
        yield server
        server.thaw()

    @pytest.fixture
    def faulty(self, server: EngineProcess | None) -> EngineProcess:
        """The engine, for tests of its faults."""
        if server is None:
            pytest.skip("this backplane has no engine that could fail")
        return server

    @pytest.fixture
    def path(self, faulty: EngineProcess) -> Iterator[FaultyPath]:
        """A relay to the engine."""
        with FaultyPath(faulty.port) as path:
            yield path

    @pytest.fixture
    def context(self, server: EngineProcess | None) -> Context:
        """The context that the backplane under test is made with."""
        return self.context_at(server, None)

    def context_at(self, server: EngineProcess | None, port: int | None, **settings: Any) -> Context:
        """Return the context of a backplane whose engine is at this port."""
        found = dict(self.settings)
        if server is not None:
            found = _merged(found, server.settings(port or server.port))
        return make_context(**_merged(found, settings))

    @pytest.fixture
    def plane(self, context: Context) -> Backplane:
        """The backplane under test."""
        made: Backplane = self.make("backplane", context)
        return made

    @pytest.fixture
    def relayed(self, faulty: EngineProcess, path: FaultyPath) -> Backplane:
        """The backplane under test behind the relay."""
        made: Backplane = self.make("backplane", self.context_at(faulty, path.port))
        return made

    def require(self, plane: Backplane, capability: Capability) -> None:
        """Skip the test if the backplane does not offer this."""
        if capability not in plane.capabilities:
            pytest.skip(f"this backplane does not offer {capability.name}")


def _merged(one: Any, two: Any) -> dict[str, Any]:
    found = dict(one)
    for key, value in two.items():
        inner = found.get(key)
        found[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return found
