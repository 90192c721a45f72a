"""What an engine costs: the seconds of its steps, of a transfer, and how much it can hold."""

import msgspec


class StepCosts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of one step of continuous batching, linear in what the step computes.

    A step computes some tokens of prompts and one token for each sequence that decodes::

        base + per_prefill_token * tokens + per_prefill_pair * pairs
             + per_sequence * sequences + per_context_token * context tokens

    A *pair* is a token of a prompt and one that it attends to: n tokens after c others are
    n * c + n * (n + 1) / 2 pairs. The context tokens are those of all sequences that decode.
    """

    base_seconds: float = 0.0
    per_prefill_token: float = 0.0
    per_prefill_pair: float = 0.0
    per_sequence: float = 0.0
    per_context_token: float = 0.0

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
            + self.per_prefill_token * prefill_tokens
            + self.per_prefill_pair * prefill_pairs
            + self.per_sequence * sequence_count
            + self.per_context_token * context_tokens
        )


class TransferCosts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds to pull the blocks of a prompt from another engine."""

    latency_seconds: float = 0.0
    per_token: float = 0.0


class Profile(msgspec.Struct, frozen=True, kw_only=True):
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
    gpu_count: int = 1
