"""A namespace with an operator, and whatever the cluster lacks for its services to live."""

from pathlib import Path
from typing import Any, Self

from .kubectl import Kubectl, Manifest
from .operators import REDIS_URL, Chart, Operator
from .standins import StandIns


class House:
    """What a scenario of one service stands on. Its name is ``sim``."""

    def __init__(
        self,
        kubectl: Kubectl,
        chart: Chart,
        stand_ins: StandIns | None,
        proxy: str,
        directory: Path,
        redis_url: str = REDIS_URL,
    ) -> None:
        self.kubectl = kubectl
        self.chart = chart
        self.restarts = False
        self._stand_ins = stand_ins
        self._proxy = proxy
        self._redis_url = redis_url
        self._directory = directory
        self._operators: list[Operator] = []
        self.operator = self._make_operator("first")

    def __enter__(self) -> Self:
        try:
            self.operator.start()
        except BaseException:
            self.operator.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for operator in self._operators:
            operator.close()

    def add_operator(self, name: str) -> Operator:
        operator = self._make_operator(name)
        operator.start()
        return operator

    def _make_operator(self, name: str) -> Operator:
        operator = Operator(self.chart, self._directory, self._proxy, name, self._redis_url)
        self._operators.append(operator)
        return operator

    def need_stand_ins(self, why: str) -> None:
        """Skip the test where workers are real; *why* is the reason."""

    def disturb(self) -> None:
        """Kill the operator, in a scenario that is about that, and start another."""
        if self.restarts:
            self.operator.kill()
            self.operator.start()

    def restart_with(self, *flags: str) -> None:
        """End the operator as Kubernetes does, and start one with *flags*."""
        self.operator.stop()
        self.operator.flags = flags
        self.operator.start()

    def move_redis(self, url: str) -> None:
        """Start the operator again with another Redis."""
        self.operator.stop()
        self.operator.redis_url = url
        self.operator.start()

    def delete(self) -> None:
        """Delete the service, and wait until it has gone."""
        self.kubectl.run("delete", "llm", "sim", "--wait=false")
        self.kubectl.wait_for("the service is gone", lambda: not self.kubectl.get("llm", "sim"))

    def break_all_but(self, revision: str) -> None:
        """Let engines of other revisions than *revision* never get ready."""
        assert self._stand_ins is not None
        self._stand_ins.works = {revision}

    def lose(self, pods: set[str]) -> None:
        """Let *pods* not end when they are deleted, as where their node is lost."""
        assert self._stand_ins is not None
        self._stand_ins.lost = pods

    def adapters_loaded(self) -> list[str]:
        assert self._stand_ins is not None
        return [
            adapter.name
            for manager in list(self._stand_ins.managers.values())
            for worker in manager.workers
            for adapter in worker.adapters
        ]

    def apply(self, manifest: Manifest) -> None:
        self.kubectl.apply(manifest)

    def make_ready(self, service: Manifest) -> Manifest:
        self.apply(service)
        self.wait_for_condition("Ready", "True")
        return self.wait_for_condition("Progressing", "False", "Complete")

    def service(self) -> Manifest:
        found = self.kubectl.get("llm", "sim")
        assert found is not None
        return found

    @staticmethod
    def condition(service: Manifest, kind: str) -> dict[str, Any]:
        conditions: list[dict[str, Any]] = service.get("status", {}).get("conditions", [])
        return next((each for each in conditions if each["type"] == kind), {})

    def reasons(self) -> set[str]:
        return {each["reason"] for each in self.service()["status"]["conditions"]}

    def wait_for_condition(self, kind: str, status: str, reason: str = "") -> Manifest:
        """Return the service when the condition is said of its newest spec."""

        def said() -> Manifest | None:
            service = self.service()
            found = self.condition(service, kind)
            is_current = found.get("observedGeneration") == service["metadata"]["generation"]
            is_so = found.get("status") == status and reason in ("", found["reason"])
            return service if is_current and is_so else None

        service: Manifest = self._wait(f"{kind} is {status} {reason}", said)
        return service

    def wait_for_role(self, role: str, *, desired: int, ready: int) -> Manifest:
        def said() -> Manifest | None:
            service = self.service()
            found = service.get("status", {}).get(role, {})
            return (
                service if (found.get("desired"), found.get("ready")) == (desired, ready) else None
            )

        service: Manifest = self._wait(f"{ready} of {desired} {role} workers are ready", said)
        return service

    def wait_for_rollout(self, *, other_than: str) -> str:
        """Return the revision that has replaced *other_than*, whose cluster has gone."""

        def done() -> str:
            service = self.service()
            revision: str = service.get("status", {}).get("revision", "")
            is_done = self.condition(service, "Progressing").get("reason") == "Complete"
            is_done = (
                is_done
                and self.condition(service, "Progressing")["observedGeneration"]
                == service["metadata"]["generation"]
            )
            return (
                revision if revision != other_than and is_done and self.is_alone(revision) else ""
            )

        return str(self._wait(f"another revision than {other_than} serves alone", done))

    def has_none(self, kind: str) -> bool:
        return not self.kubectl.list(kind, "app.kubernetes.io/instance=sim")

    def is_alone(self, revision: str) -> bool:
        """Tell whether nothing is left of other revisions."""
        return all(
            child["metadata"]["labels"].get("serving.twofold.dev/revision") in (None, revision)
            for kind in ("raycluster", "deployment", "service")
            for child in self.kubectl.list(kind, "app.kubernetes.io/instance=sim")
        )

    def only_cluster(self) -> Manifest | None:
        clusters = self.kubectl.list("raycluster", "app.kubernetes.io/instance=sim")
        return clusters[0] if len(clusters) == 1 else None

    def _wait(self, what: str, is_so: Any) -> Any:
        try:
            return self.kubectl.wait_for(what, is_so)
        except AssertionError as error:
            said = self.kubectl.run("get", "llm", "-o", "yaml")
            raise AssertionError(f"{error}\n{said}\n{self.operator.log()}") from error
