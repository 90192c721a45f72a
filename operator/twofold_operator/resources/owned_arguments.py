"""Command line arguments of engines that have a field of their own, or that are the operator's."""

from collections.abc import Mapping, Sequence

from twofold_operator.resources.errors import InvalidSpecError

_OPERATOR = "the operator sets it"

VLLM_ARGUMENTS: Mapping[str, str] = {
    "--model": "spec.model.source says it",
    "--served-model-name": "spec.model.servedName says it",
    "--revision": "spec.model.revision says it",
    "--max-model-len": "spec.model.maxModelLen says it",
    "--dtype": "spec.model.dtype says it",
    "--tensor-parallel-size": "spec.prefill.tensorParallel and spec.decode.tensorParallel say it",
    "-tp": "spec.prefill.tensorParallel and spec.decode.tensorParallel say it",
    "--enable-lora": "spec.model.lora says it",
    "--max-loras": "spec.model.lora.maxAdapters says it",
    "--max-lora-rank": "spec.model.lora.maxRank says it",
    "--kv-events-config": "spec.observability.kvEvents says it",
    "--kv-transfer-config": "spec.transfer says it",
    "--host": _OPERATOR,
    "--port": _OPERATOR,
    "--uds": _OPERATOR,
    "--config": "its file could set what the operator owns",
    "--api-key": "spec.gateway.keysSecret guards the service; routers carry no key of an engine",
    "--ssl-keyfile": "routers reach workers without TLS",
    "--ssl-certfile": "routers reach workers without TLS",
    "--root-path": "routers know no other path",
    "--pipeline-parallel-size": "a worker is one pod; use tensorParallel",
    "-pp": "a worker is one pod; use tensorParallel",
    "--data-parallel-size": "each worker is announced by itself; use replicas",
    "-dp": "each worker is announced by itself; use replicas",
    "--headless": _OPERATOR,
}
"""By the argument, why a user may not give it."""

SIM_ARGUMENTS: Mapping[str, str] = {
    "--profile": "spec.sim.profile says it",
    "--model": "spec.model.servedName says it",
    **dict.fromkeys(
        (
            "--service",
            "--worker-id",
            "--role",
            "--revision",
            "--incarnation",
            "--redis",
            "--host",
            "--port",
            "--node",
            "--zone",
            "--events-fd",
            "--parent-pid",
        ),
        _OPERATOR,
    ),
    "--kv-events": "spec.observability.kvEvents says it",
}


def check_arguments(arguments: Sequence[str], owned: Mapping[str, str], field: str) -> None:
    """See that none of *arguments*, which stand in *field*, is one of those *owned*.

    Raises:
        InvalidSpecError: one is, in whatever of the ways that an engine would read it.
    """
    for index, argument in enumerate(arguments):
        if not argument.startswith("-"):
            continue  # a value of the one before
        name = argument.partition("=")[0]
        if name.startswith("--"):
            # vLLM takes --max_model_len, and --kv-transfer-config.kv_connector.
            name = "--" + name[2:].partition(".")[0].replace("_", "-")
        meant = _meant(name, owned)
        if meant is not None:
            problem = f"{name} cannot be given here: {owned[meant]}"
            raise InvalidSpecError(f"{field}[{index}]", problem)


def _meant(name: str, owned: Mapping[str, str]) -> str | None:
    """Return which of those *owned* an engine may understand *name* as."""
    if name in owned:
        return name
    if not name.startswith("--") or name == "--":
        return None
    # argparse takes the beginning of a name for the name.
    return next((whole for whole in owned if whole.startswith(name)), None)
