"""How much two engines on one machine slow each other down while both compute."""

import asyncio
from random import Random
from statistics import median

from twofold_sim.calibrating import Endpoint, PromptMaker

ROUNDS = 4
PROMPT_TOKENS = 400
PROMPTS_ALONE = 3
BATCH = 3
GENERATED_TOKENS = 60


async def measure_slowdowns(prefill: Endpoint, decode: Endpoint) -> tuple[float, float]:
    """Return how many times as long the steps of *prefill* take while *decode* generates, and those
    of *decode* while *prefill* computes prompts. At least 1; medians of rounds, in each of which
    both are measured alone as well."""
    measuring = _Measuring()
    prompt_ratios, step_ratios = [], []
    for _ in range(ROUNDS):
        alone = [await measuring.token_seconds(prefill) for _ in range(PROMPTS_ALONE)]
        steps_alone = await measuring.step_seconds(decode)
        generating = asyncio.create_task(measuring.step_seconds(decode))
        beside = []
        while not generating.done():
            beside.append(await measuring.token_seconds(prefill))
        # The last prompt was alone in part.
        prompt_ratios.append(median(beside[:-1] or beside) / median(alone))
        step_ratios.append(await generating / steps_alone)
    return max(median(prompt_ratios), 1.0), max(median(step_ratios), 1.0)


class _Measuring:
    def __init__(self) -> None:
        self._prompts = PromptMaker(Random("slowdowns"))

    async def token_seconds(self, endpoint: Endpoint) -> float:
        """Compute a new prompt; return its seconds a token."""
        prompt = self._prompts.make(PROMPT_TOKENS)
        answer = await endpoint.complete(prompt, 1)
        self._prompts.learn(prompt, answer.prompt_tokens)
        return answer.ttft / answer.prompt_tokens

    async def step_seconds(self, endpoint: Endpoint) -> float:
        """Have a batch generate; return the seconds of its steps."""
        prompts = [self._prompts.make(32) for _ in range(BATCH)]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(endpoint.complete(prompt, GENERATED_TOKENS)) for prompt in prompts
            ]
        return median(task.result().tpot for task in tasks)
