"""The auth strategy of each tier passes the contract suite, and closes clients whose keys are revoked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from zcli_bifrost import zcli_auth_strategies
from zcli_bifrost.access.key_table import KeyTable, UserError
from zcli_bifrost.access.key_watch import KeyWatch
from zcli_bifrost.access.keys import NewKey, make_key
from zcli_bifrost.data.database import Database

from zCLI import zCLI
from zcli_core.auth.contract import Identified, Rejected
from zcli_core.testing.auth import WITHOUT_CREDENTIAL, AuthStrategyContract, authenticate, make_request
from zcli_core.testing.auth_server import connecting

(BIFROST,) = zcli_auth_strategies()
TOKENS = {"alice": "the-token-of-alice", "bob": "the-token-of-bob"}
OPERATOR = {
    "websocket": {"tokens": TOKENS},
    "bifrost": {"auth_tier": "zSession", "operators": {"alice": "admin"}},
}


def bearer(text: str) -> Any:
    return make_request(headers={"Authorization": f"Bearer {text}"})


def wrong_secret(key: NewKey) -> str:
    return key.text[:-1] + ("A" if key.text[-1] != "A" else "B")


class OfTier(AuthStrategyContract):
    """The suite, with the server that the tier itself configures."""

    __test__ = False
    strategy = BIFROST

    def credentials(self) -> set[str]:
        return super().credentials() - {"app_name"}

    def test_server_accepts_valid_credentials_only(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A server with nothing but the tier closes all others with 1008 and shows no credential."""
        websocket = {**self.settings["websocket"], "max_auth_failures": 1000, "max_refusal_delay": 0}
        quiet = {"title": "tier", "deployment": "Testing", "logger": "PROD", "logger_path": str(tmp_path / "log")}
        known: list[Any] = []
        with zCLI({**self.settings, **quiet, "websocket": websocket}) as z:
            port = z.comm.websocket.start_background(port=0).port
            for request in self.accepted:
                with connecting(port, request) as result:
                    assert result.code is None, result
                    (client,) = [each for each in z.comm.websocket.clients if each.remote_address == result.address]
                    known.append(z.comm.websocket.auth.get_client_info(client))
            for request in (*self.rejected, *WITHOUT_CREDENTIAL):
                with connecting(port, request) as result:
                    assert result.code == 1008, result
        assert all(info["strategy"] == "bifrost" and info["claims"]["tier"] for info in known)
        log = (tmp_path / "log" / "tier.log").read_text()
        assert not self._leaks(log, caplog.text, *capsys.readouterr(), *known)


class TestZSession(OfTier):
    """Operators only."""

    __test__ = True
    settings: ClassVar = OPERATOR
    accepted = (
        make_request(query="token=the-token-of-alice"),
        bearer("the-token-of-alice"),
        make_request(subprotocols=["bearer", "the-token-of-alice"]),
    )
    rejected = (
        make_request(query="token=an-unknown-token"),
        bearer("the-token-of-bob"),
        bearer(make_key().text),
    )

    def test_operator_claims_have_tier_and_role(self, made: Any) -> None:
        """The identity cannot be that of a user."""
        verdict = authenticate(made, self.accepted[0])
        assert isinstance(verdict, Identified)
        assert verdict.identity == "zSession:alice"
        assert verdict.claims == {"tier": "zSession", "role": "admin", "app": None, "user": "alice"}


class WithKeys(OfTier):
    """The base of the tiers with keys: a table with a user in each of two apps."""

    __test__ = False
    tier: ClassVar[Mapping[str, Any]]
    keys: KeyTable

    @pytest.fixture(autouse=True)
    def _with_keys(self, tmp_path: Path) -> Iterable[None]:
        database = f"sqlite:///{tmp_path}/keys.db"
        self.settings = {**self.tier, "bifrost": {**self.tier["bifrost"], "database": database}}  # type: ignore[misc]
        self.keys = KeyTable(Database(database, 5.0, logging.getLogger("zcli.tests")))
        self.keys.create()
        first, shop = self.keys.add("anna", "user", "default"), self.keys.add("anna", "buyer", "shop")
        revoked, expired = self.keys.add("carl", "user", "default"), self.keys.add("dora", "user", "x", time.time() - 1)
        self.keys.revoke(revoked.id)
        self.accepted = (
            *self.accepted,
            bearer(first.text),
            make_request(query=f"token={first.text}"),
            make_request(query=f"token={shop.text}&app_name=shop"),
            make_request(query="app_name=shop", headers={"Authorization": f"Bearer {shop.text}"}),
            make_request(subprotocols=["bearer", shop.text]),
        )
        self.rejected = (
            *self.rejected,
            bearer(make_key().text),
            bearer(wrong_secret(first)),
            bearer(first.text.replace(first.id, shop.id)),
            bearer(revoked.text),
            bearer(expired.text),
            make_request(query=f"token={first.text}&app_name=shop"),
            make_request(query=f"token={shop.text}&app_name=default"),
            make_request(query=f"token={shop.text}&app_name="),
            make_request(query=f"token={shop.text}&app_name=shop&app_name=shop"),
            make_request(query=f"token={shop.text}&%61pp_name=default"),
        )
        yield
        self.keys.close()

    def test_user_claims_have_tier_role_and_app(self, made: Any) -> None:
        """Users of equal names in two apps have different identities."""
        verdicts = [authenticate(made, request) for request in self.accepted]
        users = [verdict for verdict in verdicts if isinstance(verdict, Identified) and "key" in verdict.claims]
        found = {(verdict.identity, *map(verdict.claims.get, ("tier", "role", "app", "user"))) for verdict in users}
        assert found == {
            ("application:default/anna", "application", "user", "default", "anna"),
            ("application:shop/anna", "application", "buyer", "shop", "anna"),
        }

    def test_refusals_of_unknown_and_wrong_keys_are_alike(self, made: Any) -> None:
        """The cause does not tell whether an id exists."""
        key = self.keys.add("emil", "user", "default")
        unknown, wrong = (authenticate(made, bearer(text)) for text in (make_key().text, wrong_secret(key)))
        assert isinstance(unknown, Rejected)
        assert isinstance(wrong, Rejected)
        assert unknown.cause.split()[3:] == wrong.cause.split()[3:]
        assert unknown.counts
        assert wrong.counts


class TestApplication(WithKeys):
    """Users only."""

    __test__ = True
    tier: ClassVar = {"bifrost": {"auth_tier": "application"}, "websocket": {"tokens": TOKENS}}
    rejected = (bearer("the-token-of-alice"), make_request(query="token=an-unknown-token"))


@pytest.mark.slow
class TestDual(WithKeys):
    """Operators and users."""

    __test__ = True
    tier: ClassVar = {**OPERATOR, "bifrost": {**OPERATOR["bifrost"], "auth_tier": "dual"}}
    accepted = (bearer("the-token-of-alice"),)
    rejected = (bearer("the-token-of-bob"), make_request(query="token=an-unknown-token"))


# --- the table ---


@pytest.fixture
def keys(make_database: Callable[[], str]) -> Iterable[KeyTable]:
    table = KeyTable(Database(make_database(), 5.0, logging.getLogger("zcli.tests")))
    table.create()
    yield table
    table.close()


def test_table_create_twice_keeps_keys(keys: KeyTable) -> None:
    """The tables are made only if they are absent."""
    key = keys.add("anna", "user", "default")
    version = keys.version()
    keys.create()
    assert keys.find(key.id) is not None
    assert keys.version() == version
    assert keys.exist()


def test_table_does_not_store_the_key(tmp_path: Path) -> None:
    """The file of the database contains neither the key nor its secret."""
    keys = KeyTable(Database(f"sqlite:///{tmp_path}/keys.db", 5.0, logging.getLogger("zcli.tests")))
    keys.create()
    key = keys.add("anna", "user", "default")
    content = b"".join(file.read_bytes() for file in tmp_path.glob("keys.db*"))
    keys.close()
    assert key.id.encode() in content
    assert key.text.split("_", 2)[2].encode() not in content


def test_add_second_key_needs_the_same_role(keys: KeyTable) -> None:
    """A user has one role; after all keys are revoked it may get another one."""
    keys.add("anna", "user", "default")
    keys.add("anna", "user", "default")
    keys.add("anna", "admin", "shop")
    with pytest.raises(UserError, match="has the role 'user'"):
        keys.add("anna", "admin", "default")
    assert len(keys.revoke("anna", "default")) == 2
    keys.add("anna", "admin", "default")


@pytest.mark.parametrize("name", ["", "a/b", "a\0", "a b", "\udc80", "zSession:alice", "a' OR '1'='1"])
def test_add_hostile_name_is_refused(keys: KeyTable, name: str) -> None:
    """No user, role or app gets such a name."""
    for arguments in ((name, "user", "default"), ("anna", name, "default"), ("anna", "user", name)):
        with pytest.raises(UserError, match="cannot be the name of"):
            keys.add(*arguments)
    assert keys.all() == []


def test_revoke_ambiguous_name_is_refused(keys: KeyTable) -> None:
    """A name in several apps, and a name that is the id of a key, need the app."""
    shop, blog = keys.add("anna", "user", "shop"), keys.add("anna", "user", "blog")
    with pytest.raises(UserError, match=r"users of several apps are named 'anna': blog, shop"):
        keys.revoke("anna")
    assert [record.id for record in keys.revoke("anna", "shop")] == [shop.id]
    keys.add(blog.id, "user", "default")
    with pytest.raises(UserError, match="is the id of a key and the name of a user"):
        keys.revoke(blog.id)
    assert [record.name for record in keys.revoke(blog.id, "default")] == [blog.id]


@pytest.mark.parametrize("name", ["nobody", "", "a\0b", "\udc80", "%", "' OR '1'='1"])
def test_revoke_unknown_name_is_an_error(keys: KeyTable, name: str) -> None:
    """Nothing is revoked, and the error says what was not found."""
    key = keys.add("anna", "user", "default")
    for app in (None, "default", "a\0b"):
        with pytest.raises(UserError, match="no user"):
            keys.revoke(name, app)
    assert key.id in keys.valid_among([key.id])


def test_revoke_again_changes_nothing(keys: KeyTable) -> None:
    """The time of the first revocation stays."""
    key = keys.add("anna", "user", "default")
    keys.revoke(key.id)
    before = keys.find(key.id)
    assert keys.revoke("anna") == []
    assert keys.find(key.id) == before


def test_valid_among_many_ids_finds_all(keys: KeyTable) -> None:
    """More ids than one statement takes."""
    key = keys.add("anna", "user", "default")
    assert set(keys.valid_among([f"id-{number}" for number in range(1200)] + [key.id])) == {key.id}


def test_table_of_several_processes_is_made_once(make_database: Callable[[], str]) -> None:
    """Servers that start at the same time do not fail, and no change of theirs is lost."""
    url = make_database()
    tables = [KeyTable(Database(url, 10.0, logging.getLogger("zcli.tests"))) for _ in range(4)]

    def work(table: KeyTable) -> None:
        table.create()
        for _ in range(5):
            table.add("anna", "user", "default")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, tables))
    assert len(tables[0].all()) == tables[0].version() == 20
    for table in tables:
        table.close()


def test_add_at_the_same_time_gives_one_role(make_database: Callable[[], str]) -> None:
    """Two commands cannot give one user two roles."""
    url = make_database()
    tables = [KeyTable(Database(url, 10.0, logging.getLogger("zcli.tests"))) for _ in range(4)]
    tables[0].create()

    def work(number: int) -> None:
        with contextlib.suppress(UserError):
            tables[number].add("anna", f"role-{number}", "default")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(tables[0].all()) == 1
    for table in tables:
        table.close()


# --- revoked while connected ---


class Clients:
    """Connected clients by their claims."""

    def __init__(self) -> None:
        self.open: list[Mapping[str, Any]] = []

    def connect(self, key: NewKey, name: str, role: str = "user", app: str = "default") -> None:
        self.open.append({"key": key.id, "user": name, "role": role, "app": app})

    def claims(self) -> list[Mapping[str, Any]]:
        return list(self.open)

    def close(self, chosen: Callable[[Mapping[str, Any]], bool], reason: str) -> int:
        before = len(self.open)
        self.open = [claims for claims in self.open if not chosen(claims)]
        return before - len(self.open)

    @property
    def names(self) -> list[str]:
        return [claims["user"] for claims in self.open]


def test_watch_closes_revoked_keys_only(keys: KeyTable) -> None:
    """Other clients, also those with another key of the same user, stay connected."""
    old, new, other = (keys.add(name, "user", "default") for name in ("anna", "anna", "carl"))
    clients = Clients()
    clients.open.append({"user": "operator", "role": "admin", "app": None})
    for key, name in ((old, "anna"), (new, "anna"), (other, "carl")):
        clients.connect(key, name)

    async def scenario() -> None:
        watch = KeyWatch(keys, clients)
        await watch.check()
        assert clients.names == ["operator", "anna", "anna", "carl"]
        keys.revoke(old.id)
        await watch.check()
        assert clients.names == ["operator", "anna", "carl"]
        keys.revoke("carl")
        await watch.check()
        assert clients.names == ["operator", "anna"]

    asyncio.run(scenario())


def test_watch_finds_key_revoked_during_admission(keys: KeyTable) -> None:
    """The client is identified, its key is revoked and looked for, and only then its connection opens."""
    key, other = keys.add("anna", "user", "default"), keys.add("carl", "user", "default")
    clients = Clients()
    clients.connect(key, "anna")
    clients.connect(other, "carl")

    async def scenario() -> None:
        watch = KeyWatch(keys, clients)
        await watch.check()
        keys.revoke(key.id)
        await watch.check()
        assert clients.names == ["carl"]
        clients.connect(key, "anna")
        await watch.check()
        assert clients.names == ["carl"]

    asyncio.run(scenario())


def test_watch_closes_client_whose_role_changed(keys: KeyTable) -> None:
    """Claims that the table no longer has are not used any longer, however the table was changed."""
    key = keys.add("anna", "user", "default")
    clients = Clients()
    clients.connect(key, "anna")

    async def scenario() -> None:
        watch = KeyWatch(keys, clients)
        await watch.check()
        with keys.database.writing() as connection:
            connection.execute(sa.text("UPDATE zcli_bifrost_keys SET role = 'admin'"))
            connection.execute(sa.text("UPDATE zcli_bifrost_keys_version SET version = version + 1"))
        await watch.check()
        assert clients.names == []

    asyncio.run(scenario())
