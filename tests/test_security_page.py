"""``docs/security.md``: every promise names the tests that prove it, and every named test exists."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

from documents import ROOT

from zcli_core.cli.output import show
from zcli_core.config.assembly import assemble
from zcli_core.host import PluginHost

PAGE = "docs/security.md"
PROMISES, LIMITS = "**They cannot:**", "**They can:**"
_NOTE = re.compile(r"\[\^([\w-]+)\]")
#: Tests of branches that are not merged here yet. Empty once they are.
_AFTER_MERGE: frozenset[str] = frozenset(
    {
        "tests/test_trusted.py::test_owner_and_mode_decide_trust",
        "tests/test_trusted.py::test_open_trusted_writable_part_is_refused",
        "tests/test_safe_files.py::test_log_file_of_their_making_is_refused",
        "tests/services/test_accounts.py::test_data_folder_is_read_as_its_account",
        "tests/services/test_accounts.py::test_number_is_replaced_and_no_link_followed",
        "tests/services/test_accounts.py::test_data_folder_behind_their_link_is_not_made",
        "tests/services/test_accounts.py::test_program_that_only_root_can_run_is_an_error",
        "tests/services/test_accounts.py::test_system_without_an_account_is_an_error",
        "tests/services/test_accounts.py::test_server_gets_the_accounts_groups_and_no_secret",
        "tests/services/test_accounts.py::test_files_of_a_server_are_private",
        "tests/services/test_local_credentials.py::test_url_of_local_cluster_is_its_private_socket",
        "tests/services/test_local_credentials.py::test_passfile_names_its_server",
        "tests/services/test_local_credentials.py::test_local_redis_writes_no_file_for_a_client",
        "tests/services/test_service_owners.py::test_start_strangers_server_is_refused",
        "tests/services/test_service_owners.py::test_record_that_others_may_write_is_none",
        "tests/services/test_service_owners.py::test_process_with_another_mark_is_another",
        "tests/services/test_service_words.py::test_words_of_a_service_are_printable",
        "tests/services/test_service_words.py::test_name_of_a_process_is_printable",
        "tests/services/test_service_deadline.py::test_status_of_a_dripping_service_ends",
        "tests/comm/websocket/test_websocket_gate.py::test_default_origins_admit_this_hosts_pages_only",
        "tests/comm/websocket/test_websocket_origins.py::test_default_origins_host_header_needs_proof",
        "tests/comm/websocket/test_websocket_gate.py::test_origin_strategy_any_identifies_nobody",
        "tests/comm/websocket/test_websocket_http.py::test_health_is_200_and_tells_no_number",
        "zcli_core/testing/websocket_crowd.py::CrowdTests::test_undecided_clients_over_the_limit_are_closed_oldest_first",
        "zcli_core/testing/websocket_crowd.py::CrowdTests::test_refused_clients_that_stay_count_as_well",
        "tests/plugins/test_websocket_openings.py::test_openings_of_one_address_leave_others_alone",
        "tests/comm/websocket/test_websocket_strangers.py::test_handlers_of_gone_clients_keep_their_places",
        "tests/comm/websocket/test_websocket_gate.py::test_throttle_guesses_at_once_are_not_all_judged",
        "tests/comm/websocket/test_websocket_throttle.py::test_throttle_counts_larger_ipv6_networks",
        "tests/config/test_trusted_files.py::test_zenv_of_a_stranger_stops_the_start",
        "tests/config/test_trusted_files.py::test_file_that_everybody_may_write_stops_the_start",
        "tests/config/test_trusted_files.py::test_relative_path_into_a_strangers_folder_stops_the_start",
        "tests/config/test_zenv_file.py::test_zenv_steering_name_is_not_exported",
        "tests/config/test_zenv_file.py::test_zenv_does_not_expand_the_environment",
        "tests/config/test_layers.py::test_path_is_looked_up_beside_who_says_it",
        "tests/config/test_misspelt.py::test_misspelt_restriction_stops_the_server",
        "tests/config/test_misspelt.py::test_misspelt_jwt_setting_stops_the_strategy",
        "tests/test_host.py::test_start_fails_if_no_layer_reads_zspark",
        "tests/cli/test_doctor.py::test_doctor_reports_security_warnings",
        "tests/comm/websocket/test_websocket_gate.py::test_identities_of_two_strategies_never_clash",
    }
)


def _text() -> tuple[str, str]:
    """The page, and its list of tests."""
    text, _, tests = (ROOT / PAGE).read_text(encoding="utf-8").partition("\n## Tests\n")
    return text, tests


def _notes() -> dict[str, list[str]]:
    """The tests of each note."""
    found = re.findall(r"^\[\^([\w-]+)\]:\n((?:    `[^`]+`\n)+)", _text()[1] + "\n", re.MULTILINE)
    return {name: re.findall(r"`([^`]+)`", tests) for name, tests in found}


def _items(mark: str) -> list[str]:
    """The points of all lists below a mark."""
    found = []
    for part in _text()[0].split(f"{mark}\n\n")[1:]:
        points = re.split(r"\n(?!  )", part)
        found += [point for point in points[: next(i for i, point in enumerate(points) if point[:2] != "- ")] if point]
    return found


@functools.cache
def _tests(path: str) -> frozenset[str]:
    """The functions and methods of a file, as node ids have them. Nothing is imported."""
    if not path.startswith(("tests/", "zcli_core/testing/")) or not (ROOT / path).is_file():
        return frozenset()
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    classes = [item for item in body if isinstance(item, ast.ClassDef)]
    methods = {f"{item.name}::{method}" for item in classes for method in _functions(item.body)}
    return frozenset(_functions(body) | methods)


def _functions(body: list[ast.stmt]) -> set[str]:
    return {item.name for item in body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))}


def _exists(node: str) -> bool:
    path, _, name = node.partition("::")
    return name in _tests(path)


def test_security_page_proves_each_promise() -> None:
    """A point that says what others cannot do ends with a note or holds one for each part."""
    promises = _items(PROMISES)
    assert len(promises) > 40
    assert [promise for promise in promises if not _NOTE.search(promise)] == []
    assert len(_items(LIMITS)) > 15


def test_security_page_notes_are_defined_and_used() -> None:
    """In the order of the page."""
    assert list(_notes()) == list(dict.fromkeys(_NOTE.findall(_text()[0])))


def test_security_page_names_tests_that_exist() -> None:
    """Whoever renames a test renames it there."""
    nodes = {node for nodes in _notes().values() for node in nodes}
    assert [node for node in nodes if not node.rpartition("::")[2].startswith("test_")] == []
    assert sorted(node for node in nodes if not _exists(node)) == sorted(_AFTER_MERGE)


def test_security_page_defaults_are_those_declared(isolated: Path) -> None:
    """In the table of settings."""
    config, _, _ = assemble(PluginHost(), {})
    stated = re.findall(r"^\| `([\w.]+): ([^`]+)` \(default\)", _text()[0], re.MULTILINE)
    known = [(key, value) for key, value in stated if key not in _SETTINGS_AFTER_MERGE]
    assert len(known) >= 3
    assert [(key, show(config.get(key))) for key, _ in known] == known


def test_security_page_names_settings_that_exist(isolated: Path) -> None:
    """A setting in code quotes is one, with its section."""
    config, _, _ = assemble(PluginHost(), {})
    sections = {key.rpartition(".")[0].partition(".")[0] for key in config.settings} - {""}
    named = re.findall(rf"`((?:{'|'.join(sorted(sections))})\.[a-z_.]+)", _text()[0])
    assert named
    assert set(named) <= set(config.settings) | _SETTINGS_AFTER_MERGE


#: Settings of branches that are not merged here yet. Empty once they are.
_SETTINGS_AFTER_MERGE: frozenset[str] = frozenset({"services.redis.local_password"})
