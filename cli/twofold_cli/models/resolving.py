"""Find the model that ``--model`` names, before anything is started for it."""

import re
from dataclasses import dataclass
from pathlib import Path

from twofold_cli.errors import BadArgumentError
from twofold_cli.models import smollm2

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class Model:
    source: str
    """A directory or a hub's name; for the built-in model the file to convert."""
    served_name: str
    weights_bytes: int
    """Of the weights on disk; 0 where they are yet to be downloaded."""
    engine_args: tuple[str, ...] = ()
    needs_conversion: bool = False


def resolve(argument: str) -> Model:
    """Find *argument*: the built-in model's name, a directory, or a hub's name.

    Raises:
        BadArgumentError: it is not there.
    """
    if argument == smollm2.NAME:
        return _builtin()
    path = Path(argument).expanduser()
    if path.is_dir() or _looks_like_a_path(argument):
        return _directory(path)
    if not _HUB_NAME.fullmatch(argument):
        raise BadArgumentError(f"{argument!r} is neither a directory nor a model's name")
    return Model(source=argument, served_name=argument, weights_bytes=0)


def _builtin() -> Model:
    file = smollm2.find_file()
    if file is None:
        raise BadArgumentError(f"the model smollm2 is missing; install it with: {smollm2.INSTALL}")
    return Model(
        source=str(file),
        served_name=smollm2.NAME,
        weights_bytes=smollm2.WEIGHTS_BYTES,
        engine_args=("--max-model-len", str(smollm2.MAX_MODEL_TOKENS)),
        needs_conversion=True,
    )


def _looks_like_a_path(argument: str) -> bool:
    return argument.startswith((".", "/", "~")) or argument.count("/") > 1


def _directory(path: Path) -> Model:
    if not path.is_dir():
        raise BadArgumentError(f"no model at {path}: there is no such directory")
    if not (path / "config.json").is_file():
        raise BadArgumentError(f"no model at {path}: the directory has no config.json")
    weights_bytes = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    path = path.absolute()
    return Model(source=str(path), served_name=path.name, weights_bytes=weights_bytes)
