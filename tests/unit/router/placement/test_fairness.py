"""Who has had more than its share."""

from twofold_router.placement.fairness import HALF_LIFE_SECONDS, Shares


def test_a_tenant_with_ten_times_what_the_other_had_is_over_by_three_doublings() -> None:
    shares = Shares()
    shares.serve("large", 10_000, 0.0)
    shares.serve("small", 1_000, 0.0)

    assert (shares.doublings_over("large"), shares.doublings_over("small")) == (3, 0)


def test_the_share_is_that_of_the_others_on_average() -> None:
    shares = Shares()
    for tenant, tokens in (("a", 100), ("b", 100), ("c", 100), ("d", 380)):
        shares.serve(tenant, tokens, 0.0)

    assert [shares.doublings_over(tenant) for tenant in "abcd"] == [0, 0, 0, 2]


def test_a_small_difference_is_none() -> None:
    shares = Shares()
    shares.serve("a", 1_000, 0.0)
    shares.serve("b", 1_400, 0.0)
    assert shares.doublings_over("b") == 0

    shares.serve("b", 100, 0.0)

    assert shares.doublings_over("b") == 1


def test_alone_or_unknown_nobody_has_too_much() -> None:
    shares = Shares()
    assert shares.doublings_over("alone") == 0
    shares.serve("alone", 1e9, 0.0)

    assert shares.doublings_over("alone") == 0
    assert shares.doublings_over("unknown") == 0


def test_others_that_had_nothing_divide_nothing_by_zero() -> None:
    shares = Shares()
    shares.serve("a", 1024, 0.0)
    shares.serve("b", 0, 0.0)

    assert shares.doublings_over("a") == 10
    assert shares.doublings_over("b") == 0


def test_what_was_long_ago_is_forgotten() -> None:
    shares = Shares()
    shares.serve("past", 8_000, 0.0)
    shares.serve("present", 1_000, 2 * HALF_LIFE_SECONDS)
    assert shares.doublings_over("past") == 1

    shares.serve("present", 1, 100 * HALF_LIFE_SECONDS)
    shares.serve("other", 1, 100 * HALF_LIFE_SECONDS)

    assert shares._tokens.keys() == {"present", "other"}
