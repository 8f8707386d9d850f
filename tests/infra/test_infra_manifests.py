"""What runs in the cluster is valid for its version, current, and closed where it should be."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from cdk.constructs.cluster_names import BATCH_NAMESPACE, NAMESPACE
from cdk.environments import ENVIRONMENTS, load
from cdk.manifests import objects
from cdk.manifests.files import FOLDER, text
from tests.infra.synthesis import Environment

WITH_CLUSTER = sorted(name for name in ENVIRONMENTS if load(name).cluster)


@pytest.fixture(params=WITH_CLUSTER)
def name(request: pytest.FixtureRequest) -> str:
    """Each environment that has a cluster."""
    return str(request.param)


@pytest.fixture
def manifests(name: str) -> list[dict[str, Any]]:
    """The committed objects."""
    return list(yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


def of_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [m for m in manifests if m["kind"] == kind]


def pods(manifests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every pod template."""
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            yield manifest["spec"]["template"]
        if manifest["kind"] == "CronJob":
            yield manifest["spec"]["jobTemplate"]["spec"]["template"]


def test_every_object_is_valid_for_the_clusters_version(name: str, manifests: list[dict[str, Any]]) -> None:
    cluster = load(name).cluster
    assert cluster is not None
    for manifest in manifests:
        kubernetes_validate.validate(manifest, cluster.version, strict=True)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "replica"), 2),
        ("Deployment", ("spec", "template", "spec", "containers"), {}),
        ("HorizontalPodAutoscaler", ("spec", "maxReplicas"), "ten"),
        ("NetworkPolicy", ("spec", "podSelectors"), {}),
    ],
)
def test_a_planted_mistake_is_found(kind: str, path: tuple[str, ...], value: Any) -> None:
    manifest = copy.deepcopy(of_kind(objects(load("prod")), kind)[0])
    at = manifest
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, "1.36", strict=True)


def test_the_committed_manifests_are_current(name: str) -> None:
    committed = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert committed == text(load(name)), "run python -m cdk.manifests"


def test_there_are_manifests_for_each_cluster_and_no_other() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == WITH_CLUSTER
    with pytest.raises(ValueError, match="dev: has no cluster"):
        objects(load("dev"))


def test_pods_run_as_nobody_with_bounds(manifests: list[dict[str, Any]]) -> None:
    for pod in pods(manifests):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert container["resources"]["limits"]["memory"]
            assert not container["image"].endswith(":latest")


def test_what_runs_long_is_probed_spread_and_protected(manifests: list[dict[str, Any]]) -> None:
    protected = {
        b["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]
        for b in of_kind(manifests, "PodDisruptionBudget")
    }
    deployments = of_kind(manifests, "Deployment")
    assert {d["metadata"]["name"] for d in deployments} == protected == {"feeds", "relay"}
    for deployment in deployments:
        spec = deployment["spec"]["template"]["spec"]
        assert spec["topologySpreadConstraints"][0]["topologyKey"] == "topology.kubernetes.io/zone"
        (container,) = spec["containers"]
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
    (scaler,) = of_kind(manifests, "HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] == "feeds"
    assert scaler["spec"]["minReplicas"] >= 2


def test_the_network_is_closed_until_a_policy_opens_it(manifests: list[dict[str, Any]]) -> None:
    policies = of_kind(manifests, "NetworkPolicy")
    closed = [p for p in policies if p["spec"]["podSelector"] == {}]
    assert {p["metadata"]["namespace"] for p in closed} == {NAMESPACE, BATCH_NAMESPACE}
    assert all(not p["spec"].get("ingress") and not p["spec"].get("egress") for p in closed)
    opened = {
        p["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for p in policies if p not in closed
    }
    assert opened == {pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in pods(manifests)}
    for policy in policies:
        for rule in policy["spec"].get("ingress", []):
            assert all(source["ipBlock"]["cidr"].startswith("10.") for source in rule["from"])


def test_each_account_has_the_identity_that_the_template_gives(
    name: str, manifests: list[dict[str, Any]], environments: dict[str, Environment]
) -> None:
    given = {
        (r["Properties"]["Namespace"], r["Properties"]["ServiceAccount"])
        for _, r in environments[name].of_type("AWS::EKS::PodIdentityAssociation")
    }
    accounts = {
        (a["metadata"]["namespace"], a["metadata"]["name"]) for a in of_kind(manifests, "ServiceAccount")
    }
    assert accounts == given
    namespaces = {m["metadata"]["name"] for m in of_kind(manifests, "Namespace")}
    assert {namespace for namespace, _ in given} == namespaces


def test_batch_is_sent_to_fargate(
    manifests: list[dict[str, Any]], name: str, environments: dict[str, Environment]
) -> None:
    ((_, profile),) = environments[name].of_type("AWS::EKS::FargateProfile")
    (selector,) = profile["Properties"]["Selectors"]
    (job,) = of_kind(manifests, "CronJob")
    labels = job["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert job["metadata"]["namespace"] == selector["Namespace"]
    assert all(labels[label["Key"]] == label["Value"] for label in selector["Labels"])
