"""``python -m twofold_router.access new``: make an API key."""

import argparse
import sys
from collections.abc import Sequence

from twofold_router.access.errors import InvalidAccessError
from twofold_router.access.key_file import parse_entry
from twofold_router.access.minting import hash_of, new_key, render_entry

USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a new key, and the entry that makes it valid. Returns the exit code."""
    told = vars(_parser().parse_args(arguments))
    del told["command"]
    key = new_key()
    fields = {name: value for name, value in told.items() if value is not None}
    try:
        entry = parse_entry(fields | {"hash": hash_of(key)}, "the new key")
    except InvalidAccessError as error:
        sys.stderr.write(f"twofold_router.access: {error}\n")
        return USAGE_ERROR
    # On two streams, so that ``>> keys.toml`` adds the entry and never the key itself.
    sys.stderr.write(f"The key, shown only now: {key}\n")
    sys.stdout.write(render_entry(entry))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m twofold_router.access", description="Make API keys for a router."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("new", help="make a key").add_argument
    add("--name", required=True, help="of the key, unique; in logs and metrics")
    add("--tenant", required=True, help="who shares fairness and cached blocks")
    add("--class", help="class of its requests, and the cap of their priority")
    add("--requests-per-minute", type=int, metavar="N")
    add("--tokens-per-minute", type=int, metavar="N")
    add("--model", action="append", dest="models", metavar="NAME", help="allowed; may be repeated")
    add("--salt", help="to share cached blocks with other tenants that have the same")
    return parser


if __name__ == "__main__":
    sys.exit(main())
