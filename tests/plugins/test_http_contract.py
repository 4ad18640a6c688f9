"""Both HTTP transports pass the contract suite, and the suite detects broken transports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import broken_http_transports
import pytest
import zcli_pycurl
import zcli_urllib3

from zcli_core.testing.http import HttpTransportContract


class TestUrllib3(HttpTransportContract):
    transport = next(iter(zcli_urllib3.zcli_http_transports()))


class TestCurl(HttpTransportContract):
    transport = next(iter(zcli_pycurl.zcli_http_transports()))


BROKEN = {name: test for name, test in vars(broken_http_transports).items() if name.startswith("Test")}

# Each test of a deadline that a transport ignores takes long.
_SELECTED = f"not IgnoresDeadline or {' or '.join(broken_http_transports.TestIgnoresDeadline.MUST_FAIL)}"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bool]]:
    """For each class of broken_http_transports and each of its tests whether that failed, in any of its cases."""
    report = tmp_path_factory.mktemp("broken") / "report.xml"
    options = ["-q", "-n0", "-p", "no:cacheprovider", "--tb=line", f"--junitxml={report}", "-k", _SELECTED]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, broken_http_transports.__file__],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[str, dict[str, bool]] = {name: {} for name in BROKEN}
    for case in ElementTree.parse(report).iter("testcase"):
        assert case.find("error") is None, ElementTree.tostring(case).decode()
        tests, name = found[case.attrib["classname"].rpartition(".")[2]], case.attrib["name"].partition("[")[0]
        tests[name] = tests.get(name, False) or case.find("failure") is not None
    return found


@pytest.mark.slow
@pytest.mark.xdist_group("broken_http_transports")  # one worker runs them for all tests
@pytest.mark.parametrize("name", BROKEN)
def test_the_suite_notices_a_transport_that_is_broken(outcomes: dict[str, dict[str, bool]], name: str) -> None:
    assert {test for test, failed in outcomes[name].items() if failed} == BROKEN[name].MUST_FAIL
