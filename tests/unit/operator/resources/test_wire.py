from twofold_operator.resources import (
    LLMServiceSpec,
    LLMServiceStatus,
    Lora,
    Model,
    Pool,
    RoleStatus,
    Slo,
    parse_service,
    to_wire,
)


def test_what_is_at_its_default_is_left_out() -> None:
    spec = LLMServiceSpec(
        model=Model(source="hf://a/b"), prefill=Pool(), decode=Pool(replicas=2), slo=Slo()
    )

    wire = to_wire(spec)

    assert wire == {"model": {"source": "hf://a/b"}, "prefill": {}, "decode": {"replicas": 2}}


def test_a_spec_with_its_defaults_filled_in_is_the_same_on_the_wire() -> None:
    least = {"model": {"source": "hf://a/b"}, "prefill": {}, "decode": {}}
    filled = {
        **least,
        "engine": "vllm",
        "slo": {"ttftMs": 5000, "ttftPerTokenMs": 0.0, "onLate": "serve"},
        "ray": {},
        "rollout": {"maxSurge": "100%", "readyDeadlineSeconds": 1800},
    }

    specs = [
        parse_service({"metadata": {"name": "a"}, "spec": spec}).spec for spec in (least, filled)
    ]

    assert to_wire(specs[0]) == to_wire(specs[1]) == least


def test_a_part_that_is_there_without_a_setting_is_not_left_out() -> None:
    model = Model(source="hf://a/b", lora=Lora(), engine_args=("--a",))

    assert to_wire(model) == {"source": "hf://a/b", "lora": {}, "engineArgs": ["--a"]}


def test_a_status_says_its_zeros() -> None:
    status = LLMServiceStatus(prefill=RoleStatus.of(desired=2, ready=0, updated=0))

    wire = to_wire(status)

    assert wire == {"prefill": {"desired": 2, "ready": 0, "updated": 0, "summary": "0/2"}}
