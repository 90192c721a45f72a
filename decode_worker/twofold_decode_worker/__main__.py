"""``python -m twofold_decode_worker``: serve one engine that generates."""

import sys

from twofold_cluster.identity import Role
from twofold_engine.launching import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], module="twofold_decode_worker", role=Role.DECODE))
