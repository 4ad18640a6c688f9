"""``zcli bifrost``: users, keys, models and tables; what is printed where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cli_runs import run_main

from zCLI import zCLI

MODELS = "tasks:\n  fields:\n    id: {type: int, pk: true}\n    title: {type: text, required: true}\n"


class Done(NamedTuple):
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def zcli(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``zcli bifrost`` in this process, in a folder whose .zEnv names a database."""
    (isolated / ".zEnv").write_text(f"ZCLI_BIFROST_DATABASE=sqlite:///{isolated}/data.db\n")

    def run(*arguments: str) -> Done:
        done = run_main(monkeypatch, "bifrost", *arguments)
        return Done(done.status, done.out.decode(), done.err)

    return run


def test_add_user_prints_the_key_once(zcli: Run, isolated: Path) -> None:
    """stdout has nothing but the key, which no later command and no file shows."""
    done = zcli("add-user", "anna", "--role", "member")
    assert done.status == 0
    key = done.out.strip()
    assert done.out == f"{key}\n"
    assert key.startswith("zb_")
    secret = key.split("_", 2)[2]
    assert secret not in done.err
    assert "anna" in done.err
    assert "member" in done.err
    listed = zcli("users")
    assert key.split("_")[1] in listed.out
    assert secret not in listed.out + listed.err + zcli("users", "--json").out
    files = [file.read_bytes() for file in isolated.parent.rglob("*") if file.is_file()]
    assert not any(secret.encode() in content for content in files)


@pytest.mark.parametrize(("tier", "noted"), [(None, True), ("application", False)])
def test_add_user_notes_a_tier_without_keys(zcli: Run, isolated: Path, tier: str | None, noted: bool) -> None:
    """A server of such a tier would not ask for the key."""
    if tier is not None:
        with (isolated / ".zEnv").open("a") as file:
            file.write(f"ZCLI_BIFROST_AUTH_TIER={tier}\n")
    done = zcli("add-user", "anna", "--role", "member")
    assert done.status == 0
    assert ("set ZCLI_BIFROST_AUTH_TIER=application in" in done.err) is noted


def test_add_user_json_has_the_key(zcli: Run) -> None:
    """A program gets the key with what belongs to it."""
    added = json.loads(zcli("add-user", "anna", "--role", "buyer", "--app", "shop", "--days", "2", "--json").out)
    assert added["key"].startswith(f"zb_{added['id']}_")
    assert (added["app"], added["name"], added["role"]) == ("shop", "anna", "buyer")
    assert added["expires_at"].endswith("+00:00")
    assert added["database"].endswith("data.db")
    (listed,) = json.loads(zcli("users", "--json").out)["keys"]
    assert (listed["id"], listed["valid"], listed["revoked_at"]) == (added["id"], True, None)


def test_revoke_by_name_and_by_id(zcli: Run) -> None:
    """One key by its id, all keys of a user by the name; the list shows when."""
    keys = [zcli("add-user", "anna", "--role", "member").out.strip().split("_")[1] for _ in range(3)]
    assert zcli("revoke", keys[0]).out == f"revoked the key {keys[0]} of anna in the app default\n"
    revoked = json.loads(zcli("revoke", "anna", "--json").out)["revoked"]
    assert sorted(each["id"] for each in revoked) == sorted(keys[1:])
    listed = json.loads(zcli("users", "--json").out)["keys"]
    assert all(each["revoked_at"] and not each["valid"] for each in listed)
    assert zcli("revoke", "anna").out == "revoked nothing: all these keys were revoked before\n"
    assert "was revoked at" in zcli("users").out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("add-user", "a/b", "--role", "member"), "'a/b' cannot be the name of a user"),
        (("add-user", "\x1b[31m", "--role", "member"), "cannot be the name of a user"),
        (("add-user", "anna", "--role", "the boss"), "'the boss' cannot be the name of a role"),
        (("add-user", "anna", "--role", "member", "--days", "0"), "--days"),
        (("add-user", "anna"), "--role"),
        (("revoke", "nobody"), "no user has the name 'nobody', and no key has this id; 'zcli bifrost users'"),
        (("revoke", "' OR 1=1 --"), "no user has the name"),
    ],
)
def test_command_error_is_plain(zcli: Run, arguments: tuple[str, ...], text: str) -> None:
    """One line without a traceback, and nothing on stdout."""
    zcli("add-user", "emil", "--role", "member")
    done = zcli(*arguments)
    assert done.status in (1, 2)
    assert done.out == ""
    assert text in done.err
    assert "Traceback" not in done.err
    assert "\x1b" not in done.err


def test_command_without_table_says_what_to_do(zcli: Run, isolated: Path) -> None:
    """Listing or revoking makes no database."""
    for arguments in (("users",), ("revoke", "anna")):
        done = zcli(*arguments)
        assert done.status == 1
        assert "add-user" in done.err
    assert not (isolated / "data.db").exists()


def test_command_password_of_database_is_not_shown(zcli: Run, isolated: Path) -> None:
    """Neither in the error of a database that cannot be reached."""
    url = "postgresql+psycopg://me:a-secret-word@127.0.0.1:1/x"
    (isolated / ".zEnv").write_text(f"ZCLI_BIFROST_DATABASE={url}\n")
    for arguments in (("users",), ("add-user", "anna", "--role", "member", "--json")):
        done = zcli(*arguments)
        assert done.status in (1, 2)
        assert "a-secret-word" not in done.out + done.err
        assert "127.0.0.1" in done.err


def test_command_default_database_must_be_named(zcli: Run, isolated: Path) -> None:
    """Without ``bifrost.database`` the command never makes a database beside that of the script."""
    (isolated / ".zEnv").write_text("")
    done = zcli("add-user", "anna", "--role", "member")
    assert done.status == 1
    assert "bifrost.database is not set" in done.err
    done = zcli("--title", "shop", "add-user", "anna", "--role", "member")
    assert done.status == 1
    assert "there is no database" in done.err
    settings = {"title": "shop", "deployment": "Testing", "logger": "PROD"}
    with zCLI({**settings, "bifrost": {"auth_tier": "application"}}) as z:
        z.comm.websocket.start_background(port=0).stop()
    assert zcli("--title", "shop", "add-user", "anna", "--role", "member").status == 0


def test_command_of_open_server_settings_works(zcli: Run, isolated: Path) -> None:
    """The tier need not be set to make the first user."""
    with (isolated / ".zEnv").open("a") as env:
        env.write("ZCLI_BIFROST_AUTH_TIER=application\n")
    assert zcli("add-user", "anna", "--role", "member").status == 0


# --- models ---


def test_models_check_correct_file(zcli: Run, isolated: Path) -> None:
    """A file, or the setting."""
    file = isolated / "models.yaml"
    file.write_text(MODELS)
    assert zcli("models", "check", str(file)) == Done(0, "no mistakes in these models: tasks\n", "")
    assert zcli("models", "check").status == 1
    (isolated / ".zEnv").write_text(f"ZCLI_BIFROST_MODELS={file}\n")
    found = json.loads(zcli("models", "check", "--json").out)
    assert found["problems"] == []
    assert found["models"]["tasks"]["fields"] == ["id", "title"]


def test_models_check_lists_mistakes(zcli: Run, isolated: Path) -> None:
    """Status 1, every mistake on a line, and the same as JSON."""
    file = isolated / "models.yaml"
    file.write_text(MODELS.replace("text", "varchar") + "  owner: missing\n")
    done = zcli("models", "check", str(file))
    assert done.status == 1
    assert "varchar" in done.err
    problems = json.loads(zcli("models", "check", str(file), "--json").out)["problems"]
    assert any("varchar" in each for each in problems)
    assert zcli("models", "check", str(isolated / "missing.yaml")).status == 1


def test_migrate_check_lists_differences(zcli: Run, isolated: Path) -> None:
    """A table that does not fit is reported and not changed; a missing one fits."""
    import sqlite3

    file = isolated / "models.yaml"
    file.write_text(MODELS)
    with (isolated / ".zEnv").open("a") as env:
        env.write(f"ZCLI_BIFROST_MODELS={file}\n")
    with sqlite3.connect(isolated / "data.db") as database:
        database.execute("CREATE TABLE tasks (id INTEGER PRIMARY KEY)")
    database.close()
    done = zcli("migrate-check")
    assert done.status == 1
    assert "column 'title' is missing" in done.err
    assert len(json.loads(zcli("migrate-check", "--json").out)["problems"]) == 1
    with sqlite3.connect(isolated / "data.db") as database:
        database.execute("ALTER TABLE tasks ADD COLUMN title TEXT NOT NULL DEFAULT ''")
    database.close()
    assert zcli("migrate-check").status == 0
