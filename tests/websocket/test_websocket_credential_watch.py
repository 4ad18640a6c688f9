"""A strategy closes the clients whose credentials were revoked while they are connected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from installations import Site
from websocket_serving import Served, end_of, eventually, talks

Serve = Callable[..., Served]

#: A client sends its name as token. The file named by the variable REVOKED has the names that are revoked.
REVOCABLE = """
    import asyncio, os, pathlib
    from zcli_core.auth.contract import Identified
    from zcli_core.auth.parts import find_bearer_token

    class Revocable:
        never_blocks = True
        watches = 0

        def authenticate(self, request):
            found = find_bearer_token(request)
            return found and Identified(found.value.decode(), {"name": found.value.decode()})

        async def watch(self, clients):
            Revocable.watches += 1
            if Revocable.watches == 1:
                raise OSError("the list cannot be read")
            while True:
                revoked = pathlib.Path(os.environ["REVOKED"]).read_text().split()
                if {claims["name"] for claims in clients.claims()}.intersection(revoked):
                    clients.close(lambda claims: claims["name"] in revoked, "the name was revoked")
                await asyncio.sleep(0.01)

    @hookimpl
    def zcli_auth_strategies():
        return [Provider("revocable", "names", lambda context: Revocable())]
"""


@pytest.fixture
def revoked(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the revoked names."""
    site.plugin("zcli_revocable", REVOCABLE)
    file = tmp_path / "revoked"
    file.write_text("")
    monkeypatch.setenv("REVOKED", str(file))
    return file


def test_watch_closes_only_revoked_clients(serve: Serve, revoked: Path) -> None:
    """All connections of the revoked client end with 1008; a failure of ``watch`` is logged and does not end it."""
    served = serve(require_auth=True, auth=["revocable", "origin"], allowed_origins=["https://example.com"])
    page = served.client(origin="https://example.com")
    with served.client("/?token=alice") as one, served.client("/?token=alice") as two, page as other:
        with served.client("/?token=bob") as kept:
            assert all(talks(client) for client in (one, two, other, kept))
            revoked.write_text("alice")
            assert end_of(one) == end_of(two) == (1008, "the name was revoked")
            assert talks(kept)
            assert talks(other)
    log = served.logged("failed: OSError at")
    assert "watching for revoked credentials; it is called again" in log
    assert "the list cannot be read" not in log


def test_watch_ends_with_its_server(serve: Serve, revoked: Path) -> None:
    """Each run of the server has its own ``watch``, and stopping does not wait for it."""
    served = serve(require_auth=True, auth=["revocable"])
    with served.client("/?token=alice") as client:
        assert talks(client)
        served.handle.stop()
        assert end_of(client)[0] == 1001
    again = served.websocket.start_background(port=0)
    with Served(served.z, again).client("/?token=bob") as client:
        assert talks(client)
        revoked.write_text("bob")
        assert end_of(client)[0] == 1008
    eventually(lambda: not served.websocket.clients, "no client")
