"""The base of the contract suite's parts: makes and serves the transport under test."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from zcli_core.testing.contract import Contract, Offered
from zcli_core.testing.websocket.server import ServerUnderTest
from zcli_core.websocket.contract import Transport

#: The type of the fixture ``serve``. Its arguments are those of :class:`ServerUnderTest` after the transport.
Serve = Callable[..., ServerUnderTest]


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

    @pytest.fixture
    def serve(self, made_transport: Transport) -> Serve:
        """Makes servers: ``with serve(Limits(...), decide=...) as server``."""

        return functools.partial(ServerUnderTest, made_transport, run=type(self).run_loop)
