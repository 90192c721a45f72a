"""The operator as a process, with the rights that the chart gives it and no others."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from .control_plane import free_ports, tied, write_kubeconfig
from .kubectl import Kubectl

REPOSITORY = Path(__file__).parents[2]
HELM = REPOSITORY / ".venv" / "bin" / "helm"
PARTS = ("rbac/services", "rbac/lease", "operator/service-account", "operator/deployment")
START_SECONDS = 120.0
LEASE_SECONDS = 10
"""Shorter than the default, since who takes over from a killed one waits for as long. An operator
that cannot renew for two thirds of it ends, which is short where other processes have the cores."""
REDIS_URL = "redis://:secret@redis.example:6379/0"


class Chart:
    """What the chart makes of the operator in one namespace: an account, rights and a command."""

    def __init__(self, kubectl: Kubectl, *, apply: bool = True) -> None:
        self._kubectl = kubectl
        rendered = subprocess.run(
            [
                str(HELM),
                "template",
                "twofold",
                str(REPOSITORY / "helm" / "twofold"),
                f"--namespace={kubectl.namespace}",
                "--set=redis.url=redis://redis.example:6379/0",
                *(f"--show-only=templates/{part}.yaml" for part in PARTS),
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        manifests = [each for each in yaml.safe_load_all(rendered) if each]
        self.roles = [each for each in manifests if each["kind"] in ("Role", "ClusterRole")]
        pod = next(each for each in manifests if each["kind"] == "Deployment")["spec"]["template"]
        self._account = pod["spec"]["serviceAccountName"]
        container = pod["spec"]["containers"][0]
        self.command: list[str] = [*container["command"], *container["args"]]
        if apply:
            kubectl.apply(*(each for each in manifests if each["kind"] != "Deployment"))

    @property
    def user(self) -> str:
        """The operator's name in the audit log."""
        return f"system:serviceaccount:{self._kubectl.namespace}:{self._account}"

    def write_kubeconfig(self, path: Path) -> None:
        """Write a kubeconfig for the operator's account."""
        token = self._kubectl.run("create", "token", self._account, "--duration=2h").strip()
        shown = self._kubectl.run(
            *("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
        )
        write_kubeconfig(path, json.loads(shown)["clusters"][0]["cluster"], token)


class Operator:
    """A process of the operator. ``proxy`` is where it finds the names of Services."""

    def __init__(
        self, chart: Chart, directory: Path, proxy: str, name: str, redis_url: str = REDIS_URL
    ) -> None:
        self._log = directory / f"{name}.log"
        self._kubeconfig = directory / f"{name}.kubeconfig"
        self._chart = chart
        self._proxy = proxy
        self.redis_url = redis_url
        self._name = name
        self.flags: tuple[str, ...] = ()
        self._lives = 0
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start a process; it is ready, or waits for its turn, when this returns."""
        assert self._process is None
        self._chart.write_kubeconfig(self._kubeconfig)
        self._lives += 1
        (self._port,) = free_ports(1)
        command = [sys.executable if word == "python" else word for word in self._chart.command]
        flags: Sequence[str] = (
            "--host=127.0.0.1",
            f"--metrics-port={self._port}",
            f"--identity={self._name}-{self._lives}",
            f"--lease-seconds={LEASE_SECONDS}",
            *self.flags,
        )
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                tied([*command, *flags]),
                env={
                    **os.environ,
                    "KUBECONFIG": str(self._kubeconfig),
                    "TWOFOLD_REDIS_URL": self.redis_url,
                    "grpc_proxy": self._proxy,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        give_up_at = time.monotonic() + START_SECONDS
        while not self.is_ready():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < give_up_at, self.log()
            time.sleep(0.1)

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> int:
        """End it as Kubernetes does; return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=START_SECONDS)
        self._process = None
        return code

    def close(self) -> None:
        if self._process is not None:
            self.kill()

    def is_ready(self) -> bool:
        try:
            self._get("/readyz")
        except OSError:
            return False
        return True

    def metric(self, sample: str) -> float:
        """Return a sample of /metrics, 0 if there is none."""
        lines = self._get("/metrics").splitlines()
        values = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return next((float(value) for name, _, value in values if name == sample), 0.0)

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-5000:] if self._log.exists() else ""

    def _get(self, path: str) -> str:
        url = f"http://127.0.0.1:{self._port}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            content: bytes = answer.read()
        return content.decode()


def rules_of(roles: Sequence[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """Return each right of *roles* as group, resource and verb."""
    return {
        (group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
