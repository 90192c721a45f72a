"""Blocks made of keys and values, packed by plain indexing, and taken apart again."""

import torch

from twofold_kvtransfer.codecs.regions import DTYPES
from twofold_kvtransfer.codecs.shape import Dtype, KvShape, Packing

TOKENS, CHANNELS = 32, 16


def make_shape(
    dtype: Dtype = "bfloat16", packing: Packing = Packing.CPU, regions: int = 1, heads: int = 1
) -> KvShape:
    return KvShape(
        regions=regions,
        heads=heads,
        block_tokens=TOKENS,
        head_dim=CHANNELS,
        dtype=dtype,
        packing=packing,
    )


def random_blocks(shape: KvShape, block_count: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers, with channels of very different sizes."""
    random = torch.Generator().manual_seed(seed)
    whole = (shape.regions, block_count, shape.heads, shape.block_tokens, 2 * shape.head_dim)
    numbers = torch.randn(whole, generator=random)
    sizes = torch.randn(whole[-1], generator=random).mul_(2).exp_()
    return (numbers * sizes).to(DTYPES[shape.dtype])


def places(packing: Packing, tokens: int, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where in a page the K and the V of each ``(token, channel)`` lie."""
    token, channel = torch.arange(tokens)[:, None], torch.arange(channels)[None, :]
    side = tokens * channels
    if packing is Packing.TOKENS:
        return token * 2 * channels + channel, token * 2 * channels + channels + channel
    if packing is Packing.CPU:
        return channel * tokens + token, side + token * channels + channel
    key = ((token // 16) * (channels // 2) + channel // 2) * 32 + (token % 16) * 2 + channel % 2
    value = ((channel // 16) * (tokens // 2) + token // 2) * 32 + (channel % 16) * 2 + token % 2
    return key, side + value


def pack(key: torch.Tensor, value: torch.Tensor, packing: Packing) -> torch.Tensor:
    """Make ``(…, tokens, 2 * channels)`` of K and V, each ``(…, tokens, channels)``."""
    *ahead, tokens, channels = key.shape
    pages = torch.empty(*ahead, 2 * tokens * channels, dtype=key.dtype)
    key_places, value_places = places(packing, tokens, channels)
    pages[..., key_places] = key
    pages[..., value_places] = value
    return pages.view(*ahead, tokens, 2 * channels)


def unpack(blocks: torch.Tensor, packing: Packing) -> tuple[torch.Tensor, torch.Tensor]:
    """Undo :func:`pack`."""
    tokens, channels = blocks.shape[-2], blocks.shape[-1] // 2
    pages = blocks.flatten(-2)
    key_places, value_places = places(packing, tokens, channels)
    return pages[..., key_places], pages[..., value_places]


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool(
        torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
    )
