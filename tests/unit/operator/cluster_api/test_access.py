"""Who the operator is to the API server."""

import asyncio
from pathlib import Path

import pytest
from kubernetes.config import incluster_config

from twofold_operator.cluster_api import ClusterApiError, find_access


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


def test_in_a_pod_it_is_the_pods_account_and_says_nothing_about_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("mine")
    authority.write_text("of the cluster")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    monkeypatch.setattr("twofold_operator.cluster_api.access._tls", lambda _: None)

    access = find_access()

    assert access.server == "https://10.96.0.1:443"
    assert asyncio.run(access.headers()) == {"authorization": "bearer mine"}
    assert capsys.readouterr() == ("", "")


def test_outside_of_a_cluster_it_is_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ClusterApiError, match="no access to a Kubernetes cluster"):
        find_access()

    assert capsys.readouterr() == ("", "")
