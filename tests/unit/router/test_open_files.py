"""How many files may be open."""

import logging
import resource
from collections.abc import Iterator

import pytest

from twofold_router.open_files import raise_open_files


@pytest.fixture
def hard_limit() -> Iterator[int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_as_many_files_may_be_open_as_the_hard_limit_allows(
    hard_limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    raise_open_files(1000)

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard_limit, hard_limit)
    assert not caplog.records


def test_a_limit_below_what_is_needed_is_logged(
    hard_limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        raise_open_files(hard_limit + 1)

    assert [record.message for record in caplog.records] == [
        "fewer files may be open than all connections need"
    ]
