from pathlib import Path

import pytest
import yaml

from twofold_operator.resources.crds import custom_resource_definitions
from twofold_operator.resources.crds.reference import reference
from twofold_operator.resources.crds.writing import crd_files

ROOT = Path(__file__).parents[5]


@pytest.mark.parametrize("folder", ["deploy/crds", "helm/twofold/crds"])
def test_the_crds_in_the_tree_are_fresh(folder: str) -> None:
    written = {path.name: path.read_text() for path in (ROOT / folder).iterdir()}

    assert written == crd_files(), "run scripts/generate"


def test_the_reference_in_the_tree_is_fresh() -> None:
    assert (ROOT / "docs" / "resources.md").read_text() == reference(), "run scripts/generate"


def test_a_file_reads_as_its_definition() -> None:
    read = [yaml.safe_load(text) for text in crd_files().values()]

    assert read == custom_resource_definitions()


def test_the_crds_leave_room_in_a_release() -> None:
    assert 10_000 < sum(len(text.encode()) for text in crd_files().values()) < 200_000


def test_no_file_has_an_anchor() -> None:
    assert [text for text in crd_files().values() if "&id" in text] == []


def test_the_reference_has_every_field_of_a_service() -> None:
    page = reference()

    for field in ("spec.decode.resources.limits", "spec.rollout.maxSurge", "status.prefill.ready"):
        assert f"| `{field}` |" in page
