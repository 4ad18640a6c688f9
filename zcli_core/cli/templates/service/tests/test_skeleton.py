"""The protocol of Skeleton, without a server."""

import pytest
from zcli_core.services.contract import NotThisService, ProbeResult, Reply
from zcli_core.testing import make_context

from zcli_skeleton.backend import SkeletonBackend


def ask(reply: bytes) -> ProbeResult:
    """Return the result of the probe for a reply."""
    backend = SkeletonBackend(make_context())
    probe = backend.probe(backend.target())
    assert next(probe).send == b"version\n"
    with pytest.raises(StopIteration) as ended:
        probe.send(Reply(reply))
    answer: ProbeResult = ended.value.value
    return answer


def test_probe_returns_the_version() -> None:
    """The version follows the name in the reply."""
    assert ask(b"SKELETON 2.1\n") == ProbeResult(ready=True, version="2.1", needs_auth=False)


@pytest.mark.parametrize("reply", [b"", b"SKELETON 2.", b"ERROR\n", b"HTTP/1.1 400 Bad Request\r\n"])
def test_other_reply_is_not_this_service(reply: bytes) -> None:
    """No reply, an incomplete line, an error or another protocol."""
    with pytest.raises(NotThisService):
        ask(reply)
