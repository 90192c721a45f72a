"""What became of one request."""

import msgspec


class Served(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request of a run. There may be a million: its fields are plain values, and the garbage
    collector leaves it alone."""

    number: int
    """Its place among the arrivals, from 0."""
    at: float
    """When it arrived, in seconds from the beginning of the run."""
    prompt_tokens: int
    cached_tokens: int = 0
    """Of the prompt, those that the worker of the prefill had and did not compute."""
    output_tokens: int = 1
    ttft_seconds: float | None = None
    """From the arrival to the first token; None: it never came."""
    end_seconds: float | None = None
    """From the arrival to the last token; None likewise."""
    prefill: str = ""
    """Id of the worker that computed the prompt; empty: nobody did, to its end."""
    decode: str = ""
    mode: str = ""
    """``disaggregated``, ``aggregated`` or ``fallback``; empty: it was sent to no worker."""
    refused: str = ""
    """Why there was no answer: the fault of the refusal, or what became of it (``lost``)."""
    transferred_tokens: int = 0
    """Of the prompt, those whose blocks went from one worker to another."""

    @property
    def was_computed(self) -> bool:
        """Tell whether its prompt was, whatever came after; a hit rate counts these."""
        return self.prefill != ""

    @property
    def tpot_seconds(self) -> float | None:
        """Return the seconds of each token after the first, None without any."""
        if self.ttft_seconds is None or self.end_seconds is None or self.output_tokens < 2:
            return None
        return (self.end_seconds - self.ttft_seconds) / (self.output_tokens - 1)
