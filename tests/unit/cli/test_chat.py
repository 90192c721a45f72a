import io

import pytest

from twofold_cli.chat import DEFAULT_PROMPT, question_of, route
from twofold_cli.errors import BadArgumentError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def piped(sent: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(sent), encoding="utf-8")


@pytest.mark.parametrize(
    ("argument", "sent", "question"),
    [
        ("Where?", b"Who?", "Where?"),
        (None, "Où est-elle?\n".encode(), "Où est-elle?\n"),
        (None, b"", DEFAULT_PROMPT),
    ],
)
def test_the_question_is_the_argument_or_what_is_piped_in(
    argument: str | None, sent: bytes, question: str
) -> None:
    assert question_of(argument, piped(sent)) == question


def test_who_sits_at_a_terminal_types_the_question() -> None:
    assert question_of(None, Terminal("Who?\n")) is None
    assert question_of("Where?", Terminal()) == "Where?"


@pytest.mark.parametrize(
    ("argument", "sent"), [("", b"Who?"), (" \n", b""), (None, b"\n"), (None, b"\xff")]
)
def test_an_empty_question_is_refused(argument: str | None, sent: bytes) -> None:
    with pytest.raises(BadArgumentError, match="the question is"):
        question_of(argument, piped(sent))


def test_the_way_of_an_answer_is_mode_and_workers() -> None:
    headers = {
        "x-twofold-mode": "disaggregated",
        "x-twofold-prefill": "p-0",
        "x-twofold-decode": "d-1",
    }

    assert route(headers) == "[mode: disaggregated, prefill: p-0, decode: d-1]"


def test_a_fallback_tells_its_reason() -> None:
    headers = {"x-twofold-mode": "fallback", "x-twofold-reason": "no_prefill_worker"}

    assert route(headers) == "[mode: fallback, reason: no_prefill_worker]"
