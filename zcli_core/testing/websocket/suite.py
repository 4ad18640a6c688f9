"""The base of the contract suite's parts: makes and serves the transport under test."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

import pytest

from zcli_core.testing.contract import Contract, Offered
from zcli_core.testing.websocket.server import ServerUnderTest
from zcli_core.websocket.contract import Capability, Transport

#: The type of the fixture ``serve``. Its arguments are those of :class:`ServerUnderTest` after the transport.
Serve = Callable[..., ServerUnderTest]


Test = TypeVar("Test")


class Requirement(NamedTuple):
    """A capability that a test needs, and the values of its parameters for which it does; empty for all of them."""

    capability: Capability
    cases: Mapping[str, Collection[Any]]


def requires(capability: Capability, **cases: Collection[Any]) -> Callable[[Test], Test]:
    """Skip a test, or every test of a class, if the transport does not promise this.

    Args:
        capability: What the test needs.
        cases: For a test with parameters, the values for which it does: ``requires(PINGS, cause=[Cause.SILENT])``.
    """

    def mark(marked: Test) -> Test:
        members: Mapping[str, Any] = vars(marked) if inspect.isclass(marked) else {"test_": marked}
        for name, test in members.items():
            if name.startswith("test_"):
                test.requirements = [*requirements(test), Requirement(capability, cases)]
        return marked

    return mark


def requirements(test: Any) -> list[Requirement]:
    """Return what :func:`requires` has declared for a test."""
    found: list[Requirement] = getattr(test, "requirements", [])
    return found


def missing_capability(
    test: Any, parameters: Mapping[str, Any], capabilities: Collection[Capability]
) -> Capability | None:
    """Return the first capability that a test with these parameters needs and the transport does not promise."""
    for capability, cases in requirements(test):
        applies = all(parameters.get(name) in values for name, values in cases.items())
        if applies and capability not in capabilities:
            return capability
    return None


class WebSocketSuite(Contract):
    """Makes servers of the transport under test."""

    #: The transport to test: the plugin's Provider, or a function from a context to a transport.
    transport: ClassVar[Offered[Transport]]

    #: Runs the coroutine of a server in an event loop. ``staticmethod(uvloop.run)`` tests on uvloop.
    run_loop: ClassVar[Callable[[Any], Any]] = staticmethod(asyncio.run)

    _made: ClassVar[Transport | None] = None

    @pytest.fixture
    def made_transport(self, request: pytest.FixtureRequest) -> Transport:
        """The transport: one for all tests of a class, as one ``zCLI`` object has one."""
        suite = type(self)
        if "_made" not in vars(suite):
            suite._made = self.make("transport", request.getfixturevalue("context"))
        assert suite._made is not None
        return suite._made

    @pytest.fixture(autouse=True)
    def _skip_what_is_not_promised(self, request: pytest.FixtureRequest, made_transport: Transport) -> None:
        """Skip a test that needs a capability that the transport does not promise."""
        parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
        capabilities = getattr(made_transport, "capabilities", frozenset(Capability))
        missing = missing_capability(request.function, parameters, capabilities)
        if missing is not None:
            pytest.skip(f"the transport does not promise {missing.value}")

    @pytest.fixture
    def serve(self, made_transport: Transport) -> Serve:
        """Makes servers: ``with serve(Limits(...), decide=...) as server``."""

        return functools.partial(ServerUnderTest, made_transport, run=type(self).run_loop)
