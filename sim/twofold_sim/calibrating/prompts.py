"""Prompts of about so many tokens, no two of which begin alike."""

from random import Random

_LETTERS = "etaoinshrdlucmfwypvbgk"
_FIRST_TOKENS_PER_WORD = 2.5


class PromptMaker:
    """Makes prompts of random words, and learns how many tokens a word has."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._words = 0.0
        self._tokens = 0.0

    def make(self, tokens: int) -> str:
        """Return a new prompt of about so many tokens."""
        per_word = self._tokens / self._words if self._words else _FIRST_TOKENS_PER_WORD
        count = max(1, round(tokens / per_word))
        return " ".join(self._word() for _ in range(count))

    def learn(self, prompt: str, tokens: int) -> None:
        """Take in how many tokens *prompt* had."""
        self._words += prompt.count(" ") + 1
        self._tokens += tokens

    def _word(self) -> str:
        return "".join(self._random.choices(_LETTERS, k=self._random.randint(2, 8)))
