from collections import Counter

import pytest

from twofold_cluster.rpc import kvtransfer_pb2 as pb
from twofold_engine.prefixes import pulling
from twofold_engine.prefixes.counters import Counters
from twofold_engine.prefixes.pulling import outcome_of
from twofold_engine.prefixes.service import pull_outcome
from twofold_kvtransfer.prefixes import Outcome

BEFORE = Counters(Counter({"pulled": 3, "late": 4}), 7)


@pytest.mark.parametrize(
    ("counted", "is_there", "outcome"),
    [
        ({"pulled": 1}, True, "pulled"),
        ({"pulled": 2}, False, "pulled"),
        ({"absent": 1}, True, "absent"),
        ({"late": 1, "pulled": 1}, True, "unclear"),
        ({}, True, "present"),
        ({}, False, "no_room"),
    ],
)
def test_the_outcome_is_what_was_counted_meanwhile(
    counted: dict[str, int], is_there: bool, outcome: str
) -> None:
    after = Counters(BEFORE.pulls + Counter(counted), 9)

    assert outcome_of(BEFORE, after, is_there=is_there) == outcome


@pytest.mark.parametrize("name", [*Outcome, pulling.PRESENT, pulling.NO_ROOM, pulling.UNCLEAR])
def test_every_outcome_has_a_name_in_the_protocol(name: str) -> None:
    assert pull_outcome(name) != pb.PULL_OUTCOME_UNSPECIFIED


def test_an_outcome_that_the_protocol_lacks_is_not_specified() -> None:
    assert pull_outcome("newer") == pb.PULL_OUTCOME_UNSPECIFIED
