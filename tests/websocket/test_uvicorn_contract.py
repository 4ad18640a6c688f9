"""The transport ``uvicorn`` passes the contract suite, except for the capabilities that it does not promise.

All of it runs with ``-m slow``, and its quick tests by default.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")

import zcli_asgi
import zcli_wsproto

from zcli_core.testing import WebSocketTransportContract
from zcli_core.testing.contract import shared_context
from zcli_core.websocket.contract import Capability

PROVIDERS = {
    provider.name: provider
    for provider in [*zcli_wsproto.zcli_websocket_transports(), *zcli_asgi.zcli_websocket_transports()]
}
DOCS = Path(__file__).resolve().parents[2] / "docs" / "guide" / "websocket.md"


#: The tests that run by default, about one for each rule that uvicorn has a part in; conftest.py marks the others.
QUICK = """
upgrade_of_the_rfc_gets_its_response request_is_passed_unchanged query_begins_after_the_first_question_mark
subprotocols_keep_the_clients_order plain_request_gets_the_cores_response http_1_0_gets_a_response
head_gets_no_body http_raising_is_500_and_logged header_with_line_break_is_500_and_logged
invalid_request_is_not_quoted port_scan_logs_nothing refuse_sends_101_and_a_close_frame plain_response_is_sent
decision_can_be_a_future opened_raising_closes_with_1011 decision_is_cancelled_when_client_leaves
decision_over_open_timeout_is_refused_1011 decision_ignoring_cancellation_opens_nothing
limit_checked_in_a_decision_holds close_sends_buffered_messages_first close_twice_keeps_the_first_code
close_by_client_reports_code_and_reason lost_client_reports_1006 closed_reports_the_cause
abort_sends_no_close_frame held_delivery_gives_one_message_a_resume held_delivery_stops_reading
send_of_another_type_raises_typeerror drain_keeps_a_sender_within_the_limit slow_reader_is_closed_with_1013
send_prepared_to_slow_reader_returns_false max_size_is_exact fragments_become_one_message
port_0_is_a_free_port_in_addresses port_in_use_raises_oserror unix_socket_is_removed_on_close
given_sockets_are_served_and_closed tls_client_is_served stop_accepting_frees_the_port_at_once
listener_close_sends_1001_by_default
"""


class TestUvicorn(WebSocketTransportContract):
    """The transport ``uvicorn``, of which another server owns the connections."""

    transport = PROVIDERS["uvicorn"]

    quick = frozenset(QUICK.split())


def test_capability_table_is_true() -> None:
    """The table of transports in the guide says what each transport declares."""
    header, *rows = re.findall(
        r"^\| (.*) \|$", DOCS.read_text(encoding="utf-8").split("<!-- capabilities -->")[1], re.M
    )
    names = [cell.strip().strip("`") for cell in header.split("|")[1:]]
    written = {
        promise.strip(): {name: cell.strip() == "yes" for name, cell in zip(names, cells, strict=True)}
        for promise, *cells in (row.split("|") for row in rows)
    }
    made = {name: PROVIDERS[name].factory(shared_context({})) for name in PROVIDERS}
    declared = {
        each.value: {name: each in transport.capabilities for name, transport in made.items()} for each in Capability
    }
    assert written == declared
