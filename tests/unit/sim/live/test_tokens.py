from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_sim.live.tokens import BEGIN, END, OTHER, SAYS, bytes_of, detokenize, tokenize

TEXTS = st.text(st.characters(codec="utf-8")) | st.text(" abz.\0A", max_size=12)
SPECIAL = {BEGIN, SAYS, END, OTHER}


@given(TEXTS)
def test_the_tokens_of_a_text_give_it_back(text: str) -> None:
    assert detokenize(tokenize(text)) == text


@given(TEXTS, TEXTS)
def test_a_text_that_goes_on_with_a_space_keeps_its_tokens(text: str, more: str) -> None:
    assert tokenize(text + " " + more)[: len(tokenize(text))] == tokenize(text)


@given(TEXTS)
def test_every_id_fits_into_32_bits_and_none_is_special(text: str) -> None:
    assert all(0 <= token < 2**32 and token not in SPECIAL for token in tokenize(text))


def test_a_token_has_about_four_bytes_of_english() -> None:
    text = "A region of the cluster went down at noon, and nobody had been told what to do then. "

    assert 3.5 < len(text) / len(tokenize(text)) < 5.5


@pytest.mark.parametrize(
    "token", [0xF8000000, 0xF8000000 + 2 * (32**4 + 1), 0xFF400000, 0xFFFFFFF5, 2**32, 2**60, -1]
)
def test_what_no_text_becomes_is_a_replacement_mark(token: int) -> None:
    assert bytes_of(token).decode() == "\N{REPLACEMENT CHARACTER}"


def test_special_tokens_have_names_that_are_read_as_text_only() -> None:
    shown = detokenize(array("Q", [BEGIN, OTHER]))

    assert shown == "<|begin|><|other|>"
    assert BEGIN not in tokenize(shown)
