"""The answers: they depend on the tokens before them and on nothing else.

Each token is drawn by a hash of all tokens before it, of the prompt and of the answer so far. So
any engine says the same after the same prompt, and an answer that goes on elsewhere, from the
prompt and the text so far, goes on as it would have here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from xxhash import xxh3_64

from twofold_sim.live.tokens import SAYS, Tokens, bytes_of, tokenize
from twofold_sim.live.vocabulary import WORDS

END_IN = 6
"""One of so many full stops is an answer's end: about every fifteenth word has one, so an answer
that nobody limits has some ninety tokens."""

_WITH_SPACE = tuple(tokenize(" " + word)[0] for word in WORDS)
_WITHOUT_SPACE = tuple(tokenize(word)[0] for word in WORDS)
_MAY_END = tuple(word.endswith(".") for word in WORDS)
_BYTES = {token: bytes_of(token).decode() for token in (*_WITH_SPACE, *_WITHOUT_SPACE)}
_PACKED = {token: token.to_bytes(8, "little") for token in _BYTES}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request says of how its answer ends."""

    max_tokens: int
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    keeps_stop: bool = False
    """Leave the stop string in the text."""
    ignores_end: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """All of an answer, before the first of it is told."""

    tokens: Sequence[int]
    texts: Sequence[str]
    """What each token adds to the text; nothing where a stop string begins, or might."""
    finish_reason: str
    """``stop`` or ``length``."""
    stop_reason: int | str | None = None
    """What it stopped at, if that is the request's own."""

    @property
    def text(self) -> str:
        return "".join(self.texts)


def generate(prompt: Tokens, wish: Wish, sample: int = 0) -> Answer:
    """Return what follows *prompt*; another answer for each *sample* of the same prompt."""
    drawing = _Drawing(prompt, sample)
    tokens: list[int] = []
    texts: list[str] = []
    stopping = _Stopping(wish)
    while len(tokens) < wish.max_tokens:
        token, is_end = drawing.next()
        tokens.append(token)
        may_stop = len(tokens) >= wish.min_tokens
        said, stop = stopping.take(_BYTES[token], may_stop=may_stop)
        texts.append(said)
        if stop is not None:
            return Answer(tokens, texts, "stop", stop)
        if may_stop and token in wish.stop_token_ids:
            return _ended(tokens, texts, stopping, "stop", token)
        if may_stop and is_end and not wish.ignores_end:
            return _ended(tokens, texts, stopping, "stop")
    return _ended(tokens, texts, stopping, "length")


class _Drawing:
    """Draws one token after the other."""

    def __init__(self, prompt: Tokens, sample: int) -> None:
        self._hash = xxh3_64(prompt.tobytes(), seed=sample)
        self._is_first = not prompt or prompt[-1] == SAYS

    def next(self) -> tuple[int, bool]:
        """Return a token, and whether the answer ends with it unless told otherwise."""
        drawn = self._hash.intdigest()
        index = drawn % len(WORDS)
        token = (_WITHOUT_SPACE if self._is_first else _WITH_SPACE)[index]
        self._is_first = False
        self._hash.update(_PACKED[token])
        return token, _MAY_END[index] and (drawn >> 32) % END_IN == 0


@dataclass(slots=True)
class _Stopping:
    """Finds stop strings, and holds back what may be the beginning of one, as vLLM does, unless
    they stay in the text."""

    wish: Wish
    window: str = ""
    """The end of the text so far in which one may have begun."""
    _width: int = field(init=False)

    def __post_init__(self) -> None:
        self._width = max(map(len, self.wish.stop), default=1) - 1

    @property
    def held(self) -> str:
        """Return what has not been told."""
        return "" if self.wish.keeps_stop else self.window

    def take(self, text: str, *, may_stop: bool) -> tuple[str, str | None]:
        """Return what can be told after *text* has come, and the stop string that it completes."""
        if not self.wish.stop:
            return text, None
        begun, self.window = self.window, self.window + text
        stop = self._find() if may_stop else None
        if stop is not None:
            at = self.window.index(stop)
            told = self.window[len(begun) : at + len(stop)]
            return told if self.wish.keeps_stop else self.window[:at], stop
        cut = max(0, len(self.window) - self._width)
        told, self.window = self.window[:cut], self.window[cut:]
        return text if self.wish.keeps_stop else told, None

    def _find(self) -> str | None:
        return next((stop for stop in self.wish.stop if stop in self.window), None)


def _ended(
    tokens: list[int],
    texts: list[str],
    stopping: _Stopping,
    finish_reason: str,
    stop_reason: int | None = None,
) -> Answer:
    if texts:
        texts[-1] += stopping.held
    return Answer(tokens, texts, finish_reason, stop_reason)
