"""What is written comes back from a real API server as it was, by ``kubectl apply --dry-run``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .kubectl import Kubectl, Manifest
from .named import CRDS
from .services import EXAMPLES

FORCED = ("--server-side", "--force-conflicts")
"""How docs/kubernetes.md has CRDs applied."""

FILES = {path.stem: path for path in sorted(EXAMPLES.glob("*.yaml"))}
DEFINITIONS = {path.stem: path for path in sorted(CRDS.glob("*.yaml"))}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_definition_keeps_every_field(definer: Kubectl, name: str) -> None:
    kept = _dry_run(definer, DEFINITIONS[name], *FORCED)

    assert list(_lost(_written(DEFINITIONS[name]), kept)) == []


@pytest.mark.parametrize("name", FILES)
def test_an_example_keeps_every_field(kubectl: Kubectl, name: str) -> None:
    kept = _dry_run(kubectl, FILES[name])

    assert list(_lost(_written(FILES[name]), kept)) == []


def _written(path: Path) -> list[Manifest]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def _dry_run(kubectl: Kubectl, path: Path, *options: str) -> list[Manifest]:
    """Return what the server would have kept of a file, in its order."""
    told = kubectl.run("apply", "--dry-run=server", *options, "-f", str(path), "-o", "json")
    found: Manifest = json.loads(told)
    return found["items"] if found["kind"] == "List" else [found]


def _lost(written: Any, kept: Any, path: str = "") -> Iterator[str]:
    """Yield where *kept* has something else than was written. It may have more, as defaults."""
    if isinstance(written, dict) and isinstance(kept, dict):
        for name, value in written.items():
            yield from _lost(value, kept.get(name), f"{path}.{name}")
    elif isinstance(written, list) and isinstance(kept, list) and len(written) == len(kept):
        for number, (one, other) in enumerate(zip(written, kept, strict=True)):
            yield from _lost(one, other, f"{path}[{number}]")
    elif written != kept:
        yield f"{path}: {written!r} became {kept!r}"
