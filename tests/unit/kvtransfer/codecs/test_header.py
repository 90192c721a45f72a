import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kvtransfer.codecs.made_blocks import make_shape

from twofold_kvtransfer.codecs import KvShape, Packing, PayloadError, ShapeError
from twofold_kvtransfer.codecs.header import HEADER_BYTES, Header, read_header, write_header

NUMBERS = st.integers(1, 2**32 - 1)
HEADER = Header("int4", make_shape("float16", Packing.TOKENS, regions=7), 9, 1234)

HEADERS = st.builds(
    Header,
    st.sampled_from(["none", "lossless", "int8", "fp8", "int4"]),
    st.builds(
        KvShape,
        regions=NUMBERS,
        heads=NUMBERS,
        block_tokens=st.integers(1, 1000).map(lambda number: number * 16),
        head_dim=st.integers(1, 1000).map(lambda number: number * 16),
        dtype=st.sampled_from(["bfloat16", "float16", "float32"]),
        packing=st.sampled_from(Packing),
    ),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
)


@given(HEADERS)
def test_what_is_written_is_read(header: Header) -> None:
    assert read_header(write_header(header)) == header


@given(st.integers(0, HEADER_BYTES * 8 - 1))
def test_each_flipped_bit_is_refused(bit: int) -> None:
    damaged = bytearray(write_header(HEADER))
    damaged[bit // 8] ^= 1 << bit % 8

    with pytest.raises(PayloadError):
        read_header(bytes(damaged))


@given(st.integers(0, HEADER_BYTES - 1))
def test_a_header_that_is_cut_off_is_refused(length: int) -> None:
    with pytest.raises(PayloadError, match="bytes"):
        read_header(write_header(HEADER)[:length])


@pytest.mark.parametrize(("tokens", "channels"), [(0, 64), (12, 64), (16, 60)])
def test_a_shape_that_does_not_divide_is_refused(tokens: int, channels: int) -> None:
    with pytest.raises(ShapeError):
        KvShape(
            regions=1,
            heads=1,
            block_tokens=tokens,
            head_dim=channels,
            dtype="float32",
            packing=Packing.TOKENS,
        )


def test_tiles_need_multiples_of_16() -> None:
    with pytest.raises(ShapeError, match="16"):
        KvShape(
            regions=1,
            heads=1,
            block_tokens=24,
            head_dim=16,
            dtype="bfloat16",
            packing=Packing.CPU_AMX,
        )
