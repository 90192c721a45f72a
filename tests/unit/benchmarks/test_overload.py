from benchmarks.load import Request
from benchmarks.overload import SLO_SECONDS, goodput, outcomes, recovery_seconds

ON_TIME = Request(1.0, 1.5, "200")
LATE = Request(1.0, 1.0 + 2 * SLO_SECONDS, "200")
REFUSED = Request(2.0, 2.1, "429")


def test_only_what_is_served_in_time_is_goodput() -> None:
    assert goodput([ON_TIME, LATE, REFUSED], seconds=10.0) == 0.1


def test_what_comes_after_the_end_is_no_goodput() -> None:
    assert goodput([Request(9.5, 10.5, "200")], seconds=10.0) == 0.0


def test_recovery_ends_with_the_last_that_was_not_on_time() -> None:
    requests = [REFUSED, Request(4.0, 4.1, "200"), Request(6.0, None, "cut"), ON_TIME]

    assert recovery_seconds(requests, since=1.0) == 5.0
    assert recovery_seconds([ON_TIME], since=1.0) == 0.0


def test_late_answers_are_counted_apart() -> None:
    assert outcomes([ON_TIME, LATE, REFUSED]) == {"200": 1, "200, late": 1, "429": 1}
