import pytest

from twofold_operator.resources import InvalidSpecError, Source, parse_source


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("hf://Qwen/Qwen3-8B", Source("hf", "Qwen/Qwen3-8B", "")),
        ("s3://models/qwen/3-8b", Source("s3", "models", "qwen/3-8b")),
        ("pvc://models", Source("pvc", "models", "")),
        ("pvc://models/qwen/3-8b", Source("pvc", "models", "qwen/3-8b")),
        ("oci://reg.local:5000/models/qwen:3", Source("oci", "reg.local:5000/models/qwen:3", "")),
        ("/models/qwen", Source("path", "", "/models/qwen")),
    ],
)
def test_a_source_is_taken_apart(text: str, source: Source) -> None:
    assert parse_source(text, "spec.model.source") == source


@pytest.mark.parametrize(
    "text",
    [
        "Qwen/Qwen3-8B",
        "hf://Qwen",
        "hf://Qwen/Qwen3-8B/file",
        "s3://models",
        "ftp://models/a",
        "pvc://Models/a",
        "pvc://models/../../etc",
        "/models/../etc",
        "oci://",
        "hf://Qwen/Qwen3-8B --trust-remote-code",
    ],
)
def test_a_source_of_no_known_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpecError, match=r"^spec\.model\.source: "):
        parse_source(text, "spec.model.source")
