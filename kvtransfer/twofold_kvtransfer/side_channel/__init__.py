"""What engine processes tell each other so that blocks can move: who they are, and leases."""

from twofold_kvtransfer.side_channel.answering import answer_all
from twofold_kvtransfer.side_channel.asking import Channel, Patience
from twofold_kvtransfer.side_channel.connecting import ChannelError
from twofold_kvtransfer.side_channel.messages import Hello, Welcome
from twofold_kvtransfer.side_channel.serving import Desk, Host, ReaderSnapshot
from twofold_kvtransfer.side_channel.slow_answers import MAX_SLOW_ANSWERS, SlowAnswers

__all__ = [
    "MAX_SLOW_ANSWERS",
    "Channel",
    "ChannelError",
    "Desk",
    "Hello",
    "Host",
    "Patience",
    "ReaderSnapshot",
    "SlowAnswers",
    "Welcome",
    "answer_all",
]
