from types import SimpleNamespace
from typing import Any

import pytest

from twofold_kvtransfer import compatibility as tested


def _config(**changes: object) -> Any:
    facts: dict[str, Any] = {
        "kv_connector": "TwofoldConnector",
        "model": "Qwen/Qwen3-8B",
        "revision": None,
        "quantization": None,
        "dtype": "bfloat16",
        "cache_dtype": "auto",
        "block_size": 16,
        "layers": 36,
        "kv_heads": 8,
        "head_size": 128,
        "tensor_parallel_size": 1,
    } | changes
    return SimpleNamespace(
        kv_transfer_config=SimpleNamespace(kv_connector=facts["kv_connector"]),
        model_config=SimpleNamespace(
            model=facts["model"],
            revision=facts["revision"],
            quantization=facts["quantization"],
            dtype=facts["dtype"],
            get_num_layers=lambda parallel: facts["layers"],
            get_total_num_kv_heads=lambda: facts["kv_heads"],
            get_head_size=lambda: facts["head_size"],
        ),
        cache_config=SimpleNamespace(
            cache_dtype=facts["cache_dtype"], block_size=facts["block_size"]
        ),
        parallel_config=SimpleNamespace(tensor_parallel_size=facts["tensor_parallel_size"]),
    )


def compatibility(config: Any, vllm_version: str, packing: tuple[str, ...] = ()) -> str:
    """As on a processor that packs blocks so; none: on a GPU."""
    return tested.compatibility(config, vllm_version, lambda _: list(packing))


def _on_a_cpu(monkeypatch: pytest.MonkeyPatch, dtype: str, *, amx: bool) -> str:
    """Return what an engine has that vLLM finds to be on a CPU with or without AMX."""
    torch = pytest.importorskip("torch")
    platforms = pytest.importorskip("vllm.platforms")
    if not platforms.current_platform.is_cpu():
        pytest.skip("vLLM is not for CPUs here")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    config = _config(dtype=getattr(torch, dtype), block_size=128)
    return tested.compatibility(config, "0.32.0")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, in vLLM's backend
def test_cpus_that_pack_blocks_otherwise_are_not_compatible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_amx = _on_a_cpu(monkeypatch, "bfloat16", amx=True)

    assert with_amx != _on_a_cpu(monkeypatch, "bfloat16", amx=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, in vLLM's backend
def test_cpus_that_pack_blocks_alike_are_compatible(monkeypatch: pytest.MonkeyPatch) -> None:
    with_amx = _on_a_cpu(monkeypatch, "float32", amx=True)

    assert with_amx == _on_a_cpu(monkeypatch, "float32", amx=False)


def test_the_packing_of_blocks_matters() -> None:
    one = compatibility(_config(), "0.32.0", ("x86_64", "vec"))

    assert one != compatibility(_config(), "0.32.0")
    assert one != compatibility(_config(), "0.32.0", ("x86_64", "amx"))
    assert one != compatibility(_config(), "0.32.0", ("aarch64", "vec"))


def test_layout_and_attention_backend_of_ranks_matter() -> None:
    hashes = {
        tested.compatibility(_config(), "0.32.0", lambda _: [], attention=attention)
        for attention in ((), ("LBHNC", "FLASH_ATTN"), ("LBHNC", "FLASHINFER"), ("LBNHC", "A"))
    }

    assert len(hashes) == 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # vLLM imports such parts of torch
def test_the_attention_is_that_of_the_layers_whose_blocks_are_moved() -> None:
    pytest.importorskip("vllm")
    from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase

    class Layer(AttentionLayerBase):  # type: ignore[misc]  # vLLM is untyped here
        def __init__(self, backend: str) -> None:
            self._backend = backend

        def get_attn_backend(self) -> Any:
            name = self._backend
            return SimpleNamespace(get_name=lambda: name, full_cls_name=lambda: ("module", name))

        def get_kv_cache_spec(self, vllm_config: object) -> None: ...

    layers = {"0": Layer("ONE"), "1": Layer("TWO"), "2": Layer("ONE"), "draft": Layer("OTHER")}
    config: Any = SimpleNamespace(
        compilation_config=SimpleNamespace(static_forward_context=layers),
        cache_config=SimpleNamespace(
            get_resolved_kv_cache_layout=lambda: SimpleNamespace(name="LBHNC")
        ),
    )

    assert tested.attention_of(config, ["2", "1", "0"]) == ["LBHNC", "ONE", "TWO"]


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("kv_connector", "NixlConnector"),
        ("model", "Qwen/Qwen3-4B"),
        ("revision", "main"),
        ("quantization", "fp8"),
        ("dtype", "float16"),
        ("cache_dtype", "fp8"),
        ("block_size", 32),
        ("layers", 35),
        ("kv_heads", 4),
        ("head_size", 64),
    ],
)
def test_engines_that_differ_in_what_matters_are_not_compatible(fact: str, value: object) -> None:
    assert compatibility(_config(**{fact: value}), "0.32.0") != compatibility(_config(), "0.32.0")


def test_engines_of_two_versions_are_not_compatible() -> None:
    assert compatibility(_config(), "0.32.0") != compatibility(_config(), "0.33.0")


def test_tensor_parallelism_may_differ() -> None:
    assert compatibility(_config(tensor_parallel_size=2), "0.32.0") == compatibility(
        _config(), "0.32.0"
    )
