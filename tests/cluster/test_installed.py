"""The chart as it is installed, with real images: services answer.

Requests go through the API server to the Services, since neither the cluster's names nor its pods'
addresses are of use outside of it: who runs the tests needs the verb ``create`` of
``services/proxy``.
"""

import pytest

from .access import entrance_of
from .asking import Asking, Door, events
from .houses import House
from .installed import InstalledHouse, InstalledOperator
from .services import sim

pytestmark = pytest.mark.cluster

QUESTION = "Who is there? " * 20


@pytest.fixture
def door(installed_house: House) -> Door:
    """The way to a service that is ready, and has its routers' addresses by now."""
    kubectl = installed_house.kubectl
    installed_house.make_ready(sim())
    found = Door.of_service(entrance_of(kubectl.kubeconfig), kubectl.namespace, "sim")
    kubectl.wait_for("a chat is answered", lambda: found.chat(QUESTION).is_success)
    return found


def test_a_chat_is_answered_whole_and_in_pieces(door: Door) -> None:
    whole = door.chat(QUESTION)
    pieces = door.chat(QUESTION, stream=True)

    for answer in (whole, pieces):
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-twofold-mode"] == "disaggregated"
    assert whole.json()["choices"][0]["message"]["content"]
    assert len(events(pieces)) > 2
    assert events(pieces)[-1] == "[DONE]"


def test_a_rollout_loses_no_request(installed_house: House, door: Door) -> None:
    first = installed_house.service()["status"]["revision"]
    with Asking(door, QUESTION) as asking:
        installed_house.apply(sim(maxModelLen=4096))
        installed_house.wait_for_rollout(other_than=first)
        last = door.chat(QUESTION)

    assert set(asking.statuses) == {200}, "of all that were asked meanwhile"
    assert last.headers["x-twofold-mode"] == "disaggregated"


def test_the_chart_s_own_test_is_answered(installed_house: InstalledHouse) -> None:
    operator = installed_house.operator
    assert isinstance(operator, InstalledOperator)

    assert "answered: " in operator.test()
