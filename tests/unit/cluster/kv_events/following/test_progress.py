from twofold_cluster.kv_events.following.progress import Progress, Verdict


def after(*batches: tuple[int, float]) -> Progress:
    progress = Progress()
    for number, at in batches:
        progress.take(number, at)
    return progress


def test_a_publisher_begins_at_zero() -> None:
    assert Progress().judge(0, 1.0) is Verdict.NEXT
    assert Progress().judge(1, 1.0) is Verdict.AFTER_A_GAP


def test_each_batch_is_the_next_of_the_one_before() -> None:
    progress = after((0, 1.0), (1, 2.0))

    assert progress.judge(2, 3.0) is Verdict.NEXT
    assert progress.judge(3, 3.0) is Verdict.AFTER_A_GAP


def test_what_was_taken_in_comes_again_with_its_old_time() -> None:
    progress = after((0, 1.0), (1, 2.0))

    assert progress.judge(0, 1.0) is Verdict.AGAIN
    assert progress.judge(1, 2.0) is Verdict.AGAIN


def test_a_low_number_with_a_new_time_is_of_a_new_beginning() -> None:
    progress = after((0, 1.0), (1, 2.0))

    assert progress.judge(0, 2.5) is Verdict.RESTARTED
    progress.restart()

    assert progress.judge(0, 2.5) is Verdict.NEXT


def test_a_gap_that_is_given_up_is_behind_us() -> None:
    progress = after((0, 1.0), (5, 6.0))

    assert progress.judge(3, 4.0) is Verdict.AGAIN
    assert progress.judge(6, 7.0) is Verdict.NEXT


def test_a_batch_that_cannot_be_read_is_behind_us() -> None:
    progress = after((0, 1.0))

    progress.skip(1)
    progress.skip(0)

    assert progress.judge(2, 3.0) is Verdict.NEXT


def test_the_last_batch_is_known_by_its_number_and_its_time() -> None:
    progress = after((0, 1.0), (1, 2.0))

    assert progress.is_last(1, 2.0)
    assert not progress.is_last(1, 9.0)
    assert not progress.is_last(0, 2.0)
