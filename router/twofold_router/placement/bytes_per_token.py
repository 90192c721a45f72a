"""How many tokens a prompt has, from its size: the router has no tokenizer."""

from twofold_router.placement.rolling_quantile import RollingQuantile

DEFAULT_BYTES_PER_TOKEN = 4.0
"""English prose in UTF-8 under the usual vocabularies of 32,000 to 256,000 entries."""

WINDOW = 101
"""Prompts in the median: as many as make a mixture of prose and code steady."""

MIN_SAMPLE_TOKENS = 64
"""A shorter prompt measures the chat template around it."""


class BytesPerToken:
    """Learns one model's ratio of canonical bytes to prompt tokens from the engines' ``usage``.

    The median, because a prompt with images has its tokens from a digest of a few bytes, and says
    nothing of text.
    """

    __slots__ = ("_ratios",)

    def __init__(self) -> None:
        self._ratios = RollingQuantile(WINDOW)

    @property
    def bytes_per_token(self) -> float:
        return self._ratios.value or DEFAULT_BYTES_PER_TOKEN

    def tokens(self, size_bytes: int) -> float:
        """Estimate the prompt tokens of *size_bytes* canonical bytes."""
        return size_bytes / self.bytes_per_token

    def observe(self, size_bytes: int, prompt_tokens: int) -> None:
        """Take in a prompt of *size_bytes* that the engine counted as *prompt_tokens*."""
        if prompt_tokens >= MIN_SAMPLE_TOKENS and size_bytes > 0:
            self._ratios.add(size_bytes / prompt_tokens)
