import pytest

pytest.importorskip("vllm")

# vLLM imports parts of torch that are deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_codecs_are_added_up_over_ranks_and_taken_once() -> None:
    from twofold_kvtransfer.connector.statistics import TransferStats

    first, second = TransferStats(), TransferStats()
    first.record_codecs([])
    assert first.is_empty()
    first.record_codecs([("none", 1, 10)])
    second.record_codecs([("int8", 2, 30)])
    first.aggregate(second)

    taken = first.take()

    assert taken is not None
    assert taken.data["codecs"] == [("none", 1, 10), ("int8", 2, 30)]
    assert first.take() is None
