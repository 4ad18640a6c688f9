"""The suite of HTTP transports over transports that are each broken in one way; test_http_contract.py runs it.

``MUST_FAIL`` of each class names the tests that have to notice, and no other may fail.
"""

from __future__ import annotations

import math
import ssl
import time

import pytest
from zcli_urllib3.transport import Urllib3Transport

from zcli_core.http.contract import HttpRequest, RawResponse, TransportFailure
from zcli_core.plugins.contract import Context
from zcli_core.testing.http import base
from zcli_core.testing.http.connections import ConnectionsContract
from zcli_core.testing.http.deadlines import DeadlineContract
from zcli_core.testing.http.faults import FaultsContract
from zcli_core.testing.http.limits import LimitsContract
from zcli_core.testing.http.responses import ResponsesContract
from zcli_core.testing.http.sending import SendingContract
from zcli_core.testing.http.tls import TlsContract


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that ignores its deadline does not end, however long the suite waits."""
    monkeypatch.setattr(base, "GRACE", 0.5)


class Broken(Urllib3Transport):
    def __init__(self, context: Context) -> None:
        super().__init__(context.config.http)


class IgnoresMaxBytes(Broken):
    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        return super().send(request, min(deadline, time.monotonic() + 1), 2**62)


class TestIgnoresMaxBytes(LimitsContract):
    transport = IgnoresMaxBytes
    MUST_FAIL = frozenset(
        {
            "test_a_body_may_be_as_large_as_max_bytes_and_no_larger",
            "test_a_body_of_one_byte_is_too_large_for_a_limit_of_none",
            "test_the_limit_holds_for_every_status",
            "test_a_length_that_could_not_be_allowed_is_refused_unread",
            "test_a_body_that_never_ends_is_cut_off",
            "test_a_bomb_is_not_inflated",
        }
    )


class DecodesFirst(Broken):
    """Keeps to ``max_bytes``, but looks only when it has everything."""

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        raw = super().send(request, min(deadline, time.monotonic() + 1), max(max_bytes, 2**30))
        if len(raw.body) > max_bytes:
            raise TransportFailure("too_large", f"the body is larger than {max_bytes} bytes")
        return raw


class TestDecodesFirst(LimitsContract):
    transport = DecodesFirst
    MUST_FAIL = frozenset(
        {
            "test_a_length_that_could_not_be_allowed_is_refused_unread",
            "test_a_body_that_never_ends_is_cut_off",
            "test_a_bomb_is_not_inflated",
        }
    )


class IgnoresDeadline(Broken):
    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        return super().send(request, math.inf, max_bytes)


class TestIgnoresDeadline(DeadlineContract):
    transport = IgnoresDeadline
    # All but one would have to; to wait for these will do.
    MUST_FAIL = frozenset(
        {
            "test_a_server_that_falls_silent",
            "test_a_body_that_comes_slowly_from_the_caller",
            "test_a_tls_handshake_that_is_not_answered",
            "test_a_deadline_that_has_passed_fails_at_once",
        }
    )


class RetriesEverything(Broken):
    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        try:
            return super().send(request, deadline, max_bytes)
        except TransportFailure as failure:
            if failure.kind != "reset":
                raise
        return super().send(request, deadline, max_bytes)


class TestRetriesEverything(ConnectionsContract):
    transport = RetriesEverything
    MUST_FAIL = frozenset(
        {
            "test_a_request_that_may_have_been_carried_out_is_not_sent_again",
            "test_a_kept_connection_that_breaks_within_an_answer_is_a_failure",
        }
    )


class VerifiesNobody(Broken):
    def __init__(self, context: Context) -> None:
        super().__init__(context)
        contexts = self._tls.for_connection

        def for_connection(*, shows_certificate: bool = False) -> ssl.SSLContext:
            context = contexts(shows_certificate=shows_certificate)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context

        self._tls.for_connection = for_connection  # type: ignore[method-assign]


class TestVerifiesNobody(TlsContract):
    transport = VerifiesNobody
    MUST_FAIL = frozenset(
        {
            "test_a_certificate_that_will_not_do_is_refused",
            "test_a_common_name_does_not_name_a_host",
            "test_the_systems_authorities_are_trusted_where_no_file_is_named",
            "test_ca_file_replaces_the_systems_authorities",
            "test_a_connection_that_was_verified_does_not_vouch_for_another_name",
        }
    )


class ShowsCertificateToAll(Broken):
    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        request.shows_certificate = True
        return super().send(request, deadline, max_bytes)


class TestShowsCertificateToAll(TlsContract):
    transport = ShowsCertificateToAll
    MUST_FAIL = frozenset({"test_a_client_certificate_is_shown_only_if_the_request_says_so"})


class FollowsRedirects(Broken):
    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        raw = super().send(request, deadline, max_bytes)
        target = dict(raw.headers).get("Location")
        if target is None or request.url.target == target:
            return raw
        url = request.url._replace(target=target)
        return super().send(HttpRequest("GET", url, request.headers), deadline, max_bytes)


class TestFollowsRedirects(ResponsesContract):
    transport = FollowsRedirects
    MUST_FAIL = frozenset({"test_redirects_are_returned"})


class AddsHeaders(Broken):
    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        if "user-agent" not in request.headers:
            request.headers["User-Agent"] = "broken/1.0"
        return super().send(request, deadline, max_bytes)


class TestAddsHeaders(SendingContract):
    transport = AddsHeaders
    MUST_FAIL = frozenset(
        {
            "test_no_header_is_sent_that_was_not_given",
            "test_a_body_is_sent_with_any_method",
            "test_a_large_header_is_sent",
        }
    )


class DeliversHalves(Broken):
    """Takes what has come for what there is."""

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        try:
            return super().send(request, deadline, max_bytes)
        except TransportFailure as failure:
            if "before the end" in failure.message or "ends before" in failure.message:
                return RawResponse(200, "OK", [], b"half")
            raise


class TestDeliversHalves(FaultsContract):
    transport = DeliversHalves
    MUST_FAIL = frozenset(
        {
            "test_a_body_that_ends_early_is_no_body",
            "test_a_failure_leaves_nothing_behind",
            "test_a_body_that_its_coding_does_not_fit",
        }
    )


class TellsSecrets(Broken):
    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        try:
            return super().send(request, deadline, max_bytes)
        except TransportFailure as failure:
            raise TransportFailure(failure.kind, f"{request.url}: {failure.message}") from None


class TestTellsSecrets(FaultsContract):
    transport = TellsSecrets
    MUST_FAIL = frozenset(
        name
        for name, test in vars(FaultsContract).items()
        if name.startswith("test_") and "fails" in test.__code__.co_names
    )


class MixesAnswers(Broken):
    """Gives every thread the answer that came last."""

    last: RawResponse | None = None

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        self.last = super().send(request, deadline, max_bytes)
        time.sleep(0.001)
        return self.last


class TestMixesAnswers(ConnectionsContract):
    transport = MixesAnswers
    MUST_FAIL = frozenset({"test_threads_do_not_wait_for_each_other", "test_every_thread_gets_its_own_answers"})
