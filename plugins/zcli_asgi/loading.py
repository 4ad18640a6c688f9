"""Loading the application of the setting ``asgi.app``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from zcli_core.errors import ConfigError

if TYPE_CHECKING:
    from zcli_core.config import Config

Application = Callable[[Any, Any, Any], Awaitable[None]]


def load_application(config: Config, reference: str) -> Application:
    """Import an ASGI application.

    Args:
        config: The configuration, for the origin of the setting.
        reference: The value of ``asgi.app``: ``package.module:attribute``.

    Raises:
        ConfigError: The module or the attribute does not exist, or it is not an application.
    """
    where = f"asgi.app ({config.explain('asgi.app').origin})"
    name, _, attribute = reference.partition(":")
    try:
        found: Any = _import(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(f"{where}: importing {name!r} failed: {error}") from error
        raise ConfigError(
            f"{where}: no module {error.name!r} found; it must be installed, or lie in the folder of the script"
        ) from None
    except Exception as error:
        raise ConfigError(f"{where}: importing {name!r} failed: {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigError(
                f"{where}: {name!r} has no attribute {attribute!r}; name the variable that holds the application, "
                "as in package.module:app"
            ) from None
    if not callable(found):
        raise ConfigError(f"{where}: {reference!r} must be an ASGI application, got {type(found).__name__}")
    _check_parameters(found, f"{where}: {reference!r}")
    application: Application = found
    return application


def _check_parameters(found: Callable[..., Any], subject: str) -> None:
    """Check that the application can be called with scope, receive and send.

    Raises:
        ConfigError: It has other parameters.
    """
    try:
        signature = inspect.signature(found)
    except (ValueError, TypeError):  # some builtins have none
        return
    try:
        signature.bind(None, None, None)
    except TypeError:
        what = "class" if isinstance(found, type) else type(found).__name__
        hint = "; if calling it makes the application, name a variable that holds the result"
        raise ConfigError(
            f"{subject} must be an ASGI application, which takes (scope, receive, send), got a {what} that takes "
            f"{signature}{hint if what in ('class', 'function') else ''}"
        ) from None


def _import(name: str) -> ModuleType:
    """Import a module, or return the running script if it is that module, because it must not run twice."""
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    if script is not None and name not in sys.modules:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None and _same_file(spec.origin, script):
            return main
    return importlib.import_module(name)


def _same_file(one: str, other: str) -> bool:
    from pathlib import Path

    try:
        return Path(one).samefile(other)
    except OSError:
        return False
