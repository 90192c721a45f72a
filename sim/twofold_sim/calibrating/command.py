"""``python -m twofold_sim calibrate``: make a profile of an engine that runs."""

import argparse
import asyncio
import sys
from pathlib import Path

import msgspec

from twofold_router.http import ClientLimits, open_client
from twofold_sim.calibrating.endpoint import Endpoint, EndpointError
from twofold_sim.calibrating.measuring import Calibration, CalibrationSettings, calibrate
from twofold_sim.profiles.loading import save_profile

_DEFAULTS = CalibrationSettings(name="")


def add_calibrate_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command with its options."""
    parser = subparsers.add_parser(
        "calibrate",
        help="measure an engine, and write a profile of it",
        description="Measure an OpenAI-compatible engine that has nothing else to do, and write a "
        "profile of what it costs.",
    )
    parser.add_argument("--url", required=True, help="http://host:port of the engine")
    parser.add_argument("--model", required=True, help="its name there")
    parser.add_argument("--output", required=True, type=Path, help="JSON file to write")
    parser.add_argument(
        "--decode-url",
        help="a second vLLM that fetches blocks from the first: measure transfers too",
    )
    parser.add_argument("--name", help="of the profile; default: the file's")
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


def run_calibrate(parsed: argparse.Namespace) -> int:
    """Run the command. Returns the exit code."""
    settings = CalibrationSettings(
        name=parsed.name or parsed.output.stem,
        seconds=parsed.seconds,
        max_prompt_tokens=parsed.max_prompt_tokens,
        max_batch=parsed.max_batch,
        max_batched_tokens=parsed.max_batched_tokens,
        max_sequences=parsed.max_sequences,
        kv_capacity_tokens=parsed.kv_capacity_tokens,
    )
    try:
        calibration = asyncio.run(_calibrate(parsed, settings))
    except EndpointError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    save_profile(calibration.profile, parsed.output)
    sys.stdout.write(render(calibration) + "\n")
    return 0


async def _calibrate(parsed: argparse.Namespace, settings: CalibrationSettings) -> Calibration:
    async with open_client(ClientLimits()) as client:
        decode = Endpoint(client, parsed.decode_url, parsed.model) if parsed.decode_url else None
        return await calibrate(Endpoint(client, parsed.url, parsed.model), settings, decode)


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
