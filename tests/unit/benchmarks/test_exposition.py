from benchmarks.exposition import total

PAGE = """# HELP waiting Those who wait.
# TYPE waiting gauge
waiting{worker="a"} 2.0
waiting{worker="b"} 3.0
waiting_seconds{worker="a"} 7.0
plain 4
"""


def test_the_samples_of_one_metric_are_summed() -> None:
    assert total(PAGE, "waiting") == 5.0
    assert total(PAGE, "plain") == 4.0


def test_an_absent_metric_is_not_zero() -> None:
    assert total(PAGE, "missing") is None
