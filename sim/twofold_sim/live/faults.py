"""Failures on order: what goes wrong, how often, and how often it has."""

import random
from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

from twofold_cluster.errors import TwofoldError

FaultKind = Literal[
    "refuse",
    "reset",
    "hang",
    "crash-before-leg-1",
    "crash-after-leg-1",
    "drop-lease",
    "corrupt-params",
    "cut",
    "slow",
]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

MOST_FACTOR = 1e6
"""That everything is slowed by, or quickened: a step then takes hours, and no wait is endless."""


class InvalidFaultError(TwofoldError):
    """A fault that cannot be ordered; the message names it."""


class FaultOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of failure.

    ``refuse``: answer a request with an error of ``status``. ``reset``: end its connection.
    ``hang``: never answer it. ``crash-before-leg-1`` and ``crash-after-leg-1``: the engine ends
    when a leg 1 comes, or when it was answered. ``drop-lease``: the blocks of a leg 1 are gone when
    it is answered. ``corrupt-params``: its answer names a request that the engine does not know.
    ``cut``: end a stream's connection after ``after_chunks`` tokens. ``slow``: while it is on
    order, everything takes ``factor`` times as long, of several orders the product, with the same
    bounds as one.
    """

    kind: FaultKind
    probability: float = 1.0
    """That it strikes where it could."""
    count: int | None = None
    """It strikes so often and no more; None: without an end."""
    status: int = 503
    factor: float = 2.0
    after_chunks: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.probability <= 1.0:
            raise ValueError(f"probability must be above 0 and at most 1, not {self.probability}")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count must be at least 1, not {self.count}")
        if not 400 <= self.status <= 599:
            raise ValueError(f"status must be 400 to 599, not {self.status}")
        if not 1 / MOST_FACTOR <= self.factor <= MOST_FACTOR:
            raise ValueError(
                f"factor must be above 0, {1 / MOST_FACTOR:g} to {MOST_FACTOR:g}, not {self.factor}"
            )
        if self.after_chunks < 0:
            raise ValueError(f"after_chunks must be at least 0, not {self.after_chunks}")
        if self.kind == "slow" and (self.count is not None or self.probability != 1.0):
            raise ValueError("slow has no count and no probability: it lasts until it is replaced")


class FaultState(msgspec.Struct, frozen=True):
    """An order, and what came of it."""

    order: FaultOrder
    struck: int


class Faults:
    """The orders of one engine. Which of several requests one strikes is drawn from *seed*."""

    def __init__(self, orders: Sequence[FaultOrder], seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - drawn the same in every run
        self._orders: list[FaultOrder] = []
        self._struck: list[int] = []
        self.replace(orders)

    @property
    def slowness(self) -> float:
        """Return how many times as long everything takes."""
        factor = 1.0
        for order in self._orders:
            if order.kind == "slow":
                factor *= order.factor
        return min(max(factor, 1 / MOST_FACTOR), MOST_FACTOR)

    def replace(self, orders: Sequence[FaultOrder]) -> None:
        """Forget all orders, and take these."""
        self._orders = list(orders)
        self._struck = [0] * len(self._orders)

    def strike(self, kind: FaultKind) -> FaultOrder | None:
        """Return the order of *kind* that strikes now, if one does."""
        for index, order in enumerate(self._orders):
            if order.kind != kind:
                continue
            if order.count is not None and self._struck[index] >= order.count:
                continue
            if order.probability < 1.0 and self._random.random() >= order.probability:
                continue
            self._struck[index] += 1
            return order
        return None

    def snapshot(self) -> list[FaultState]:
        return [
            FaultState(order, struck)
            for order, struck in zip(self._orders, self._struck, strict=True)
        ]


def parse_fault(flag: str) -> FaultOrder:
    """Parse a flag such as ``cut:after_chunks=3,count=1``.

    Raises:
        InvalidFaultError: it orders nothing.
    """
    kind, _, settings = flag.partition(":")
    given: dict[str, str] = {"kind": kind}
    for setting in filter(None, settings.split(",")):
        name, equals, value = setting.partition("=")
        if not equals:
            raise InvalidFaultError(f"--fault {flag!r}: {setting!r} is not NAME=VALUE")
        given[name.replace("-", "_")] = value
    try:
        return msgspec.convert(given, FaultOrder, strict=False)
    except msgspec.ValidationError as error:
        kinds = f"; the kinds are {', '.join(KINDS)}" if kind not in KINDS else ""
        raise InvalidFaultError(f"--fault {flag!r}: {error}{kinds}") from error
