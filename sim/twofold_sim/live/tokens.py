"""A toy tokenizer: the pieces of a text's UTF-8, about four bytes each.

A token is up to five letters, of which the first may be a capital, or marks, with the space before
them, if there is one; or one byte of white space, or none, and up to three other bytes. So a text
that goes on with a space goes on with a new token: the tokens of a prompt are a prefix of
those of the prompt with its answer. A token's id holds its bytes, and no vocabulary has to be kept.
It fits into 32 bits, as vLLM's do: routers that read KV events take no larger ones.
"""

import re
from array import array
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

Tokens: TypeAlias = "array[int]"
"""Of type code ``Q``."""

WORD_LETTERS = 5
"""Of a piece of a word, beside the space before it."""
OTHER_BYTES = 3
"""Of any other piece, beside the white space before it."""

# NUL stands alone, so that no piece begins with zeros that a number would lose.
_PIECE = re.compile(
    rb" ?[A-Za-z.,?!'][a-z.,?!']{0,%d}|\s?[^\s\0]{1,%d}|\s|\0" % (WORD_LETTERS - 1, OTHER_BYTES)
)

_FIRST_WORD = 0xF8000000
"""No UTF-8 has a byte from 0xF8 on, so all other pieces, as numbers, are below."""
_LETTERS = b"\0abcdefghijklmnopqrstuvwxyz.,?!'ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SMALL_COUNT = _LETTERS.index(b"A")  # with none, which is 0
_SMALLEST = _SMALL_COUNT ** (WORD_LETTERS - 1)
_WORD_COUNT = len(_LETTERS) * _SMALLEST
_DIGITS = {letter: digit for digit, letter in enumerate(_LETTERS) if digit}

BEGIN, SAYS, END, OTHER = 0xFFFFFFF1, 0xFFFFFFF2, 0xFFFFFFF3, 0xFFFFFFF4
"""Special tokens, which no text becomes: a message begins, its content begins, it ends; and
something that is no text, such as an image, stands here."""

_SPECIAL = {BEGIN: b"<|begin|>", SAYS: b"<|says|>", END: b"<|end|>", OTHER: b"<|other|>"}
_UNKNOWN = "\N{REPLACEMENT CHARACTER}".encode()

_SPACE = ord(" ")


def tokenize(text: str) -> Tokens:
    """Return the tokens of *text*."""
    return array("Q", map(_id_of, _PIECE.findall(text.encode())))


def detokenize(tokens: Iterable[int]) -> str:
    """Return the text of *tokens*; what is none of ``tokenize``'s becomes a replacement mark."""
    return b"".join(map(bytes_of, tokens)).decode(errors="replace")


def bytes_of(token: int) -> bytes:
    """Return what *token* stands for, which need not be a whole character."""
    if 0 <= token < _FIRST_WORD:
        return token.to_bytes(max(1, (token.bit_length() + 7) // 8), "big")
    word, has_space = divmod(token - _FIRST_WORD, 2)
    if not _SMALLEST <= word < _WORD_COUNT:
        return _SPECIAL.get(token, _UNKNOWN)
    letters = bytearray()
    for _ in range(WORD_LETTERS - 1):
        word, digit = divmod(word, _SMALL_COUNT)
        letters.append(_LETTERS[digit])
    letters.append(_LETTERS[word])
    letters.reverse()
    text = bytes(letters).rstrip(b"\0")
    return _UNKNOWN if b"\0" in text else b" " * has_space + text


@lru_cache(maxsize=1 << 16)
def _id_of(piece: bytes) -> int:
    """Return the number of *piece*: a word's letters as digits, any other's bytes."""
    has_space = len(piece) > 1 and piece[0] == _SPACE
    letters = piece[has_space:]
    word = 0
    for letter in letters:
        if not (digit := _DIGITS.get(letter)):
            return int.from_bytes(piece, "big")
        word = word * _SMALL_COUNT + digit
    scale: int = _SMALL_COUNT ** (WORD_LETTERS - len(letters))
    return _FIRST_WORD + 2 * word * scale + has_space
