"""The LoRA adapters of a service: which can be loaded, and where they are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from twofold_operator.planning.conditions import Verdict, updated
from twofold_operator.planning.counting import Unseen
from twofold_operator.planning.observed import Manifest, Phase, SeenAdapter, SeenWorker
from twofold_operator.resources import (
    AdapterOnWorker,
    InvalidSpecError,
    LLMService,
    LoRAAdapter,
    LoRAAdapterStatus,
    parse_lora_adapter,
)

MAX_WORKERS_IN_STATUS = 1000


@dataclass(frozen=True, slots=True)
class Adapters:
    """``refused`` says by the resource's name why an adapter is not loaded anywhere."""

    accepted: tuple[LoRAAdapter, ...]
    refused: dict[str, Verdict]

    @property
    def names(self) -> frozenset[str]:
        """Return what clients ask for."""
        return frozenset(adapter.served_name for adapter in self.accepted)


def sorted_out(service: LLMService, manifests: Iterable[Manifest]) -> Adapters:
    """Tell which adapters can be loaded. Of two with one name the older wins.

    A name is taken within its service only: each service has an address and routers of its own, so
    that another one may give the same name to something else.
    """
    accepted: list[LoRAAdapter] = []
    refused: dict[str, Verdict] = {}
    taken = {service.served_name: f"the model of service {service.metadata.name}"}
    for manifest in sorted(manifests, key=_age):
        name = manifest["metadata"]["name"]
        try:
            adapter = parse_lora_adapter(manifest)
        except InvalidSpecError as error:
            refused[name] = Verdict("Ready", False, "InvalidSpec", str(error))
            continue
        if adapter.metadata.is_leaving:
            continue
        verdict = _refusal(service, adapter, taken)
        if verdict is None:
            taken[adapter.served_name] = f"LoRAAdapter {adapter.metadata.name}, which is older"
            accepted.append(adapter)
        else:
            refused[name] = verdict
    return Adapters(tuple(accepted), refused)


def adapter_status(
    manifest: Manifest,
    adapters: Adapters,
    workers: Sequence[SeenWorker],
    unseen: Unseen | None,
    now: float,
) -> LoRAAdapterStatus | None:
    """Return the status of one adapter; None while it leaves."""
    metadata = manifest["metadata"]
    name = metadata["name"]
    found = next((a for a in adapters.accepted if a.metadata.name == name), None)
    if found is None and name not in adapters.refused:
        return None
    places = _places(found, workers, unseen)
    loaded = sum(place.loaded for place in places)
    verdict = adapters.refused.get(name) or _verdict(places, loaded, unseen)
    return LoRAAdapterStatus(
        observed_generation=metadata.get("generation", 0),
        conditions=updated(manifest, [verdict], now),
        ready_workers=loaded,
        summary=f"{loaded}/{len(places)}",
        workers=tuple(places[:MAX_WORKERS_IN_STATUS]),
    )


def service_missing(service: str) -> Verdict:
    message = f"no LLMService {service} is in this namespace; make it, or delete this adapter"
    return Verdict("Ready", False, "ServiceMissing", message)


def service_invalid(service: str) -> Verdict:
    message = f"nothing is made of LLMService {service}: its spec is invalid, see its conditions"
    return Verdict("Ready", False, "ServiceInvalid", message)


def lost_status(manifest: Manifest, why: Verdict, now: float) -> LoRAAdapterStatus:
    """Return the status of an adapter of whose service there is nothing."""
    return LoRAAdapterStatus(
        observed_generation=manifest["metadata"].get("generation", 0),
        conditions=updated(manifest, [why], now),
        ready_workers=0,
        summary="0/0",
    )


def _age(manifest: Manifest) -> tuple[str, str]:
    metadata = manifest["metadata"]
    return metadata.get("creationTimestamp") or "", metadata["name"]


def _refusal(service: LLMService, adapter: LoRAAdapter, taken: Mapping[str, str]) -> Verdict | None:
    if service.spec.model.lora is None:
        message = f"service {service.metadata.name} takes no adapters; set its spec.model.lora"
        return Verdict("Ready", False, "AdaptersDisabled", message)
    whose = taken.get(adapter.served_name)
    if whose is not None:
        message = (
            f"{adapter.served_name} is the name of {whose}; a name cannot change, so delete this "
            "one and make another with another spec.name"
        )
        return Verdict("Ready", False, "NameTaken", message)
    return None


def _places(
    adapter: LoRAAdapter | None, workers: Sequence[SeenWorker], unseen: Unseen | None
) -> list[AdapterOnWorker]:
    """Return the ready *workers*, and those *unseen* as the status has them."""
    if adapter is None:
        return []
    places = []
    if unseen is not None and adapter.status is not None:
        places += [
            each for each in adapter.status.workers if each.worker.startswith(unseen.prefixes)
        ]
    for worker in workers:
        if worker.phase is Phase.READY:
            on = next((a for a in worker.adapters if a.name == adapter.served_name), _NOT_YET)
            places.append(
                AdapterOnWorker(worker=worker.worker_id, loaded=on.loaded, message=on.message)
            )
    return sorted(places, key=lambda place: (place.loaded, place.worker))


def _verdict(places: Sequence[AdapterOnWorker], loaded: int, unseen: Unseen | None) -> Verdict:
    if unseen is not None:
        message = f"{loaded} of {len(places)} workers had it when last seen; {unseen.message}"
        return Verdict("Ready", None, "ManagerUnreachable", message)
    if not places:
        return Verdict("Ready", False, "NoWorkers", "no worker of the service is ready")
    if loaded == len(places):
        return Verdict("Ready", True, "Loaded", "all ready workers have it")
    first = places[0]
    what = f"{loaded} of {len(places)} ready workers have it"
    if first.message:
        return Verdict("Ready", False, "LoadFailed", f"{what}; {first.worker}: {first.message}")
    return Verdict("Ready", False, "Loading", what)


_NOT_YET = SeenAdapter("", "", loaded=False)
