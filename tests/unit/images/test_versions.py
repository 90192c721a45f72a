"""The versions of the images are those that the rest of the repository names."""

import re
import subprocess
import tomllib
from importlib.metadata import requires
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
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CHART = yaml.safe_load((ROOT / "helm" / "twofold" / "Chart.yaml").read_text())
VALUES = yaml.safe_load((ROOT / "helm" / "twofold" / "values.yaml").read_text())
NAMES = ("operator", "router", "sim", "worker")


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


def test_all_that_the_simulators_image_installs_is_pinned() -> None:
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    asked = {
        Requirement(text).name.lower().replace("_", "-")
        for text in (requires("ray") or [])
        if (marker := Requirement(text).marker) is None or marker.evaluate({"extra": "default"})
    }

    assert asked - pinned == set()
