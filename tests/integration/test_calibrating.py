"""Calibrates an engine of known costs over real sockets.

The event loop's clock stands still while anything is to be done and jumps to the next timer when
nothing is, so that what is measured does not depend on how busy the machine is.
"""

import argparse
import asyncio
import contextlib
import json
import selectors
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from twofold_router.http import ClientLimits, open_client
from twofold_sim.calibrating import (
    Answer,
    Calibration,
    CalibrationSettings,
    Endpoint,
    EndpointError,
    add_calibrate_parser,
    calibrate,
    run_calibrate,
)
from twofold_sim.profiles import StepCosts, TransferCosts, load_profile

BLOCK_TOKENS = 16
COSTS = StepCosts(
    base_seconds=0.012,
    per_prefill_token=8e-5,
    per_prefill_pair=4e-9,
    per_sequence=0.0009,
    per_context_token=3e-7,
    hidden_prefill_tokens=32,
)
REQUEST_SECONDS = 0.004
TRANSFER = TransferCosts(latency_seconds=0.02, per_token=5e-6)
TOLERANCE = 0.15

METRICS = 'vllm:cache_config_info{block_size="16",num_gpu_blocks="20000",engine="0"} 1.0\n'

Result = TypeVar("Result")


class JumpingSelector(selectors.DefaultSelector):
    """A selector that lets the time pass at once when nothing is ready.

    All sockets are of this process and this machine: what was written can be read at once.
    """

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(None if timeout is None else 0)
        if not ready:
            self.now += timeout or 0.0
        return ready


def in_jumping_time(coroutine: Coroutine[Any, Any, Result]) -> Result:
    selector = JumpingSelector()

    class Loop(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return selector.now

    with asyncio.Runner(loop_factory=lambda: Loop(selector)) as runner:
        return runner.run(coroutine)


@dataclass
class Generation:
    prompt: tuple[str, ...]
    max_tokens: int
    cached_tokens: int
    tokens: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    generated: int = 0


class KnownEngine:
    """Batches like an engine, one step after the other: a word is a token, a prompt a step."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.metrics = METRICS
        self.api_key = ""
        self.model = "model"
        self.breaks = False
        self.breaks_batches = False
        self.most_pieces: int | None = None
        self.usage: dict[str, Any] = {}
        self.max_model_len = 100_000
        self._cached: set[tuple[str, ...]] = set()
        self._coming: list[Generation] = []
        self._running: list[Generation] = []
        self._wake = asyncio.Event()
        self._serving: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        engine = asyncio.create_task(self._run())
        async with server:
            host, port = server.sockets[0].getsockname()
            yield f"http://{host}:{port}"
            for task in (engine, *self._serving):
                task.cancel()
            await asyncio.gather(engine, *self._serving, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            coming, self._coming = self._coming, []
            if not coming and not self._running:
                self._wake.clear()
                await self._wake.wait()
                continue
            computed = [(len(g.prompt) - g.cached_tokens, g.cached_tokens) for g in coming]
            context = sum(len(g.prompt) + g.generated for g in self._running)
            pairs = sum(n * cached + n * (n + 1) / 2 for n, cached in computed)
            tokens = sum(n for n, _ in computed)
            await asyncio.sleep(COSTS.seconds(tokens, pairs, len(self._running), context))
            self._running += coming
            for generation in self._running:
                generation.generated += 1
                generation.tokens.put_nowait(None)
            self._running = [g for g in self._running if g.generated < g.max_tokens]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                path = head.split(" ")[1]
                _, has_body, length = head.partition("content-length: ")
                body = await reader.readexactly(int(length.split("\r\n")[0]) if has_body else 0)
                if self.api_key and f"authorization: bearer {self.api_key}" not in head:
                    self._answer(writer, b'{"error": "Unauthorized"}', b"401 Unauthorized")
                elif path == "/metrics":
                    self._answer(writer, self.metrics.encode())
                elif path == "/v1/models":
                    page = {"data": [{"id": self.model, "max_model_len": self.max_model_len}]}
                    self._answer(writer, json.dumps(page).encode())
                else:
                    await self._complete(json.loads(body), writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # the end of the connection, or of the engine
        finally:
            self._serving.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _answer(self, writer: asyncio.StreamWriter, body: bytes, status: bytes = b"200 OK") -> None:
        writer.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body)

    async def _complete(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self.requests.append(request)
        prompt = tuple(request["prompt"].split())
        params = request.get("kv_transfer_params") or {}
        await asyncio.sleep(REQUEST_SECONDS)
        cached = self._find(prompt)
        if params.get("do_remote_prefill"):
            await asyncio.sleep(TRANSFER.latency_seconds + TRANSFER.per_token * len(prompt))
            cached = len(prompt) - 1
        generation = Generation(prompt, request["max_tokens"], cached)
        self._coming.append(generation)
        self._wake.set()
        for end in range(BLOCK_TOKENS, len(prompt) + 1, BLOCK_TOKENS):
            self._cached.add(prompt[:end])
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": generation.max_tokens,
            "prompt_tokens_details": {"cached_tokens": cached},
        } | self.usage
        if not request.get("stream"):
            await generation.tokens.get()
            kept = {
                "do_remote_prefill": True,
                "remote_engine_id": "a",
                "remote_request_id": "b",
                "remote_host": "c",
                "remote_port": 1,
            }
            self._answer(writer, json.dumps({"kv_transfer_params": kept}).encode())
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for number in range(generation.max_tokens):
            await generation.tokens.get()
            if number == self.most_pieces:
                break
            self._event(writer, {"choices": [{"text": "word"}]})
            if self.breaks or (self.breaks_batches and len(self._running) > 1):
                writer.transport.abort()
                return
        self._event(writer, {"choices": [], "usage": usage})
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def _event(self, writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
        data = b"data: " + json.dumps(event).encode() + b"\n\n"
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _find(self, prompt: tuple[str, ...]) -> int:
        end = 0
        while end + BLOCK_TOKENS < len(prompt) and prompt[: end + BLOCK_TOKENS] in self._cached:
            end += BLOCK_TOKENS
        return end


SETTINGS = CalibrationSettings(
    name="known", seconds=60.0, max_prompt_tokens=4096, max_batch=16, gpu_count=4
)


async def calibrate_known(*, pair: bool = False) -> tuple[Calibration, KnownEngine, float]:
    first, second = KnownEngine(), KnownEngine()
    async with (
        first.serving() as url,
        second.serving() as decode_url,
        open_client(ClientLimits()) as client,
    ):
        decode = Endpoint(client, decode_url, "model") if pair else None
        calibration = await calibrate(Endpoint(client, url, "model"), SETTINGS, decode)
        return calibration, first, asyncio.get_running_loop().time()


@pytest.fixture(scope="module")
def alone() -> tuple[Calibration, KnownEngine, float]:
    return in_jumping_time(calibrate_known())


def test_the_costs_of_an_engine_are_recovered(
    alone: tuple[Calibration, KnownEngine, float],
) -> None:
    profile = alone[0].profile

    for name in ("base_seconds", "per_prefill_token", "per_prefill_pair", "per_sequence"):
        assert getattr(profile.steps, name) == pytest.approx(getattr(COSTS, name), rel=TOLERANCE)
    assert profile.steps.per_context_token == pytest.approx(COSTS.per_context_token, rel=TOLERANCE)
    assert profile.request_seconds == pytest.approx(REQUEST_SECONDS, rel=TOLERANCE)
    assert alone[0].fit.residuals.p90 < 0.05


def test_what_an_engine_holds_is_as_it_says(alone: tuple[Calibration, KnownEngine, float]) -> None:
    profile = alone[0].profile

    assert (profile.kv_capacity_tokens, profile.block_tokens) == (320_000, 16)
    assert profile.max_model_tokens == 100_000
    assert (profile.name, profile.gpu_count) == ("known", 4)


def test_what_a_prompt_attends_to_in_the_cache_is_counted(
    alone: tuple[Calibration, KnownEngine, float],
) -> None:
    prompts = [sample for sample in alone[0].samples if sample.prefill_tokens]
    pairs_of_its_own = [n * (n + 1) / 2 for n in (sample.prefill_tokens for sample in prompts)]

    found = [s for s, own in zip(prompts, pairs_of_its_own, strict=True) if s.prefill_pairs > own]

    assert len(found) > 5
    assert max(s.prefill_pairs / s.prefill_tokens for s in found) > 1000


async def complete_once() -> Answer:
    engine = KnownEngine()
    async with engine.serving() as url, open_client(ClientLimits()) as client:
        return await Endpoint(client, url, "model").complete("one two three four", 5)


def test_an_answer_has_the_moment_of_each_of_its_tokens() -> None:
    answer = in_jumping_time(complete_once())

    assert (answer.prompt_tokens, answer.generated_tokens) == (4, 5)
    assert len(answer.token_times) == 5
    assert answer.ttft == pytest.approx(REQUEST_SECONDS + COSTS.seconds(4, 10))
    assert answer.tpot == pytest.approx(COSTS.seconds(0, 0, 1, 6.5))


def test_it_takes_the_time_that_it_may(alone: tuple[Calibration, KnownEngine, float]) -> None:
    assert 0.7 * SETTINGS.seconds < alone[2] < 1.1 * SETTINGS.seconds


def test_no_two_prompts_begin_alike_but_for_those_that_are_to_be_found(
    alone: tuple[Calibration, KnownEngine, float],
) -> None:
    prompts = {request["prompt"] for request in alone[1].requests}

    assert len({tuple(prompt.split()[:8]) for prompt in prompts}) == len(prompts)


def test_the_costs_of_a_transfer_are_recovered() -> None:
    calibration, _, _ = in_jumping_time(calibrate_known(pair=True))
    transfer = calibration.profile.transfer

    assert transfer.latency_seconds == pytest.approx(TRANSFER.latency_seconds, rel=TOLERANCE)
    assert transfer.per_token == pytest.approx(TRANSFER.per_token, rel=TOLERANCE)


async def failing(engine: KnownEngine) -> None:
    async with engine.serving() as url, open_client(ClientLimits()) as client:
        await calibrate(Endpoint(client, url, "model"), SETTINGS)


async def make_engine(**fields: Any) -> None:
    engine = KnownEngine()
    for name, value in fields.items():
        setattr(engine, name, value)
    await failing(engine)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"metrics": ""}, "does not say how many tokens"),
        ({"api_key": "s3cret"}, "401 .*Unauthorized"),
        ({"model": "other"}, "serves no 'model', but other"),
        ({"breaks": True}, "BrokenError"),
        ({"most_pieces": 1}, "no batch was measured: each answer came in too few pieces"),
        ({"most_pieces": 4}, "no batch was measured"),
        ({"max_model_len": 1}, "/v1/models: max_model_len is 1"),
        ({"max_model_len": -5}, "/v1/models: max_model_len is -5"),
        ({"usage": {"prompt_tokens": 0}}, "a usage of 0 prompt_tokens"),
        ({"usage": {"prompt_tokens": -7}}, "a usage of -7 prompt_tokens"),
        ({"usage": {"completion_tokens": 0}}, "and 0 completion_tokens"),
        ({"usage": {"prompt_tokens_details": {"cached_tokens": 9999}}}, "9999 of them cached"),
        ({"usage": {"prompt_tokens_details": {"cached_tokens": -1}}}, "-1 of them cached"),
    ],
)
def test_an_engine_that_cannot_be_measured_is_told_why(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(EndpointError, match=says):
        in_jumping_time(make_engine(**fields))


def test_a_batch_that_fails_is_the_endpoint_s_error() -> None:
    with pytest.raises(EndpointError, match="BrokenError"):
        in_jumping_time(make_engine(breaks_batches=True))


def run_command(
    output: Path,
    *options: str,
    url: str = "http://127.0.0.1:9",
    environment: Mapping[str, str] | None = None,
) -> int:
    parser = argparse.ArgumentParser()
    add_calibrate_parser(parser.add_subparsers())
    arguments = ["calibrate", "--url", url, "--model", "m", "--output", str(output), *options]
    return run_calibrate(parser.parse_args(arguments), environment or {})


async def run_against_keys(
    output: Path, *options: str, environment: Mapping[str, str] | None = None
) -> int:
    """Run the command for a moment against a pair of engines that want a key."""
    first, second = KnownEngine(), KnownEngine()
    first.api_key = second.api_key = "s3cret"
    first.model = second.model = "m"
    async with first.serving() as url, second.serving() as decode_url:
        options = (f"--decode-url={decode_url}", "--seconds=2", "--max-batch=2", *options)
        return await asyncio.to_thread(
            run_command, output, *options, url=url, environment=environment
        )


def test_engines_that_want_a_key_get_that_of_the_file_or_of_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = tmp_path / "key", tmp_path / "m.json"
    file.write_text("s3cret\n")

    assert asyncio.run(run_against_keys(output)) == 1
    assert "401" in capsys.readouterr().err
    told = {"TWOFOLD_ENGINE_API_KEY": "s3cret"}
    assert asyncio.run(run_against_keys(output, environment=told)) == 0
    other = {"TWOFOLD_ENGINE_API_KEY": "other"}
    option = f"--engine-api-key-file={file}"
    assert asyncio.run(run_against_keys(output, option, environment=other)) == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://127.0.0.1:9/", "http://[::1]:9/v1"])
def test_the_command_says_that_nobody_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    output = tmp_path / "profile.json"

    assert run_command(output, url=url) == 1
    assert "cannot be reached" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--url=https://127.0.0.1:9"], "must be http://host:port"),
        (["--url=http://127.0.0.1:9/openai/v1"], "must be http://host:port"),
        (["--url=127.0.0.1:9"], "must be http://host:port"),
        (["--url=http://127.0.0.1:99999"], "a port of 1 to 65535"),
        (["--decode-url=https://127.0.0.1:9"], "must be http://host:port"),
        (["--engine-api-key-file=/nowhere/key"], "cannot read --engine-api-key-file"),
        (["--output=."], "Is a directory"),
        (["--output=/nowhere/profile.json"], "No such file or directory"),
        (["--seconds=nan"], "seconds must be above 0"),
        (["--seconds=0"], "seconds must be above 0"),
        (["--max-prompt-tokens=0"], "max_prompt_tokens must be at least 1"),
        (["--max-batch=-1"], "max_batch must be at least 1"),
        (["--max-batched-tokens=0"], "max_batched_tokens must be at least 1"),
        (["--max-sequences=0"], "max_sequences must be at least 1"),
        (["--gpus=0"], "gpu_count must be at least 1"),
        (["--kv-capacity-tokens=0"], "kv_capacity_tokens must be at least 1"),
    ],
)
def test_what_cannot_come_to_an_end_does_not_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert run_command(tmp_path / "profile.json", *options) == 2

    error = capsys.readouterr().err
    assert error.startswith("twofold_sim calibrate: ")
    assert said in error
    assert error.count("\n") == 1


def test_a_profile_that_is_there_stays_if_nothing_can_be_measured(tmp_path: Path) -> None:
    output = tmp_path / "profile.json"
    output.write_text("kept")

    assert run_command(output) == 1
    assert output.read_text() == "kept"


def test_a_profile_that_was_measured_can_be_loaded(
    alone: tuple[Calibration, KnownEngine, float], tmp_path: Path
) -> None:
    path = tmp_path / "known.json"
    path.write_bytes(msgspec.json.encode(alone[0].profile))

    assert load_profile(str(path)) == alone[0].profile
