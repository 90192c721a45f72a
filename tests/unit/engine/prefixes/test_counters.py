from collections import Counter

from twofold_engine.prefixes.counters import Counters, read_counters

PAGE = """\
# HELP twofold_kv_prefix_pulls_total Requests.
# TYPE twofold_kv_prefix_pulls_total counter
twofold_kv_prefix_pulls_total{engine="0",model_name="m",outcome="pulled"} 2.0
twofold_kv_prefix_pulls_total{engine="1",model_name="m",outcome="pulled"} 1.0
twofold_kv_prefix_pulls_total{engine="0",model_name="m",outcome="late"} 4.0
# HELP twofold_kv_prefix_pulls_created Requests.
# TYPE twofold_kv_prefix_pulls_created gauge
twofold_kv_prefix_pulls_created{engine="0",model_name="m",outcome="pulled"} 1.7e+09
# HELP twofold_kv_prefix_blocks_total Blocks.
# TYPE twofold_kv_prefix_blocks_total counter
twofold_kv_prefix_blocks_total{engine="0",model_name="m"} 5.0
twofold_kv_prefix_blocks_total{engine="1",model_name="m"} 2.0
"""


def test_counters_are_summed_over_engines() -> None:
    assert read_counters(PAGE) == Counters(Counter({"pulled": 3, "late": 4}), 7)


def test_what_a_page_does_not_show_counts_as_none() -> None:
    assert read_counters("# EOF\n") == Counters(Counter(), 0)
