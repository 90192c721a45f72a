"""Read single figures out of a page of metrics."""


def total(text: str, name: str) -> float | None:
    """Sum the samples of metric *name* over its labels; None if there is no such sample."""
    values = [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith((f"{name}{{", f"{name} "))
    ]
    return sum(values) if values else None
