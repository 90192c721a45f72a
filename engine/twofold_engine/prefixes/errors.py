"""What goes wrong with prefixes, by what is done about it."""

from twofold_engine.errors import EngineError


class PrefixError(EngineError):
    """The root: it cannot be done with these workers as they are."""


class InvalidPromptError(PrefixError):
    """An engine would not take it, or it is not one prompt: ask otherwise."""


class CannotFindError(PrefixError):
    """Nobody names the prompt's blocks, or says who holds them."""


class CannotPullError(PrefixError):
    """These workers are not such that the one takes the prompt's beginning from the other."""


class NoRoomError(PrefixError):
    """What is pinned already leaves no room: unpin something first."""


class UnknownPinError(PrefixError):
    """There is no such pin, or it has ended."""


class NotAnsweredError(PrefixError):
    """The engine, or Redis, does not answer or takes nothing now: ask again."""
