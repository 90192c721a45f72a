"""Both sides prove that they know the secret of the service, without saying it.

The holder challenges with bytes that nobody has seen, and the reader answers with a code (HMAC,
RFC 2104, with SHA-256) of these and of its hello, so that nobody reads under another's name. The
holder's welcome has a code in return, of the reader's own bytes too. Nothing is encrypted, and who
can change what others send can do so after the greeting.
"""

import hmac
import secrets

import msgspec

from twofold_kvtransfer.side_channel.messages import Hello, Welcome

NONCE_BYTES = 32

_READER, _HOLDER = b"twofold reader\0", b"twofold holder\0"
"""So that a proof of one is none of the other."""

_encode = msgspec.msgpack.Encoder().encode


def new_nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


def reader_proof(secret: bytes, challenge: bytes, hello: Hello) -> bytes:
    """Return what proves that who said *hello* knows *secret*."""
    return _code(secret, _READER, challenge, _encode(hello))


def holder_proof(secret: bytes, challenge: bytes, hello: Hello, welcome: Welcome) -> bytes:
    """Return what proves that who answers *hello* with *welcome* knows *secret*."""
    bare = msgspec.structs.replace(welcome, proof=b"")
    return _code(secret, _HOLDER, challenge, _encode(hello), _encode(bare))


def is_proof(proof: bytes, expected: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(proof, expected)


def _code(secret: bytes, *parts: bytes) -> bytes:
    said = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hmac.digest(secret, said, "sha256")
