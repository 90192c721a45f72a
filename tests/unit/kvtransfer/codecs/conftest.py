from collections.abc import Iterator

import pytest

from twofold_kvtransfer.codecs.coding import Coder


@pytest.fixture(scope="session")
def coder() -> Iterator[Coder]:
    with Coder(thread_count=2) as coder:
        yield coder
