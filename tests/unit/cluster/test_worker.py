import msgspec
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.worker import Engine, Gone, Load, Topology, Worker, WorkerState

counts = st.integers(min_value=0, max_value=2**53)
fractions = st.floats(min_value=0, max_value=1)
names = st.text(max_size=20)
worker_ids = names.map(WorkerId)
incarnations = names.map(Incarnation)
loads = st.builds(
    Load,
    running_count=counts,
    waiting_count=counts,
    unprefilled_count=counts,
    kv_used_fraction=fractions,
    seconds_per_prefill_token=st.none() | fractions,
)
workers = st.builds(
    Worker,
    worker_id=worker_ids,
    incarnation=incarnations,
    service=names,
    role=st.sampled_from(Role),
    revision=names,
    address=names,
    model=names,
    engine=st.builds(Engine, version=names, compatibility=names, tensor_parallel=counts),
    kv_capacity_tokens=counts,
    kv_block_tokens=counts,
    max_model_tokens=counts,
    kv_events=names,
    kv_events_replay=names,
    kv_transfer=names,
    kv_side_channel=names,
    topology=st.builds(Topology, node=names, zone=names),
    state=st.sampled_from(WorkerState),
    load=loads,
)
farewells = st.builds(Gone, worker_id=worker_ids, incarnation=incarnations)
messages = workers | farewells
unknown_fields = st.dictionaries(
    names.map(lambda name: f"new_{name}"), st.none() | counts | names | st.lists(counts), max_size=3
)

decode = msgspec.json.Decoder(Worker | Gone).decode


@given(message=messages)
def test_a_message_comes_over_the_wire_as_it_was(message: Worker | Gone) -> None:
    received = decode(msgspec.json.encode(message))

    assert received == message
    assert type(received) is type(message)


@given(message=messages, unknown=unknown_fields)
def test_the_fields_of_a_newer_version_are_ignored(
    message: Worker | Gone, unknown: dict[str, object]
) -> None:
    newer = msgspec.json.decode(msgspec.json.encode(message)) | unknown

    assert decode(msgspec.json.encode(newer)) == message


@given(worker=workers, unknown=unknown_fields)
def test_the_fields_of_a_newer_load_are_ignored(worker: Worker, unknown: dict[str, object]) -> None:
    newer = msgspec.json.decode(msgspec.json.encode(worker))
    newer["load"] |= unknown
    newer["engine"] |= unknown

    assert decode(msgspec.json.encode(newer)) == worker


@given(worker=workers)
def test_what_a_worker_leaves_out_is_an_idle_ready_one(worker: Worker) -> None:
    sparse = msgspec.json.decode(msgspec.json.encode(worker))
    for name in (*("topology", "state", "load"), *("kv_events", "kv_events_replay", "kv_transfer")):
        del sparse[name]

    received = decode(msgspec.json.encode(sparse))

    assert isinstance(received, Worker)
    assert (received.topology, received.state, received.load) == (
        Topology(),
        WorkerState.READY,
        Load(),
    )
    assert not received.kv_events
    assert not received.kv_events_replay
    assert not received.kv_transfer
