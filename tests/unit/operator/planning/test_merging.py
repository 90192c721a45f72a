"""A pod template of the user's, merged over ours."""

from typing import Any

from twofold_operator.planning.merging import merged

OURS: dict[str, Any] = {
    "nodeSelector": {"a": "1"},
    "containers": [
        {
            "name": "worker",
            "image": "ours",
            "env": [{"name": "HOME", "value": "/scratch"}],
            "command": ["python"],
        }
    ],
}


def test_items_of_one_name_are_merged_and_others_added() -> None:
    theirs = {
        "containers": [
            {"name": "worker", "env": [{"name": "NCCL_DEBUG", "value": "INFO"}]},
            {"name": "sidecar", "image": "theirs"},
        ]
    }

    worker, sidecar = merged(OURS, theirs)["containers"]

    assert worker["image"] == "ours"
    assert [variable["name"] for variable in worker["env"]] == ["HOME", "NCCL_DEBUG"]
    assert sidecar["image"] == "theirs"


def test_a_list_without_names_is_replaced() -> None:
    theirs = {"containers": [{"name": "worker", "command": ["sh", "-c"]}]}

    assert merged(OURS, theirs)["containers"][0]["command"] == ["sh", "-c"]


def test_null_takes_away() -> None:
    assert "nodeSelector" not in merged(OURS, {"nodeSelector": None})


def test_ours_is_not_changed() -> None:
    merged(OURS, {"nodeSelector": {"b": "2"}, "containers": [{"name": "worker", "tty": True}]})

    assert OURS["nodeSelector"] == {"a": "1"}
    assert "tty" not in OURS["containers"][0]
