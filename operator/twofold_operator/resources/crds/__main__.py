"""``python -m twofold_operator.resources.crds [ROOT]``: write the CRDs and their reference."""

import argparse
from pathlib import Path

from twofold_operator.resources.crds.reference import reference
from twofold_operator.resources.crds.writing import crd_files

FOLDERS = (Path("deploy", "crds"), Path("helm", "twofold", "crds"))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m twofold_operator.resources.crds",
        description="Write the custom resource definitions and docs/resources.md.",
    )
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="default: here")
    root = parser.parse_args().root
    files = {folder / name: text for folder in FOLDERS for name, text in crd_files().items()}
    files[Path("docs", "resources.md")] = reference()
    for path, text in files.items():
        whole = root / path
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(text)


if __name__ == "__main__":
    main()
