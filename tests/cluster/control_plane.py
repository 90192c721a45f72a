"""A real Kubernetes API server on this machine: what scripts/kube-apiserver has built."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

Manifest = dict[str, Any]

START_SECONDS = 120.0
ADMIN_TOKEN = "an-administrator-of-this-test-alone"
LATER_KINDS = (
    "policy/v1 PodDisruptionBudget",
    "autoscaling/v2 HorizontalPodAutoscaler",
    "networking.k8s.io/v1 NetworkPolicy",
)
"""What the operator and the examples make, and the older API server has not, or without fields
that they have: ``endPort`` of a NetworkPolicy."""

OLDER_GROUP = "networking.k8s.io/v1"
"""Which the API server leaves to its later kinds, with the admission that reads it."""

NEEDS_LATER_KINDS = (
    "ValidatingAdmissionPolicy",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionWebhook",
)
"""Admission that would wait for kinds, or versions of them, that the API server has not."""
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DELEGATIONS_PATH = "/apis/apiregistration.k8s.io/v1/apiservices"
SERVICES_PATH = "/api/v1/namespaces"
CUSTOM_SERVICE = {"name": "custom-resources", "namespace": "kube-system"}

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


class ClusterError(Exception):
    """The API server refused; the message is its own."""


def binaries() -> Path:
    """Return where scripts/kube-apiserver leaves what it builds."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "twofold" / "kube-apiserver-1"


class ControlPlane:
    """etcd, kube-apiserver, and behind it the server of custom resources, on loopback.

    Kubernetes' own aggregation joins the two: requests, users, RBAC and the audit log are the API
    server's for all kinds. There is no kubelet and no controller: nothing starts, and nothing is
    collected, but by what the tests do.
    """

    PROGRAMS = ("etcd", "kube-apiserver", "apiextensions-apiserver")

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._url = ""
        self._custom_url = ""
        self._delegated: set[str] = set()

    @property
    def kubeconfig(self) -> Path:
        """An administrator's, for the API server."""
        return self._directory / "admin.kubeconfig"

    @property
    def custom_url(self) -> str:
        """Where the server of custom resources is, which holds their definitions."""
        return self._custom_url

    @property
    def address(self) -> dict[str, Any]:
        """How a kubeconfig names the server."""
        return {"server": self._url, "insecure-skip-tls-verify": True}

    @property
    def audit_log(self) -> Path:
        return self._directory / "audit.log"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for _, process in reversed(self._processes):
            process.kill()
            process.wait()
        self._processes.clear()

    def define(self, definitions: Sequence[Manifest]) -> None:
        """Have the custom resources of *definitions* (CRDs) served.

        Raises:
            ClusterError: the server refused a definition.
        """
        for definition in definitions:
            self._ask(self._custom_url, CRD_PATH, definition)
            path = f"{CRD_PATH}/{definition['metadata']['name']}"
            self._wait_until(f"{path} is established", partial(self._is_established, path))
        for definition in definitions:
            spec = definition["spec"]
            for version in spec["versions"]:
                self._delegate(spec["group"], version["name"])
        for definition in definitions:
            self._wait_until(
                f"{definition['metadata']['name']} is served",
                partial(self._is_served, definition["spec"]),
            )

    def define_loosely(self, api_version: str, kind: str) -> None:
        """Have a kind served whose objects may hold anything, as a stand-in for the real one."""
        group, _, version = api_version.partition("/")
        self.define([anything(group, version, kind)])

    @contextmanager
    def lacking(self, api_version: str, kind: str) -> Iterator[None]:
        """Serve a kind that was defined loosely no more until the end of the block."""
        group, _, version = api_version.partition("/")
        definition = anything(group, version, kind)
        name = definition["metadata"]["name"]
        self._ask(self._custom_url, f"{CRD_PATH}/{name}", method="DELETE")
        self._wait_until(f"{name} has gone", lambda: not self._is_served(definition["spec"]))
        try:
            yield
        finally:
            self.define([definition])

    def _start(self) -> None:
        etcd, peer, port, custom_port = free_ports(4)
        etcd_url = f"http://127.0.0.1:{etcd}"
        self._run(
            "etcd",
            f"--data-dir={self._directory / 'etcd'}",
            f"--listen-client-urls={etcd_url}",
            f"--advertise-client-urls={etcd_url}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        )
        self._make_keys()
        self._url = f"https://127.0.0.1:{port}"
        self._run("kube-apiserver", *self._api_server_flags(etcd_url, port))
        self._wait_until_ready(self._url)
        write_kubeconfig(self.kubeconfig, self.address, ADMIN_TOKEN)
        self._custom_url = f"https://127.0.0.1:{custom_port}"
        self._run("apiextensions-apiserver", *self._custom_flags(etcd_url, custom_port))
        self._wait_until_ready(self._custom_url)
        self._ask(self._url, f"{SERVICES_PATH}/kube-system/services", self._custom_service())
        for later in LATER_KINDS:
            self.define_loosely(*later.split())

    def _api_server_flags(self, etcd_url: str, port: int) -> list[str]:
        at = self._directory
        (at / "tokens.csv").write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n')
        (at / "audit.json").write_text(json.dumps(AUDIT_POLICY))
        return [
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={at / 'certificates'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={at / 'accounts.key'}",
            f"--service-account-key-file={at / 'accounts.key'}",
            f"--token-auth-file={at / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--runtime-config={OLDER_GROUP}=false",
            # No controller gives accounts to pods here, and nobody serves classes of Ingresses.
            "--disable-admission-plugins=ServiceAccount,DefaultIngressClass",
            f"--audit-log-path={self.audit_log}",
            f"--audit-policy-file={at / 'audit.json'}",
            f"--requestheader-client-ca-file={at / 'front-ca.crt'}",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={at / 'front.crt'}",
            f"--proxy-client-key-file={at / 'front.key'}",
        ]

    def _custom_flags(self, etcd_url: str, port: int) -> list[str]:
        return [
            f"--etcd-servers={etcd_url}",
            "--etcd-prefix=/custom",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={self._directory / 'custom-certificates'}",
            *(
                f"--{purpose}kubeconfig={self.kubeconfig}"
                for purpose in ("", "authentication-", "authorization-")
            ),
            "--enable-priority-and-fairness=false",
            "--disable-admission-plugins=" + ",".join(NEEDS_LATER_KINDS),
        ]

    def _run(self, name: str, *flags: str) -> None:
        with (self._directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                tied([str(binaries() / name), *flags]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes.append((name, process))

    def _make_keys(self) -> None:
        """Make the key of service accounts, and the certificate of the API server as a proxy."""
        self._openssl("genrsa", "-out", "accounts.key", "2048")
        authority = ["-keyout", "front-ca.key", "-out", "front-ca.crt", "-subj", "/CN=front-ca"]
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *authority)
        front = ["-keyout", "front.key", "-out", "front.csr", "-subj", "/CN=front"]
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", *front)
        signer = ["-CA", "front-ca.crt", "-CAkey", "front-ca.key", "-CAcreateserial", "-days", "2"]
        self._openssl("x509", "-req", "-in", "front.csr", "-out", "front.crt", *signer)

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments],
            cwd=self._directory,
            check=True,
            capture_output=True,
            timeout=START_SECONDS,
        )

    def _wait_until_ready(self, url: str) -> None:
        self._wait_until(f"{url} is ready", lambda: self._ask(url, "/readyz") is not None)

    def _wait_until(self, what: str, is_so: Callable[[], bool]) -> None:
        give_up_at = time.monotonic() + START_SECONDS
        problem: Exception | None = None
        while time.monotonic() < give_up_at:
            self._check_processes()
            try:
                if is_so():
                    return
            except (OSError, ClusterError) as error:
                problem = error
            time.sleep(0.1)
        raise TimeoutError(f"not within {START_SECONDS:g} s: {what} ({problem})")

    def _ask(
        self, url: str, path: str, given: Manifest | None = None, method: str | None = None
    ) -> Any:
        """GET *path* as the administrator, or POST *given* to it, unless *method* says otherwise.

        Raises:
            ClusterError: the server refused.
        """
        request = urllib.request.Request(
            url + path,
            data=None if given is None else json.dumps(given).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {ADMIN_TOKEN}",
                "Content-Type": "application/json",
            },
        )
        unverified = ssl._create_unverified_context()
        try:
            with urllib.request.urlopen(request, timeout=30, context=unverified) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise ClusterError(f"{path}: {error.read().decode()}") from None
        return json.loads(content) if content.startswith(b"{") else content

    def _is_established(self, path: str) -> bool:
        return _has(self._ask(self._custom_url, path), "Established")

    def _check_processes(self) -> None:
        for name, process in self._processes:
            if process.poll() is not None:
                log = (self._directory / f"{name}.log").read_text(errors="replace")
                raise RuntimeError(f"{name} has ended with {process.returncode}: {log[-3000:]}")

    def _custom_service(self) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": CUSTOM_SERVICE,
            "spec": {
                "type": "ExternalName",
                "externalName": "localhost",
                "ports": [{"port": self._custom_port}],
            },
        }

    @property
    def _custom_port(self) -> int:
        return int(self._custom_url.rpartition(":")[2])

    def _delegate(self, group: str, version: str) -> None:
        """Have the API server pass requests for a group on to the server of custom resources."""
        name = f"{version}.{group}"
        delegation = {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": name},
            "spec": {
                "group": group,
                "version": version,
                "groupPriorityMinimum": 20_000,
                "versionPriority": 100,
                "insecureSkipTLSVerify": True,
                "service": {**CUSTOM_SERVICE, "port": self._custom_port},
            },
        }
        if name not in self._delegated:
            self._ask(self._url, DELEGATIONS_PATH, delegation)
            self._delegated.add(name)

    def _is_served(self, spec: Manifest) -> bool:
        """Return whether the API server names the kind among those it has."""
        names = {
            resource["name"]
            for version in spec["versions"]
            for resource in self._ask(self._url, f"/apis/{spec['group']}/{version['name']}")[
                "resources"
            ]
        }
        return spec["names"]["plural"] in names


def _has(found: Manifest, condition: str) -> bool:
    """Return whether an object's condition is true."""
    conditions = found.get("status", {}).get("conditions") or []
    return any(each["type"] == condition and each["status"] == "True" for each in conditions)


def anything(group: str, version: str, kind: str) -> Manifest:
    """Return the CRD of a kind whose objects may hold anything."""
    plural = f"{kind.lower().removesuffix('y')}ies" if kind.endswith("y") else f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    approval = {"api-approved.kubernetes.io": "unapproved, a stand-in"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": approval if group.endswith(".k8s.io") else {},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def write_kubeconfig(path: Path, cluster: dict[str, Any], token: str) -> None:
    """Write a kubeconfig for whoever has *token*; JSON is YAML."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "me", "user": {"token": token}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
        "current-context": "it",
    }
    path.write_text(json.dumps(content))


def free_ports(count: int) -> Sequence[int]:
    """Return ports that nobody had a moment ago, all of them different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def tied(command: Sequence[str]) -> list[str]:
    """Return *command* so that the kernel ends it when the tests end, however that happens."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig=KILL", *command] if setpriv else list(command)
