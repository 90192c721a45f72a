"""Choose a codec for each transfer: the one with the least predicted time.

After KVServe: ``encode + latency + payload / bandwidth + decode``, from a model of the codecs and
the links (``costs``), each term of which is corrected by what transfers measure. Where a transfer
goes in chunks, the three stages work side by side, and it takes as long as the longest of them,
and as the others take for one chunk.

None of it may make transfers slower than ``none`` does, so what is not known is not hoped for. A
link that was not measured is taken to be fast, the cores to have other work; a codec takes what it
took and as much more as that varied. Transfers that are coded and wait for their codec do not see
a link get faster: then ``none`` is tried.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from twofold_kvtransfer.codecs.averages import SteadyAverage
from twofold_kvtransfer.codecs.costs import DEFAULT_COSTS, CodecCost
from twofold_kvtransfer.codecs.learning import Factors, LearnedCost, LearnedLink, Measured
from twofold_kvtransfer.codecs.names import QUALITY, CodecName, Quality

MOST_VAIN_TRIES = 16
"""That are counted."""

SIZES_ALIKE = 4
"""The bandwidth of a transfer says little of one that is so many times as large: what a transfer
takes beside its bytes makes a small one slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings:
    quality: Quality = Quality.EXACT
    """The service's bound: nothing below it is ever chosen."""
    least_gain: float = 0.05
    """By which a codec must beat the last choice, or ``none``, to be taken instead. To leave one
    for ``none`` needs no gain, so that the prediction is never worse than that of ``none``."""
    try_every: int = 128
    """One transfer in so many, of a link, tries the codec that was longest not measured."""
    try_within: float = 1.25
    """Only a codec that is predicted to take at most so many times the best is tried. If it would
    be within that on idle cores, the limit grows for as long as it is not measured: the slower it
    was the later it is tried again, and tries cost the same share of the time. So what an overload
    has switched off comes back."""
    try_at_most: float = 16.0
    """How far that limit grows: no transfer is risked on what was slower."""
    none_share: float = 0.05
    """What tries of ``none`` may cost of a link's time in the long run, if it is doubted without
    need. The first of them come soon after each other, since each that is missed on a link that did
    become faster may cost more."""
    assumed_load: float = 4.0
    """By how much coding is taken to be slower than on idle cores until some was measured. Those
    of an engine at work take two to ten times as long."""
    chunk_bytes: int | None = None
    """Of the cache: what is coded while the chunk before it moves. None: a transfer is one chunk,
    and its stages follow each other."""
    link_count: int = 4096
    """How many links are remembered; the one that was longest not used is forgotten first."""


@dataclass(frozen=True, slots=True)
class Link:
    """The way from a host, and what is believed of it at first."""

    name: str
    bytes_per_second: float
    latency_seconds: float = 0.0
    """The same for all codecs, and not learned."""


@dataclass(frozen=True, slots=True)
class Choice:
    codec: CodecName
    predicted_seconds: float
    size_bytes: int
    link: Link


class Controller:
    """Chooses and learns; one thread uses it. Links are told apart by their names."""

    def __init__(
        self,
        settings: ControllerSettings | None = None,
        costs: Mapping[CodecName, CodecCost] = DEFAULT_COSTS,
    ) -> None:
        self._settings = settings or ControllerSettings()
        quality = self._settings.quality
        load = self._settings.assumed_load
        busy = Factors(load, load)
        self._codecs = {
            name: LearnedCost(cost, busy)
            for name, cost in costs.items()
            if QUALITY[name] >= quality
        }
        self._links: OrderedDict[str, LearnedLink] = OrderedDict()

    def choose(self, size_bytes: int, link: Link) -> Choice:
        """Choose for *size_bytes* of the cache, which is at least 1."""
        learned = self._learned(link)
        learned.choices += 1
        seconds = {name: self.predict(name, size_bytes, link) for name in self._codecs}
        codec = self._to_try(learned, seconds, size_bytes, link)
        codec = codec or self._best(learned, size_bytes, seconds)
        if codec == "none":
            learned.vain_tries = 0
        else:
            slower = seconds["none"] / seconds[codec]
            if self._is_none_wanted(learned, size_bytes, slower):
                codec = "none"
        return Choice(codec, seconds[codec], size_bytes, link)

    def predict(
        self, codec: CodecName, size_bytes: int, link: Link, *, idle: bool = False
    ) -> float:
        """Return the seconds from the start of coding to the last block restored; on *idle* cores
        coding takes what was assumed of it at first."""
        cost = self._codecs[codec]
        payload_bytes = size_bytes * cost.payload_share.value
        stages = (
            cost.encode_seconds(size_bytes, idle=idle),
            payload_bytes / self._learned(link).bytes_per_second.value,
            cost.decode_seconds(size_bytes, idle=idle),
        )
        longest = max(stages)
        chunk_bytes = self._settings.chunk_bytes or size_bytes
        others = (sum(stages) - longest) / max(1.0, size_bytes / chunk_bytes)
        return link.latency_seconds + longest + others

    def believed(self, link: Link) -> float:
        """Return the bytes per second that are expected of *link* now."""
        return self._learned(link).bytes_per_second.value

    def learn(self, choice: Choice, measured: Measured) -> None:
        """Correct the model by what *choice* really took."""
        self._codecs[choice.codec].learn(choice.size_bytes, measured)
        latency_seconds = choice.link.latency_seconds
        self._learned(choice.link).learn(choice.codec, choice.size_bytes, latency_seconds, measured)

    def _learned(self, link: Link) -> LearnedLink:
        learned = self._links.get(link.name)
        if learned is None:
            learned = self._links[link.name] = LearnedLink(
                SteadyAverage(link.bytes_per_second, guessed=True)
            )
            if len(self._links) > self._settings.link_count:
                self._links.popitem(last=False)
        self._links.move_to_end(link.name)
        return learned

    def _to_try(
        self,
        learned: LearnedLink,
        seconds: Mapping[CodecName, float],
        size_bytes: int,
        link: Link,
    ) -> CodecName | None:
        if learned.choices % self._settings.try_every:
            return None
        idle = {name: self.predict(name, size_bytes, link, idle=True) for name in seconds}
        least, within = min(seconds.values()), self._settings.try_within
        near = [
            name
            for name in seconds
            if seconds[name] <= least * within
            or (
                idle[name] <= least * within and seconds[name] <= least * self._grown(learned, name)
            )
        ]
        return min(near, key=lambda name: learned.measured_at.get(name, 0))

    def _is_none_wanted(self, learned: LearnedLink, size_bytes: int, slower: float) -> bool:
        """Whether to learn of the link by ``none``, though it is taken to be *slower*: so many
        times as slow as what was chosen."""
        if learned.largest_bytes and size_bytes > SIZES_ALIKE * learned.largest_bytes:
            return True
        if not learned.is_doubted or learned.choices < learned.none_from:
            return False
        settings = self._settings
        wait = ceil(max(0.0, slower - 1) / settings.none_share)
        learned.none_from = learned.choices + min(wait, 2 << learned.vain_tries, settings.try_every)
        learned.vain_tries = min(learned.vain_tries + 1, MOST_VAIN_TRIES)
        return True

    def _grown(self, learned: LearnedLink, codec: CodecName) -> float:
        """Return how many times the best *codec* may take, for how long it was not measured."""
        age = (learned.choices - learned.measured_at.get(codec, 0)) / self._settings.try_every
        return min(1 + (self._settings.try_within - 1) * age, self._settings.try_at_most)

    def _best(
        self, learned: LearnedLink, size_bytes: int, seconds: Mapping[CodecName, float]
    ) -> CodecName:
        enough = 1 + self._settings.least_gain
        best = min(seconds, key=seconds.__getitem__)
        # Sizes differ in what is best for them, and that is no flapping.
        magnitude = size_bytes.bit_length()
        last = learned.last.get(magnitude, "none")
        if seconds[last] <= min(seconds[best] * enough, seconds["none"]):
            best = last
        elif seconds[best] * enough > seconds["none"]:
            best = "none"
        learned.last[magnitude] = best
        return best
