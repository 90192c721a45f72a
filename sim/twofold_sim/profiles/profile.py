"""What an engine costs: the seconds of its steps, of a transfer, and how much it can hold."""

import math

import msgspec

_AT_LEAST_ONE = (
    "kv_capacity_tokens",
    "block_tokens",
    "max_batched_tokens",
    "max_sequences",
    "max_model_tokens",
    "trained_tokens",
    "gpu_count",
)


def _refuse_negative(costs: msgspec.Struct) -> None:
    """Refuse numbers below zero, and those that are not finite.

    Raises:
        ValueError: one is, and is named.
    """
    for name in costs.__struct_fields__:
        value = getattr(costs, name)
        if isinstance(value, int | float) and not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}, and must be a number of 0 or more")


class StepCosts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds of one step of continuous batching, linear in what the step computes.

    A step computes some tokens of prompts and one token for each sequence that decodes::

        base + per_prefill_token * (tokens - hidden) + per_prefill_pair * pairs
             + per_sequence * sequences + per_context_token * context tokens

    *hidden*: a step reads all weights, which takes as long as computing some tokens does; so many
    of its prompt tokens, or all of them if it has fewer, take no time of their own.

    A *pair* is a token of a prompt and one that it attends to: n tokens after c others are
    n * c + n * (n + 1) / 2 pairs. The context tokens are those of all sequences that decode.
    """

    base_seconds: float = 0.0
    per_prefill_token: float = 0.0
    per_prefill_pair: float = 0.0
    per_sequence: float = 0.0
    per_context_token: float = 0.0
    hidden_prefill_tokens: int = 0

    def __post_init__(self) -> None:
        _refuse_negative(self)

    def seconds(
        self,
        prefill_tokens: float = 0.0,
        prefill_pairs: float = 0.0,
        sequence_count: int = 0,
        context_tokens: float = 0.0,
    ) -> float:
        """Return the seconds of one step."""
        return (
            self.base_seconds
            + self.per_prefill_token * max(prefill_tokens - self.hidden_prefill_tokens, 0.0)
            + self.per_prefill_pair * prefill_pairs
            + self.per_sequence * sequence_count
            + self.per_context_token * context_tokens
        )


class TransferCosts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds to pull the blocks of a prompt from another engine."""

    latency_seconds: float = 0.0
    per_token: float = 0.0

    def __post_init__(self) -> None:
        _refuse_negative(self)


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of engine: a model on some hardware."""

    name: str
    source: str
    """Where the figures are from."""
    steps: StepCosts
    transfer: TransferCosts = TransferCosts()
    request_seconds: float = 0.0
    """Of each request, beside its steps: tokenizing, scheduling, HTTP."""
    kv_capacity_tokens: int
    block_tokens: int = 16
    max_batched_tokens: int = 8192
    """Of one step, those of prompts and those that are generated together."""
    max_sequences: int = 256
    max_model_tokens: int = 131_072
    trained_tokens: int | None = None
    """What the model was trained for, if the costs were measured for more: a real engine refuses
    requests beyond it. None: ``max_model_tokens`` is what the engine takes."""
    gpu_count: int = 1

    def __post_init__(self) -> None:
        """Refuse what no engine can be.

        Raises:
            ValueError: a field has a value that makes no sense, and is named.
        """
        _refuse_negative(self)
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, and must be at least 1")
        if self.max_model_tokens < 2:
            raise ValueError("max_model_tokens is 1, which has no room for a prompt and its answer")
        if self.kv_capacity_tokens < self.block_tokens:
            raise ValueError(
                f"kv_capacity_tokens is {self.kv_capacity_tokens}, less than one block of "
                f"{self.block_tokens} tokens"
            )

    @property
    def context_tokens(self) -> int:
        """Return how long a prompt with its answer may be: no longer than the cache holds."""
        blocks = self.kv_capacity_tokens // self.block_tokens
        return min(self.max_model_tokens, blocks * self.block_tokens)
