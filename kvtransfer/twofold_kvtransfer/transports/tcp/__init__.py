"""Blocks over TCP streams: the transport that always works.

The socket calls read and fill the blocks in place; no other copy is made in this process. The copy
into the kernel stays: MSG_ZEROCOPY saves nothing between processes of one host, where the kernel
copies all the same, and elsewhere would pin pages and keep blocks until the peer acknowledges.

With a :class:`Compression` a read may bring payloads of a codec instead, which the pair chooses.
"""

from twofold_kvtransfer.transports.sockets.failing import Failure
from twofold_kvtransfer.transports.tcp.compressing import CellCoder, Compression
from twofold_kvtransfer.transports.tcp.counting import CodecCounts, TcpSnapshot
from twofold_kvtransfer.transports.tcp.settings import TcpSettings
from twofold_kvtransfer.transports.tcp.transport import TcpTransport

__all__ = [
    "CellCoder",
    "CodecCounts",
    "Compression",
    "Failure",
    "TcpSettings",
    "TcpSnapshot",
    "TcpTransport",
]
