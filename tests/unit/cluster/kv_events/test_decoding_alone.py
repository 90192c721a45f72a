import subprocess
import sys


def test_who_only_decodes_events_needs_no_zmq() -> None:
    code = "import sys, twofold_cluster.kv_events; sys.exit('zmq' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
