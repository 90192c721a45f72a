import pytest

from twofold_cli.errors import CannotStartError
from twofold_cli.memory import GIB, check_memory, needed_gib


def test_a_worker_needs_its_cache_and_its_weights_twice() -> None:
    needed = needed_gib(worker_count=3, kv_cache_gib=1.5, weights_bytes=2 * GIB)

    assert needed == pytest.approx(3 * (2.2 + 1.5 + 4))


def test_what_does_not_fit_is_refused_with_both_numbers() -> None:
    with pytest.raises(CannotStartError, match=r"7\.4 GiB of memory, and 5\.0 GiB are available"):
        check_memory(needed=7.4, available=5.0, worker_count=2)


def test_what_just_fits_is_not_refused() -> None:
    check_memory(needed=5.0, available=5.0, worker_count=1)
