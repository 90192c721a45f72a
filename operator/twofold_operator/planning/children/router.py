"""The routers of a service: Deployment, Service, disruption budget and autoscaler."""

from typing import Any

from twofold_operator.planning import names
from twofold_operator.planning.children import pods
from twofold_operator.planning.children.ownership import child, selector
from twofold_operator.planning.observed import Manifest
from twofold_operator.planning.settings import PlanSettings
from twofold_operator.resources import LLMService, Promise, ResourceRequirements, Slo

COMPONENT = "router"

DELAY_SECONDS = 5
"""Until all who send requests know that a router leaves."""
END_SECONDS = 25
"""After the drain: last words to those who are not answered, blocks given back, and room."""

_KEYS_PATH = "/etc/twofold/keys"
_REQUESTS = ResourceRequirements(requests={"cpu": "250m", "memory": "256Mi"})
_TARGET_CPU_PERCENT = 70


def router_deployment(
    service: LLMService, settings: PlanSettings, observed: Manifest | None = None
) -> dict[str, Any]:
    """Return the routers' Deployment.

    With an autoscaler its replicas are those that there are, within the autoscaler's bounds. They
    are not left out: what we do not apply any more, the API server sets back to 1.
    """
    name = service.metadata.name
    gateway = service.spec.gateway
    labels = names.labels(name, COMPONENT)
    replicas = gateway.replicas
    if gateway.is_scaled and observed is not None:
        replicas = observed["spec"].get("replicas", replicas)
    spec = {
        "replicas": gateway.clamp(replicas),
        "selector": {"matchLabels": selector(service, COMPONENT)},
        "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": pods.template(_pod(service, settings, labels), gateway.pod_template, labels),
    }
    manifest = child(
        service, "apps/v1", "Deployment", names.router_name(name), COMPONENT, spec=spec
    )
    if gateway.is_scaled and observed is not None and "resourceVersion" in observed["metadata"]:
        # If the autoscaler scales it meanwhile, that holds, and is seen.
        manifest["metadata"]["resourceVersion"] = observed["metadata"]["resourceVersion"]
    return manifest


def router_service(service: LLMService) -> dict[str, Any]:
    return child(
        service,
        "v1",
        "Service",
        service.metadata.name,
        COMPONENT,
        spec={
            "selector": selector(service, COMPONENT),
            "ports": [
                {
                    "name": "http",
                    "port": service.spec.gateway.port,
                    "protocol": "TCP",
                    "targetPort": "http",
                }
            ],
        },
    )


def disruption_budget(service: LLMService) -> dict[str, Any]:
    """Return a budget that lets one router that serves be evicted at a time, the only one as well.

    Routers that are not ready are no concern of it: they wait for the first decode worker, and
    without the policy their nodes are not drained until then.
    """
    return child(
        service,
        "policy/v1",
        "PodDisruptionBudget",
        names.router_name(service.metadata.name),
        COMPONENT,
        spec={
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector(service, COMPONENT)},
        },
    )


def autoscaler(service: LLMService) -> dict[str, Any]:
    name = names.router_name(service.metadata.name)
    gateway = service.spec.gateway
    target = {"type": "Utilization", "averageUtilization": _TARGET_CPU_PERCENT}
    return child(
        service,
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        name,
        COMPONENT,
        spec={
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": gateway.min_replicas or 1,
            "maxReplicas": gateway.max_replicas,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    )


def endpoint(service: LLMService) -> str:
    """Return the base URL for clients within the cluster."""
    metadata, port = service.metadata, service.spec.gateway.port
    suffix = "" if port == 80 else f":{port}"
    return f"http://{metadata.name}.{metadata.namespace}.svc{suffix}/v1"


def _pod(service: LLMService, settings: PlanSettings, labels: dict[str, str]) -> dict[str, Any]:
    spec = service.spec
    container: dict[str, Any] = {
        "name": "router",
        "image": spec.images.router or settings.router_image,
        "imagePullPolicy": spec.images.pull_policy,
        "command": ["python", "-m", "twofold_router"],
        "args": _arguments(service),
        "env": [*pods.scratch_environment(), *pods.redis_environment(service, settings.redis)],
        "ports": [{"name": "http", "containerPort": names.ROUTER_PORT, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 2},
        "livenessProbe": {
            "httpGet": {"path": "/health", "port": "http"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
        },
        "resources": pods.resources_of(spec.gateway.resources, _REQUESTS),
        "securityContext": pods.container_security(),
        "volumeMounts": pods.scratch_mounts(),
    }
    volumes = pods.scratch_volumes()
    if spec.gateway.keys_secret is not None:
        keys = {"name": "keys", "mountPath": _KEYS_PATH, "readOnly": True}
        container["volumeMounts"].append(keys)
        volumes.append({"name": "keys", "secret": {"secretName": spec.gateway.keys_secret.name}})
    return {
        "metadata": {"labels": labels},
        "spec": {
            **pods.pod_spec(spec.images, settings),
            "terminationGracePeriodSeconds": DELAY_SECONDS
            + spec.gateway.drain_seconds
            + END_SECONDS,
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": selector(service, COMPONENT)},
                }
            ],
            "containers": [container],
            "volumes": volumes,
        },
    }


def _arguments(service: LLMService) -> list[str]:
    spec = service.spec
    routing, ways = spec.routing, spec.disaggregation
    arguments = [
        f"--service={service.service_id}",
        "--host=",  # all addresses, of IPv4 and IPv6
        f"--port={names.ROUTER_PORT}",
        f"--policy={routing.policy}",
        f"--block-tokens={routing.block_tokens}",
        f"--max-queued={routing.max_queued}",
        f"--max-unprefilled-tokens={routing.max_unprefilled_tokens}",
        f"--min-uncached-tokens={ways.min_uncached_tokens}",
        f"--follow-tokens={routing.follow_tokens}",
        f"--on-no-prefill={ways.on_no_prefill}",
        f"--on-transfer-failure={ways.on_transfer_failure}",
        f"--drain-delay={DELAY_SECONDS}",
        f"--drain-timeout={spec.gateway.drain_seconds}",
        *_classes(service.spec.slo),
    ]
    if not ways.enabled:
        arguments.append("--no-disaggregation")
    if not routing.prefix_pull:
        arguments.append("--no-prefix-pull")
    if spec.gateway.keys_secret is None:
        arguments.append("--insecure")
    else:
        arguments.append(f"--keys-file={_KEYS_PATH}/{spec.gateway.keys_secret.key}")
    return arguments + [f"--allowed-origin={origin}" for origin in spec.gateway.allowed_origins]


def _classes(slo: Slo) -> list[str]:
    told = [f"--class={_class('default', slo)}"]
    return told + [
        f"--class={_class(other.name, other)},priority={other.priority}" for other in slo.classes
    ]


def _class(name: str, promise: Promise) -> str:
    seconds = {
        "ttft": promise.ttft_ms / 1000,
        "ttft-per-token": promise.ttft_per_token_ms / 1000,
    }
    if promise.tpot_ms is not None:
        seconds["tpot"] = promise.tpot_ms / 1000
    fields = ",".join(f"{field}={value:.10g}" for field, value in seconds.items())
    return f"{name}:{fields},late={promise.on_late}"
