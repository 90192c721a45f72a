"""``python -m deploy.dashboards [ROOT]``: write the dashboards, the rules and docs/metrics.md."""

import sys
from pathlib import Path

from deploy.dashboards.writing import files


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for path, text in files().items():
        whole = root / path
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(text)


if __name__ == "__main__":
    main()
