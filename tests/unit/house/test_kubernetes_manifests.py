"""The manifests follow Kubernetes' schemas, name each other rightly and say only what the program understands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.30", "1.37")  # the oldest that the manifests are for, and the newest whose schemas are at hand
OBJECTS: list[dict[str, Any]] = [
    one for file in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())
]
PODS = {
    one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in OBJECTS if "template" in one.get("spec", {})
}
CONTAINERS = [
    pytest.param(pod, container, id=f"{name}-{container['name']}")
    for name, pod in PODS.items()
    for container in (*pod.get("initContainers", []), *pod["containers"])
]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def named(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in OBJECTS if one["kind"] == kind}


def label(one: dict[str, Any]) -> str:
    return f"{one['kind']}-{one['metadata']['name']}"


def test_the_parts_of_a_deployment_are_there() -> None:
    assert set(PODS) == {"facet-migrate", "facet-worker", "facet-worker-gpu", "facet-beat"}
    assert {one["metadata"].get("namespace", "facet") for one in OBJECTS} == set(named("Namespace"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("one", OBJECTS, ids=label)
def test_it_follows_the_schema(one: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(one, version, strict=True)


def test_a_wrong_field_is_noticed() -> None:
    beat = yaml.safe_load((FOLDER / "beat.yaml").read_text())
    beat["spec"]["replica"] = beat["spec"].pop("replicas")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(beat, VERSIONS[-1], strict=True)


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_commands_are_commands_of_the_program(
    pod: dict[str, Any], container: dict[str, Any], parse_command: Callable[[list[str]], None]
) -> None:
    parse_command(container["command"])
    if "readinessProbe" in container:
        parse_command(container["readinessProbe"]["exec"]["command"])


@pytest.mark.parametrize(
    ("name", "service"), [("facet-worker", "worker-cpu"), ("facet-worker-gpu", "worker-gpu"), ("facet-beat", "beat")]
)
def test_probes_are_the_health_checks_of_compose(name: str, service: str) -> None:
    probe, check = PODS[name]["containers"][0]["readinessProbe"], COMPOSE[service]["healthcheck"]
    assert ["CMD", *probe["exec"]["command"]] == check["test"]
    assert f"{probe['periodSeconds']}s" == check["interval"]
    assert f"{probe['timeoutSeconds']}s" == check["timeout"]
    assert probe["failureThreshold"] == check["retries"]
    assert f"{PODS[name]['terminationGracePeriodSeconds']}s" == COMPOSE[service]["stop_grace_period"]


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_containers_may_do_nothing_beyond_their_work(pod: dict[str, Any], container: dict[str, Any]) -> None:
    user = int(re.search(r"^ARG FACET_UID=(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1])
    context = pod["securityContext"]
    assert (context["runAsUser"], context["fsGroup"], context["runAsNonRoot"]) == (user, user, True)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} <= set(container["resources"])
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_settings_are_settings_of_the_program(pod: dict[str, Any], container: dict[str, Any]) -> None:
    from worker.config import Settings

    known = {f"FACET_{name.upper()}" for name in Settings.model_fields}
    used = {one["name"] for one in container.get("env", [])}
    for source in container["envFrom"]:
        used |= set(named("ConfigMap")[source["configMapRef"]["name"]]["data"]) if "configMapRef" in source else set()
        used |= set(named("Secret")[source["secretRef"]["name"]]["stringData"]) if "secretRef" in source else set()
    assert "FACET_DATABASE_URL" in used
    assert {name for name in used if not name.startswith("AWS_")} <= known


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_mounts_lead_to_claims(pod: dict[str, Any], container: dict[str, Any]) -> None:
    volumes = {one["name"]: one for one in pod["volumes"]}
    places = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert {"/var/lib/facet", "/tmp"} <= set(places), "a read-only root needs both"
    claims = {one["persistentVolumeClaim"]["claimName"] for one in places.values() if "persistentVolumeClaim" in one}
    assert claims <= set(named("PersistentVolumeClaim"))


def test_only_the_migrator_changes_tables() -> None:
    users = {
        name: re.search(r"//(\w+):", one["stringData"]["FACET_DATABASE_URL"])[1]
        for name, one in named("Secret").items()
    }
    assert users == {"facet": "facet_work", "facet-migrator": "facet_migrator"}
    for name, pod in PODS.items():
        used = {one["secretRef"]["name"] for one in pod["containers"][0]["envFrom"] if "secretRef" in one}
        assert used == {"facet-migrator" if name == "facet-migrate" else "facet"}


def test_one_beat_runs_at_a_time() -> None:
    spec = named("Deployment")["facet-beat"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_selectors_find_their_pods() -> None:
    for one in named("Deployment").values():
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert one["spec"]["selector"]["matchLabels"].items() <= labels.items()
    chosen = [one["spec"]["selector"]["matchLabels"] for one in named("Deployment").values()]
    assert all(chosen.count(one) == 1 for one in chosen)


def test_images_are_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {container.values[1]["image"].rpartition(":")[2] for container in CONTAINERS} == {version}
