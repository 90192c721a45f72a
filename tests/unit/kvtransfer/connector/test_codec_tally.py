from twofold_kvtransfer.codecs import CodecName
from twofold_kvtransfer.connector.codec_tally import CodecTally
from twofold_kvtransfer.transports.tcp import CodecCounts


def test_only_what_came_since_the_last_look_is_told() -> None:
    counts: dict[CodecName, CodecCounts] = {}
    tally = CodecTally(lambda: dict(counts))
    assert tally.take() == []

    counts["none"] = CodecCounts(done_count=2, size_bytes=50, payload_bytes=50)
    assert tally.take() == [("none", 2, 50, 50)]
    assert tally.take() == []

    counts["none"] = CodecCounts(done_count=3, size_bytes=60, payload_bytes=60)
    counts["int8"] = CodecCounts(done_count=1, size_bytes=20, payload_bytes=7)
    assert tally.take() == [("none", 1, 10, 10), ("int8", 1, 20, 7)]
