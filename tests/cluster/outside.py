"""An operator outside of the cluster that the user names, which has none of our images."""

from pathlib import Path

from twofold_operator.planning.merging import merged

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
        self,
        kubectl: Kubectl,
        stand_ins: StandIns,
        proxy: str,
        directory: Path,
        image: str,
    ) -> None:
        kubectl.settle_seconds = SETTLE_SECONDS
        self._image = image
        super().__init__(kubectl, Chart(kubectl), stand_ins, proxy, directory)

    def apply(self, manifest: Manifest) -> None:
        if manifest["kind"] == "LLMService":
            told = {"gateway": {"podTemplate": self._asleep("router")}}
            manifest = {**manifest, "spec": merged(told, manifest["spec"])}
        # kubectl's own apply leaves out what is null, and with it what a sleeper must not have.
        self.kubectl.apply(manifest, options=("--server-side", "--force-conflicts"))

    def _asleep(self, container: str) -> Manifest:
        sleeper = {
            "name": container,
            "image": self._image,
            # Its own entry point, which reads none of the operator's arguments.
            "command": None,
            "readinessProbe": None,
            "livenessProbe": None,
        }
        return {"spec": {"containers": [sleeper]}}
