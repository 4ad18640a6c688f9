"""What is Skeleton's own: its protocol, on bytes alone."""

import pytest
from zcli_core.services.contract import NotThisService, ProbeResult, Reply
from zcli_core.testing import make_context

from zcli_skeleton.backend import SkeletonBackend


def ask(reply: bytes) -> ProbeResult:
    """What the probe makes of a reply."""
    backend = SkeletonBackend(make_context())
    probe = backend.probe(backend.target())
    assert next(probe).send == b"version\n"
    with pytest.raises(StopIteration) as ended:
        probe.send(Reply(reply))
    answer: ProbeResult = ended.value.value
    return answer


def test_the_version_is_what_follows_the_name() -> None:
    """The greeting of a server that is ready."""
    assert ask(b"SKELETON 2.1\n") == ProbeResult(ready=True, version="2.1", needs_auth=False)


@pytest.mark.parametrize("reply", [b"", b"SKELETON 2.", b"ERROR\n", b"HTTP/1.1 400 Bad Request\r\n"])
def test_anything_else_is_another_service(reply: bytes) -> None:
    """Nothing, half a greeting, an error, another protocol."""
    with pytest.raises(NotThisService):
        ask(reply)
