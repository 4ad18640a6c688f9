"""The container files of the deployment guide: their syntax, and that they fit the server."""

from __future__ import annotations

import re
from typing import Any

import yaml
from documents import ROOT, file_in

from zcli_core.config.sections import WebSocket

PAGE = "docs/guide/deployment/containers.md"
SETTINGS = WebSocket()
INSTRUCTIONS = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "EXPOSE", "CMD"}


def _known_variables() -> set[str]:
    reference = (ROOT / "docs/reference/settings-and-hooks.md").read_text(encoding="utf-8")
    return set(re.findall(r"`([A-Z][A-Z0-9_]+)`", reference))


def _instructions() -> list[tuple[str, str]]:
    lines = file_in(PAGE, "Dockerfile").splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def _manifests() -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all(file_in(PAGE, "deployment.yaml"))}


def test_dockerfile_fits_the_server() -> None:
    """Each line is an instruction, its variables are settings, and its port is the default."""
    instructions = _instructions()
    assert {name for name, _ in instructions} <= INSTRUCTIONS
    variables = {each.partition("=")[0] for name, rest in instructions if name == "ENV" for each in rest.split()}
    assert variables <= _known_variables()
    assert ("EXPOSE", str(SETTINGS.port)) in instructions


def test_kubernetes_manifests_fit_the_server() -> None:
    """Labels, ports, probes, variables and volumes name each other and what the server has."""
    manifests = _manifests()
    assert set(manifests) == {"Deployment", "Service"}
    spec = manifests["Deployment"]["spec"]
    pod = spec["template"]
    (container,) = pod["spec"]["containers"]
    assert spec["selector"]["matchLabels"] == pod["metadata"]["labels"] == manifests["Service"]["spec"]["selector"]
    ports = {port["targetPort"] for port in manifests["Service"]["spec"]["ports"]}
    probes = {container[name]["httpGet"]["path"]: container[name] for name in ("readinessProbe", "livenessProbe")}
    assert set(probes) == {"/ready", "/health"}
    ports |= {probe["httpGet"]["port"] for probe in probes.values()}
    ports |= {port["containerPort"] for port in container["ports"]}
    assert ports == {SETTINGS.port}
    assert {each["name"] for each in container["env"]} <= _known_variables()
    assert {mount["name"] for mount in container["volumeMounts"]} == {each["name"] for each in pod["spec"]["volumes"]}


def test_kubernetes_grace_period_covers_the_stop() -> None:
    """A pod is not killed before its handlers and its closing clients have had their time."""
    pod = _manifests()["Deployment"]["spec"]["template"]["spec"]
    pause = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= pause + SETTINGS.drain_timeout + SETTINGS.close_timeout + 5
