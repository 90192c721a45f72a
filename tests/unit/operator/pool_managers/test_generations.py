from twofold_operator.pool_managers import Generations


def test_generations_grow_while_the_clock_stands_still_or_goes_back() -> None:
    times = iter((10, 10, 5))
    generations = Generations(lambda: next(times))

    assert [generations.next() for _ in range(3)] == [10, 11, 12]


def test_a_generation_is_larger_than_what_the_manager_reports() -> None:
    assert Generations(lambda: 10).next(above=70) == 71
