import json
from random import Random

import pytest
from benchmarks.prompts import BYTES_PER_TOKEN, LINE_BYTES, SHARED_PREFIX_COUNT, Prompts


def make_prompts(shared_share: float, prompt_tokens: int = 2000) -> Prompts:
    return Prompts(
        Random(1),
        model="m",
        prompt_tokens=prompt_tokens,
        shared_share=shared_share,
        fields='"max_tokens":5,',
    )


def text_of(prompts: Prompts) -> str:
    body = json.loads(b"".join(prompts.next_body()))
    text = body["messages"][0]["content"]
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("shared_share", [0.0, 1.0])
def test_every_body_has_the_announced_length(shared_share: float) -> None:
    prompts = make_prompts(shared_share)

    for _ in range(50):
        assert len(b"".join(prompts.next_body())) == prompts.body_bytes


@pytest.mark.parametrize("prompt_tokens", [200, 12_000, 100_000])
def test_a_prompt_is_as_long_as_asked(prompt_tokens: int) -> None:
    excess = make_prompts(0.0, prompt_tokens).body_bytes - prompt_tokens * BYTES_PER_TOKEN

    assert 0 <= excess < 2 * LINE_BYTES


def test_fields_stand_before_the_messages() -> None:
    body = json.loads(b"".join(make_prompts(0.0).next_body()))

    assert list(body) == ["model", "max_tokens", "messages"]


def test_prompts_that_share_nothing_differ_from_their_first_line() -> None:
    prompts = make_prompts(0.0)

    firsts = {text_of(prompts)[:LINE_BYTES] for _ in range(1000)}

    assert len(firsts) == 1000


def test_prompts_that_share_agree_in_half_and_differ_after_it() -> None:
    prompts = make_prompts(1.0)
    texts = [text_of(prompts) for _ in range(100)]
    half = len(texts[0]) // 2 - LINE_BYTES

    assert len({text[:half] for text in texts}) == SHARED_PREFIX_COUNT
    assert len({text[-half:] for text in texts}) == 100
