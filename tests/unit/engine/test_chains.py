import pytest

from twofold_engine.chains import names_are_common


@pytest.mark.parametrize("algorithm", ["sha256", "sha256_cbor"])
def test_vllms_sha256_names_blocks_alike_in_all_engines(algorithm: str) -> None:
    assert names_are_common(algorithm, {})


@pytest.mark.parametrize("algorithm", ["xxhash", "xxhash_cbor"])
def test_a_quicker_hash_does_only_with_a_common_seed(algorithm: str) -> None:
    assert not names_are_common(algorithm, {})
    assert names_are_common(algorithm, {"PYTHONHASHSEED": "0"})
