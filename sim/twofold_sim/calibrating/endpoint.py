"""One OpenAI-compatible endpoint: completions with the moments of their tokens."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from twofold_cluster.apis import Api
from twofold_cluster.legs import InvalidTransferParamsError, prefill_leg, transfer_params
from twofold_router.http import Client, HeaderPairs, HttpError, Source
from twofold_router.static_workers import engine_headers
from twofold_router.static_workers.engine_metrics import EngineMetrics, read_engine_metrics
from twofold_sim.calibrating.errors import InvalidCalibrationError

LAST_PORT = 65_535
LEAST_MODEL_TOKENS = 2
"""One of a prompt, one of its answer."""

ANSWER_BYTES = 64 * 1024 * 1024
ANSWER_SECONDS = 300.0

_URL = re.compile(
    r"(?P<origin>http://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:(?P<port>[0-9]+))?)(/v1)?/?", re.IGNORECASE
)
_HEADERS = ((b"content-type", b"application/json"),)
_DATA = b"data: "


class EndpointError(Exception):
    """The endpoint cannot be reached, or does not answer as it should."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A streamed completion. Times are the event loop's, in seconds."""

    sent_at: float
    token_times: list[float]
    """When the pieces of the text came; an engine sends one for each token unless it is behind."""
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int

    @property
    def ttft(self) -> float:
        return self.token_times[0] - self.sent_at

    @property
    def tpot(self) -> float:
        """Seconds per token after the first; 0 if there is none."""
        seconds = self.token_times[-1] - self.token_times[0]
        return seconds / (self.generated_tokens - 1) if self.generated_tokens > 1 else 0.0


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Event(msgspec.Struct):
    choices: list[msgspec.Raw] = []
    usage: _Usage | None = None
    error: msgspec.Raw | None = None


class _Model(msgspec.Struct):
    id: str
    max_model_len: int | None = None


class _Models(msgspec.Struct):
    data: list[_Model]


def origin_of(url: str) -> str:
    """Return the ``http://host:port`` of *url*, which may end in ``/v1`` as clients' base URLs do.

    Raises:
        InvalidCalibrationError: it cannot be asked there: the client speaks no TLS, and knows the
            paths of the API at the root only.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise InvalidCalibrationError(
            f"{url!r} must be http://host:port or http://host:port/v1; not https, and no other path"
        )
    if int(match["port"] or 80) not in range(1, LAST_PORT + 1):
        raise InvalidCalibrationError(f"{url!r} must have a port of 1 to {LAST_PORT}")
    return match["origin"].lower()


class Endpoint:
    """Sends completions of exact lengths to ``http://host:port``."""

    def __init__(self, client: Client, url: str, model: str, api_key: str = "") -> None:
        """*api_key* is what vLLM's ``--api-key`` wants, "" without one.

        Raises:
            InvalidCalibrationError: *url* is not as ``origin_of`` wants it.
        """
        self.url = origin_of(url)
        self._client = client
        self._model = model
        self._headers = (*_HEADERS, *engine_headers(api_key))
        self._now: Callable[[], float] = asyncio.get_running_loop().time

    async def complete(
        self, prompt: str, max_tokens: int, params: msgspec.Raw | None = None
    ) -> Answer:
        """Stream a completion of *max_tokens*, as leg 2 if there are *params*.

        Raises:
            EndpointError: it is refused, breaks off, or has no usage that can be.
        """
        body = self._body(prompt, max_tokens) | {
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if params is not None:
            body["kv_transfer_params"] = params
        record = _Record(self._now)
        sent_at = self._now()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                response = await self._client.request(
                    self.url, "POST", "/v1/completions", self._headers, msgspec.json.encode(body)
                )
                await response.relay(record, response.status, (), finish=True)
        except (HttpError, TimeoutError) as error:
            raise EndpointError(f"{self.url}: {error!r}") from error
        return record.answer(self.url, sent_at)

    async def prefill(self, prompt: str) -> msgspec.Raw:
        """Send leg 1, and return where its blocks are.

        Raises:
            EndpointError: it is refused, or no blocks were kept.
        """
        fields = {
            name: msgspec.Raw(msgspec.json.encode(value))
            for name, value in self._body(prompt, 1).items()
        }
        body = prefill_leg(Api.COMPLETIONS, fields)
        answer = await self._whole("POST", "/v1/completions", body)
        try:
            return transfer_params(answer)
        except InvalidTransferParamsError as error:
            raise EndpointError(f"{self.url}: {error}") from error

    async def metrics(self) -> EngineMetrics:
        """Return what ``/metrics`` says, or nothing if there is no such page."""
        try:
            return read_engine_metrics(await self._whole("GET", "/metrics"))
        except EndpointError:
            return EngineMetrics()

    async def max_model_tokens(self) -> int | None:
        """Return how long a request may be, if the endpoint tells.

        Raises:
            EndpointError: it does not know the model, or tells a length that cannot be.
        """
        page = await self._whole("GET", "/v1/models")
        try:
            models = msgspec.json.decode(page, type=_Models).data
        except msgspec.DecodeError as error:
            raise EndpointError(f"{self.url}/v1/models: {error}") from error
        for model in models:
            if model.id == self._model:
                if model.max_model_len is not None and model.max_model_len < LEAST_MODEL_TOKENS:
                    raise EndpointError(
                        f"{self.url}/v1/models: max_model_len is {model.max_model_len}"
                    )
                return model.max_model_len
        known = ", ".join(model.id for model in models)
        raise EndpointError(f"{self.url} serves no {self._model!r}, but {known or 'nothing'}")

    def _body(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        return {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": 0,
            "ignore_eos": True,
        }

    async def _whole(self, method: str, path: str, body: bytes | None = None) -> bytes:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                response = await self._client.request(self.url, method, path, self._headers, body)
                answer = await response.read(ANSWER_BYTES)
        except (HttpError, TimeoutError) as error:
            raise EndpointError(f"{self.url}{path}: {error!r}") from error
        if response.status != 200:
            text = answer[:500].decode(errors="replace")
            raise EndpointError(f"{self.url}{path}: {response.status} {text}")
        return answer


@dataclass(slots=True)
class _Record:
    """Notes when the pieces of an answer came, and reads them when all are there."""

    now: Callable[[], float]
    started: bool = False
    status: int = 0
    pieces: list[tuple[float, bytes]] = field(default_factory=list)

    def start(self, status: int, headers: HeaderPairs) -> None:
        self.started, self.status = True, status

    def write(self, chunk: bytes, /) -> None:
        self.pieces.append((self.now(), chunk))

    def finish(self) -> None:
        pass

    def follow(self, source: Source | None, /) -> None:
        pass

    def answer(self, url: str, sent_at: float) -> Answer:
        if self.status != 200:
            text = b"".join(piece for _, piece in self.pieces)[:500].decode(errors="replace")
            raise EndpointError(f"{url}: {self.status} {text}")
        times: list[float] = []
        usage: _Usage | None = None
        for at, line in self._lines():
            if not line.startswith(_DATA) or line == b"data: [DONE]":
                continue
            try:
                event = msgspec.json.decode(line[len(_DATA) :], type=_Event)
            except msgspec.DecodeError as error:
                raise EndpointError(f"{url}: {error} in {line[:200]!r}") from error
            if event.error is not None:
                raise EndpointError(f"{url}: {line[:500].decode(errors='replace')}")
            if event.choices:
                times.append(at)
            usage = event.usage or usage
        if not times or usage is None:
            raise EndpointError(f"{url}: the stream has no text, or no usage")
        details = usage.prompt_tokens_details
        cached = (details.cached_tokens or 0) if details is not None else 0
        if (
            min(usage.prompt_tokens, usage.completion_tokens) < 1
            or not 0 <= cached <= usage.prompt_tokens
        ):
            raise EndpointError(
                f"{url}: no answer can have a usage of {usage.prompt_tokens} prompt_tokens, "
                f"{cached} of them cached, and {usage.completion_tokens} completion_tokens"
            )
        return Answer(sent_at, times, usage.prompt_tokens, cached, usage.completion_tokens)

    def _lines(self) -> list[tuple[float, bytes]]:
        """Return the lines, each with the moment when its end came."""
        lines: list[tuple[float, bytes]] = []
        rest = b""
        for at, piece in self.pieces:
            *whole, rest = (rest + piece).split(b"\n")
            lines += [(at, line.rstrip(b"\r")) for line in whole]
        return lines
