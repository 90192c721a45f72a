from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from twofold_engine.pools.adapting import AdapterState, Load, Unload, next_step
from twofold_engine.pools.wanting import Adapter

A, B = Adapter("a", "/a"), Adapter("b", "/b")


def test_what_is_missing_is_loaded_one_after_the_other() -> None:
    assert next_step([A, B], {}, now=0) == Load(A)
    assert next_step([A, B], {"a": AdapterState("/a", loaded=True)}, now=0) == Load(B)


def test_what_is_not_wanted_is_unloaded() -> None:
    assert next_step([], {"a": AdapterState("/a", loaded=True)}, now=0) == Unload("a")


def test_another_source_is_another_adapter() -> None:
    there = {"a": AdapterState("/old", loaded=True)}

    assert next_step([A], there, now=0) == Unload("a")


def test_a_failure_is_tried_again_later_after_each_and_holds_nobody_up() -> None:
    once = AdapterState("/a").failed("no", now=10)
    twice = once.failed("no", now=20)

    assert next_step([A], {"a": once}, now=10.9) is None
    assert next_step([A], {"a": once}, now=11) == Load(A)
    assert next_step([A], {"a": twice}, now=21.9) is None
    assert next_step([A, B], {"a": once}, now=10.9) == Load(B)


def test_a_new_source_does_not_wait_for_the_failures_of_another() -> None:
    assert next_step([A], {"a": AdapterState("/bad").failed("no", now=10)}, now=10) == Load(A)


names = st.sampled_from("abc")
sources = st.sampled_from(["/1", "/2"])


@given(
    st.dictionaries(names, sources),
    st.dictionaries(names, st.builds(AdapterState, sources, st.booleans())),
)
def test_steps_that_are_taken_end_with_what_is_wanted(
    sources: Mapping[str, str], there: dict[str, AdapterState]
) -> None:
    wanted = [Adapter(name, source) for name, source in sources.items()]
    for _ in range(7):
        match next_step(wanted, there, now=1.0):
            case Load(adapter):
                there = {**there, adapter.name: AdapterState(adapter.source, loaded=True)}
            case Unload(name):
                there = {n: state for n, state in there.items() if n != name}

    assert next_step(wanted, there, now=1.0) is None
    loaded = {name: state.source for name, state in there.items() if state.loaded}
    assert loaded == sources
