"""The words of the resources are those of the components that they are passed on to."""

from typing import get_args

from twofold_engine.actor import EngineKind as KindOfEngine
from twofold_operator.resources import LLMServiceSpec, Model, Pool, Sim
from twofold_operator.resources.model import EngineKind
from twofold_sim.profiles import load_profile


def test_the_kinds_of_engine_are_those_that_the_pools_start() -> None:
    assert get_args(EngineKind) == get_args(KindOfEngine)


def test_the_simulator_knows_the_profile_of_who_names_none() -> None:
    spec = LLMServiceSpec(
        engine="sim", model=Model(source="hf://a/b"), prefill=Pool(), decode=Pool()
    )

    assert spec.simulator == Sim()
    assert load_profile(spec.simulator.profile)
