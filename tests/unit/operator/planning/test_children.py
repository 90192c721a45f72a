"""The objects that a service consists of."""

import base64
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from twofold_engine.actor import NODE_ENV, POD_ENV, PORT_ENV, ZONE_ENV
from twofold_engine.draining.__main__ import parser as draining_parser
from twofold_engine.pools.settings import ORPHAN_LIMIT_SECONDS
from twofold_operator.planning.actions import ApplyObject
from twofold_operator.planning.settings import PlanSettings
from twofold_operator.planning.testing import World
from twofold_router.access import RequestClass, parse_class

ROOT = Path(__file__).parents[4]

SPEC: dict[str, Any] = {
    "model": {"source": "hf://acme/small"},
    "prefill": {"replicas": 1},
    "decode": {"replicas": 1},
}

PASSWORD = "se/cret"
SETTINGS = PlanSettings(
    redis_url="redis://twofold:se%2Fcret@redis.twofold:6380/0",
    image_pull_secrets=("pull",),
    scraping_namespaces=("monitoring",),
)

REDIS = f"chat-redis-{SETTINGS.redis.id}"


def made(spec: Mapping[str, Any] = SPEC, apis: frozenset[str] | None = None, **more: Any) -> World:
    world = World({**spec, **more}, settings=SETTINGS)
    if apis is not None:
        world.apis = apis
    world.settle()
    return world


def only(world: World, kind: str, part: str = "") -> dict[str, Any]:
    (found,) = [o for (k, name), o in world.objects.items() if k == kind and part in name]
    return found


def cluster(world: World) -> dict[str, Any]:
    return only(world, "RayCluster")


def group(world: World, role: str) -> dict[str, Any]:
    groups = cluster(world)["spec"]["workerGroupSpecs"]
    return next(g for g in groups if g["groupName"] == role)


def worker(world: World, role: str = "decode") -> dict[str, Any]:
    return dict(group(world, role)["template"]["spec"]["containers"][0])


def pods(world: World) -> Iterator[dict[str, Any]]:
    """Yield all pod templates."""
    for (kind, _), child in world.objects.items():
        if kind == "Deployment":
            yield child["spec"]["template"]
        if kind == "RayCluster":
            yield child["spec"]["headGroupSpec"]["template"]
            yield from (g["template"] for g in child["spec"]["workerGroupSpecs"])


def example_services() -> Iterator[Any]:
    for path in sorted((ROOT / "deploy/examples").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] == "LLMService":
                name = document["metadata"]["name"]
                yield pytest.param(document["spec"], id=f"{path.stem}-{name}")


@pytest.mark.parametrize("spec", list(example_services()))
def test_every_example_comes_to_serve(spec: dict[str, Any]) -> None:
    world = World(spec)

    world.settle()

    assert world.condition("Ready")["status"] == "True"


@pytest.mark.parametrize("spec", list(example_services()))
def test_what_is_written_fits_the_schemas_of_the_custom_resources(spec: dict[str, Any]) -> None:
    schemas = {}
    for path in (ROOT / "deploy/crds").glob("*.yaml"):
        crd = yaml.safe_load(path.read_text())
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        schemas[crd["spec"]["names"]["kind"]] = schema
    world = World(spec)

    world.settle()

    jsonschema.validate(world.service["status"], schemas["LLMService"]["properties"]["status"])
    pools = [child for (kind, _), child in world.objects.items() if kind == "WorkerPool"]
    assert len(pools) == 2
    for pool in pools:
        jsonschema.validate(pool, schemas["WorkerPool"])


def test_pods_have_no_privileges_and_write_to_their_volumes_only() -> None:
    templates = list(pods(made()))

    assert len(templates) == 4
    for template in templates:
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["imagePullSecrets"] == [{"name": "pull"}]
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"]
            assert not security["allowPrivilegeEscalation"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert {"tmp", "scratch"} <= mounts <= volumes


def test_a_password_is_in_a_secret_and_nowhere_else() -> None:
    world = made()

    secret = only(world, "Secret")["data"]

    assert base64.b64decode(secret["url"]).decode() == SETTINGS.redis_url
    del world.objects["Secret", REDIS]
    everything = json.dumps(list(world.objects.values()))
    assert PASSWORD not in everything
    assert "se%2Fcret" not in everything


def test_ray_does_not_end_with_the_redis_of_the_membership() -> None:
    assert "gcsFaultToleranceOptions" not in cluster(made())["spec"]


def test_the_state_of_ray_is_kept_in_the_redis_that_is_named_for_it() -> None:
    secret = {"name": "ray-redis", "key": "password"}
    redis = {
        "redisAddress": "ray-redis:6379",
        "redisUsername": "ray",
        "redisPasswordSecret": secret,
    }

    told = cluster(made(ray={"gcsFaultTolerance": redis}))["spec"]["gcsFaultToleranceOptions"]

    assert told == {
        "redisAddress": "ray-redis:6379",
        "redisUsername": {"value": "ray"},
        "redisPassword": {"valueFrom": {"secretKeyRef": secret}},
    }


@pytest.mark.parametrize(
    ("ray", "leaves"), [({}, False), ({"gcsFaultTolerance": {"redisAddress": "redis:6379"}}, True)]
)
def test_a_heads_manager_leaves_its_workers_if_ray_outlives_the_head(
    ray: dict[str, Any], leaves: bool
) -> None:
    head = cluster(made(ray=ray))["spec"]["headGroupSpec"]["template"]["spec"]
    (manager,) = [one for one in head["containers"] if one["name"] == "pools"]

    assert ("--leave-workers" in manager["args"]) is leaves


@pytest.mark.parametrize("ray", [{}, {"address": "ray.example:6379"}])
def test_a_manager_is_told_how_long_workers_outlive_it_if_not_as_long_as_ever(
    ray: dict[str, Any],
) -> None:
    def told(orphan_seconds: int) -> list[str]:
        world = made(ray={**ray, "orphanSeconds": orphan_seconds})
        (manager,) = [
            one
            for pod in pods(world)
            for one in pod["spec"]["containers"]
            if one["name"] == "pools"
        ]
        return [word for word in manager["args"] if word.startswith("--orphan-seconds")]

    assert told(int(ORPHAN_LIMIT_SECONDS)) == []
    assert told(900) == ["--orphan-seconds=900"]


def test_routers_drain_within_the_grace_that_their_pods_have() -> None:
    for drain, world in ((60, made()), (600, made(gateway={"drainSeconds": 600}))):
        pod = only(world, "Deployment", "router")["spec"]["template"]["spec"]

        assert f"--drain-timeout={drain}" in pod["containers"][0]["args"]
        assert pod["terminationGracePeriodSeconds"] == 5 + drain + 25


def test_routers_that_are_not_ready_keep_no_node_from_being_drained() -> None:
    budget = only(made(), "PodDisruptionBudget", "router")["spec"]

    # Without the policy the only router is not evicted until it is ready: 0 are to be healthy, and
    # what is not ready may only go from among more than that.
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize(("deadline", "told"), [(3600, []), (7200, ["--start-seconds=7200"])])
def test_a_worker_may_start_for_as_long_as_its_revision(deadline: int, told: list[str]) -> None:
    service = made(rollout={"readyDeadlineSeconds": deadline})
    head = cluster(service)["spec"]["headGroupSpec"]["template"]["spec"]
    (manager,) = [one for one in head["containers"] if one["name"] == "pools"]

    assert [one for one in manager["args"] if one.startswith("--start-seconds")] == told


def test_a_redis_without_a_password_is_named_alone() -> None:
    redis = {"redisAddress": "rediss://ray-redis:6379"}

    told = cluster(made(ray={"gcsFaultTolerance": redis}))["spec"]["gcsFaultToleranceOptions"]

    assert told == {"redisAddress": "rediss://ray-redis:6379"}


@pytest.mark.parametrize("engine", ["vllm", "sim"])
def test_what_is_asked_for_by_default_is_no_more_than_the_users_limit(engine: str) -> None:
    limits = {"limits": {"cpu": "50m", "memory": "128Mi"}}
    pool = {"replicas": 1, "resources": limits}
    world = made(
        engine=engine,
        prefill=pool,
        decode=pool,
        gateway={"resources": limits},
        ray={"headResources": limits},
    )
    head = cluster(world)["spec"]["headGroupSpec"]["template"]
    router = only(world, "Deployment")["spec"]["template"]

    for container in (
        worker(world, "prefill"),
        worker(world, "decode"),
        head["spec"]["containers"][0],
        router["spec"]["containers"][0],
    ):
        assert container["resources"]["requests"] == limits["limits"]
        assert limits["limits"].items() <= container["resources"]["limits"].items()


def test_a_limit_above_what_is_asked_for_by_default_changes_nothing_of_that() -> None:
    found = only(made(gateway={"resources": {"limits": {"memory": "1Gi"}}}), "Deployment")
    (container,) = found["spec"]["template"]["spec"]["containers"]

    assert container["resources"]["requests"] == {"cpu": "250m", "memory": "256Mi"}


def test_a_request_for_one_resource_leaves_the_default_of_the_other() -> None:
    """An autoscaler looks at the CPU that routers use of what they request."""
    resources = {"requests": {"memory": "2Gi"}, "limits": {"cpu": "200m"}}
    found = only(made(gateway={"resources": resources}), "Deployment")
    (container,) = found["spec"]["template"]["spec"]["containers"]

    assert container["resources"]["requests"] == {"cpu": "200m", "memory": "2Gi"}


def test_a_pod_has_room_for_one_worker_of_its_role() -> None:
    world = made()
    (manager,) = world.managers.values()
    assert manager.told is not None

    for pool in manager.told.pools:
        parameters = group(world, pool.role)["rayStartParams"]
        (told,) = shlex.split(parameters["resources"])
        assert json.loads(told) == dict(pool.resources)
        # As KubeRay reads it, beside handing it to a shell.
        assert json.loads(parameters["resources"].strip("'\"` ")) == dict(pool.resources)
        assert float(parameters["num-cpus"]) == pool.engine.cpus
        assert float(parameters["num-gpus"]) == pool.engine.gpus


def test_a_worker_knows_its_pod_and_the_node_and_the_zone_that_it_is_in() -> None:
    environment = {each["name"]: each.get("valueFrom") for each in worker(made())["env"]}

    paths = [environment[name]["fieldRef"]["fieldPath"] for name in (POD_ENV, NODE_ENV, ZONE_ENV)]
    zone = "metadata.labels['topology.kubernetes.io/zone']"
    assert paths == ["metadata.name", "spec.nodeName", zone]


def test_a_worker_gets_a_gpu_for_each_part_of_its_model() -> None:
    spec = {
        **SPEC,
        "decode": {"replicas": 1, "tensorParallel": 4, "gpuResource": "amd.com/gpu"},
    }

    assert worker(made(spec))["resources"]["limits"] == {"amd.com/gpu": "4"}


def test_a_pod_may_take_longer_to_end_than_the_blocks_lease_and_the_drain() -> None:
    for role in ("prefill", "decode"):
        grace = group(made(), role)["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace > SETTINGS.lease_seconds + SETTINGS.drain_seconds


ROOT_USER = {"runAsUser": 0, "runAsNonRoot": False}


def test_a_worker_that_is_evicted_drains_before_ray_is_told_and_within_the_grace() -> None:
    for role in ("prefill", "decode"):
        command = worker(made(), role)["lifecycle"]["preStop"]["exec"]["command"]
        parsed = draining_parser().parse_args(command[3:])

        assert command[:3] == ["python", "-m", "twofold_engine.draining"]
        assert parsed.limit_seconds == SETTINGS.lease_seconds + SETTINGS.drain_seconds
        grace = group(made(), role)["template"]["spec"]["terminationGracePeriodSeconds"]
        assert parsed.limit_seconds + 30 <= grace


def test_the_ray_of_an_evicted_head_outlives_the_manager_beside_it() -> None:
    ray, manager = cluster(made())["spec"]["headGroupSpec"]["template"]["spec"]["containers"]

    assert ray["lifecycle"] == worker(made())["lifecycle"]
    assert "lifecycle" not in manager  # it is told at once
    # Where the manager is seen by what Ray's container runs.
    assert {"name": "tmp", "mountPath": "/tmp"} in ray["volumeMounts"]
    assert {"name": "tmp", "mountPath": "/tmp"} in manager["volumeMounts"]


def test_what_an_engine_says_comes_out_of_its_container() -> None:
    for role in ("prefill", "decode"):
        assert {"name": "RAY_LOG_TO_STDERR", "value": "1"} in worker(made(), role)["env"]


def test_prometheus_finds_the_routers_as_the_docs_say() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    (written,) = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    keep, *others = yaml.safe_load(written)["scrape_configs"][0]["relabel_configs"]
    template = only(made(), "Deployment")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    told = {"__meta_kubernetes_pod_container_port_name": container["ports"][0]["name"]} | {
        f"__meta_kubernetes_pod_label_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}": value
        for name, value in template["metadata"]["labels"].items()
    }
    service = next(each for each in others if each["target_label"] == "service")

    assert ";".join(told[name] for name in keep["source_labels"]) == keep["regex"]
    assert [told[name] for name in service["source_labels"]] == ["chat"]


def test_rdma_takes_a_device_and_no_right_that_pod_security_refuses() -> None:
    found = worker(made(transfer={"rdma": True}))

    assert found["resources"]["limits"]["rdma/ib"] == "1"
    assert found["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(
    ("pod", "container", "added"),
    [
        (ROOT_USER, {}, ["IPC_LOCK"]),
        ({}, ROOT_USER, ["IPC_LOCK"]),
        (ROOT_USER, {"runAsUser": 1001}, None),
        ({"runAsNonRoot": True}, {"readOnlyRootFilesystem": False}, None),
    ],
)
def test_only_root_gets_the_right_to_pin_memory(
    pod: dict[str, Any], container: dict[str, Any], added: list[str] | None
) -> None:
    containers = [{"name": "worker", "securityContext": container}]
    template = {"spec": {"securityContext": pod, "containers": containers}}
    decode = {"replicas": 1, "podTemplate": template}

    found = worker(made({**SPEC, "transfer": {"rdma": True}, "decode": decode}))

    assert found["securityContext"]["capabilities"].get("add") == added


def test_the_pool_manager_sees_the_processes_of_ray_beside_it() -> None:
    """By which a driver of Ray finds its node."""
    (cluster,) = (each for (kind, _), each in made().objects.items() if kind == "RayCluster")
    head = cluster["spec"]["headGroupSpec"]["template"]["spec"]

    assert [container["name"] for container in head["containers"]] == ["ray-head", "pools"]
    assert head["shareProcessNamespace"] is True


def test_shared_memory_is_memory() -> None:
    for role in ("prefill", "decode"):
        volumes = group(made(), role)["template"]["spec"]["volumes"]
        assert {"name": "dshm", "emptyDir": {"medium": "Memory"}} in volumes


def test_the_users_template_is_merged_but_what_selects_the_pod_stays() -> None:
    template = {
        "metadata": {"labels": {"app.kubernetes.io/component": "mine", "team": "a"}},
        "spec": {
            "nodeSelector": {"gpu": "yes"},
            "containers": [{"name": "worker", "env": [{"name": "NCCL_DEBUG", "value": "INFO"}]}],
        },
    }
    found = group(made({**SPEC, "decode": {"replicas": 1, "podTemplate": template}}), "decode")

    labels = found["template"]["metadata"]["labels"]
    assert (labels["app.kubernetes.io/component"], labels["team"]) == ("decode", "a")
    assert found["template"]["spec"]["nodeSelector"] == {"gpu": "yes"}
    names = [variable["name"] for variable in found["template"]["spec"]["containers"][0]["env"]]
    assert {"HOME", "NCCL_DEBUG"} <= set(names)


@pytest.mark.parametrize(
    ("source", "volume", "path"),
    [
        (
            "pvc://claim/a/b",
            {"persistentVolumeClaim": {"claimName": "claim", "readOnly": True}},
            "/a/b",
        ),
        ("oci://acme/small:1", {"image": {"reference": "acme/small:1"}}, ""),
    ],
)
def test_a_model_on_a_volume_is_mounted(source: str, volume: dict[str, Any], path: str) -> None:
    world = made(model={"source": source})
    (manager,) = world.managers.values()
    assert manager.told is not None

    assert {pool.engine.model for pool in manager.told.pools} == {f"/models{path}"}
    volumes = group(world, "prefill")["template"]["spec"]["volumes"]
    assert {"name": "model", **volume} in volumes


def test_routers_are_scaled_by_whom_the_spec_names() -> None:
    fixed = made(gateway={"replicas": 3})
    assert only(fixed, "Deployment")["spec"]["replicas"] == 3
    assert ("HorizontalPodAutoscaler", "chat-router") not in fixed.objects

    fixed.change({**SPEC, "gateway": {"minReplicas": 2, "maxReplicas": 5}})
    fixed.settle()
    assert only(fixed, "HorizontalPodAutoscaler")["spec"]["maxReplicas"] == 5

    fixed.change(SPEC)
    fixed.settle()
    assert only(fixed, "Deployment")["spec"]["replicas"] == 1
    assert ("HorizontalPodAutoscaler", "chat-router") not in fixed.objects


def scale_routers(world: World, replicas: int) -> None:
    """Do what an autoscaler does."""
    deployment = only(world, "Deployment")
    deployment["spec"]["replicas"] = replicas
    deployment["metadata"]["resourceVersion"] += "0"


def test_an_autoscaler_begins_with_the_routers_that_there_are() -> None:
    world = made(gateway={"replicas": 5})

    world.change({**SPEC, "gateway": {"minReplicas": 2, "maxReplicas": 8}})
    world.settle()

    assert only(world, "Deployment")["spec"]["replicas"] == 5


def test_what_an_autoscaler_set_holds_within_its_bounds() -> None:
    scaled = {**SPEC, "gateway": {"minReplicas": 2, "maxReplicas": 8}}
    world = made(**scaled)
    assert only(world, "Deployment")["spec"]["replicas"] == 2

    scale_routers(world, 7)
    assert not [action for action in world.plan() if isinstance(action, ApplyObject)]

    world.change({**scaled, "slo": {"ttftMs": 100}})
    world.settle()
    assert only(world, "Deployment")["spec"]["replicas"] == 7

    world.change({**SPEC, "gateway": {"minReplicas": 2, "maxReplicas": 4}})
    world.settle()
    assert only(world, "Deployment")["spec"]["replicas"] == 4


def test_an_autoscaler_that_scales_meanwhile_wins() -> None:
    scaled = {**SPEC, "gateway": {"minReplicas": 2, "maxReplicas": 8}}
    world = made(**scaled)
    world.change({**scaled, "slo": {"ttftMs": 100}})
    actions = world.plan()

    scale_routers(world, 7)
    world.follow(actions)
    world.settle()

    assert only(world, "Deployment")["spec"]["replicas"] == 7


def test_the_manager_on_an_existing_ray_shows_its_token() -> None:
    secret = {"name": "ray", "key": "auth_token"}

    world = made(ray={"address": "head:6379", "authSecret": secret})

    (container,) = only(world, "Deployment", "pools")["spec"]["template"]["spec"]["containers"]
    assert {"name": "RAY_AUTH_MODE", "value": "token"} in container["env"]
    assert {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": secret}} in container["env"]


def test_a_pool_manager_knows_how_much_the_directory_may_list() -> None:
    def arguments(world: World) -> list[str]:
        containers = cluster(world)["spec"]["headGroupSpec"]["template"]["spec"]["containers"]
        (manager,) = [one for one in containers if one["name"] == "pools"]
        return list(manager["args"])

    told = made(observability={"kvEvents": True, "directoryHoldings": 100})

    assert "--directory-holdings=100" in arguments(told)
    assert not any("directory" in argument for argument in arguments(made()))


def test_a_router_is_told_what_each_class_is_promised() -> None:
    batch = {"name": "batch", "priority": -10, "ttftMs": 60_000, "tpotMs": 250, "onLate": "refuse"}
    slo = {"ttftMs": 1500, "ttftPerTokenMs": 0.5, "tpotMs": 50, "classes": [batch]}

    (container,) = only(made(slo=slo), "Deployment")["spec"]["template"]["spec"]["containers"]
    told = [each.removeprefix("--class=") for each in container["args"] if "--class" in each]

    assert [parse_class(each) for each in told] == [
        RequestClass("default", 0, 1.5, 0.0005, "serve", 0.05),
        RequestClass("batch", -10, 60.0, 0.0, "refuse", 0.25),
    ]


def test_keys_are_a_mounted_file_and_without_them_everybody_is_let_in() -> None:
    router = only(made(), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert "--insecure" in router["args"]

    keys = {"name": "keys", "key": "keys.toml"}
    template = only(made(gateway={"keysSecret": keys}), "Deployment")["spec"]["template"]
    router = template["spec"]["containers"][0]
    assert "--insecure" not in router["args"]
    assert "--keys-file=/etc/twofold/keys/keys.toml" in router["args"]
    assert {"name": "keys", "secret": {"secretName": "keys"}} in template["spec"]["volumes"]


def test_pages_of_the_origins_of_a_service_may_ask_its_router() -> None:
    gateway = {"allowedOrigins": ["https://a.example", "*"]}
    (router,) = only(made(gateway=gateway), "Deployment")["spec"]["template"]["spec"]["containers"]

    assert router["args"][-2:] == ["--allowed-origin=https://a.example", "--allowed-origin=*"]


@pytest.mark.parametrize(
    ("apis", "asked", "kinds"),
    [
        ({"RayCluster", "ServiceMonitor", "PodMonitor"}, True, {"ServiceMonitor"}),
        ({"RayCluster", "PodMonitor"}, True, {"PodMonitor"}),
        (
            {"RayCluster", "ServiceMonitor", "ScrapeConfig"},
            True,
            {"ServiceMonitor", "ScrapeConfig"},
        ),
        ({"RayCluster"}, True, set()),
        ({"RayCluster", "ServiceMonitor"}, False, set()),
    ],
)
def test_a_monitor_is_made_where_there_is_one_and_it_is_asked_for(
    apis: set[str], asked: bool, kinds: set[str]
) -> None:
    labels = {"release": "prometheus"}
    world = made(apis=frozenset(apis), observability={"serviceMonitor": asked, "labels": labels})

    found = {
        kind: child
        for (kind, _), child in world.objects.items()
        if kind.endswith(("Monitor", "ScrapeConfig"))
    }

    assert set(found) == kinds
    for monitor in found.values():
        assert labels.items() <= monitor["metadata"]["labels"].items()


def test_prometheus_asks_the_service_where_its_workers_are() -> None:
    world = made(
        apis=frozenset({"RayCluster", "ScrapeConfig"}),
        observability={"serviceMonitor": True},
        gateway={"port": 8080},
    )

    (asked,) = only(world, "ScrapeConfig")["spec"]["httpSDConfigs"]

    assert asked == {"url": "http://chat.models.svc:8080/metrics/targets"}


def test_workers_are_reached_by_their_own_the_operator_and_prometheus_only() -> None:
    world = made()
    policy = only(world, "NetworkPolicy")["spec"]

    own, operator, prometheus = policy["ingress"]
    (peer,) = own["from"]
    told = [pod["metadata"]["labels"] for pod in pods(world)]
    assert len(told) == 4, "routers, head, and the workers of two roles"
    assert all(peer["podSelector"]["matchLabels"].items() <= labels.items() for labels in told)
    assert [port["port"] for port in operator["ports"]] == [50051]
    namespace = prometheus["from"][0]["namespaceSelector"]["matchLabels"]
    assert namespace == {"kubernetes.io/metadata.name": "monitoring"}


def test_pods_of_a_release_that_is_called_as_the_service_do_not_reach_its_workers() -> None:
    own, *_ = only(made(), "NetworkPolicy")["spec"]["ingress"]
    theirs = {"app.kubernetes.io/instance": "chat", "app.kubernetes.io/managed-by": "Helm"}

    assert all(
        not peer["podSelector"]["matchLabels"].items() <= theirs.items() for peer in own["from"]
    )


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_who_scrapes_reaches_one_port_of_a_worker_which_is_told_to_listen_there(role: str) -> None:
    world = made()

    *_, prometheus = only(world, "NetworkPolicy")["spec"]["ingress"]
    env = {entry["name"]: entry.get("value") for entry in worker(world, role)["env"]}
    assert [str(port["port"]) for port in prometheus["ports"]] == [env[PORT_ENV]]


def test_only_the_operator_reaches_the_manager_on_an_existing_ray_which_its_nodes_reach() -> None:
    world = made(ray={"address": "head:6379"})
    policy = only(world, "NetworkPolicy", "pools")["spec"]
    labels = only(world, "Deployment", "pools")["spec"]["template"]["metadata"]["labels"]
    operator, ray = policy["ingress"]

    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    namespace = operator["from"][0]["namespaceSelector"]["matchLabels"]
    assert namespace == {"kubernetes.io/metadata.name": "twofold"}
    assert [port["port"] for port in operator["ports"]] == [50051]
    assert "from" not in ray
    open_to_all = [n for each in ray["ports"] for n in range(each["port"], each["endPort"] + 1)]
    assert set(range(1, 65_536)) - set(open_to_all) == {50051}


def test_a_service_that_leaves_an_existing_ray_keeps_its_managers_policy_until_then() -> None:
    world = made(ray={"address": "head:6379"})
    world.change(SPEC)
    world.follow(world.plan())
    world.live()
    world.follow(world.plan())
    assert only(world, "Deployment", "pools")
    assert only(world, "NetworkPolicy", "pools")

    world.settle()

    assert ("NetworkPolicy", "chat-pools") not in world.objects


def test_names_of_children_fit() -> None:
    world = World(SPEC, name="a" * 40)

    world.settle()

    assert max(len(name) for kind, name in world.objects if kind != "Pod") <= 63
