from typing import cast

from twofold_kvtransfer.inspecting import Identity, Inspection
from twofold_kvtransfer.keeping import Keeper
from twofold_kvtransfer.lease import Cause, Reader
from twofold_kvtransfer.leases import Ended, LeaseTable
from twofold_kvtransfer.links import Links
from twofold_kvtransfer.side_channel import Desk


def test_a_release_is_looked_at_at_once() -> None:
    ended: list[Ended] = []
    table = LeaseTable(30.0)
    table.grant("r", now=0.0)
    table.grant("held", now=0.0)
    table.claim("held", Reader("d", "1"), now=0.0)
    inspection = Inspection(
        Identity("p", "1", 0, "tcp"),
        cast("Links", None),
        cast("Keeper", None),
        cast("Desk", None),
        table,
        released=lambda: ended.extend(table.collect(1.0)),
        clock=lambda: 1.0,
    )

    inspection.release("r")
    inspection.release("held")

    assert ended == [Ended("r", Cause.RELEASED)]
    assert inspection.leases().oldest[0].left_seconds == 29.0
    assert inspection.leases().counts.ended == {Cause.RELEASED: 1}
