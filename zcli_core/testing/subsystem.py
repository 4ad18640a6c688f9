"""The contract suite for subsystems: derive a class and run pytest.

::

    from zcli_core.testing import SubsystemContract
    from zcli_greeter import zcli_subsystems

    class TestGreeter(SubsystemContract):
        subsystem = zcli_subsystems()[0]
        settings = {"greeter": {"word": "hello"}}

The suite tests what all subsystems have in common: they are made in any place, belong to one application, and leave
nothing behind. What the subsystem does is for tests of its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from zcli_core.app import zCLI
from zcli_core.plugins.contract import Provider
from zcli_core.plugins.records import SUBSYSTEM
from zcli_core.subsystems.contract import Subsystem, SubsystemContext
from zcli_core.testing.contract import Contract, Offered

__all__ = ["SubsystemContract"]

#: Longest time in which the threads of a closed subsystem must end, in seconds.
PATIENCE = 10.0


class SubsystemContract(Contract):
    """Tests that every subsystem passes.

    Attributes:
        subsystem: The Provider of the plugin, or a function that makes the subsystem from a
            :class:`~zcli_core.subsystems.contract.SubsystemContext`.
        settings: zSpark of the application that the subsystem is made for.
    """

    subsystem: ClassVar[Offered[Subsystem]]

    @pytest.fixture
    def make_app(self, tmp_path: Path) -> Iterator[Callable[[], zCLI]]:
        """Makes applications with the settings of the class; they are closed after the test."""
        made: list[zCLI] = []

        def make() -> zCLI:
            quiet = {"deployment": "Production", "logger": "PROD", "logger_path": str(tmp_path), "title": "contract"}
            made.append(zCLI({**quiet, **self.settings}))
            return made[-1]

        yield make
        for app in made:
            app.close()

    @pytest.fixture
    def app(self, make_app: Callable[[], zCLI]) -> zCLI:
        """An application."""
        return make_app()

    def made_for(self, app: zCLI) -> Any:
        """Make the subsystem of an application, as its first use does."""
        return self.make("subsystem", SubsystemContext(app.config, app.log.getChild("subsystem"), app))

    def test_provider_can_be_an_attribute(self) -> None:
        """Its names are identifiers that ``zCLI`` does not use itself; it says what it is and how to install it."""
        offered = self.offered("subsystem")
        if not isinstance(offered, Provider):
            pytest.skip("subsystem is a function, not a provider")
        for name in (offered.name, *offered.aliases):
            assert SUBSYSTEM.name_error(name) is None
        assert offered.summary
        assert offered.install or not offered.needs, "install must say what installs the modules in needs"

    def test_made_subsystem_can_be_closed(self, app: zCLI) -> None:
        """Also if it was never used."""
        made = self.made_for(app)
        assert callable(getattr(made, "close", None)), f"{made!r} has no method close()"
        assert made.close() is None

    def test_made_in_any_thread(self, app: zCLI) -> None:
        """The first use of ``z.<name>`` may be in a thread, such as that of a plain handler."""
        with ThreadPoolExecutor(1) as threads:
            threads.submit(self.made_for, app).result(PATIENCE).close()

    def test_made_in_an_event_loop(self, app: zCLI) -> None:
        """The first use may be in a coroutine, such as an async handler."""

        async def use() -> Any:
            return self.made_for(app)

        asyncio.run(use()).close()

    def test_applications_have_subsystems_of_their_own(self, make_app: Callable[[], zCLI]) -> None:
        """Two ``zCLI`` objects in one process do not see each other; closing one leaves the other."""
        one, two = self.made_for(make_app()), self.made_for(make_app())
        assert one is not two
        one.close()
        two.close()

    def test_close_ends_its_threads(self, app: zCLI) -> None:
        """Nothing that the subsystem started runs on."""
        before = set(threading.enumerate())
        self.made_for(app).close()
        end = time.monotonic() + PATIENCE
        while (left := set(threading.enumerate()) - before) and time.monotonic() < end:
            time.sleep(0.005)
        assert not left, f"these threads still run after close(): {left}"

    def test_repr_shows_no_secret(self, app: zCLI) -> None:
        """It may be logged."""
        made = self.made_for(app)
        shown = repr(made)
        made.close()
        assert not [text for text in app.config.secret_texts() if text in shown]
