"""What runs in the cluster of each environment, as Kubernetes objects.

``python -m cdk.manifests`` writes ``cdk/manifests/<environment>.yaml`` anew; a test checks that they are
current and valid for the cluster's version. Names in ``${…}`` are filled in when a deployment applies them.

Pods run as nobody, with a read-only root and no rights but those of their pod identity. The network is closed
until a policy opens it: there is no mesh, since AWS App Mesh has ended and TLS ends at the pods themselves.
"""

from __future__ import annotations

from typing import Any

from cdk.constructs.cluster_names import BATCH_NAMESPACE, CLUSTER_PORT, NAMESPACE
from cdk.environments.settings import Settings
from qis.settings import FUNCTIONS

Object = dict[str, Any]

_USER = 65532
_LABEL = "app.kubernetes.io/name"
_DNS = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}
_POD_IDENTITY = {
    # The agent that hands out credentials listens on the node.
    "to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}],
    "ports": [{"protocol": "TCP", "port": 80}],
}


def objects(settings: Settings) -> list[Object]:
    """Everything in the order in which it is applied.

    Raises:
        ValueError: the environment has no cluster.
    """
    if settings.cluster is None or settings.network is None or settings.database is None:
        raise ValueError(f"{settings.name}: has no cluster")
    vpc, port = settings.network.cidr, settings.database.port
    return [
        *_namespace(NAMESPACE, "restricted"),
        *_namespace(BATCH_NAMESPACE, "restricted"),
        _account("feeds", NAMESPACE),
        _account("relay", NAMESPACE),
        _account("batch", BATCH_NAMESPACE),
        # Providers are on the internet; their hosts are in no list that a policy could hold.
        _policy("feeds", NAMESPACE, ingress_from=vpc, egress=[_https("0.0.0.0/0")]),
        _policy("relay", NAMESPACE, ingress_from=vpc, egress=[_https("0.0.0.0/0"), _tcp(vpc, port)]),
        _policy("batch", BATCH_NAMESPACE, ingress_from=None, egress=[_https("0.0.0.0/0"), _tcp(vpc, port)]),
        # One pod per provider feed follows it; more pods share the feeds.
        _deployment(settings, "feeds", _values(settings, ingest_stream=f"{settings.stem}-ingest")),
        _scaler("feeds", smallest=2, largest=10),
        _budget("feeds"),
        # One follows the log, one waits for its lock: more would only wait.
        _deployment(settings, "relay", _relay_values(settings)),
        _budget("relay"),
        _nightly(settings),
    ]


def _namespace(name: str, level: str) -> list[Object]:
    labels = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "audit", "warn")}
    closed = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "closed", "namespace": name},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}, closed]


def _account(name: str, namespace: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace},
        # Pods do not talk to the cluster's API.
        "automountServiceAccountToken": False,
    }


def _https(cidr: str) -> Object:
    return _tcp(cidr, 443)


def _tcp(cidr: str, port: int) -> Object:
    return {"to": [{"ipBlock": {"cidr": cidr}}], "ports": [{"protocol": "TCP", "port": port}]}


def _policy(name: str, namespace: str, *, ingress_from: str | None, egress: list[Object]) -> Object:
    rules = (
        [
            {
                "from": [{"ipBlock": {"cidr": ingress_from}}],
                "ports": [{"protocol": "TCP", "port": CLUSTER_PORT}],
            }
        ]
        if ingress_from
        else []
    )
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "podSelector": {"matchLabels": {_LABEL: name}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": rules,
            "egress": [_DNS, _POD_IDENTITY, *egress],
        },
    }


def _values(settings: Settings, **values: str) -> list[Object]:
    return [{"name": "QIS_ENVIRONMENT", "value": settings.name}] + [
        {"name": f"QIS_{field.upper()}", "value": value} for field, value in sorted(values.items())
    ]


def _relay_values(settings: Settings) -> list[Object]:
    """The variables that the relay reads as a function, so that its code reads them here, too."""
    assert settings.database is not None
    given = {
        "QIS_ENVIRONMENT": settings.name,
        "QIS_DATABASE_HOST": "${DATABASE_HOST}",
        "QIS_DATABASE_PORT": str(settings.database.port),
        "QIS_DATABASE_NAME": "qis",
        "QIS_DATABASE_USER": "qis_app",
        "QIS_DATABASE_AUTH": "iam",
        "QIS_EVENTS_STREAM": f"{settings.stem}-events",
        "QIS_END_TRANSACTIONS_AFTER": str(settings.database.end_transactions_after),
        "QIS_AUDIT_STREAM": f"{settings.stem}-audit" if "audit" in settings.streams else "",
    }
    required = {name for name, needed in FUNCTIONS["relay"].variables().items() if needed}
    if not required <= set(given):
        raise ValueError(f"relay: missing {sorted(required - set(given))}")
    return [{"name": name, "value": value} for name, value in sorted(given.items())]


def _container(settings: Settings, name: str, variables: list[Object], cpu: str, memory: str) -> Object:
    return {
        "name": name,
        "image": f"${{ACCOUNT}}.dkr.ecr.{settings.region}.amazonaws.com/{settings.stem}/{name}:${{TAG}}",
        "env": [{"name": "AWS_REGION", "value": settings.region}, *variables],
        # No limit of CPU: being slowed down at a burst is worse than sharing.
        "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],  # noqa: S108 -- a volume of the pod alone
    }


def _pod(name: str, container: Object) -> Object:
    return {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "256Mi"}}],
    }


def _probe(path: str, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "https", "scheme": "HTTPS"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
    }


def _deployment(settings: Settings, name: str, variables: list[Object]) -> Object:
    container = _container(settings, name, variables, "500m", "512Mi") | {
        "ports": [{"name": "https", "containerPort": CLUSTER_PORT, "protocol": "TCP"}],
        "startupProbe": _probe("/health", period=2, failures=30),
        "livenessProbe": _probe("/health", period=10, failures=3),
        "readinessProbe": _probe("/ready", period=5, failures=2),
        # Requests still arrive for a moment after the pod is taken out of the target group.
        "lifecycle": {"preStop": {"sleep": {"seconds": 10}}},
    }
    zones = {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {_LABEL: name}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {_LABEL: name}},
        "spec": {
            **({} if name == "feeds" else {"replicas": 2}),  # the autoscaler owns that of feeds
            "revisionHistoryLimit": 5,
            "progressDeadlineSeconds": 300,
            "selector": {"matchLabels": {_LABEL: name}},
            # A new pod is ready before an old one goes.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {_LABEL: name}},
                "spec": _pod(name, container)
                | {"terminationGracePeriodSeconds": 60, "topologySpreadConstraints": [zones]},
            },
        },
    }


def _scaler(name: str, *, smallest: int, largest: int) -> Object:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": smallest,
            "maxReplicas": largest,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
                }
            ],
            # Feeds reconnect when they move: down slowly.
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},
        },
    }


def _budget(name: str) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "minAvailable": 1,
            "selector": {"matchLabels": {_LABEL: name}},
            # A pod that was never ready must not stop a node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def _nightly(settings: Settings) -> Object:
    """What the image of batch does each night."""
    container = _container(settings, "batch", _values(settings), "1", "2Gi")
    labels = {_LABEL: "batch", "workload-type": "batch"}  # the second sends it to Fargate
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "nightly", "namespace": BATCH_NAMESPACE},
        "spec": {
            "schedule": "30 2 * * *",
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 7,
            "jobTemplate": {
                "spec": {
                    "backoffLimit": 2,
                    "activeDeadlineSeconds": 7200,
                    "ttlSecondsAfterFinished": 604_800,
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": _pod("batch", container) | {"restartPolicy": "Never"},
                    },
                }
            },
        },
    }
