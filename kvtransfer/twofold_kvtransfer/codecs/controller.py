"""Choose a codec for each transfer: the one with the least predicted time.

After KVServe: ``encode + latency + payload / bandwidth + decode``, from a model of the codecs and
the links (``costs``), each term of which is corrected by what transfers measure. Where a transfer
goes in chunks, the three stages work side by side, and it takes as long as the longest of them,
and as the others take for one chunk.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from twofold_kvtransfer.codecs.averages import SteadyAverage
from twofold_kvtransfer.codecs.costs import DEFAULT_COSTS, CodecCost
from twofold_kvtransfer.codecs.names import QUALITY, CodecName, Quality

LEAST_SECONDS = 1e-9
"""What a clock that saw no time pass is taken to mean."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a transfer really took, all of it on clocks of one machine each."""

    payload_bytes: int
    move_seconds: float | None
    """In which payload was on its way, latency included, waits for coding not. None: it does not
    tell how fast the link is."""
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0


class Controller:
    """Chooses and learns; one thread uses it. Links are told apart by their names."""

    def __init__(
        self,
        settings: ControllerSettings | None = None,
        costs: Mapping[CodecName, CodecCost] = DEFAULT_COSTS,
    ) -> None:
        self._settings = settings or ControllerSettings()
        quality = self._settings.quality
        busy = _Factors()
        self._codecs = {
            name: _LearnedCost(cost, busy)
            for name, cost in costs.items()
            if QUALITY[name] >= quality
        }
        self._links: OrderedDict[str, _LearnedLink] = OrderedDict()

    def choose(self, size_bytes: int, link: Link) -> Choice:
        """Choose for *size_bytes* of the cache, which is at least 1."""
        learned = self._learned(link)
        seconds = {name: self.predict(name, size_bytes, link) for name in self._codecs}
        codec = self._to_try(learned, seconds, size_bytes, link)
        codec = codec or self._best(learned, size_bytes, seconds)
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
        self._learned(choice.link).learn(choice, measured)

    def _learned(self, link: Link) -> "_LearnedLink":
        learned = self._links.get(link.name)
        if learned is None:
            learned = self._links[link.name] = _LearnedLink(
                SteadyAverage(link.bytes_per_second, guessed=True)
            )
            if len(self._links) > self._settings.link_count:
                self._links.popitem(last=False)
        self._links.move_to_end(link.name)
        return learned

    def _to_try(
        self,
        learned: "_LearnedLink",
        seconds: Mapping[CodecName, float],
        size_bytes: int,
        link: Link,
    ) -> CodecName | None:
        learned.choices += 1
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

    def _grown(self, learned: "_LearnedLink", codec: CodecName) -> float:
        """Return how many times the best *codec* may take, for how long it was not measured."""
        age = (learned.choices - learned.measured_at.get(codec, 0)) / self._settings.try_every
        return min(1 + (self._settings.try_within - 1) * age, self._settings.try_at_most)

    def _best(
        self, learned: "_LearnedLink", size_bytes: int, seconds: Mapping[CodecName, float]
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


class _Factors:
    """By how much coding takes longer than assumed."""

    def __init__(self, encode: float = 1.0, decode: float = 1.0) -> None:
        self.encode = SteadyAverage(encode)
        self.decode = SteadyAverage(decode)


class _LearnedCost:
    """A codec's cost, each part of it times a factor that is learned."""

    def __init__(self, cost: CodecCost, busy: _Factors) -> None:
        """*busy* is of all codecs: what this one is taken for until it was measured."""
        self._cost = cost
        self._busy = busy
        self._own: _Factors | None = None
        self.payload_share = SteadyAverage(cost.payload_share)

    def encode_seconds(self, size_bytes: int, *, idle: bool = False) -> float:
        factor = 1.0 if idle else self._factors.encode.value
        return factor * self._expected(size_bytes, self._cost.encode_seconds_per_byte)

    def decode_seconds(self, size_bytes: int, *, idle: bool = False) -> float:
        factor = 1.0 if idle else self._factors.decode.value
        return factor * self._expected(size_bytes, self._cost.decode_seconds_per_byte)

    def learn(self, size_bytes: int, measured: Measured) -> None:
        self.payload_share.add(max(1, measured.payload_bytes) / size_bytes)
        encoding = self._expected(size_bytes, self._cost.encode_seconds_per_byte)
        decoding = self._expected(size_bytes, self._cost.decode_seconds_per_byte)
        # A codec without a cost, ``none``, has none to learn: what its side copies is moving.
        if not encoding or not decoding:
            return
        if self._own is None:
            self._own = _Factors(self._busy.encode.value, self._busy.decode.value)
        for factors in (self._own, self._busy):
            factors.encode.add(max(measured.encode_seconds, LEAST_SECONDS) / encoding)
            factors.decode.add(max(measured.decode_seconds, LEAST_SECONDS) / decoding)

    @property
    def _factors(self) -> _Factors:
        return self._own or self._busy

    def _expected(self, size_bytes: int, seconds_per_byte: float) -> float:
        return self._cost.fixed_seconds + size_bytes * seconds_per_byte


@dataclass(slots=True)
class _LearnedLink:
    bytes_per_second: SteadyAverage
    choices: int = 0
    measured_at: dict[CodecName, int] = field(default_factory=dict)
    """When each codec was last measured, in choices."""
    last: dict[int, CodecName] = field(default_factory=dict)
    """The last choice, by the magnitude of the size: its number of bits."""

    def learn(self, choice: Choice, measured: Measured) -> None:
        self.measured_at[choice.codec] = self.choices
        if measured.move_seconds is None:
            return
        moving = measured.move_seconds - choice.link.latency_seconds
        # What latency took most of says nothing of the bandwidth.
        if moving > choice.link.latency_seconds or not choice.link.latency_seconds:
            payload_bytes = max(1, measured.payload_bytes)
            self.bytes_per_second.add(payload_bytes / max(moving, LEAST_SECONDS))
