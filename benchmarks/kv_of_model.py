"""The built-in model under transformers, and its KV cache as blocks of vLLM."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from twofold_cli.directories import cache_directory
from twofold_cli.models import smollm2
from twofold_kvtransfer.codecs import KvShape, Packing

BLOCK_TOKENS = 128
"""vLLM's on a CPU."""

PROMPTS = (
    "Explain to a child why the sky is blue.",
    "Write a short story about a lighthouse keeper who finds a letter.",
    "What is the capital of France, and what is it known for?",
    "List five tips for a job interview.",
    "Summarise the water cycle in four sentences.",
    "Write a Python function that returns the n-th Fibonacci number.",
    "Compare cats and dogs as pets.",
    "How does a bicycle stay upright?",
    "Give me a recipe for vegetable soup.",
    "What were the causes of the First World War?",
    "Translate into plain words: the quick brown fox jumps over the lazy dog.",
    "Describe how a computer stores a number.",
    "Why do we have leap years?",
    "Write a polite letter to a neighbour about noise.",
    "What is photosynthesis?",
    "Tell me about the history of the printing press.",
    "How do vaccines work?",
    "Plan a day in Rome for a family.",
    "What is the difference between a virus and a bacterium?",
    "Explain what a hash function is and where it is used.",
)


@dataclass(frozen=True, slots=True)
class Sides:
    """K and V of all layers, each ``(layers, heads, tokens, head_dim)``."""

    keys: torch.Tensor
    values: torch.Tensor


def load_model(dtype: str) -> tuple[Any, Any]:
    """Return the model and its tokenizer."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = smollm2.find_file()
    if file is None:
        raise SystemExit(f"the model is missing; install it with: {smollm2.INSTALL}")
    directory = smollm2.converted_directory(file, cache_directory(os.environ))
    smollm2.convert(file, directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype))
    return model.eval(), AutoTokenizer.from_pretrained(directory)


def prompt_ids(tokenizer: Any, prompt: str) -> torch.Tensor:
    messages = [{"role": "user", "content": prompt}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return torch.as_tensor(tokenizer(ids, return_tensors="pt").input_ids)


def shape_of(sides: Sides, block_tokens: int = BLOCK_TOKENS) -> KvShape:
    layers, heads, _, channels = sides.keys.shape
    dtype: Any = str(sides.keys.dtype).removeprefix("torch.")
    return KvShape(
        regions=layers,
        heads=heads,
        block_tokens=block_tokens,
        head_dim=channels,
        dtype=dtype,
        packing=Packing.CPU,
    )


def to_blocks(sides: Sides, block_tokens: int = BLOCK_TOKENS) -> torch.Tensor:
    """Pack as ``Packing.CPU``; the last block is filled up with zeros, as a new cache has them."""
    layers, heads, tokens, channels = sides.keys.shape
    missing = -tokens % block_tokens
    halves = []
    for side, is_key in ((sides.keys, True), (sides.values, False)):
        padded = torch.nn.functional.pad(side, (0, 0, 0, missing))
        cut = padded.view(layers, heads, -1, block_tokens, channels).transpose(1, 2)
        halves.append((cut.transpose(-1, -2) if is_key else cut).flatten(-2))
    return torch.cat(halves, dim=-1).unflatten(-1, (block_tokens, 2 * channels))


def from_blocks(blocks: torch.Tensor, tokens: int) -> Sides:
    """Undo :func:`to_blocks`."""
    block_tokens, channels = blocks.shape[-2], blocks.shape[-1] // 2
    key, value = blocks.flatten(-2).chunk(2, dim=-1)
    key = key.unflatten(-1, (channels, block_tokens)).transpose(-1, -2)
    value = value.unflatten(-1, (block_tokens, channels))
    whole = [side.transpose(1, 2).flatten(2, 3)[:, :, :tokens] for side in (key, value)]
    return Sides(*whole)


def sides_of(cache: Any) -> Sides:
    """Take them out of transformers' ``DynamicCache`` of one request."""
    keys = torch.stack([layer.keys[0] for layer in cache.layers])
    return Sides(keys, torch.stack([layer.values[0] for layer in cache.layers]))


def put_back(rows: Sequence[Sides], cache: Any) -> None:
    """Overwrite the cache's keys and values: it becomes one of as many requests as *rows*."""
    for number, layer in enumerate(cache.layers):
        layer.keys = torch.stack([row.keys[number] for row in rows])
        layer.values = torch.stack([row.values[number] for row in rows])
