"""On which terms a request is served."""

import pytest

from twofold_cluster.errors import Fault, RequestError
from twofold_router.access import ANONYMOUS, Caller, Classes, InvalidAccessError, RequestClass
from twofold_router.access.classes import FAIRNESS, MAX_FLOW_BYTES, OBJECTIVE, TTFT_SLO, Terms

INTERACTIVE = RequestClass("interactive", 10, 2.0, 0.0005, "refuse")
BATCH = RequestClass("batch", -10, 600.0)
CLASSES = Classes([INTERACTIVE, BATCH])


def a_caller(class_name: str, tenant: str = "t") -> Caller:
    return Caller("k", tenant, "s", class_name)


def test_without_headers_the_keys_class_tells() -> None:
    terms = CLASSES.resolve({b"host": b"x"}, a_caller("interactive"))

    assert terms == Terms("interactive", 10, 2.0, 0.0005, "refuse", "t", None)


def test_without_a_key_the_default_class_tells() -> None:
    terms = CLASSES.resolve({}, ANONYMOUS)

    assert terms == Terms("default", 0, 5.0, 0.0, "serve", "anonymous", None)


def test_terms_are_not_made_anew_for_each_request() -> None:
    caller = a_caller("batch")

    assert CLASSES.resolve({}, caller) is CLASSES.resolve({}, caller)


def test_tenants_of_one_class_have_terms_of_their_own() -> None:
    assert CLASSES.resolve({}, a_caller("batch", "a")).tenant == "a"
    assert CLASSES.resolve({}, a_caller("batch", "b")).tenant == "b"


def test_a_header_names_the_class() -> None:
    terms = CLASSES.resolve({OBJECTIVE: b"batch"}, a_caller("interactive"))

    assert terms == Terms("batch", -10, 600.0, 0.0, "serve", "t", None)


def test_a_caller_cannot_raise_its_priority_above_its_keys_class() -> None:
    terms = CLASSES.resolve({OBJECTIVE: b"interactive"}, a_caller("batch"))

    assert (terms.class_name, terms.priority, terms.ttft_slo_seconds) == ("interactive", -10, 2.0)


def test_without_keys_the_header_is_trusted() -> None:
    assert CLASSES.resolve({OBJECTIVE: b"interactive"}, ANONYMOUS).priority == 10


@pytest.mark.parametrize("objective", [b"", b"unheard-of", b"\xff\xfe"])
def test_an_objective_without_a_class_is_ignored(objective: bytes) -> None:
    caller = a_caller("batch")

    assert CLASSES.resolve({OBJECTIVE: objective}, caller) == CLASSES.resolve({}, caller)


def test_a_header_sets_the_whole_slo_of_one_request() -> None:
    terms = CLASSES.resolve({TTFT_SLO: b"1500"}, a_caller("interactive"))

    assert (terms.ttft_slo_seconds, terms.ttft_slo_seconds_per_token) == (1.5, 0.0)
    assert (terms.class_name, terms.priority, terms.on_late) == ("interactive", 10, "refuse")


@pytest.mark.parametrize(
    ("header", "seconds"), [(b"1", 0.001), (b"0250.5", 0.2505), (b"3600000", 3600.0), (b"", 5.0)]
)
def test_an_slo_within_its_bounds_is_taken(header: bytes, seconds: float) -> None:
    assert CLASSES.resolve({TTFT_SLO: header}, ANONYMOUS).ttft_slo_seconds == seconds


@pytest.mark.parametrize(
    "header",
    [b"0", b"0.9", b"-5", b"3600000.1", b"9" * 400, b"1e3", b"1_000", b"nan", b"inf", b"2s", b" 1"],
)
def test_an_slo_out_of_its_bounds_is_a_clear_400(header: bytes) -> None:
    with pytest.raises(RequestError) as refusal:
        CLASSES.resolve({TTFT_SLO: header}, ANONYMOUS)

    assert refusal.value.fault is Fault.INVALID_REQUEST
    assert refusal.value.param == "x-llm-d-slo-ttft-ms"


def test_a_flow_is_told_within_its_tenant() -> None:
    terms = CLASSES.resolve({FAIRNESS: b"user-7"}, a_caller("batch", "research"))

    assert (terms.tenant, terms.flow, terms.class_name) == ("research", "user-7", "batch")


@pytest.mark.parametrize("flow", [b"x" * (MAX_FLOW_BYTES + 1), b"a b", b"\xff", b"a\n"])
def test_a_flow_that_cannot_be_a_name_is_a_clear_400(flow: bytes) -> None:
    with pytest.raises(RequestError) as refusal:
        CLASSES.resolve({FAIRNESS: flow}, ANONYMOUS)

    assert refusal.value.param == "x-llm-d-inference-fairness-id"


def test_the_longest_flow_is_taken() -> None:
    flow = b"x" * MAX_FLOW_BYTES

    assert CLASSES.resolve({FAIRNESS: flow}, ANONYMOUS).flow == flow.decode()


def test_the_default_class_can_be_told() -> None:
    classes = Classes([RequestClass("default", 3, 1.0)])

    assert classes.resolve({}, ANONYMOUS).priority == 3
    assert set(classes) == {"default"}


def test_there_is_always_a_default_class() -> None:
    assert set(CLASSES) == {"default", "interactive", "batch"}
    assert len(CLASSES) == 3


def test_two_classes_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidAccessError, match="batch"):
        Classes([BATCH, BATCH])
