"""What became known of a request while it was served."""

from twofold_router.placement import PromptUsage
from twofold_sim.engine_model import Event, Job
from twofold_sim.measuring import Served
from twofold_sim.virtual.worker import Leg
from twofold_sim.workloads import Prompt


class Told:
    """Of one request, whatever workers it takes."""

    __slots__ = ("cached_tokens", "decode", "mode", "prefill", "refused", "transferred_tokens")

    def __init__(self) -> None:
        self.cached_tokens = 0
        self.prefill = ""
        self.decode = ""
        self.mode = ""
        self.refused = ""
        """Why there is no whole answer."""
        self.transferred_tokens = 0

    def computed(self, leg: Leg, event: Event) -> None:
        """Take note of who computed the prompt, and how much of it was cached there."""
        assert leg.at is not None
        self.prefill = leg.at.worker.worker_id
        self.cached_tokens = event.cached_tokens

    def usage(self, job: Job) -> PromptUsage:
        """Return what the engine says of the prompt of *job*."""
        return PromptUsage(job.prompt_tokens, self.cached_tokens)

    def served(self, number: int, prompt: Prompt, ttft_seconds: float | None, now: float) -> Served:
        """Return what became of *prompt*, the *number*-th, which ends now."""
        return Served(
            number=number,
            at=prompt.at,
            prompt_tokens=prompt.prompt_tokens,
            cached_tokens=self.cached_tokens,
            output_tokens=max(prompt.output_tokens, 1),
            ttft_seconds=ttft_seconds,
            end_seconds=None if self.refused else now - prompt.at,
            prefill=self.prefill,
            decode=self.decode,
            mode=self.mode,
            refused=self.refused,
            transferred_tokens=self.transferred_tokens,
        )
