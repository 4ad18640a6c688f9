"""``zcli bifrost``: the users of an application and their keys, and checks of models and tables."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from zcli_bifrost.access.names import DEFAULT_APP
from zcli_core.cli.parts import json_option, load_context, print_error, print_json, print_table, print_text

if TYPE_CHECKING:
    from zcli_bifrost.access.key_table import KeyRecord, KeyTable

_DAY = 86400.0


@click.group("bifrost")
def command() -> None:
    """Manage the users of a zBifrost application, and check its models.

    The commands use the settings of the current folder, as a script does. What a script gives to zCLI({...}) is not
    known here: put bifrost.database and bifrost.models into the .zEnv or the environment.
    """


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
    with _keys() as (keys, database):
        key = keys.add(name, role, app, expires_at)
    if as_json:
        shown = {"key": key.text, "id": key.id, "app": app, "name": name, "role": role}
        print_json({**shown, "expires_at": _time(expires_at), "database": database})
        return
    until = f", until {_time(expires_at)}" if expires_at else ""
    print_error(f"added the key {key.id} of {name} in the app {app}, role {role}{until}, to {database}; the key is:")
    print_text(key.text)


@command.command("revoke")
@click.argument("name_or_key_id")
@click.option("--app", help="The app of the user, if users of several apps have the name.")
@json_option
def revoke(name_or_key_id: str, app: str | None, as_json: bool) -> None:
    """Revoke all keys of a user, or one key by its id.

    Every server closes the connections that these keys have opened, within a second.
    """
    with _keys() as (keys, database):
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
    with _keys() as (keys, database):
        records = keys.all()
    if as_json:
        print_json({"keys": [_shown(record) for record in records], "database": database})
        return
    rows = [
        (record.name, record.app, record.role, record.id, _time(record.created_at) or "", _state(record))
        for record in records
    ]
    print_table(("user", "app", "role", "key", "added", "state"), rows)


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
