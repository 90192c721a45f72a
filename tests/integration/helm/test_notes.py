"""What NOTES.txt tells people to do next is what they can do."""

import json
from typing import Any

import jsonschema
import yaml

from .charts import CHART, ROOT, needs_helm, run_helm

pytestmark = needs_helm


def test_the_service_that_it_shows_fits_the_resource() -> None:
    _, _, shown = _notes().partition("<<END\n")
    service = yaml.safe_load(shown.partition("\n  END\n")[0])
    definition = yaml.safe_load((ROOT / "deploy" / "crds" / "llmservices.yaml").read_text())
    (version,) = definition["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]

    assert service["apiVersion"] == f"{definition['spec']['group']}/{version['name']}"
    assert service["kind"] == definition["spec"]["names"]["kind"]
    assert service["spec"].keys() <= schema["properties"]["spec"]["properties"].keys()
    jsonschema.validate(service, schema)


def test_it_names_a_namespace_that_is_watched() -> None:
    told = _notes(watchNamespaces=["team-a", "team-b"])

    assert "in the namespace demo." in told
    assert "kubectl apply --namespace team-a -f -" in told
    assert "kubectl get llm --namespace team-a --watch" in told


def test_it_names_helms_test_where_there_is_one() -> None:
    command = "helm test t --namespace demo --logs"

    assert command in _notes()
    assert command not in _notes(test={"enabled": False})


def test_it_says_how_to_install_what_makes_ray_clusters_as_the_guide_does() -> None:
    """Without a cluster nothing serves RayClusters."""
    guide = (ROOT / "docs" / "kubernetes.md").read_text()
    (command,) = (line.strip() for line in _notes().splitlines() if "ray-project/kuberay" in line)

    assert f"$ {command}\n" in guide


def _notes(**values: Any) -> str:
    flags = ("--namespace=demo", "--dry-run=client", "--output=json", "--values=-")
    done = run_helm("install", "t", CHART, *flags, values=values)
    assert done.returncode == 0, done.stderr
    told: str = json.loads(done.stdout)["info"]["notes"]
    return told
