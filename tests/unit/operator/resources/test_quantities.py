from decimal import Decimal

import pytest

from twofold_operator.resources import parse_quantity


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [
        (2, "2"),
        ("2", "2"),
        ("500m", "0.5"),
        (".5", "0.5"),
        ("1.5Gi", "1610612736"),
        ("2G", "2000000000"),
        ("1e3", "1000"),
        ("1E-3", "0.001"),
        ("100n", "0.0000001"),
        ("-1", "-1"),
        ("1E", "1000000000000000000"),
    ],
)
def test_a_quantity_is_read_as_kubernetes_does(quantity: int | str, amount: str) -> None:
    assert parse_quantity(quantity) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "m", "1 Gi", "1gi", "1GB", "0x10", "1e", "--1", "1K"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        parse_quantity(text)
