"""``python -m benchmarks.codec_quality``: what a codec of the KV cache does to the answers.

The built-in model under transformers, greedy. A prompt but its last token is prefilled; what
``decode(encode(KV))`` makes of the cache takes its place, as it would on a decode worker; then the
answer is generated from there. All codecs are rows of one batch, and compared with its first row,
the cache as it was:

- share of identical tokens, position by position, and of answers that are identical throughout;
- how many tokens are identical before the first that is not, on average;
- the divergence KL(untouched || coded) of the next token's distribution in nats, with the tokens of
  the untouched answer forced, so that both are asked the same.
"""

import argparse
import copy
import statistics
import sys
from pathlib import Path
from typing import Any

import msgspec
import torch

from benchmarks.figures import quantile
from benchmarks.kv_of_model import (
    PROMPTS,
    from_blocks,
    load_model,
    prompt_ids,
    put_back,
    shape_of,
    sides_of,
    to_blocks,
)
from benchmarks.machine import describe_machine
from benchmarks.report import Goal, publish, say, table
from twofold_kvtransfer.codecs import CodecName
from twofold_kvtransfer.codecs.coding import Coder

CODECS: tuple[CodecName, ...] = ("none", "lossless", "int8", "fp8", "int4")
ANSWER_TOKENS = 32


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    codec: str
    identical_tokens: float
    """Share, as is the next."""
    identical_answers: float
    tokens_before_difference: float
    kl_mean: float
    """Nats, as are the next."""
    kl_p99: float
    kl_worst: float
    same_first_choice: float
    """Share of the forced positions at which the likeliest token is the same."""


class Answers(msgspec.Struct, frozen=True):
    """One answer per codec."""

    tokens: list[list[int]]
    log_probabilities: Any
    """``(codecs, tokens, vocabulary)``."""


def answer(model: Any, last: torch.Tensor, cache: Any, forced: list[int] | None) -> Answers:
    """Generate greedily after *cache* and the *last* token of the prompt; or follow *forced*."""
    tokens, rows = [], []
    latest = last.expand(len(CODECS), 1)
    for place in range(ANSWER_TOKENS):
        logits = model(latest, past_key_values=cache, use_cache=True).logits[:, -1]
        rows.append(torch.log_softmax(logits.float(), dim=-1))
        latest = rows[-1].argmax(-1, keepdim=True)
        tokens.append(latest)
        if forced:
            latest = torch.full_like(latest, forced[place])
    return Answers(torch.cat(tokens, dim=1).tolist(), torch.stack(rows, dim=1))


def coded(coder: Coder, cache: Any) -> Any:
    """Return a cache with a row for each codec: what is left of *cache* after it."""
    sides = sides_of(cache)
    blocks, shape = to_blocks(sides), shape_of(sides)
    rows = []
    for codec in CODECS:
        out = torch.empty_like(blocks)
        coder.decode(coder.encode(codec, blocks, shape), shape, out)
        rows.append(from_blocks(out, sides.keys.shape[2]))
    other = copy.deepcopy(cache)
    put_back(rows, other)
    return other


def measure(dtype: str, prompts: tuple[str, ...], coder: Coder) -> list[Quality]:
    model, tokenizer = load_model(dtype)
    free: list[list[list[int]]] = []
    divergences: list[list[list[float]]] = []
    agreed: list[list[list[bool]]] = []
    for prompt in prompts:
        ids = prompt_ids(tokenizer, prompt)
        cache = model(ids[:, :-1], use_cache=True).past_key_values
        free.append(answer(model, ids[:, -1:], coded(coder, cache), None).tokens)
        true = free[-1][0]
        forced = answer(model, ids[:, -1:], coded(coder, cache), true)
        exact = forced.log_probabilities[:1]
        divergence = (exact.exp() * (exact - forced.log_probabilities)).sum(-1)
        divergences.append(divergence.clamp(min=0).tolist())
        agreed.append([[a == b for a, b in zip(true, row, strict=True)] for row in forced.tokens])
    expected = [tokens[0] for tokens in free]
    return [
        summarise(
            codec,
            expected,
            [tokens[row] for tokens in free],
            [value for each in divergences for value in each[row]],
            [value for each in agreed for value in each[row]],
        )
        for row, codec in enumerate(CODECS)
    ]


def summarise(
    codec: CodecName,
    expected: list[list[int]],
    got: list[list[int]],
    divergences: list[float],
    agreed: list[bool],
) -> Quality:
    same = [
        [one == other for one, other in zip(*both, strict=True)]
        for both in zip(expected, got, strict=True)
    ]
    lengths = [row.index(False) if False in row else len(row) for row in same]
    return Quality(
        codec=codec,
        identical_tokens=statistics.mean(token for row in same for token in row),
        identical_answers=statistics.mean(all(row) for row in same),
        tokens_before_difference=statistics.mean(lengths),
        kl_mean=statistics.mean(divergences),
        kl_p99=quantile(divergences, 0.99),
        kl_worst=max(divergences),
        same_first_choice=statistics.mean(agreed),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three prompts, one dtype")
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    machine = describe_machine(("torch", "transformers"))
    prompts = PROMPTS[:3] if arguments.quick else PROMPTS
    results: dict[str, Any] = {}
    with Coder(thread_count=1) as coder, torch.no_grad():
        for dtype in ("bfloat16",) if arguments.quick else ("bfloat16", "float32"):
            results[dtype] = rows = measure(dtype, prompts, coder)
            say(f"\n{dtype}, {len(prompts)} prompts, {ANSWER_TOKENS} tokens each\n")
            say(quality_table(rows))
    exact = [row for rows in results.values() for row in rows if row.codec in CODECS[:2]]
    differing = max(1 - row.identical_tokens for row in exact)
    goals = [Goal("tokens that differ with none and lossless", differing, 0.0)]
    return publish("codec_quality", {"machine": machine, "rows": results}, goals, arguments.json)


def quality_table(rows: list[Quality]) -> str:
    headers = (
        "codec", "identical tokens", "identical answers", "tokens before a difference",
        "KL mean (nats)", "KL p99", "KL worst", "same first choice",
    )  # fmt: skip
    return table(
        headers,
        (
            (
                row.codec,
                f"{row.identical_tokens:.1%}",
                f"{row.identical_answers:.0%}",
                f"{row.tokens_before_difference:.1f}",
                f"{row.kl_mean:.2e}",
                f"{row.kl_p99:.2e}",
                f"{row.kl_worst:.2e}",
                f"{row.same_first_choice:.1%}",
            )
            for row in rows
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
