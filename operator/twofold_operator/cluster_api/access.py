"""Where the API server is, and how to be let in: in a pod, or by a kubeconfig."""

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twofold_operator.cluster_api.errors import ClusterApiError

HEADERS_LAST_SECONDS = 30.0
"""Tokens are read again after this: a pod's is replaced on disk an hour before it ends."""

_KUBECONFIG = Path("~/.kube/config")
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(slots=True)
class Access:
    """The server's URL and TLS context; headers are asked for before each request."""

    server: str
    tls: ssl.SSLContext | None
    _read_headers: Callable[[], Mapping[str, str]]
    _headers: Mapping[str, str] = field(default_factory=dict)
    _read_at: float | None = None

    async def headers(self, *, fresh: bool = False) -> Mapping[str, str]:
        """The headers that say who we are. A kubeconfig may start a program for them."""
        now = time.monotonic()
        if fresh or self._read_at is None or now - self._read_at > HEADERS_LAST_SECONDS:
            self._headers = await asyncio.to_thread(self._read_headers)
            self._read_at = now
        return self._headers


def find_access() -> Access:
    """As every Kubernetes client does: KUBECONFIG, ``~/.kube/config``, then the pod's account.

    Raises:
        ClusterApiError: there is no configuration.
    """
    # Here and not above: the client takes a second to import, which --help need not wait for.
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    configuration = client.Configuration()
    # The client itself knows the variable as it was when it was imported, and prints what it does.
    path = os.environ.get("KUBECONFIG")
    try:
        if path or _KUBECONFIG.expanduser().exists():
            config.load_kube_config(path or None, client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        raise ClusterApiError(f"no access to a Kubernetes cluster: {error}") from error

    def read_headers() -> dict[str, str]:
        settings: Iterable[Any] = configuration.auth_settings().values()
        return {one["key"]: one["value"] for one in settings if one["in"] == "header"}

    return Access(configuration.host.rstrip("/"), _tls(configuration), read_headers)


def own_namespace() -> str:
    """The namespace of this pod, or ``default`` outside of one."""
    try:
        return _NAMESPACE_FILE.read_text().strip() or "default"
    except OSError:
        return "default"


def _tls(configuration: Any) -> ssl.SSLContext | None:
    if not configuration.host.startswith("https:"):
        return None
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
