"""An operator outside of the cluster that the user names, which has none of our images."""

from pathlib import Path
from typing import Any

from .houses import House
from .kubectl import Kubectl, Manifest
from .operators import Chart
from .standins import StandIns

SETTLE_SECONDS = 300.0


class OutsideHouse(House):
    """A house before a whole cluster: what is there does its part, stand-ins the rest.

    Routers are pods of *image*, which sleeps; the cluster starts them and calls them available.
    """

    def __init__(
        self, kubectl: Kubectl, stand_ins: StandIns, proxy: str, directory: Path, image: str
    ) -> None:
        kubectl.settle_seconds = SETTLE_SECONDS
        self._image = image
        super().__init__(kubectl, Chart(kubectl), stand_ins, proxy, directory)

    def apply(self, manifest: Manifest) -> None:
        if manifest["kind"] == "LLMService":
            spec = manifest["spec"]
            template = {"spec": {"containers": [_sleeper(self._image)]}}
            gateway = {**spec.get("gateway", {}), "podTemplate": template}
            manifest = {**manifest, "spec": {**spec, "gateway": gateway}}
        super().apply(manifest)


def _sleeper(image: str) -> dict[str, Any]:
    return {
        "name": "router",
        "image": image,
        # Its own entry point, with an argument that it does not read.
        "command": None,
        "args": ["--in-place-of-a-router"],
        "readinessProbe": None,
        "livenessProbe": None,
    }
