"""The wheel, installed where the source tree is not: every entry point starts there."""

import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TIMEOUT_SECONDS = 300

# "router/twofold_router/__main__.py" is started as "python -m twofold_router".
ENTRIES = sorted(
    ".".join(path.relative_to(ROOT).parts[1:-1]) for path in ROOT.glob("*/twofold_*/**/__main__.py")
)


def _component(entry: str) -> str:
    return entry.split(".")[0].removeprefix("twofold_")


# These have an extra of their own and carry no engine: they must start with nothing but it.
LIGHT = [entry for entry in ENTRIES if _component(entry) in {"router", "operator"} & EXTRAS.keys()]
HEAVY = [entry for entry in ENTRIES if entry not in LIGHT]


class Environment:
    """A virtual environment that has the wheel in it."""

    def __init__(self, directory: Path) -> None:
        venv.create(directory, with_pip=False, symlinks=True)
        self._directory = directory

    def install(self, *requirements: str) -> None:
        _run(sys.executable, "-m", "pip", "--python", self.python, "install", "-q", *requirements)

    def borrow(self, packages: str) -> None:
        """Add the folder *packages* behind what is installed here.

        A ``.pth`` file in it is not read, so an editable install does not come along.
        """
        (site_packages,) = self._directory.glob("lib/python*/site-packages")
        (site_packages / "borrowed.pth").write_text(packages)

    @property
    def python(self) -> Path:
        return self._directory / "bin" / "python"

    @property
    def command(self) -> Path:
        return self._directory / "bin" / "twofold"

    def origin(self, package: str) -> Path:
        program = f"import {package}; print({package}.__file__)"
        return Path(_run(self.python, "-I", "-c", program, directory=self._directory).strip())

    def start(self, entry: str, *arguments: str) -> str:
        return _run(self.python, "-I", "-m", entry, *arguments, directory=self._directory)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", directory, ROOT)
    (path,) = directory.glob("twofold-*.whl")
    return path


@pytest.fixture(scope="module")
def full(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel beside all that this test run has, where another install would take minutes."""
    environment = Environment(tmp_path_factory.mktemp("full"))
    environment.install("--no-deps", str(wheel))
    environment.borrow(sysconfig.get_path("purelib"))
    return environment


@pytest.mark.parametrize("entry", LIGHT)
def test_an_entry_without_an_engine_starts_with_nothing_but_its_extra(
    entry: str, wheel: Path, tmp_path: Path
) -> None:
    environment = Environment(tmp_path / "environment")
    environment.install(f"{wheel}[{_component(entry)}]")

    text = environment.start(entry, "--help")

    assert "usage" in text.lower()
    assert environment.origin("twofold_cluster").is_relative_to(tmp_path)


def test_the_sim_image_has_what_its_pods_start(wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "environment")
    environment.install(f"{wheel}[pools,sim]")

    for entry in ("twofold_engine.pools", "twofold_sim"):
        assert "usage" in environment.start(entry, "--help").lower()
    # What --help does not wait for.
    for module in ("pools.launching", "pools.serving", "actor", "simulated"):
        assert environment.origin(f"twofold_engine.{module}").is_relative_to(tmp_path)


@pytest.mark.parametrize("entry", HEAVY)
def test_an_entry_starts_from_the_wheel(entry: str, full: Environment) -> None:
    text = full.start(entry, "--help")

    assert "usage" in text.lower()


def test_the_command_starts_from_the_wheel(full: Environment) -> None:
    text = _run(full.command, "--help", directory=full.command.parent)

    assert "usage" in text.lower()


def test_the_packages_come_from_the_wheel(full: Environment) -> None:
    origins = {full.origin(entry.split(".")[0]) for entry in ENTRIES} | {
        full.origin("twofold_cluster")
    }

    assert [path for path in origins if path.is_relative_to(ROOT)] == []


def _run(*arguments: str | Path, directory: Path | None = None) -> str:
    result = subprocess.run(
        arguments, cwd=directory, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout
