import pytest
from benchmarks.footprint import Footprint, growth, mib_per_minute


def seen(*sizes: float) -> list[Footprint]:
    return [
        Footprint(at=float(second), resident_mib=size, descriptors=9)
        for second, size in enumerate(sizes)
    ]


def test_filling_at_the_start_is_no_growth() -> None:
    assert growth(seen(10, 50, 100, 100, 100, 100)) == 1.0
    assert mib_per_minute(seen(10, 50, 100, 100, 100, 100)) == 0.0


def test_a_leak_is_growth() -> None:
    leaking = seen(*(100.0 + second for second in range(9)))

    assert growth(leaking) == pytest.approx(107 / 104)
    assert mib_per_minute(leaking) == pytest.approx(60.0)


def test_a_single_look_has_not_grown() -> None:
    assert growth(seen(100)) == 1.0
