"""``zcli bifrost``: the users of an application and their keys, and checks of models and tables."""

from __future__ import annotations

import contextlib
import datetime
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zcli_bifrost.access.names import DEFAULT_APP
from zcli_bifrost.access.opening import open_keys
from zcli_bifrost.data.opening import default_file, models_of, open_database
from zcli_bifrost.settings import Bifrost
from zcli_core.cli.parts import json_option, load_context, print_error, print_json, print_table, print_text
from zcli_core.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import URL

    from zcli_bifrost.access.key_table import KeyTable
    from zcli_bifrost.access.keys import KeyRecord
    from zcli_bifrost.data.models import Models
    from zcli_core.plugins.contract import Context

_DAY = 86400.0


@click.group("bifrost")
@click.option("--title", metavar="NAME", help="The name of the application's log, which its default database has too.")
@click.pass_context
def command(context: click.Context, title: str | None) -> None:
    """Manage the users of a zBifrost application, and check its models.

    The commands use the settings of the current folder, as a script does. What a script gives to zCLI({...}) is not
    known here: put bifrost.database and bifrost.models into the .zEnv or the environment.
    """
    context.obj = {} if title is None else {"title": title}


# --- users ---


@command.command("add-user")
@click.argument("name")
@click.option("--role", required=True, help="The role, which the models' access rules name.")
@click.option("--app", default=DEFAULT_APP, show_default=True, help="The app that the user belongs to.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True, max=36500), help="Days until the key expires.")
@json_option
def add_user(name: str, role: str, app: str, days: float | None, as_json: bool) -> None:
    """Add a user and print a new key, or add another key of a user.

    The key is printed once and is not stored. A client sends it as ?token=KEY&app_name=APP or in the header
    "Authorization: Bearer KEY". To replace a key, add another one, and revoke the old one by its id.
    """
    expires_at = None if days is None else time.time() + days * _DAY
    context = _load()
    with _keys(context, make=True) as (keys, database):
        key = keys.add(name, role, app, expires_at)
    if as_json:
        shown = {"key": key.text, "id": key.id, "app": app, "name": name, "role": role}
        print_json({**shown, "expires_at": _time(expires_at), "database": database})
        return
    until = f", until {_time(expires_at)}" if expires_at else ""
    print_error(f"added the key {key.id} of {name} in the app {app}, role {role}{until}, to {database}; the key is:")
    print_text(key.text)
    tier = context.config.section(Bifrost).auth_tier
    if tier in ("none", "zSession"):
        where = context.config.env_file_in_use
        print_error(
            f"bifrost.auth_tier is {tier} in the settings of this folder, and then the server does not ask for keys; "
            f"set ZCLI_BIFROST_AUTH_TIER=application in {where}, unless the script sets bifrost.auth_tier"
        )


@command.command("revoke")
@click.argument("name_or_key_id")
@click.option("--app", help="The app of the user, if users of several apps have the name.")
@json_option
def revoke(name_or_key_id: str, app: str | None, as_json: bool) -> None:
    """Revoke all keys of a user, or one key by its id.

    Every server closes the connections that these keys have opened, within a second.
    """
    with _keys(_load()) as (keys, database):
        revoked = keys.revoke(name_or_key_id, app)
    if as_json:
        print_json({"revoked": [_shown(record) for record in revoked], "database": database})
    elif revoked:
        for record in revoked:
            print_text(f"revoked the key {record.id} of {record.name} in the app {record.app}")
    else:
        print_text("revoked nothing: all these keys were revoked before")


@command.command("users")
@json_option
def users(as_json: bool) -> None:
    """List the keys of all users. The keys themselves are not stored, so only their ids are shown."""
    with _keys(_load()) as (keys, database):
        records = keys.all()
    if as_json:
        print_json({"keys": [_shown(record) for record in records], "database": database})
        return
    rows = [
        (record.name, record.app, record.role, record.id, _time(record.created_at) or "", _state(record))
        for record in records
    ]
    print_table(("user", "app", "role", "key", "added", "state"), rows)


# --- models ---


@command.group("models")
def models() -> None:
    """Check the models of the application."""


@models.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
def check_models(file: Path | None, as_json: bool) -> None:
    """Check the models in FILE, or those of bifrost.models. The exit status is 1 if there are mistakes."""
    try:
        found = _models(_load(), file)
    except ConfigError as error:
        _report(as_json, list(error.problems), {})
    else:
        shown = {
            name: {"fields": list(model.fields), "key": model.pk, "owner": model.owner} for name, model in found.items()
        }
        _report(as_json, [], {"models": shown}, f"no mistakes in these models: {', '.join(found)}")


@command.command("migrate-check")
@json_option
def migrate_check(as_json: bool) -> None:
    """Compare the tables of the database with the models. The exit status is 1 if they differ.

    Nothing is changed. Missing tables are made when the server starts. Existing tables are never altered: change them
    with a tool for migrations, until this command finds no difference.
    """
    context = _load()
    found = _models(context, None)
    database = open_database(context.config, context.log, context.config.log_file)
    from zcli_bifrost.data.tables import differences

    with _using_database(context) as shown:
        if not _has_file(context):
            _report(as_json, [], {"database": shown}, f"there is no database {shown}; the server makes it")
        problems = database.read_in_thread(lambda connection: differences(connection, found))
    database.dispose()
    _report(as_json, problems, {"database": shown}, f"the tables in {shown} fit the models")


def _models(context: Context, file: Path | None) -> Models:
    if file is not None:
        from zcli_bifrost.data.model_file import load_models

        return load_models(file, "the argument")
    found = models_of(context.config)
    if found is None:
        raise click.ClickException(
            f"bifrost.models is not set; name a file, or set ZCLI_BIFROST_MODELS in {context.config.env_file_in_use}"
        )
    return found


def _report(as_json: bool, problems: list[str], details: dict[str, Any], success: str = "") -> None:
    """Show problems, and end the command with status 1 if there are any."""
    if as_json:
        print_json({"problems": problems, **details})
    elif problems:
        for problem in problems:
            print_error(problem)
    else:
        print_text(success)
    sys.exit(1 if problems else 0)


# --- the configuration and the database ---


@contextlib.contextmanager
def _keys(context: Context, *, make: bool = False) -> Iterator[tuple[KeyTable, str]]:
    """Give the keys in the database of the application, and the name of the database. Errors end the command.

    Args:
        context: The configuration.
        make: Make the tables if they are absent.
    """
    keys = open_keys(context)
    from zcli_bifrost.access.key_table import UserError
    from zcli_bifrost.data.errors import DataError

    try:
        with _using_database(context) as shown:
            if make:
                keys.create()
            elif not _has_file(context) or not keys.exist():
                raise click.ClickException(f"{shown} has no users; 'zcli bifrost add-user' adds them")
            yield keys, shown
    except (UserError, DataError) as error:
        raise click.ClickException(str(error)) from None
    finally:
        keys.close()


def _load() -> Context:
    """Return the configuration, with the options of the group."""
    settings: dict[str, Any] = click.get_current_context().obj
    return load_context(settings)


@contextlib.contextmanager
def _using_database(context: Context) -> Iterator[str]:
    """Give the name of the database. A failure of the database ends the command.

    The default database must exist already: a command does not know what a script sets, and must not make a second one.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from zcli_bifrost.data.database import failure_of

    shown = _shown_database(context)
    try:
        yield shown
    except SQLAlchemyError as error:
        raise click.ClickException(f"cannot use {shown}: {failure_of(error)}") from None


def _shown_database(context: Context) -> str:
    config = context.config
    if config.section(Bifrost).database is not None:
        return _url(context).render_as_string(hide_password=True)
    if config.title is None:
        raise click.ClickException(
            "bifrost.database is not set, and the server's default depends on the name of its log; set "
            f"ZCLI_BIFROST_DATABASE in {config.env_file_in_use}, or name the log: zcli bifrost --title NAME ..."
        )
    file = default_file(config.log_file)
    if not Path(file).exists():
        raise click.ClickException(
            f"there is no database {file}; start the application once, or set ZCLI_BIFROST_DATABASE in "
            f"{config.env_file_in_use}"
        )
    return file


def _has_file(context: Context) -> bool:
    """Return whether a SQLite database exists: a connection would make an empty one. Others count as existing."""
    url = _url(context)
    return url.get_backend_name() != "sqlite" or Path(url.database or "").exists()


def _url(context: Context) -> URL:
    from sqlalchemy import make_url

    return make_url(context.config.section(Bifrost).database or f"sqlite:///{default_file(context.config.log_file)}")


def _shown(record: KeyRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "app": record.app,
        "role": record.role,
        "created_at": _time(record.created_at),
        "expires_at": _time(record.expires_at),
        "revoked_at": _time(record.revoked_at),
        "valid": record.problem(time.time()) is None,
    }


def _state(record: KeyRecord) -> str:
    problem = record.problem(time.time())
    if problem is None and record.expires_at is not None:
        return f"valid until {_time(record.expires_at)}"
    return problem or "valid"


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="seconds")
