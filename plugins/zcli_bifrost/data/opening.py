"""From the settings to a :class:`.service.DataService`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

    from zcli_bifrost.data.service import DataService
    from zcli_core.config import Config


def open_data(config: Config, log: logging.Logger, log_file: str | None) -> DataService | None:
    """Return the service for the models in the settings, not started; None if there are no models.

    Nothing is connected and no table is made before :meth:`.service.DataService.start`.

    Args:
        config: The configuration; the section ``bifrost`` is used.
        log: Gets the details of failures.
        log_file: Path of the application's log file. A SQLite file of the same name is the default database.

    Raises:
        ConfigError: The models have mistakes, all of which the error names; the database's URL cannot be used; or a
            package is not installed, and the error has the command that installs it.
    """
    raise NotImplementedError
