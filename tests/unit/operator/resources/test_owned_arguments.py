import pytest

from twofold_operator.resources import InvalidSpecError
from twofold_operator.resources.owned_arguments import VLLM_ARGUMENTS, check_arguments


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "1"],
        ["--port=1"],
        ["--kv_transfer_config={}"],
        ["--kv-transfer-config.kv_connector=x"],
        ["--tensor-par=2"],
        ["-tp", "2"],
        ["--max-num-seqs", "2", "--max-model-len=5"],
    ],
)
def test_what_the_operator_owns_is_refused_however_it_is_written(arguments: list[str]) -> None:
    with pytest.raises(InvalidSpecError, match="cannot be given here"):
        check_arguments(arguments, VLLM_ARGUMENTS, "spec.model.engineArgs")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-num-seqs=2"],
        ["--model-impl=vllm"],
        ["--chat-template", "--port"[1:]],
        ["--tokenizer-revision", "main"],
        ["--"],
    ],
)
def test_what_is_the_users_is_let_through(arguments: list[str]) -> None:
    check_arguments(arguments, VLLM_ARGUMENTS, "spec.model.engineArgs")


def test_the_argument_is_named_by_its_place_and_the_field_that_says_it() -> None:
    with pytest.raises(InvalidSpecError) as caught:
        check_arguments(["-q", "--dtype=half"], VLLM_ARGUMENTS, "spec.model.engineArgs")

    assert caught.value.field == "spec.model.engineArgs[1]"
    assert "spec.model.dtype" in caught.value.problem
