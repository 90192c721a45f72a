"""How a client of ours is let in where a kubeconfig lets kubectl in."""

import asyncio
from pathlib import Path

import pytest

from twofold_operator.cluster_api import Access, find_access

from .standins import Entrance


def access_of(kubeconfig: Path) -> Access:
    """Read *kubeconfig* as the operator does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(kubeconfig))
        return find_access()


def entrance_of(kubeconfig: Path) -> Entrance:
    access = access_of(kubeconfig)
    return Entrance(access.server, asyncio.run(access.headers()), access.tls)
