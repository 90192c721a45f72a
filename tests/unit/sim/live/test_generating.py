import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_sim.live.generating import Wish, generate
from twofold_sim.live.tokens import SAYS, Tokens, detokenize, tokenize
from twofold_sim.live.vocabulary import WORDS

PROMPT = tokenize("What is the capital of France?")


def test_each_word_is_one_token_with_the_space_before_it() -> None:
    assert all(len(tokenize(" " + word)) == len(tokenize(word)) == 1 for word in WORDS)
    assert len(set(WORDS)) == len(WORDS)


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.integers(1, 60), st.data())
def test_an_answer_that_goes_on_from_its_text_so_far_is_the_same(
    prompt: str, max_tokens: int, data: st.DataObject
) -> None:
    whole = generate(tokenize(prompt), Wish(max_tokens))
    told = data.draw(st.integers(0, len(whole.tokens) - 1))

    so_far = "".join(whole.texts[:told])
    rest = generate(tokenize(prompt + so_far), Wish(max_tokens - told))

    assert so_far + rest.text == whole.text
    assert rest.finish_reason == whole.finish_reason


@given(st.text(st.characters(codec="utf-8")))
def test_the_tokens_of_an_answers_text_are_those_that_were_drawn(prompt: str) -> None:
    answer = generate(tokenize(prompt), Wish(50))

    assert tokenize(answer.text).tolist() == answer.tokens
    assert detokenize(answer.tokens) == answer.text


def test_other_prompts_and_other_samples_get_other_answers() -> None:
    answers = [generate(PROMPT, Wish(8), sample).text for sample in range(3)]
    answers += [generate(tokenize(f"Question {number}"), Wish(8)).text for number in range(20)]

    assert len(set(answers)) == len(answers)


def test_an_answer_begins_a_message_without_a_space_and_goes_on_a_text_with_one() -> None:
    message = tokenize("hello")
    message.append(SAYS)

    assert not generate(message, Wish(5)).text.startswith(" ")
    assert generate(PROMPT, Wish(5)).text.startswith(" ")


def test_an_answer_that_nobody_limits_ends_with_a_full_stop() -> None:
    lengths = []
    for number in range(300):
        answer = generate(tokenize(f"Question {number}"), Wish(10_000))
        lengths.append(len(answer.tokens))
        assert answer.finish_reason == "stop"
        assert answer.text.endswith(".")

    assert 60 < sum(lengths) / len(lengths) < 120


@pytest.mark.parametrize("max_tokens", [1, 7, 500])
def test_an_answer_whose_end_is_ignored_is_as_long_as_it_may_be(max_tokens: int) -> None:
    answer = generate(PROMPT, Wish(max_tokens, ignores_end=True))

    assert (len(answer.tokens), answer.finish_reason) == (max_tokens, "length")


def natural() -> tuple[Tokens, int]:
    """Return a prompt, and the length of its answer, which is of some words."""
    for number in range(1000):
        prompt = tokenize(f"Question {number}")
        count = len(generate(prompt, Wish(1000)).tokens)
        if 5 <= count <= 30:
            return prompt, count
    raise AssertionError


def test_an_answer_does_not_end_before_its_least_length() -> None:
    prompt, count = natural()

    answer = generate(prompt, Wish(1000, min_tokens=count + 1))

    assert len(answer.tokens) > count


def test_a_stop_string_ends_the_text_before_it_and_is_told() -> None:
    full = generate(PROMPT, Wish(30, ignores_end=True)).text
    stop = full[20:31]

    cut = generate(PROMPT, Wish(30, stop=("nowhere in it", stop)))
    kept = generate(PROMPT, Wish(30, stop=(stop,), keeps_stop=True))

    assert cut.text == full[: full.index(stop)]
    assert kept.text == full[: full.index(stop) + len(stop)]
    assert (cut.finish_reason, cut.stop_reason) == ("stop", stop)
    assert len(cut.tokens) < 30


def test_what_may_begin_a_stop_string_is_held_back_and_told_in_the_end() -> None:
    full = generate(PROMPT, Wish(30, ignores_end=True)).text
    stop = full[20:26] + "#"

    answer = generate(PROMPT, Wish(30, stop=(stop,), ignores_end=True))

    assert answer.text == full
    assert "".join(answer.texts[:-1]) == full[: len("".join(answer.texts[:-1]))]
    told = 0
    for number, text in enumerate(answer.texts[:-1]):
        told += len(text)
        said = len(detokenize(answer.tokens[: number + 1]))
        assert told == max(0, said - (len(stop) - 1))


def test_a_stop_string_counts_from_the_least_length_on() -> None:
    full = generate(PROMPT, Wish(30, ignores_end=True)).text

    answer = generate(PROMPT, Wish(30, min_tokens=30, stop=(full[:8],), ignores_end=True))

    assert len(answer.tokens) == 30


def test_a_stop_token_ends_the_answer_with_it() -> None:
    tokens = generate(PROMPT, Wish(30, ignores_end=True)).tokens

    answer = generate(PROMPT, Wish(30, stop_token_ids=frozenset({tokens[4]}), ignores_end=True))

    assert list(answer.tokens) == list(tokens[: list(tokens).index(tokens[4]) + 1])
    assert (answer.finish_reason, answer.stop_reason) == ("stop", tokens[4])
