"""What must stay true of the repository itself."""

import importlib.util
import os
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HATCH = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
SOURCE_ROOTS = (
    "cluster",
    "kvtransfer",
    "engine",
    "prefill_worker",
    "decode_worker",
    "router",
    "operator",
    "sim",
    "cli",
)

# In two parts, so that this file does not name them.
PACKAGE_HOSTS = tuple(
    "".join(parts).encode()
    for parts in (
        ("pypi", ".org"),
        ("files.python", "hosted"),
        ("npm", "js.org"),
        ("npm", "js.com"),
        ("deb.deb", "ian.org"),
        ("proxy.go", "lang.org"),
        ("crates", ".io"),
    )
)


@pytest.mark.parametrize("name", SOURCE_ROOTS)
def test_a_source_root_is_no_package(name: str) -> None:
    assert (ROOT / name).is_dir()
    assert not (ROOT / name / "__init__.py").exists()


def test_the_standard_library_keeps_its_operator_in_the_root() -> None:
    result = subprocess.run(
        [sys.executable, "-c", "import operator; print(operator.__file__)"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )

    found = Path(result.stdout.strip())

    assert found.parent == Path(sysconfig.get_path("stdlib"))


def test_no_folder_of_tests_is_a_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_every_source_root_is_importable_in_development() -> None:
    assert set(HATCH["dev-mode-dirs"]) == set(SOURCE_ROOTS)


def test_the_wheel_has_the_package_of_every_source_root() -> None:
    packages = [f"{name}/twofold_{name}" for name in SOURCE_ROOTS]

    assert HATCH["targets"]["wheel"]["packages"] == packages
    assert [package for package in packages if not (ROOT / package / "__init__.py").exists()] == []


@pytest.mark.skipif(
    importlib.util.find_spec("grpc_tools") is None, reason="grpc_tools makes the stubs"
)
def test_the_generated_stubs_are_fresh(tmp_path: Path) -> None:
    subprocess.run(
        [ROOT / "scripts" / "generate", tmp_path],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        check=True,
    )

    generated = _stubs(tmp_path)

    assert len(generated) >= 4
    assert _stubs(ROOT / "cluster") == generated


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git knows which files are the project's")
def test_no_file_names_a_package_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    paths = [ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]

    naming = [
        (str(path.relative_to(ROOT)), host.decode())
        for path in paths
        if path.is_file()
        for host in PACKAGE_HOSTS
        if host in path.read_bytes()
    ]

    assert paths
    assert naming == []


def _stubs(directory: Path) -> dict[Path, str]:
    return {path.relative_to(directory): path.read_text() for path in directory.rglob("*_pb2*.py*")}
