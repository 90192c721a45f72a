"""``python -m twofold_prefill_worker``: serve one engine that computes prompts."""

import sys

from twofold_cluster.identity import Role
from twofold_engine.launching import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], module="twofold_prefill_worker", role=Role.PREFILL))
