"""Every message arrives as it was sent."""

import re
from typing import Any, Union

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twofold_cluster.errors import Fault
from twofold_router.placement import Refuse
from twofold_router.processes.messages import Message, Refused
from twofold_router.tallies import Distribution, Tallies

KINDS = Message.__subclasses__()
DECODE = msgspec.msgpack.Decoder(Union[tuple(KINDS)]).decode  # noqa: UP007
ENCODE = msgspec.msgpack.Encoder().encode


LABELS = st.tuples(st.text(), st.text())
FLOATS = st.floats(allow_nan=False)
# hypothesis takes the placeholder of a default_factory for a default.
TALLIES = st.builds(
    Tallies,
    st.dictionaries(st.text(), st.dictionaries(LABELS, FLOATS)),
    st.dictionaries(st.text(), st.dictionaries(LABELS, st.from_type(Distribution))),
)
st.register_type_strategy(Tallies, TALLIES)


def can_be_sent_and_compared(message: Any) -> bool:
    """MessagePack has no integer of more than 64 bits, and nan is not even itself."""
    try:
        ENCODE(message)
    except OverflowError:
        return False
    return re.search(r"\bnan\b", repr(message)) is None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
@settings(max_examples=20, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_a_message_arrives_as_it_was_sent(kind: type[Message], data: st.DataObject) -> None:
    if kind is Refused:
        fault = data.draw(st.sampled_from(Fault))
        sent: Message = Refused.of(Refuse("r", fault, "why", 3))
    else:
        sent = data.draw(st.from_type(kind).filter(can_be_sent_and_compared))

    arrived = DECODE(ENCODE(sent))

    assert type(arrived) is kind
    assert arrived == sent


@pytest.mark.parametrize("fault", Fault)
def test_a_refusal_keeps_its_fault(fault: Fault) -> None:
    refusal = Refuse("r", fault, "why", None)

    assert DECODE(ENCODE(Refused.of(refusal))).refusal() == refusal
