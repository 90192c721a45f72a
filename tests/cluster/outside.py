"""An operator outside of the cluster that the user names, which has none of our images."""

from collections.abc import Sequence
from pathlib import Path

from twofold_operator.planning.merging import merged

from .houses import House
from .kubectl import Kubectl, Manifest
from .operators import REDIS_URL, Chart
from .standins import StandIns

SETTLE_SECONDS = 300.0


class OutsideHouse(House):
    """A house before a whole cluster: what is there does its part, stand-ins the rest.

    Routers, and pool managers on an existing Ray, are pods of *image*, which sleeps; the cluster
    starts them, and calls them available when their readiness *gates* are open.
    """

    def __init__(
        self,
        kubectl: Kubectl,
        stand_ins: StandIns,
        proxy: str,
        directory: Path,
        image: str,
        redis_url: str = REDIS_URL,
        gates: Sequence[str] = (),
    ) -> None:
        kubectl.settle_seconds = SETTLE_SECONDS
        self._image = image
        self._gates = [{"conditionType": gate} for gate in gates]
        super().__init__(kubectl, Chart(kubectl), stand_ins, proxy, directory, redis_url)

    def apply(self, manifest: Manifest) -> None:
        if manifest["kind"] == "LLMService":
            told = {"gateway": {"podTemplate": self._asleep("router")}}
            if "address" in manifest["spec"].get("ray", {}):
                told["ray"] = {"headPodTemplate": self._asleep("pools")}
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
        spec = {"containers": [sleeper]}
        return {"spec": {**spec, "readinessGates": self._gates} if self._gates else spec}
