"""Whole runs: what is computed by hand, and what holds for any of them."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold_cluster.identity import Role, WorkerId
from twofold_router.placement import POLICIES
from twofold_sim.measuring import Served, Slo
from twofold_sim.profiles import Profile, StepCosts, TransferCosts
from twofold_sim.virtual import (
    EngineCluster,
    Incident,
    PrefillPool,
    Replay,
    Replayed,
    Reporting,
    Setup,
    parse_incident,
    worker_ids,
)
from twofold_sim.workloads import Prompt

PROFILE = Profile(
    name="by hand",
    source="made up",
    steps=StepCosts(base_seconds=0.01, per_prefill_token=0.001),
    transfer=TransferCosts(latency_seconds=0.05, per_token=0.0001),
    kv_capacity_tokens=20_000,
    block_tokens=16,
)
POOL = PrefillPool(workers=1, seconds_per_token=0.001)


def make_prompt(at: float, tokens: int, *block_ids: int, output_tokens: int = 1) -> Prompt:
    """Make a prompt; without *block_ids* it shares nothing with those of another moment."""
    count = -(-tokens // 512)
    own = range(int(at * 1e6) + 10**6, int(at * 1e6) + 10**6 + count)
    return Prompt(
        at=at, prompt_tokens=tokens, output_tokens=output_tokens, block_ids=block_ids or tuple(own)
    )


def replay(prompts: list[Prompt], setup: Setup, policy: str = "twofold") -> Replayed:
    return Replay(prompts, POLICIES[policy], setup).run()


def by_arrival(replayed: Replayed) -> list[Served]:
    return sorted(replayed.served, key=lambda served: served.at)


def test_a_lone_prefill_worker_computes_one_prompt_after_the_other() -> None:
    prompts = [
        make_prompt(0.0, 1000, 1, 2),
        make_prompt(0.5, 500, 3),
        make_prompt(3.0, 1400, 1, 4, 5),
    ]
    served = by_arrival(replay(prompts, Setup(cluster=POOL)))

    # The second begins after the first; of the third a block is cached.
    assert [each.ttft_seconds for each in served] == pytest.approx([1.0, 1.0, 0.888])
    assert [each.cached_tokens for each in served] == [0, 0, 512]
    assert [each.prefill for each in served] == ["p0", "p0", "p0"]
    assert [each.tpot_seconds for each in served] == [None, None, None]


def test_a_pair_of_engines_computes_pulls_and_generates() -> None:
    setup = Setup(cluster=EngineCluster(profile=PROFILE, prefill=1, decode=1))
    [served] = replay([make_prompt(0.0, 100, 7, output_tokens=3)], setup).served

    # Leg 1: a step with 100 tokens. Leg 2: the transfer, a step with the last token, two more.
    leg_1, transfer, first_step, step = 0.01 + 0.1, 0.05 + 0.01, 0.01 + 0.001, 0.01
    assert served.ttft_seconds == pytest.approx(leg_1 + transfer + first_step)
    assert served.end_seconds == pytest.approx(leg_1 + transfer + first_step + 2 * step)
    assert served.transferred_tokens == 100
    assert (served.mode, served.prefill, served.decode) == ("disaggregated", "p0", "d0")


def test_a_worker_of_both_phases_transfers_nothing() -> None:
    setup = Setup(cluster=EngineCluster(profile=PROFILE, both=1))
    prompts = [make_prompt(0.0, 100, 7, output_tokens=3), make_prompt(9.0, 100, 7)]
    first, second = by_arrival(replay(prompts, setup))

    assert first.ttft_seconds == pytest.approx(0.11)
    assert first.end_seconds == pytest.approx(0.13)
    assert (first.mode, first.transferred_tokens) == ("aggregated", 0)
    assert second.cached_tokens == 96
    assert second.ttft_seconds == pytest.approx(0.014)


def test_a_slower_worker_takes_as_much_longer() -> None:
    pool = Setup(cluster=POOL, speeds=(0.5,))
    pair = Setup(cluster=EngineCluster(profile=PROFILE, both=1), speeds=(0.5,))
    [in_pool] = replay([make_prompt(0.0, 1000)], pool).served
    [in_pair] = replay([make_prompt(0.0, 100)], pair).served

    assert in_pool.ttft_seconds == pytest.approx(2.0)
    assert in_pair.ttft_seconds == pytest.approx(0.22)


def test_a_run_without_an_end_is_not_looked_at_for_ever() -> None:
    prompts = [make_prompt(0.0, 1000), make_prompt(150.0, 1000)]
    samples = replay(prompts, Setup(cluster=POOL, sample_seconds=0.01)).samples

    assert len(samples.pending_tokens) == 10_000


def test_mispredicted_prefills_take_up_to_so_much_less_or_more() -> None:
    prompts = [make_prompt(10.0 * number, 1000) for number in range(100)]
    served = replay(prompts, Setup(cluster=POOL, misprediction=0.2)).served

    seconds = [each.ttft_seconds or 0.0 for each in served]
    assert 0.8 <= min(seconds) < 0.85
    assert 1.15 < max(seconds) <= 1.2


def _busy_prompts(count: int = 60) -> list[Prompt]:
    """Return prompts of a few conversations, one every 50 ms."""
    return [
        make_prompt(
            0.05 * number,
            300 + 512 * (number % 3),
            *(100 * (number % 7) + block for block in range(1 + number % 3)),
            output_tokens=1 + 5 * (number % 5),
        )
        for number in range(count)
    ]


def test_a_run_is_the_same_again_for_the_same_seed_and_another_for_another() -> None:
    setup = Setup(
        cluster=PrefillPool(workers=3, seconds_per_token=0.001),
        misprediction=0.2,
        replicas=2,
        reporting=Reporting(least_delay_seconds=0.05, most_delay_seconds=1.0, loss=0.1),
    )
    first, again = (replay(_busy_prompts(), setup) for _ in range(2))
    other = replay(_busy_prompts(), msgspec.structs.replace(setup, seed=1))

    assert first == again
    assert first.served != other.served


@pytest.mark.parametrize("victim", ["p0", "d0"])
def test_the_death_of_a_worker_loses_no_request(victim: str) -> None:
    setup = Setup(
        cluster=EngineCluster(profile=PROFILE, prefill=3, decode=3),
        incidents=(Incident(1.0, "die", WorkerId(victim)),),
    )
    prompts = _busy_prompts()
    replayed = replay(prompts, setup)

    assert [each.refused for each in replayed.served] == [""] * len(prompts)
    assert all(each.end_seconds is not None for each in replayed.served)
    later = [each for each in replayed.served if each.at > 1.0]
    # Nobody gets there, though the routers do not know for three seconds.
    assert victim not in {each.prefill for each in later} | {each.decode for each in later}
    assert any(victim in (each.prefill, each.decode) for each in replayed.served)


def test_a_stream_that_is_cut_goes_on_elsewhere() -> None:
    setup = Setup(
        cluster=EngineCluster(profile=PROFILE, prefill=1, decode=2),
        incidents=(Incident(0.5, "die", WorkerId("d0")), Incident(0.6, "die", WorkerId("p0"))),
    )
    [served] = replay([make_prompt(0.0, 100, output_tokens=101)], setup).served

    # The first token as if nothing had happened. At 0.5 s there were 1 + 31 of them; d1 computes
    # the prompt and these, and generates the other 69, of which the step of the prompt gives one.
    first = 0.11 + 0.06 + 0.011
    assert served.ttft_seconds == pytest.approx(first)
    assert (served.mode, served.decode, served.refused) == ("fallback", "d1", "")
    assert served.end_seconds == pytest.approx(0.5 + 0.01 + 0.132 + 68 * 0.01, abs=0.001)


def test_blocks_that_nobody_pulls_any_more_are_given_back() -> None:
    setup = Setup(
        cluster=EngineCluster(profile=PROFILE, prefill=1, decode=2),
        # While d0 pulls: the transfer begins at 0.11 s and takes 0.06 s.
        incidents=(Incident(0.15, "die", WorkerId("d0")),),
    )
    run = Replay([make_prompt(0.0, 100, output_tokens=3)], POLICIES["twofold"], setup)
    [served] = run.run().served

    assert (served.mode, served.prefill, served.decode) == ("fallback", "d1", "d1")
    assert run.cluster.workers[WorkerId("p0")].is_idle


def test_without_its_source_a_decode_worker_computes_the_prompt_itself() -> None:
    setup = Setup(
        cluster=EngineCluster(profile=PROFILE, prefill=1, decode=1),
        incidents=(Incident(0.15, "die", WorkerId("p0")),),
    )
    [served] = replay([make_prompt(0.0, 100)], setup).served

    assert served.ttft_seconds == pytest.approx(0.15 + 0.11)
    assert (served.mode, served.prefill, served.refused) == ("fallback", "d0", "")


def test_a_leaving_worker_ends_what_it_has_and_gets_nothing_new() -> None:
    setup = Setup(
        cluster=PrefillPool(workers=2, seconds_per_token=0.001),
        incidents=(Incident(1.0, "leave", WorkerId("p0")),),
    )
    run = Replay(_busy_prompts(), POLICIES["round-robin"], setup)
    replayed = run.run()

    assert {each.refused for each in replayed.served} == {""}
    assert {each.prefill for each in replayed.served if each.at < 0.5} == {"p0", "p1"}
    assert {each.prefill for each in replayed.served if each.at > 1.2} == {"p1"}
    assert WorkerId("p0") not in run.cluster.workers


def test_a_worker_that_joins_is_given_work() -> None:
    setup = Setup(
        cluster=PrefillPool(workers=1, seconds_per_token=0.001),
        incidents=(Incident(1.0, "join", WorkerId("p1")),),
    )
    replayed = replay(_busy_prompts(), setup, "round-robin")

    assert any(each.prefill == "p1" for each in replayed.served)


def test_a_worker_joins_again_once_its_last_life_has_ended() -> None:
    told = ("leave:p0@0.5", "join:p0@0.6", "die:p0@0.7", "join:p0@0.8")
    setup = Setup(
        cluster=PrefillPool(workers=2, seconds_per_token=0.001),
        incidents=tuple(map(parse_incident, told)),
    )
    replayed = replay(_busy_prompts(), setup, "round-robin")

    assert {each.prefill for each in replayed.served if each.at > 2} == {"p0", "p1"}


def test_a_worker_that_died_comes_back_with_an_empty_cache() -> None:
    setup = Setup(
        cluster=POOL,
        incidents=(Incident(2.0, "die", WorkerId("p0")), Incident(6.0, "join", WorkerId("p0"))),
    )
    prompts = [make_prompt(at, 512, 1) for at in (0.0, 1.0, 9.0)]
    served = by_arrival(replay(prompts, setup))

    assert [each.cached_tokens for each in served] == [0, 511, 0]


def test_without_anybody_left_a_request_is_refused() -> None:
    setup = Setup(cluster=POOL, incidents=(Incident(1.0, "die", WorkerId("p0")),))
    served = by_arrival(replay([make_prompt(0.5, 1000), make_prompt(9.0, 1000)], setup))

    assert [each.refused for each in served] == ["no_worker", "no_worker"]
    assert [each.ttft_seconds for each in served] == [None, None]


def test_a_client_without_patience_leaves_before_its_first_token_only() -> None:
    prompts = [make_prompt(at, 1000) for at in (0.0, 0.1, 0.2, 2.1)]
    setup = Setup(cluster=POOL, patience_seconds=1.5, max_unprefilled_tokens=1)
    served = by_arrival(replay(prompts, setup))

    # The second leaves while it is computed, which goes on; the third while it waits.
    assert [each.refused for each in served] == ["", "client-left", "client-left", ""]
    assert [each.prefill for each in served] == ["p0", "p0", "", "p0"]
    assert served[3].ttft_seconds == pytest.approx(1.0)


def test_a_request_that_takes_too_long_is_ended() -> None:
    setup = Setup(cluster=EngineCluster(profile=PROFILE, prefill=1, decode=1), timeout_seconds=0.5)
    [served] = replay([make_prompt(0.0, 100, output_tokens=101)], setup).served

    assert served.refused == "deadline_exceeded"
    assert served.ttft_seconds is not None
    assert served.end_seconds is None


def test_a_prompt_that_no_engine_can_hold_is_refused() -> None:
    setup = Setup(cluster=EngineCluster(profile=PROFILE, prefill=1, decode=1))
    [served] = replay([make_prompt(0.0, 30_000)], setup).served

    assert served.refused == "context_length_exceeded"


def test_an_answer_ends_at_the_models_length() -> None:
    profile = msgspec.structs.replace(PROFILE, max_model_tokens=2048)
    setup = Setup(cluster=EngineCluster(profile=profile, prefill=1, decode=1))
    [endless] = replay([make_prompt(0.0, 2000, output_tokens=200_000)], setup).served
    [exact] = replay([make_prompt(0.0, 2000, output_tokens=48)], setup).served

    assert endless == exact
    assert exact.refused == ""


def test_a_part_of_the_slo_for_each_token_makes_long_prompts_less_urgent() -> None:
    # Both at once, behind a third; the long one is first only if its deadline is.
    prompts = [make_prompt(0.0, 2000), make_prompt(0.1, 4000), make_prompt(0.2, 1000)]

    def order(slo: Slo) -> list[int]:
        setup = Setup(cluster=POOL, slo=slo, max_unprefilled_tokens=1)
        return [each.prompt_tokens for each in replay(prompts, setup).served]

    assert order(Slo(ttft_seconds=20.0)) == [2000, 4000, 1000]
    assert order(Slo(ttft_seconds=20.0, ttft_seconds_per_token=0.01)) == [2000, 1000, 4000]


clusters = st.one_of(
    st.builds(PrefillPool, workers=st.integers(1, 4), seconds_per_token=st.just(0.001)),
    st.builds(
        EngineCluster,
        profile=st.just(PROFILE),
        prefill=st.integers(1, 3),
        decode=st.integers(1, 3),
        both=st.integers(0, 1),
    ),
)


@st.composite
def setups(draw: st.DrawFn) -> Setup:
    cluster = draw(clusters)
    incidents = []
    there = set(worker_ids(cluster))
    moments = sorted(draw(st.lists(st.integers(0, 40), max_size=8)))
    for moment in moments:
        at = moment / 8
        dead = sorted({*worker_ids(cluster)} - there)
        kind = draw(st.sampled_from(["die", "leave", "join"]))
        if kind == "join" and dead:
            worker_id = draw(st.sampled_from(dead))
            incidents.append(Incident(at, "join", worker_id))
            there.add(worker_id)
        elif kind != "join" and there:
            worker_id = draw(st.sampled_from(sorted(there)))
            incidents.append(Incident(at, "die" if kind == "die" else "leave", worker_id))
            there.remove(worker_id)
    return Setup(
        cluster=cluster,
        replicas=draw(st.integers(1, 3)),
        speeds=draw(st.sampled_from([(1.0,), (1.0, 0.25)])),
        misprediction=draw(st.sampled_from([0.0, 0.3])),
        reporting=draw(
            st.sampled_from(
                [
                    Reporting(),
                    Reporting(least_delay_seconds=0.05, most_delay_seconds=1.0, loss=0.3),
                ]
            )
        ),
        notice_seconds=draw(st.sampled_from([0.1, 3.0])),
        incidents=tuple(incidents),
        refuse_late=draw(st.booleans()),
        slo=Slo(ttft_seconds=draw(st.sampled_from([0.5, 5.0]))),
        timeout_seconds=draw(st.sampled_from([1.0, 60.0])),
        patience_seconds=draw(st.sampled_from([0.75, 60.0])),
        max_queued=draw(st.sampled_from([None, 2])),
        min_uncached_tokens=draw(st.sampled_from([0, 256])),
        seed=draw(st.integers(0, 3)),
    )


prompt_lists = st.lists(
    st.tuples(st.integers(0, 16), st.integers(1, 3000), st.integers(1, 60), st.integers(0, 3)),
    min_size=8,
    max_size=30,
).map(
    lambda rows: [
        make_prompt(
            moment / 8,
            tokens,
            *(100 * family + block for block in range(-(-tokens // 512))),
            output_tokens=output_tokens,
        )
        for moment, tokens, output_tokens, family in sorted(rows)
    ]
)


@settings(max_examples=150, deadline=None)
@given(prompts=prompt_lists, setup=setups(), policy=st.sampled_from(sorted(POLICIES)))
def test_whatever_happens_each_request_ends_once_and_everything_is_given_back(
    prompts: list[Prompt], setup: Setup, policy: str
) -> None:
    run = Replay(prompts, POLICIES[policy], setup)
    replayed = run.run()

    assert sorted((each.at, each.prompt_tokens) for each in replayed.served) == sorted(
        (prompt.at, prompt.prompt_tokens) for prompt in prompts
    )
    for each in replayed.served:
        assert (each.end_seconds is None) == bool(each.refused)
    for snapshot in replayed.snapshots:
        assert (snapshot.queued, snapshot.in_flight) == (0, 0)
        for counts in snapshot.workers:
            held = (counts.queued, counts.unprefilled, counts.decoding, counts.pending_tokens)
            assert held == (0, 0, 0, 0.0)
    for worker in run.cluster.workers.values():
        assert worker.is_idle
        assert worker.unprefilled_count == 0
        engine = worker.engine.counts()
        assert (engine.running, engine.waiting, engine.kv_used_fraction) == (0, 0, 0.0)


def test_workers_are_named_by_their_role() -> None:
    cluster = EngineCluster(profile=PROFILE, prefill=1, decode=2, both=1)

    assert worker_ids(cluster) == ["p0", "d0", "d1", "b0"]
    assert cluster.counts()[Role.BOTH] == 1
