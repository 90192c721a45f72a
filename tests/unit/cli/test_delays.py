from twofold_cli.delays import RestartDelays


def test_delays_double_up_to_the_longest() -> None:
    delays = RestartDelays()

    given = [delays.after(lived_seconds=0.1) for _ in range(7)]

    assert given == [1, 2, 4, 8, 16, 30, 30]


def test_a_minute_of_life_makes_the_next_delay_the_first_again() -> None:
    delays = RestartDelays()
    for _ in range(5):
        delays.after(lived_seconds=59.9)

    assert delays.after(lived_seconds=60.0) == 1
    assert delays.after(lived_seconds=1.0) == 2
