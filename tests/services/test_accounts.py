"""The account of servers that root starts: never root, without groups and secrets of root."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from installations import Site
from needs import needs_root
from service_servers import free_ports
from zcli_redis.backend import RedisBackend

from zcli_core.app import zCLI
from zcli_core.services.contract import LaunchError, LocalProcess
from zcli_core.services.failures import ServiceFailure
from zcli_core.services.launchers import accounts, data_files, server_folder
from zcli_core.services.launchers.accounts import choose_account, reachable_program
from zcli_core.services.launchers.commands import Account, environment, run
from zcli_core.services.launchers.data_files import DataFiles
from zcli_core.services.launchers.server_folder import make_instance_folder
from zcli_core.system import safe_files

Make = Callable[..., zCLI]

#: A server that says who it is and what it knows, and ends.
SPEAKING = """
from zcli_core.services.contract import Exchange, LocalProcess, NotThisService, ServiceBackend, lines

WORDS = 'id -u; id -g; id -G; env | sort | cut -d= -f1 | tr "\\\\n" " "; echo; pwd'

class Speaking(ServiceBackend):
    name = title = "speaking"
    default_port = 7
    launchers = (LocalProcess(programs=("sh",)),)

    def probe(self, target):
        reply = yield Exchange(b"hello\\n", lines())
        raise NotThisService(reply)

    def command(self, place):
        return [str(place.program), "-c", WORDS]

@hookimpl
def zcli_service_backends():
    return [Provider("speaking", "", Speaking)]
"""
_KNOWN = {"HOME", "LC_ALL", "LOGNAME", "OLDPWD", "PATH", "PWD", "USER"}


@pytest.fixture
def others(place: Path) -> Path:
    """A folder of an account that has a group in the account database."""
    needs_root("becoming another account")
    folder = place / "theirs"
    folder.mkdir()
    os.chown(folder, 1, 0)  # daemon's, and of root's group, which the database does not give it
    return folder


def account(name: str) -> Account:
    try:
        return Account.of(name)
    except KeyError:
        pytest.skip(f"this system has no account {name}")


def failed(z: zCLI) -> ServiceFailure:
    failure = z.comm.services.last_failure
    assert failure is not None
    return failure


# --- what a server is given ---


def test_server_gets_the_accounts_groups_and_no_secret(
    make: Make, site: Site, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the ids of its account, and only those of our variables that every program needs."""
    site.plugin("speaking", SPEAKING)
    for name in ("AWS_SECRET_ACCESS_KEY", "WEBSOCKET_TOKEN", "LD_LIBRARY_PATH", "PGPASSWORD", "TMPDIR"):
        monkeypatch.setenv(name, str(place))
    z = make(folder=str(place / "services"))
    assert not z.comm.start_service("speaking", port=free_ports(1)[0], timeout=10)
    uid, gid, groups, names, folder = failed(z).log
    known = names.split()
    if os.geteuid() == 0:
        expected = account("nobody")
        assert (int(uid), int(gid)) == (expected.uid, expected.gid)
        assert {int(group) for group in groups.split()} == {expected.gid, *expected.groups}
        assert set(known) - {"_", "TZ"} <= _KNOWN
    else:
        assert set(known) - {"_", "TZ", "TMPDIR"} <= _KNOWN
    assert folder == str(place / "services" / "speaking" / "data")


@pytest.mark.parametrize("as_account", [False, True])
def test_command_gets_no_secret_variable(monkeypatch: pytest.MonkeyPatch, as_account: bool) -> None:
    """It holds for a command that runs as our user and for one that runs as an account."""
    if as_account:
        needs_root("becoming another account")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of ours")
    monkeypatch.setenv("TMPDIR", "/tmp/of-ours")
    who = account("daemon") if as_account else None
    said = dict(line.split("=", 1) for line in run(["env"], 10.0, who, Path("/")).output.splitlines())
    assert set(said) - {"_", "TZ", "SHLVL"} <= _KNOWN | (set() if as_account else {"TMPDIR"})
    if who is not None:
        assert (said["HOME"], said["USER"], said["LOGNAME"]) == (who.home, "daemon", "daemon")
    assert environment()["LC_ALL"] == "C"


def test_command_has_the_accounts_groups_only() -> None:
    """It has all groups of the account database and no group of root."""
    needs_root("becoming another account")
    said = run(["id", "-G"], 10.0, Account("alice", 1, 2, "/", (12_345,)), Path("/"))
    assert {int(group) for group in said.output.split()} == {2, 12_345}
    assert account("nobody").groups == tuple(
        group for group in os.getgrouplist("nobody", account("nobody").gid) if group != account("nobody").gid
    )


# --- whom it runs as ---


def test_account_of_a_folder_has_the_databases_group(others: Path) -> None:
    """The folder's own group, which is root's here, is not used."""
    found = choose_account(("nobody",), others)
    assert found is not None
    assert (found.uid, found.gid) == (1, pwd.getpwuid(1).pw_gid)
    assert 0 not in found.groups


def test_folder_without_an_account_is_an_error(place: Path) -> None:
    """The command in the error gives the folder to an existing account."""
    needs_root("giving a folder to another account")
    data = place / "data"
    data.mkdir()
    os.chown(data, 3_999_999, 0)
    with pytest.raises(LaunchError, match="the user id 3999999, which has no account") as caught:
        choose_account(("no-such-account",), data)
    assert subprocess.run(["sh", "-c", str(caught.value.command)], check=False).returncode == 0
    found = choose_account(("no-such-account",), data)
    assert found is not None
    assert found.name == "nobody"


def test_account_in_roots_group_is_refused(others: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could read files that only root's group may read."""
    monkeypatch.setattr(accounts, "_find", lambda who: Account(str(who), 1, 1, "/", (0,)))
    with pytest.raises(LaunchError, match="in root's group"):
        choose_account((), others)


def test_system_without_an_account_is_an_error(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure has the command that makes an account. The server does not run as root."""
    needs_root("choosing an account")
    monkeypatch.setattr(accounts, "_find", lambda who: None)
    with pytest.raises(LaunchError, match="no account redis or nobody") as caught:
        choose_account(("redis",), place / "data")
    assert str(caught.value.command).endswith(" redis")


def test_program_that_only_root_can_run_is_an_error(
    make: Make, place: Path, redis_server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is not started as root. After the command in the failure it starts as its account."""
    needs_root("starting a server as another account")
    private = place / "private"
    private.mkdir(mode=0o700)
    shutil.copy(redis_server, private / "redis-server")
    method = next(each for each in RedisBackend.launchers if isinstance(each, LocalProcess))
    monkeypatch.setattr(RedisBackend, "launchers", (method._replace(programs=("redis-server",), wheels=()),))
    monkeypatch.setenv("PATH", f"{private}{os.pathsep}{os.environ['PATH']}")
    z = make(redis={"port": free_ports(1)[0], "launcher": "local"})
    assert not z.comm.start_service("redis")
    assert f"cannot run {private / 'redis-server'}" in failed(z).message
    command = failed(z).command
    assert command == f"chmod o+x {private}"
    subprocess.run(command, shell=True, check=True)
    assert z.comm.start_service("redis"), z.comm.services.last_failure
    assert (place / "services" / "redis" / "data").stat().st_uid != 0
    assert z.comm.stop_service("redis")


def test_script_with_roots_interpreter_is_an_error(place: Path) -> None:
    """Such as a console script of an environment with a Python below /root."""
    private = place / "private"
    private.mkdir(mode=0o700)
    shutil.copy("/bin/sh", private / "python")
    script = place / "server"
    script.write_text(f"#!{private}/python -W ignore\n")
    script.chmod(0o755)
    needs_root("becoming another account")
    with pytest.raises(LaunchError, match=f"cannot run {script}") as caught:
        reachable_program(script, account("nobody"), LocalProcess(("server",)), place, lambda: 10.0)
    assert caught.value.command == f"chmod o+x {private}"


# --- folders and files ---


def test_files_of_a_server_are_private(local: tuple[zCLI, int], place: Path) -> None:
    """Other users can neither read our files nor hold the lock. The account of the server can reach its data."""
    assert local[0].comm.service_status("redis")["ready"]
    folder = place / "services" / "redis"
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (folder, *folder.iterdir())}
    assert modes.pop("redis") == (0o711 if os.geteuid() == 0 else 0o700)
    assert modes.pop("data") == 0o700
    assert {"lock", "server.log", "instance.json", "written.json"} <= modes.keys()
    assert set(modes.values()) == {0o600}, modes


def test_data_folder_open_to_others_becomes_private(tmp_path: Path) -> None:
    """A user who can open the folder can hold its lock and keep the server from starting."""
    (tmp_path / "data").mkdir(mode=0o755)
    (tmp_path / "data" / "file").touch()
    files = DataFiles(tmp_path / "data", None, lambda: 10.0)
    files.make()
    files.make_private()
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_data_folder_refused_keeps_its_mode(make: Make, place: Path) -> None:
    """A folder that was named by mistake, such as that of a web site, stays readable."""
    site = place / "site"
    site.mkdir(mode=0o755)
    (site / "index.html").touch()
    if os.geteuid() == 0:
        os.chown(site, 1, 1)
    z = make(postgresql={"launcher": "local"})
    assert not z.comm.start_service("postgresql", port=free_ports(1)[0], data_dir=site)
    assert "neither empty nor a PostgreSQL cluster" in failed(z).message
    assert stat.S_IMODE(site.stat().st_mode) == 0o755


def test_data_folder_unreadable_path_is_an_error(make: Make, place: Path) -> None:
    """``last_failure`` has the cause, and the call raises nothing."""
    z = make(redis={"launcher": "local"})
    assert not z.comm.start_service("redis", port=free_ports(1)[0], data_dir=place / ("x" * 300))
    assert "cannot make the data folder" in failed(z).message
    assert "File name too long" in failed(z).message


@pytest.mark.parametrize("kind", ["theirs", "link", "open"])
def test_services_folder_of_another_account_is_refused(others: Path, place: Path, kind: str) -> None:
    """The account could replace root's records and logs. No folder is made there."""
    target = place / "target"
    target.mkdir()
    base = others / "services"
    if kind == "link":
        base.symlink_to(target)
        os.lchown(base, 1, 1)
    elif kind == "open":
        target.chmod(0o777)
        base = target / "services"
    with pytest.raises(LaunchError, match="folder that another user controls") as caught:
        make_instance_folder(base / "redis", base)
    assert caught.value.command == "export ZCLI_SERVICES_FOLDER=/var/lib/zcli/services"
    assert list(target.iterdir()) == [] or kind == "open"
    assert kind == "link" or not (base / "redis" / "lock").exists()


@pytest.mark.parametrize("name", ["lock", "server.log"])
def test_start_link_in_our_folder_is_an_error(make: Make, place: Path, name: str) -> None:
    """The link is not followed, and ``last_failure`` has its path."""
    folder = place / "services" / "redis"
    folder.mkdir(parents=True)
    (folder / name).symlink_to("elsewhere")
    z = make(redis={"launcher": "local"})
    assert not z.comm.start_service("redis", port=free_ports(1)[0])
    assert f"cannot use {folder / name}: " in failed(z).message
    assert not (folder / "elsewhere").exists()


def test_services_folder_of_a_stranger_is_refused_to_a_user(
    others: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user could obtain a password that is written there. A folder of root that all may write is accepted."""
    monkeypatch.setattr(server_folder, "is_root", lambda: False)
    others.chmod(0o777)
    with pytest.raises(LaunchError, match="folder that another user controls") as caught:
        make_instance_folder(others / "services" / "redis", others)
    assert "ZCLI_SERVICES_FOLDER=/var/tmp/zcli-" in str(caught.value.command)
    assert list(others.iterdir()) == []
    place.chmod(0o777)
    make_instance_folder(place / "services" / "redis", place)
    assert stat.S_IMODE((place / "services" / "redis").stat().st_mode) == 0o700


def test_services_folder_ignores_the_umask(place: Path) -> None:
    """The accounts of root's servers can pass through every folder that was made."""
    needs_root("making a folder for other accounts")
    before = os.umask(0o077)
    try:
        make_instance_folder(place / "a" / "b" / "redis", place / "a" / "b")
    finally:
        os.umask(before)
    made = [place / "a", place / "a" / "b", place / "a" / "b" / "redis"]
    assert [stat.S_IMODE(each.stat().st_mode) for each in made] == [0o711] * 3


# --- within the data folder ---


@pytest.mark.parametrize("kind", ["theirs", "link", "below"])
def test_data_folder_of_a_stranger_is_refused_to_a_user(others: Path, place: Path, kind: str) -> None:
    """A link in it would make the server write any file of the user."""
    (place / "ours").mkdir()
    (others / "link").symlink_to(place / "ours")
    os.lchown(others / "link", 1, 1)
    others.chmod(0o777)
    data = {"theirs": others, "link": others / "link", "below": others / "new"}[kind]
    with pytest.raises(LaunchError, match=r"is not used, because .* the user daemon"):
        DataFiles(data, None, lambda: 10.0).make()
    assert not (others / "new").exists()


@pytest.mark.parametrize("what", ["data", "services"])
def test_folder_made_by_another_user_is_refused(
    others: Path, place: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The other user makes it in a folder such as /tmp, between the check and our mkdir."""
    check, module = safe_files.require_no_others, {"data": data_files, "services": server_folder}[what]

    def check_and_make(path: Path) -> None:
        check(path)
        if not path.exists():
            path.mkdir(mode=0o777)
            os.chown(path, 1, 1)

    monkeypatch.setattr(module, "require_no_others", check_and_make)
    monkeypatch.setattr(server_folder, "is_root", lambda: False)
    make = {
        "data": DataFiles(place / "new", None, lambda: 10.0).make,
        "services": lambda: make_instance_folder(place / "new", place),
    }[what]
    with pytest.raises(LaunchError, match="the user daemon"):
        make()


def test_data_folder_behind_their_link_is_their_own(others: Path, place: Path) -> None:
    """Another user's link must not choose the folder that root's server changes, or its account."""
    for name, uid in (("root", 0), ("nobody", account("nobody").uid), ("own", 1)):
        (place / name).mkdir()
        os.chown(place / name, uid, uid)
        (others / name).symlink_to(place / name)
        os.lchown(others / name, 1, 1)
    for name in ("root", "nobody"):
        with pytest.raises(
            LaunchError, match=f"the user {name} .* is a link that the user daemon .* controls"
        ) as caught:
            choose_account(("nobody",), others / name)
        assert caught.value.command is None
    found = choose_account(("nobody",), others / "own")
    assert found is not None
    assert found.uid == 1


def _data_of(place: Path, name: str) -> DataFiles:
    needs_root("becoming another account")
    data = place / "data"
    data.mkdir(mode=0o700)
    who = account(name)
    os.chown(data, who.uid, who.gid)
    return DataFiles(data, who, lambda: 10.0)


def test_data_folder_is_read_as_its_account(place: Path) -> None:
    """A link to a file of root, or a pipe, is not read. A file of the account is."""
    files = _data_of(place, "daemon")
    secret = place / "secret"
    secret.write_text("of root")
    secret.chmod(0o600)
    (files.path / "PG_VERSION").symlink_to(secret)
    os.mkfifo(files.path / "pipe")
    os.link(secret, files.path / "second")
    (files.path / "own").write_text("own\n")
    assert sorted(files.names()) == ["PG_VERSION", "own", "pipe", "second"]
    began = time.monotonic()
    assert [files.read(name) for name in ("PG_VERSION", "pipe", "second", "missing", "own")] == [*[None] * 4, "own\n"]
    assert time.monotonic() - began < 60, "nothing waits for the pipe"


@pytest.mark.parametrize("owner", ["us", "another account"])
def test_number_is_replaced_and_no_link_followed(place: Path, owner: str) -> None:
    """The rest of the file stays as it is, byte for byte."""
    if owner == "us":
        (place / "data").mkdir()
        files = DataFiles(place / "data", None, lambda: 10.0)
    else:
        files = _data_of(place, "daemon")
    outside = place / "outside"
    outside.write_bytes(b"12345\n/data-\xff\n5432\n")
    outside.chmod(0o666)
    (files.path / "pid").symlink_to(outside)
    files.renumber("pid", 99)
    assert outside.read_bytes() == b"12345\n/data-\xff\n5432\n"
    assert (files.path / "pid").read_bytes() == b"99\n/data-\xff\n5432\n"
    assert not (files.path / "pid").is_symlink()


def test_data_folder_behind_their_link_is_not_made(others: Path, place: Path) -> None:
    """In another account's folder, that account makes the data folder, with its own rights."""
    target = place / "etc"
    target.mkdir()
    (others / "link").symlink_to(target)
    os.lchown(others / "link", 1, 1)
    data = others / "link" / "data"
    found = choose_account(("nobody",), data)
    assert found is not None
    assert found.uid == 1
    with pytest.raises(LaunchError):
        DataFiles(data, found, lambda: 10.0).make()
    assert list(target.iterdir()) == []
    own = others / "a" / "b"
    DataFiles(own, found, lambda: 10.0).make()
    assert [each.stat().st_uid for each in (own, own.parent)] == [1, 1]
    assert stat.S_IMODE(own.stat().st_mode) == 0o700


def test_data_folder_replaced_is_not_locked(place: Path) -> None:
    """Its account replaces it by a link to a folder of root, whose descriptor the server would inherit."""
    needs_root("becoming another account")
    (place / "data").symlink_to(place)
    with pytest.raises(LaunchError, match="was replaced by another one"):
        DataFiles(place / "data", account("daemon"), lambda: 10.0).open()
