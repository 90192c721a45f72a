"""Valkey's password is the Secret's text, whatever is in it, on both sides of the chart."""

import asyncio
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as NobodyListensError

from twofold_cli.installation import find_valkey
from twofold_cluster.membership.entries import connect
from twofold_operator.__main__ import parser, settings_of

from .charts import needs_helm, shown

pytestmark = needs_helm

START_SECONDS = 10.0


@pytest.mark.parametrize("password", ["plain", "p@ss/w?o#r:d", "p%40ss", "a\"b\\c$(d) 'e", "é\n"])
def test_what_the_operator_makes_of_the_secret_opens_valkey(password: str, tmp_path: Path) -> None:
    port = _free_port()
    files = _shown("valkey/config.yaml", port)["data"]
    binary = find_valkey()
    assert binary is not None, "scripts/install dev"
    configuration = files["valkey.conf"].replace("dir /data", f"dir {tmp_path}")
    (tmp_path / "valkey.conf").write_text(configuration)
    (tmp_path / "run").mkdir()
    environment = {
        "PATH": f"{binary.parent}:{os.environ['PATH']}",
        "VALKEY_CONFIG": str(tmp_path),
        "VALKEY_RUN": str(tmp_path / "run"),
        "REDISCLI_AUTH": password,
    }
    with subprocess.Popen(["sh", "-c", files["start.sh"]], env=environment) as valkey:
        try:
            assert asyncio.run(_ping(_url_of_the_operator(port, password)))
        finally:
            valkey.kill()


def _url_of_the_operator(port: int, password: str) -> str:
    """Return the membership's URL that the operator makes of what the chart tells it."""
    pod = _shown("operator/deployment.yaml", port)["spec"]["template"]["spec"]
    told = {
        each["name"]: each.get("value", password)
        for each in pod["containers"][0]["env"]
        if each["name"].startswith("TWOFOLD_REDIS")
    }
    url = settings_of(parser(told).parse_args([]), told).plan.redis_url
    return url.replace("t-twofold-valkey.demo.svc", "127.0.0.1")


async def _ping(url: str) -> bool:
    """Ask until Valkey listens."""
    give_up_at = time.monotonic() + START_SECONDS
    async with connect(url) as redis:
        while True:
            try:
                return bool(await redis.ping())
            except NobodyListensError:
                if time.monotonic() > give_up_at:
                    raise
                await asyncio.sleep(0.02)


def _shown(template: str, port: int) -> dict[str, Any]:
    return shown(template, f"--set=valkey.port={port}", "--set=valkey.auth.existingSecret=mine")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
