"""``python -m twofold_sim calibrate``: make a profile of an engine that runs."""

import argparse
import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from twofold_router.http import ClientLimits, open_client
from twofold_router.static_workers import (
    KEY_FILE_FLAG,
    KEY_VARIABLE,
    InvalidEngineKeyError,
    check_engine_key,
    read_engine_key,
)
from twofold_sim.calibrating.endpoint import Endpoint, EndpointError, origin_of
from twofold_sim.calibrating.errors import InvalidCalibrationError
from twofold_sim.calibrating.measuring import Calibration, CalibrationSettings, calibrate
from twofold_sim.profiles.loading import save_profile

USAGE_ERROR, FAILED = 2, 1

_DEFAULTS = CalibrationSettings(name="")


def add_calibrate_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command with its options."""
    parser = subparsers.add_parser(
        "calibrate",
        help="measure an engine, and write a profile of it",
        description="Measure an OpenAI-compatible engine that has nothing else to do, and write a "
        "profile of what it costs.",
    )
    parser.add_argument("--url", required=True, help="http://host:port of the engine, or with /v1")
    parser.add_argument("--model", required=True, help="its name there")
    parser.add_argument("--output", required=True, type=Path, help="JSON file to write")
    parser.add_argument(
        "--decode-url",
        help="a second vLLM that fetches blocks from the first: measure transfers too",
    )
    parser.add_argument(
        KEY_FILE_FLAG,
        type=Path,
        metavar="FILE",
        help=f"the API key that the engines want (default: ${KEY_VARIABLE})",
    )
    parser.add_argument("--name", help="of the profile; default: the file's")
    parser.add_argument(
        "--gpus",
        type=int,
        default=_DEFAULTS.gpu_count,
        help="of the engine, its tensor parallelism (default: %(default)s)",
    )
    parser.add_argument("--seconds", type=float, default=_DEFAULTS.seconds, help="to measure for")
    parser.add_argument(
        "--max-prompt-tokens", type=int, default=_DEFAULTS.max_prompt_tokens, help="at most"
    )
    parser.add_argument("--max-batch", type=int, default=_DEFAULTS.max_batch, help="at most")
    parser.add_argument(
        "--max-batched-tokens",
        type=int,
        default=_DEFAULTS.max_batched_tokens,
        help="vLLM's --max-num-batched-tokens (default: %(default)s)",
    )
    parser.add_argument(
        "--max-sequences",
        type=int,
        default=_DEFAULTS.max_sequences,
        help="vLLM's --max-num-seqs (default: %(default)s)",
    )
    parser.add_argument(
        "--kv-capacity-tokens", type=int, help="if the engine's /metrics do not tell"
    )


def run_calibrate(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Run the command. Returns the exit code: 2 if it could not begin so, 1 if the endpoint or the
    disk failed."""
    try:
        settings = _settings_of(parsed)
        api_key = _api_key_of(parsed.engine_api_key_file, environment)
        for url in filter(None, (parsed.url, parsed.decode_url)):
            origin_of(url)
        _try_to_write(parsed.output)
    except (InvalidCalibrationError, InvalidEngineKeyError) as error:
        return _fail(error, USAGE_ERROR)
    try:
        calibration = asyncio.run(_calibrate(parsed, settings, api_key))
    except EndpointError as error:
        return _fail(error, FAILED)
    # Said first: what took minutes to measure is not lost with a disk that has become full.
    sys.stdout.write(render(calibration) + "\n")
    try:
        save_profile(calibration.profile, parsed.output)
    except OSError as error:
        return _fail(f"--output {parsed.output}: {error.strerror}", FAILED)
    return 0


def _settings_of(parsed: argparse.Namespace) -> CalibrationSettings:
    return CalibrationSettings(
        name=parsed.name or parsed.output.stem,
        seconds=parsed.seconds,
        max_prompt_tokens=parsed.max_prompt_tokens,
        max_batch=parsed.max_batch,
        max_batched_tokens=parsed.max_batched_tokens,
        max_sequences=parsed.max_sequences,
        kv_capacity_tokens=parsed.kv_capacity_tokens,
        gpu_count=parsed.gpus,
    )


def _api_key_of(file: Path | None, environment: Mapping[str, str]) -> str:
    if file is not None:
        return read_engine_key(file)
    key = environment.get(KEY_VARIABLE, "")
    return check_engine_key(key, f"${KEY_VARIABLE}") if key else ""


def _try_to_write(path: Path) -> None:
    """Make sure before minutes of measuring that *path* can be written; it is left as it was.

    Raises:
        InvalidCalibrationError: it cannot.
    """
    was_there = path.exists()
    try:
        with path.open("ab"):
            pass
        if not was_there:
            path.unlink()
    except OSError as error:
        raise InvalidCalibrationError(f"--output {path}: {error.strerror}") from error


def _fail(error: object, code: int) -> int:
    sys.stderr.write(f"twofold_sim calibrate: {error}\n")
    return code


async def _calibrate(
    parsed: argparse.Namespace, settings: CalibrationSettings, api_key: str
) -> Calibration:
    async with open_client(ClientLimits()) as client:
        engine = Endpoint(client, parsed.url, parsed.model, api_key)
        decode = (
            Endpoint(client, parsed.decode_url, parsed.model, api_key)
            if parsed.decode_url
            else None
        )
        return await calibrate(engine, settings, decode)


def render(calibration: Calibration) -> str:
    """Say what was measured, and how far the profile is from it."""
    lines = ["prompt tokens  sequences  context    measured     profile  error"]
    for sample in calibration.samples:
        fitted = calibration.fit.predict(sample)
        lines.append(
            f"{sample.prefill_tokens:13.0f}{sample.sequence_count:11.0f}"
            f"{sample.context_tokens:9.0f}{sample.seconds * 1000:9.1f} ms{fitted * 1000:9.1f} ms"
            f"{fitted / sample.seconds - 1:+7.1%}"
        )
    transfer = calibration.profile.transfer
    for fetch in calibration.transfers:
        fitted = transfer.latency_seconds + transfer.per_token * fetch.tokens
        lines.append(
            f"{fetch.tokens:13.0f} tokens fetched    {fetch.seconds * 1000:9.1f} ms"
            f"{fitted * 1000:9.1f} ms, of {fetch.measured_seconds * 1000:.1f} ms of leg 2"
        )
    profile = msgspec.json.format(msgspec.json.encode(calibration.profile), indent=2).decode()
    return "\n".join([*lines, profile])
