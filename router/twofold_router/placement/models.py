"""What is learned of a model from its requests, and of its workers when they have told nothing."""

from twofold_router.placement.bytes_per_token import BytesPerToken
from twofold_router.placement.lateness import Lateness
from twofold_router.placement.output_lengths import OutputLengths
from twofold_router.placement.prefill_speed import PrefillSpeed
from twofold_router.placement.pull_speed import PullSpeed
from twofold_router.placement.step_times import StepTimes


class ModelStatistics:
    """One model's sizes and speeds; the speeds are the priors of its workers."""

    __slots__ = (
        "bytes_per_token",
        "lateness",
        "output_lengths",
        "prefill_speed",
        "pull_speed",
        "step_times",
    )

    def __init__(self, max_model_tokens: int) -> None:
        self.bytes_per_token = BytesPerToken()
        self.lateness = Lateness()
        self.output_lengths = OutputLengths(max_model_tokens)
        self.prefill_speed = PrefillSpeed()
        self.pull_speed = PullSpeed()
        self.step_times = StepTimes()
