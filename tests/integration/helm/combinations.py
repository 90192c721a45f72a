"""Values that the chart is rendered with: each that it knows is changed in one of them."""

from typing import Any

Values = dict[str, Any]
"""By their paths, as ``operator.replicas``."""


def _placed(part: str) -> Values:
    """Return values that the pods of the operator and of Valkey both have."""
    term = {"key": "zone", "operator": "In", "values": [f"zone-of-{part}"]}
    required = {"nodeSelectorTerms": [{"matchExpressions": [term]}]}
    values = {
        "nodeSelector": {"disk": f"disk-of-{part}"},
        "tolerations": [{"key": f"for-{part}", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
        "priorityClassName": f"priority-of-{part}",
        "runtimeClassName": f"runtime-of-{part}",
        "podAnnotations": {"note.example/of": f"note-of-{part}"},
        "podLabels": {"label.example/of": f"label-of-{part}"},
        "resources": {
            "requests": {"cpu": f"{len(part)}10m", "memory": f"{len(part)}20Mi"},
            "limits": {"cpu": 2, "memory": f"{len(part)}30Mi"},
        },
    }
    return {f"{part}.{name}": value for name, value in values.items()}


_SPREAD = {
    "maxSkew": 1,
    "topologyKey": "topology.kubernetes.io/zone",
    "whenUnsatisfiable": "ScheduleAnyway",
    "labelSelector": {"matchLabels": {"app.kubernetes.io/component": "operator"}},
}

COMBINATIONS: dict[str, Values] = {
    "defaults": {},
    "whole-cluster": {
        "watchAllNamespaces": True,
        "rbac.userRoles": True,
        "networkPolicy.enabled": False,
    },
    "two-operators": {"operator.replicas": 2, "images.pullSecrets": ["regcred"]},
    "no-budget": {"operator.replicas": 3, "operator.podDisruptionBudget.enabled": False},
    "disk": {
        "valkey.persistence.enabled": True,
        "valkey.persistence.size": "2Gi",
        "valkey.persistence.storageClass": "fast",
    },
    "own-redis": {"redis.url": "redis://other:6379", "valkey.enabled": False},
    "own-redis-by-secret": {
        "redis.existingSecret.name": "mine",
        "redis.existingSecret.key": "address",
        "valkey.keep": True,
        "serviceAccount.create": False,
        "serviceAccount.name": "somebody",
        "test.enabled": False,
    },
    "valkey-of-ones-own": {
        "valkey.auth.existingSecret": "mine",
        "valkey.auth.existingSecretKey": "word",
        "valkey.image": "registry.example/valkey:9",
        "valkey.port": 6390,
        "valkey.maxMemory": "300mb",
        "networkPolicy.valkeyPeers": [{"ipBlock": {"cidr": "10.1.2.0/24"}}],
    },
    "some-namespaces": {
        "watchNamespaces": ["team-a", "team-b"],
        "rbac.create": False,
        "services.networkPolicies": False,
        "networkPolicy.scrapingNamespaces": ["prometheuses"],
        "test.timeoutSeconds": 77,
    },
    "watched": {
        "monitoring.dashboards.enabled": True,
        "monitoring.dashboards.labels": {"grafana_dashboard": "yes", "grafana": "mine"},
        "monitoring.dashboards.annotations": {"folder": "models"},
        "monitoring.serviceMonitor.enabled": True,
        "monitoring.serviceMonitor.interval": "17s",
        "monitoring.serviceMonitor.labels": {"release": "prometheus"},
        "monitoring.prometheusRule.enabled": True,
        "monitoring.prometheusRule.labels": {"role": "alerting"},
        "monitoring.prometheusRule.runbookBaseUrl": "https://git.example/blob/main",
    },
    "placed": _placed("operator")
    | _placed("valkey")
    | {
        "operator.topologySpreadConstraints": [_SPREAD],
        "operator.extraArgs": ["--lease-seconds=33"],
        "operator.extraEnv": [{"name": "HTTPS_PROXY", "value": "proxy.example:3128"}],
        "operator.logLevel": "warning",
        "serviceAccount.annotations": {"role.example/arn": "some-role"},
    },
    "images": {
        "images.registry": "registry.example/models",
        "images.tag": "1.2.3",
        "images.pullPolicy": "Always",
        "images.operator": "one@sha256:" + "0" * 64,
        "images.router": "two",
        "images.worker": "three",
        "images.sim": "four:five",
    },
    "names": {"nameOverride": "shorter"},
    "full-name": {"fullnameOverride": "another"},
}


def nested(values: Values) -> dict[str, Any]:
    """Return *values* as a values file has them."""
    made: dict[str, Any] = {}
    for path, value in values.items():
        *parents, last = path.split(".")
        place = made
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return made


def leaves(tree: Any, path: str = "") -> Values:
    """Return what is in *tree* by its paths; empty mappings and lists are leaves."""
    if not isinstance(tree, dict) or not tree:
        return {path: tree}
    below = (leaves(each, f"{path}.{name}".strip(".")) for name, each in tree.items())
    return {path: each for found in below for path, each in found.items()}
