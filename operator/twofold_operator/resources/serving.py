"""How a service treats requests: promises, placement, the two phases, the way in."""

from typing import Annotated, Literal

from msgspec import Meta, field

from twofold_operator.resources.wire import (
    Count,
    Labels,
    Milliseconds,
    Part,
    Port,
    ResourceRequirements,
    SecretKeyReference,
    SomeReplicas,
    Template,
)


class Promise(Part, frozen=True, kw_only=True):
    """What requests are promised."""

    ttft_ms: Milliseconds = 5000
    """From arrival to the first token."""
    ttft_per_token_ms: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    """On top for each token of the prompt, so that long prompts are not the ones put off."""
    tpot_ms: Milliseconds | None = None
    """Between two tokens of an answer, as a mean over it. It is counted, not planned for. Default:
    no promise."""
    on_late: Literal["serve", "refuse"] = "serve"
    """What becomes of a request that cannot be on time."""


class PromisedClass(Promise, frozen=True, kw_only=True):
    """What requests of one class are promised. A key or a request names its class."""

    name: Annotated[
        str, Meta(min_length=1, max_length=63, pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    ]
    """Not `default`, which is the service's own."""
    priority: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)] = 0
    """Larger goes first and is refused last."""


class Slo(Promise, frozen=True, kw_only=True):
    """What a request is promised unless its class or headers say otherwise."""

    classes: Annotated[
        tuple[PromisedClass, ...],
        Meta(
            max_length=32,
            extra_json_schema={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            },
        ),
    ] = ()
    """Others beside the class `default`, which the fields above tell. A class that a key of
    `gateway.keysSecret` names must be among them."""


class Routing(Part, frozen=True, kw_only=True):
    """How requests find their workers."""

    policy: Literal["twofold", "dual-map"] = "twofold"
    block_tokens: Annotated[int, Meta(ge=1, le=65536)] = 512
    """Of the blocks that prompts are compared by; fewer for models with short contexts."""
    max_queued: Count = 1024
    """Requests that may wait in one router; the next is answered 429."""
    max_unprefilled_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 4096
    """Tokens at one prefill worker that are sent and not computed."""
    prefix_pull: bool = True
    """Let a prefill worker fetch a prefix from another that holds it, when that is quicker than to
    compute it; only with `transfer.connector: twofold`."""
    follow_tokens: Count = 8192
    """From so many tokens to compute on, a decode worker takes blocks while the prefill worker
    computes the next ones; 0: never. Only with `transfer.connector: twofold`."""


class Disaggregation(Part, frozen=True, kw_only=True):
    """Prefill and decode on workers of their own."""

    enabled: bool = True
    """Off: each request is served on one worker."""
    min_uncached_tokens: Count = 0
    """A prompt with fewer tokens that are not cached is computed where it is decoded."""
    on_no_prefill: Literal["aggregate", "fail"] = "aggregate"
    """While no prefill worker serves: decode workers compute prompts too, or a 503."""
    on_transfer_failure: Literal["retry", "recompute", "fail"] = "retry"
    """When blocks cannot be fetched: begin again elsewhere, compute them on the decode worker, or
    fail the request."""


class Transfer(Part, frozen=True, kw_only=True):
    """How cache blocks move from the prefill to the decode worker."""

    connector: Literal["nixl", "twofold", "mooncake", "lmcache"] = "nixl"
    """nixl: vLLM's NixlConnector; twofold: ours, for models with dense attention. This version has
    these two."""
    transport: Literal["nixl", "tcp", "nccl"] = "nixl"
    """What the connector twofold moves blocks over: nixl takes RDMA, NVLink, shared memory or
    TCP, as it finds; tcp is for nodes without NIXL, and without GPUs; nccl is for GPUs, and has
    not been tried on any yet."""
    compression: Literal["off", "lossless", "int8", "fp8", "int4"] = "off"
    """With connector twofold and transport tcp: the roughest code that blocks may be moved in,
    where that is quicker. All but lossless change what is generated."""
    verify: bool = True
    """With connector twofold and transport nixl: blocks in host memory are compared with what was
    sent, at the price of a pass over them on both sides."""
    rdma: bool = False
    """Gives each worker its pool's rdmaResource, and one that runs as root the capability IPC_LOCK
    to pin memory. Workers whose blocks would not cross the network by RDMA all the same make the
    service Degraded."""


Origin = Annotated[
    str,
    Meta(
        max_length=253,
        pattern=r"^(\*|[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?)$",
    ),
]
"""As a browser tells where a page is from."""


class Gateway(Part, frozen=True, kw_only=True):
    """The routers, which clients talk to."""

    replicas: SomeReplicas = 1
    """Routers while minReplicas and maxReplicas do not have them scaled."""
    min_replicas: SomeReplicas | None = None
    """With maxReplicas: an autoscaler holds the number of routers between the two, and begins with
    those that there are."""
    max_replicas: SomeReplicas | None = None
    port: Port = 80
    """Of the Service."""
    keys_secret: SecretKeyReference | None = None
    """The file of API keys. Without it everybody who reaches the Service is let in."""
    drain_seconds: Annotated[int, Meta(ge=1, le=3600)] = 60
    """How long a router that is told to end goes on with the requests that it has. Its pod has half
    a minute more."""
    allowed_origins: Annotated[tuple[Origin, ...], Meta(max_length=64)] = ()
    """Whose web pages may ask from a browser, such as https://chat.example.org; "*": all."""
    resources: ResourceRequirements = ResourceRequirements()
    """Of one router."""
    pod_template: Template = field(default_factory=dict)
    """Merged over the routers' pods. The container is named router."""

    @property
    def is_scaled(self) -> bool:
        """Tell whether an autoscaler owns the number of routers."""
        return self.max_replicas is not None

    def clamp(self, replicas: int) -> int:
        """Return what the bounds of the autoscaler, if there is one, leave of *replicas*."""
        if self.max_replicas is None:
            return replicas
        return min(max(replicas, self.min_replicas or 1), self.max_replicas)


class Observability(Part, frozen=True, kw_only=True):
    """What can be seen of the service."""

    kv_events: bool = False
    """Engines publish what their caches hold, so that routers need not guess. It shows the tokens
    of prompts to all who reach the workers."""
    directory_holdings: Annotated[int, Meta(ge=1, le=1_000_000_000)] | None = None
    """With kvEvents: most that the service's block directory lists in Redis, where a block that one
    worker holds in one tier is one and takes up to 26 bytes. What is beyond is not listed.
    Default: 5,000,000 (130 MB). All services share one Redis: the chart's Valkey (valkey.maxMemory)
    has room for one such directory. Another number is a new revision."""
    service_monitor: bool = False
    """Have the Prometheus operator scrape routers and workers, where its API exists."""
    labels: Labels = field(default_factory=dict)
    """On top of the monitors' own, such as the release that a Prometheus selects by."""
