"""What engine processes tell each other so that blocks can move: who they are, and leases."""

from twofold_kvtransfer.side_channel.asking import Channel, ChannelError, Patience
from twofold_kvtransfer.side_channel.messages import Hello, Welcome
from twofold_kvtransfer.side_channel.serving import Desk, Host, ReaderSnapshot

__all__ = [
    "Channel",
    "ChannelError",
    "Desk",
    "Hello",
    "Host",
    "Patience",
    "ReaderSnapshot",
    "Welcome",
]
