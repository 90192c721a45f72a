import itertools

from tests.unit.kvtransfer.codecs.made_blocks import make_shape

from twofold_kvtransfer.codecs import DEFAULT_COSTS
from twofold_kvtransfer.codecs.measuring import SAMPLE_BYTES, measured_costs
from twofold_kvtransfer.codecs.threads import coding_threads


def test_what_a_codec_takes_is_what_the_clock_says_and_none_takes_nothing() -> None:
    shape = make_shape(regions=3, heads=2)
    ticks = itertools.count()
    threads = coding_threads(1)
    try:
        costs = measured_costs(shape, threads, lambda: float(next(ticks)))
    finally:
        threads.shutdown()

    size_bytes = SAMPLE_BYTES // 4096 * 4096
    assert costs.keys() == DEFAULT_COSTS.keys()
    assert costs["none"] == DEFAULT_COSTS["none"]
    for codec in ("lossless", "int8", "fp8", "int4"):
        assert costs[codec].encode_seconds_per_byte == 1 / size_bytes
        assert costs[codec].decode_seconds_per_byte == 1 / size_bytes
        assert costs[codec].payload_share < 0.9
        assert costs[codec].fixed_seconds == 0
