"""The doctor with the real NIXL of this machine."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from twofold_cli.doctor import Finding, Level


def findings(tmp_path: Path, **ucx: str) -> dict[str, Finding]:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("UCX_")}
    answer = subprocess.run(
        [sys.executable, "-m", "twofold_cli", "doctor", "--json"],
        env={**environment, **ucx, "TWOFOLD_STATE_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        timeout=120,
        check=False,  # it is 1 where something else is missing
    )
    found = msgspec.json.decode(answer.stdout, type=list[Finding])
    return {each.subject: each for each in found}


def test_the_doctor_says_which_way_ucx_takes(tmp_path: Path) -> None:
    found = findings(tmp_path, UCX_TLS="tcp")

    assert found["kv transfer"].level is Level.WARNING
    assert found["kv transfer"].detail.startswith("UCX takes tcp/")
    assert "UCX_TLS=tcp" in found["kv transfer"].remedy
    assert "tcp/" in found["kv transfer, network"].detail
    assert "tcp/lo " not in found["kv transfer, network"].detail


def test_the_doctor_says_why_ucx_takes_none(tmp_path: Path) -> None:
    found = findings(tmp_path, UCX_TLS="tcp", UCX_NET_DEVICES="absent0:1")

    for subject in ("kv transfer", "kv transfer, network"):
        assert found[subject].level is Level.WARNING
        assert "no usable transports/devices" in found[subject].detail
