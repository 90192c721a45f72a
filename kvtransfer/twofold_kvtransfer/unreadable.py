"""What decoding a stranger's bytes raises."""

import msgspec

from twofold_kvtransfer.blocks import InvalidBlocksError

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidBlocksError)
"""Of msgspec, of text, of nesting, of a block map."""
