"""The command ``twofold`` from its first moment."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_ctrl_c_while_the_command_is_imported_ends_it_without_a_traceback(tmp_path: Path) -> None:
    module, _, name = _entry().partition(":")
    # Stands in for the first of what is imported. No signal: who runs tests may have them ignored.
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    path = os.pathsep.join((str(tmp_path), *sys.path))
    code = f"from {module} import {name}; {name}()"
    ended = subprocess.run(
        [sys.executable, "-c", code, "status"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_the_command_runs_what_it_is_told(tmp_path: Path) -> None:
    module, _, name = _entry().partition(":")
    code = f"from {module} import {name}; {name}()"
    ended = subprocess.run(
        [sys.executable, "-c", code, "chat", "What?"],
        env=os.environ | {"TWOFOLD_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 3
    assert ended.stderr.startswith("twofold: no cluster is running")


def _entry() -> str:
    """Return what the installed command calls."""
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["twofold"]
    return str(entry)
