import json
from itertools import pairwise

from benchmarks.replayed import ReplayedRequest, block_text, replayed, sessions

from twofold_sim.live.rendering import render
from twofold_sim.live.tokens import tokenize
from twofold_sim.workloads import BLOCK_TOKENS, Prompt

EMPTY = [{"role": "user", "content": ""}]
CHAT_TOKENS = len(render(EMPTY))
HEAD_TOKENS = len(render(EMPTY, begins_answer=False)) - 1
"""Before the text; the one that ends a message comes after it."""


def prompt(*block_ids: int, tokens: int | None = None) -> Prompt:
    prompt_tokens = len(block_ids) * BLOCK_TOKENS if tokens is None else tokens
    return Prompt(at=0.0, prompt_tokens=prompt_tokens, output_tokens=1, block_ids=block_ids)


def messages(request: ReplayedRequest) -> list[dict[str, str]]:
    asked: list[dict[str, str]] = json.loads(b"".join(request.body))["messages"]
    return asked


def test_a_prompt_has_as_many_tokens_as_in_the_workload() -> None:
    requests = replayed([prompt(1, 2), prompt(1, 3, tokens=700)], "m", 8)

    assert [len(render(messages(request))) - CHAT_TOKENS for request in requests] == [1024, 700]


def test_prompts_share_the_tokens_of_the_blocks_that_they_share() -> None:
    one, other = (render(messages(each)) for each in replayed([prompt(1, 2), prompt(1, 3)], "m", 8))

    shared = next(at for at, (mine, its) in enumerate(zip(one, other, strict=True)) if mine != its)
    assert shared == HEAD_TOKENS + BLOCK_TOKENS


def test_a_blocks_text_is_always_the_same_and_another_blocks_is_not() -> None:
    assert block_text(7) == block_text(7)
    assert len({block_text(number) for number in range(50)}) == 50
    assert len(tokenize(block_text(7).decode())) == BLOCK_TOKENS


def test_the_head_tells_the_length_of_the_body() -> None:
    (request,) = replayed([prompt(1, 2, tokens=600)], "m", 8)

    assert b"Content-Length: %d\r\n" % len(b"".join(request.body)) in request.head


def test_a_block_that_prompts_share_is_in_memory_once() -> None:
    one, other = replayed([prompt(1, 2), prompt(1, 3)], "m", 8)

    assert one.body[1] is other.body[1]


def test_a_prompt_that_goes_on_with_another_is_of_its_session() -> None:
    turns = [prompt(0, 1, 2), prompt(0, 1, 2, 3), prompt(0, 1, 2, 3, 4, 5)]

    assert all(one == other for one, other in pairwise(sessions(turns)))


def test_a_common_beginning_makes_no_session() -> None:
    assert len(set(sessions([prompt(0, 1), prompt(0, 2), prompt(0, 3)]))) == 3


def test_prompts_that_are_all_common_beginning_are_not_gone_on_with() -> None:
    common = [prompt(0, 1), prompt(0), prompt(0, 2), prompt(0, 3)]

    assert len(set(sessions(common))) == 4


def test_a_part_of_a_block_is_not_what_a_session_is_known_by() -> None:
    turns = [prompt(0, 1, 2, tokens=1100), prompt(0, 1, 3, 4)]

    assert len(set(sessions(turns))) == 1
