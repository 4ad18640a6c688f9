"""Debian's cluster tools with a real cluster that has its own name and port."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from needs import needs, needs_root
from ordinary_user import OrdinaryUser
from service_servers import free_ports

from zcli_core.app import zCLI
from zcli_core.services.launchers import debian as debian_launcher

Make = Callable[..., zCLI]


class Debian(NamedTuple):
    version: str
    name: str
    port: int


@pytest.fixture(scope="module")
def debian() -> Iterator[Debian]:
    needs_root("making a Debian cluster")
    tool = needs("pg_createcluster", "postgresql")
    version = needs("initdb", "postgresql").resolve().parent.parent.name
    name, port = f"zclitest{os.getpid()}", free_ports(1)[0]
    options = ["--port", str(port), "--start-conf", "manual", version, name, "--", "--no-sync"]
    subprocess.run([tool, *options], check=True, capture_output=True, cwd="/")
    try:
        yield Debian(version, name, port)
    finally:
        subprocess.run(["pg_dropcluster", "--stop", version, name], check=True, capture_output=True, cwd="/")


def wait_until_listed(expected: str) -> None:
    """Wait until ``pg_lsclusters`` has a line; it fails while something that it reads is being changed."""
    end = time.monotonic() + 20
    while True:
        listed = subprocess.run(["pg_lsclusters", "-h"], capture_output=True, text=True, check=False)
        if expected in " ".join(listed.stdout.split()):
            return
        assert time.monotonic() < end, listed
        time.sleep(0.2)


def test_cluster_with_the_port_starts_and_stops(make: Make, debian: Debian) -> None:
    """The cluster is identified by its port."""
    z = make(postgresql={"port": debian.port})
    assert z.comm.start_service("postgresql"), z.comm.services.last_failure
    status = z.comm.service_status("postgresql")
    assert (status["ready"], status["needs_auth"]) == (True, True)
    wait_until_listed(f"{debian.name} {debian.port} online")
    assert z.comm.restart_service("postgresql"), z.comm.services.last_failure
    assert z.comm.stop_service("postgresql"), z.comm.services.last_failure
    assert not z.comm.service_status("postgresql")["running"]


def test_cluster_ordinary_user_gets_the_command(place: Path, debian: Debian) -> None:
    """No other server is started instead."""
    user = OrdinaryUser(place)
    user.install_sudo()
    script = (
        "from zCLI import zCLI\n"
        'z = zCLI({"deployment": "Testing", "logger": "PROD"})\n'
        f'print(z.comm.start_service("postgresql", port={debian.port}), z.comm.services.last_failure.command)\n'
        "print(z.comm.services.last_failure)\n"
        "z.close()\n"
    )
    first, *rest = user.run(script).splitlines()
    assert first == f"False sudo pg_ctlcluster {debian.version} {debian.name} start"
    assert "belongs to postgres" in rest[0]


def test_cluster_hidden_holder_is_never_stopped(make: Make, place: Path, debian: Debian) -> None:
    """An ordinary user cannot see which process holds the port. The error has the command that stops it."""
    user = OrdinaryUser(place)
    user.install_sudo()
    z = make(postgresql={"port": debian.port})
    assert z.comm.start_service("postgresql"), z.comm.services.last_failure
    said = user.run(
        "from zCLI import zCLI\n"
        'z = zCLI({"deployment": "Testing", "logger": "PROD"})\n'
        f'print(z.comm.stop_service("postgresql", port={debian.port}), z.comm.services.last_failure)\n'
        "z.close()\n"
    )
    assert "The launcher debian-cluster may run it" in said
    assert said.strip().endswith(f"sudo pg_ctlcluster {debian.version} {debian.name} stop")
    assert z.comm.stop_service("postgresql"), z.comm.services.last_failure


def test_cluster_missing_port_lists_the_others(make: Make, debian: Debian) -> None:
    """The failure lists the existing clusters."""
    z = make(postgresql={"port": free_ports(1)[0], "launcher": "debian-cluster"})
    assert not z.comm.start_service("postgresql")
    said = str(z.comm.services.last_failure)
    assert f"{debian.version} {debian.name} on {debian.port}" in said
    assert "set services.postgresql.port" in said


def test_cluster_failing_start_has_its_log(make: Make, debian: Debian) -> None:
    """The failure has the last lines of the cluster's log."""
    file = Path("/etc/postgresql", debian.version, debian.name, "postgresql.conf")
    before = file.read_text()
    file.write_text(before + "\nshared_buffers = 'a lot'\n")
    try:
        z = make(postgresql={"port": debian.port})
        assert not z.comm.start_service("postgresql", timeout=20)
        failure = z.comm.services.last_failure
    finally:
        file.write_text(before)
    assert failure is not None
    assert f"the cluster {debian.version} {debian.name} did not start" in failure.message
    assert any("shared_buffers" in line for line in failure.log)


@pytest.mark.parametrize("kind", ["link", "pipe", "second name"])
def test_read_of_a_link_or_pipe_is_refused(tmp_path: Path, kind: str) -> None:
    """Root would show lines of another file, or wait forever."""
    secret, file = tmp_path / "shadow", tmp_path / "postmaster.pid"
    secret.write_text("root:x\n")
    {"link": file.symlink_to, "second name": file.hardlink_to, "pipe": lambda _: os.mkfifo(file)}[kind](secret)
    with pytest.raises(OSError, match=r"name|link"):
        debian_launcher._read(file, os.geteuid())
    file.unlink()
    file.write_text("12\n5432\n")
    assert debian_launcher._read(file, os.geteuid()) == "12\n5432\n"


def test_read_as_the_account_shows_its_own_files_only(place: Path) -> None:
    """The path of a log comes from files of the account and could lead to /etc/shadow."""
    needs_root("becoming another account")
    nobody = pwd.getpwnam("nobody").pw_uid
    secret, own = place / "shadow", place / "own.log"
    secret.write_text("root:x\n")
    secret.chmod(0o600)
    own.write_text("12\n5432\n")
    os.chown(own, nobody, 0)
    (place / "link").symlink_to(place)
    for file in (secret, place / "link" / "shadow", place / "missing"):
        with pytest.raises(OSError, match="cannot read it"):
            debian_launcher._read(file, nobody)
    assert debian_launcher._read(place / "link" / "own.log", nobody) == "12\n5432\n"


def test_read_for_another_owners_configuration_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could name the data folder of another user, and a log that only that user may read."""
    monkeypatch.setattr(debian_launcher, "_CONFIGURATIONS", tmp_path)
    (tmp_path / "15" / "main").mkdir(parents=True)
    log = tmp_path / "log"
    log.write_text("line\n")
    us = os.geteuid()
    cluster = debian_launcher._Cluster("15", "main", 5432, us, tmp_path, "", str(log), False)
    assert cluster.read(log) == "line\n"
    if us:
        cluster = cluster._replace(owner=us + 1)
    else:
        os.chown(tmp_path / "15" / "main", 1, 1)
    with pytest.raises(OSError, match="different owners"):
        cluster.read(log)


def test_read_of_another_owners_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account must not make an ordinary user show a file of that user."""
    monkeypatch.setattr(debian_launcher, "is_root", lambda: False)
    (tmp_path / "id_rsa").write_text("key\n")
    with pytest.raises(OSError, match="of the cluster's account"):
        debian_launcher._read(tmp_path / "id_rsa", os.geteuid() + 1)
