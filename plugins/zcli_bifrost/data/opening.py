"""From the settings to a :class:`.service.DataService`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zcli_bifrost.settings import Bifrost
from zcli_core.errors import ConfigError

if TYPE_CHECKING:
    import logging

    from zcli_bifrost.data.database import Database
    from zcli_bifrost.data.models import Models
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
    models = models_of(config)
    if models is None:
        return None
    database = open_database(config, log, log_file)  # raises if SQLAlchemy is missing, which the service imports
    from zcli_bifrost.data.service import DataService

    return DataService(models, database, config.section(Bifrost), log)


def models_of(config: Config) -> Models | None:
    """Return the models in the settings; None if there are none. Raises ConfigError as :func:`open_data` does."""
    source = config.section(Bifrost).models
    if source is None:
        return None
    from zcli_bifrost.data.model_file import load_models

    return load_models(source, config.explain("bifrost.models").origin)


def open_database(config: Config, log: logging.Logger, log_file: str | None) -> Database:
    """Return the database in the settings, not connected. Raises ConfigError as :func:`open_data` does."""
    from importlib.util import find_spec

    settings = config.section(Bifrost)
    if find_spec("sqlalchemy") is None:
        models = f"bifrost.models ({config.explain('bifrost.models').origin}) needs"
        needs = "keys of zBifrost need" if settings.models is None else models
        raise ConfigError(f"{needs} the package sqlalchemy: pip install 'sqlalchemy>=2.0'")
    from zcli_bifrost.data.database import Database

    where = f"bifrost.database ({config.explain('bifrost.database').origin})"
    url = settings.database or f"sqlite:///{default_file(log_file)}"
    return Database(url, settings.query_timeout, log, where)


def default_file(log_file: str | None) -> str:
    """Return the file that is the database if ``bifrost.database`` is not set.

    Raises:
        ConfigError: There is no log file to put it beside.
    """
    if log_file is None:
        raise ConfigError("this user has no home folder, so there is no default database; set bifrost.database")
    return os.path.splitext(log_file)[0] + ".db"
