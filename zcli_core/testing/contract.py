"""The base of the contract suites of all kinds of plugins."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import pytest

from zcli_core.assembly import configure
from zcli_core.plugins.contract import Context, Provider
from zcli_core.plugins.host import PluginHost

T = TypeVar("T")

#: The object to test: the provider that a plugin's hook returns, or a function that makes it from a context.
Offered = Provider[T] | Callable[[Context], T]


def make_context(**settings: Any) -> Context:
    """Return the argument of a provider's factory, with every installed plugin and these settings as zSpark."""
    config, _ = configure(PluginHost(), settings)
    return Context(config, logging.getLogger("zcli.testing"))


_shared: dict[str, Context] = {}


def shared_context(settings: Mapping[str, Any]) -> Context:
    """Return one context for all tests with equal settings, environment and folders.

    A suite has hundreds of tests, and :func:`make_context` takes 10 ms. A context is read only.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    key = repr((settings, environment, os.getcwd(), sys.path))
    if key not in _shared:
        _shared[key] = make_context(**settings)
    return _shared[key]


class Contract:
    """The base of the contract suites. It makes the object under test as ``zCLI`` does."""

    #: zSpark for the context of the object under test.
    settings: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def context(self) -> Context:
        """The context that the object under test is made with."""
        return shared_context(self.settings)

    def offered(self, attribute: str) -> Any:
        """Return the value of a class attribute: the provider, or the function that makes the object."""
        # Statically, because a plain function in a class would become a method.
        found = inspect.getattr_static(type(self), attribute, None)
        if found is None:
            raise TypeError(
                f"{type(self).__name__} must set the class attribute {attribute!r} to a provider of your plugin"
            )
        return found.__func__ if isinstance(found, staticmethod) else found

    def make(self, attribute: str, context: Context) -> Any:
        """Make the object that the class attribute offers."""
        offered = self.offered(attribute)
        return offered.factory(context) if isinstance(offered, Provider) else offered(context)
