"""The calls of CUDA's driver, on a double of its library."""

from typing import Any

import pytest

from twofold_kvtransfer.communicators.gpu import Driver

STREAM = 0x7700000000
CONTEXT = 0x5500000000


class FakeCuda:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.failing = ""

    def __getattr__(self, name: str) -> Any:
        given = {"cuDeviceGet": 3, "cuDevicePrimaryCtxRetain": CONTEXT, "cuStreamCreate": STREAM}

        def call(*words: Any) -> int:
            if name in given:
                words[0]._obj.value = given[name]
                words = words[1:]
            self.calls.append((name, *(getattr(word, "value", word) for word in words)))
            return 2 if name == self.failing else 0

        return call


def test_a_stream_is_made_and_given_back_in_the_context_of_its_gpu() -> None:
    cuda = FakeCuda()
    driver = Driver(3, cuda)
    stream = driver.open_stream()
    driver.close_stream(stream)

    assert stream == STREAM
    non_blocking = 1
    assert cuda.calls == [
        ("cuDeviceGet", 3),
        ("cuDevicePrimaryCtxRetain", 3),
        ("cuCtxSetCurrent", CONTEXT),
        ("cuStreamCreate", non_blocking),
        ("cuCtxSetCurrent", CONTEXT),
        ("cuStreamDestroy_v2", STREAM),
    ]


def test_what_the_driver_refuses_is_named() -> None:
    cuda = FakeCuda()
    driver = Driver(3, cuda)
    cuda.failing = "cuStreamCreate"
    with pytest.raises(RuntimeError, match=r"cuStreamCreate.* 2"):
        driver.open_stream()
