"""What travels on a command line."""

import pytest

from twofold_router.processes import Assignment


def test_an_assignment_is_read_as_it_was_written() -> None:
    assignment = Assignment(process=3, listener=11, link=12)

    assert Assignment.parse(str(assignment)) == assignment


@pytest.mark.parametrize("text", ["", "1,2", "1,2,x"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        Assignment.parse(text)
