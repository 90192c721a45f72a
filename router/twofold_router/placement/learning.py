"""What requests teach when they are over: sizes, speeds, and what is cached where."""

from twofold_router.placement.holdings import Holding
from twofold_router.placement.interface import Outcome, PromptUsage


def learn_prompt(holding: Holding, usage: PromptUsage | None, seconds: float | None) -> float:
    """Take in that the prompt is computed; return how many tokens that took.

    *seconds* is how long the worker was at it alone, None if nobody knows. Without *usage* what
    was predicted is taken for what was, and may be put right later. A prompt whose beginning was
    to be fetched says nothing of how long computing takes: nobody knows how long that was tried.
    """
    account = holding.computed_at
    key = holding.waiting.request.key
    prompt_tokens = usage.prompt_tokens if usage else round(holding.waiting.prompt_tokens)
    cached_tokens = holding.cached_tokens
    if usage is not None:
        account.statistics.bytes_per_token.observe(key.size_bytes, prompt_tokens)
        own_tokens = cached_tokens
        if usage.cached_tokens is not None:
            own_tokens = max(usage.cached_tokens - usage.pulled_tokens, 0)
            if own_tokens < cached_tokens:
                account.mirror.correct(key, own_tokens)
        cached_tokens = own_tokens + usage.pulled_tokens
        _learn_pull(holding, usage)
    account.mirror.hold(key, prompt_tokens)
    if usage is not None:
        account.blocks.tie(key, prompt_tokens)
    if holding.decode is not account:
        # The transfer fills the decode worker's cache with the same blocks.
        holding.decode.mirror.hold(key, prompt_tokens)
    computed_tokens = max(prompt_tokens - cached_tokens, 0.0)
    if seconds is not None and holding.prefix_source is None:  # else they may be of a pull
        account.meter.add(seconds, computed_tokens, is_idle=not account.unprefilled)
    return computed_tokens


def _learn_pull(holding: Holding, usage: PromptUsage) -> None:
    """Take in what became of the source that was named, if one was."""
    account, source = holding.computed_at, holding.prefix_source
    if source is None or holding.is_learned:
        return
    if usage.pulled_tokens:
        account.pull_speed.observe(usage.pulled_seconds, usage.pulled_tokens)
    elif usage.cached_tokens is not None and usage.cached_tokens < source.tokens:
        account.pull_speed.declined(account.speed.seconds_per_token)


def learn_outcome(holding: Holding, outcome: Outcome, now: float) -> None:
    """Take in an answer that came to its end."""
    account = holding.decode
    statistics = account.statistics
    statistics.output_lengths.observe(outcome.output_tokens)
    if outcome.ttft_seconds is not None:
        statistics.lateness.observe(holding.ttft_seconds, outcome.ttft_seconds)
    if outcome.decode_seconds is not None and outcome.output_tokens > 1:
        seconds_per_token = outcome.decode_seconds / (outcome.output_tokens - 1)
        batch = account.batch
        account.step_times.observe(seconds_per_token, batch.count, batch.context_tokens, now)
