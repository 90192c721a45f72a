"""``python -m twofold_operator``: LLMServices to pools, routers and services."""

import argparse
import asyncio
import os
import socket
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from twofold_cluster.logs import log_json
from twofold_operator.cluster_api import ClusterApiError, find_access, own_namespace
from twofold_operator.planning import PlanSettings, with_password
from twofold_operator.settings import InvalidSettingError, OperatorSettings

USAGE_ERROR = 2

_DEFAULT: dict[str, Any] = {field.name: field.default for field in fields(OperatorSettings)}
_PLAN_DEFAULT: dict[str, Any] = {field.name: field.default for field in fields(PlanSettings)}


def main(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> int:
    """Run an operator until SIGTERM or SIGINT. Returns the exit code."""
    environment = os.environ if environment is None else environment
    parsed = parser(environment).parse_args(arguments)
    log_json(parsed.log_level)
    from twofold_operator.operating.running import run_operator

    try:
        settings = settings_of(parsed, environment)
        return asyncio.run(run_operator(settings, find_access()))
    except (InvalidSettingError, ClusterApiError) as error:
        sys.stderr.write(f"twofold_operator: {error}\n")
        return USAGE_ERROR


def parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """Each flag that names a variable takes its default from there."""
    made = argparse.ArgumentParser(
        prog="python -m twofold_operator",
        description="Turn LLMServices into pools of workers on Ray, routers and Services. "
        "The membership's Redis is named by TWOFOLD_REDIS_URL. Its password is in there, percent-"
        "encoded, or in TWOFOLD_REDIS_PASSWORD as it is.",
    )
    add = made.add_argument

    def add_from(variable: str, flag: str, default: object, help_: str) -> None:
        add(
            flag,
            default=environment.get(variable, default),
            type=type(default),
            help=f"{help_} (${variable}; default: %(default)s)",
        )

    add(
        "--namespace",
        action="append",
        dest="namespaces",
        metavar="NAME",
        help="operate the services of this namespace; repeat it; none: of all "
        "($TWOFOLD_NAMESPACES, separated by commas)",
    )
    add_from("TWOFOLD_ROUTER_IMAGE", "--router-image", _PLAN_DEFAULT["router_image"], "of routers")
    add_from("TWOFOLD_WORKER_IMAGE", "--worker-image", _PLAN_DEFAULT["worker_image"], "of engines")
    add_from("TWOFOLD_SIM_IMAGE", "--sim-image", _PLAN_DEFAULT["sim_image"], "of engine: sim")
    add(
        "--image-pull-secret",
        action="append",
        dest="image_pull_secrets",
        metavar="NAME",
        help="for the pods of the services; repeat it "
        "($TWOFOLD_IMAGE_PULL_SECRETS, separated by commas)",
    )
    add(
        "--no-network-policies", action="store_true", help="leave the workers open to their cluster"
    )
    add(
        "--scraping-namespace",
        action="append",
        dest="scraping_namespaces",
        metavar="NAME",
        help="Prometheus reaches the workers from here; repeat it "
        "($TWOFOLD_SCRAPING_NAMESPACES, separated by commas)",
    )
    add_from(
        "TWOFOLD_NAMESPACE",
        "--own-namespace",
        own_namespace(),
        "where the operator and its Lease are",
    )
    add("--lease-name", default=_DEFAULT["lease_name"], help="default: %(default)s")
    add("--identity", default="", help="who holds the Lease (default: made of the host's name)")
    add("--host", default=_DEFAULT["host"], help="address to listen on (default: all)")
    _add_numbers(made)
    add("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return made


def _add_numbers(made: argparse.ArgumentParser) -> None:
    def add(flag: str, type_: type, name: str, help_: str) -> None:
        help_ = f"{help_} (default: %(default)s)"
        made.add_argument(flag, type=type_, default=_DEFAULT[name], metavar="N", help=help_)

    add("--metrics-port", int, "port", "of /metrics, /healthz and /readyz; 0: a free one")
    add("--concurrency", int, "concurrency", "services reconciled at a time")
    add("--lease-seconds", float, "lease_seconds", "until a leader that is silent is replaced")
    add("--resync-seconds", float, "resync_seconds", "until everything is listed again")
    add("--discovery-seconds", float, "discovery_seconds", "until new APIs are looked for again")
    add("--request-timeout", float, "request_seconds", "of one API request, s")
    add("--max-backoff-seconds", float, "max_backoff_seconds", "between tries that fail")
    add(
        "--unreachable-seconds", float, "unreachable_seconds", "until a pool manager counts as gone"
    )


def settings_of(parsed: argparse.Namespace, environment: Mapping[str, str]) -> OperatorSettings:
    """Make the settings of flags and environment.

    Raises:
        InvalidSettingError: one is missing or out of its range.
    """

    def listed(given: list[str] | None, variable: str) -> tuple[str, ...]:
        names = given if given is not None else environment.get(variable, "").split(",")
        return tuple(name.strip() for name in names if name.strip())

    return OperatorSettings(
        plan=PlanSettings(
            redis_url=_redis_url(environment),
            router_image=parsed.router_image,
            worker_image=parsed.worker_image,
            sim_image=parsed.sim_image,
            image_pull_secrets=listed(parsed.image_pull_secrets, "TWOFOLD_IMAGE_PULL_SECRETS"),
            operator_namespace=parsed.own_namespace,
            network_policies=not parsed.no_network_policies,
            scraping_namespaces=listed(parsed.scraping_namespaces, "TWOFOLD_SCRAPING_NAMESPACES"),
        ),
        namespaces=listed(parsed.namespaces, "TWOFOLD_NAMESPACES"),
        namespace=parsed.own_namespace,
        identity=parsed.identity or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}",
        lease_name=parsed.lease_name,
        lease_seconds=parsed.lease_seconds,
        host=parsed.host,
        port=parsed.metrics_port,
        concurrency=parsed.concurrency,
        resync_seconds=parsed.resync_seconds,
        discovery_seconds=parsed.discovery_seconds,
        request_seconds=parsed.request_timeout,
        max_backoff_seconds=parsed.max_backoff_seconds,
        unreachable_seconds=parsed.unreachable_seconds,
    )


def _redis_url(environment: Mapping[str, str]) -> str:
    url = environment.get("TWOFOLD_REDIS_URL", "")
    password = environment.get("TWOFOLD_REDIS_PASSWORD", "")
    if not url:
        raise InvalidSettingError("TWOFOLD_REDIS_URL is not set")
    try:
        return with_password(url, password) if password else url
    except UnicodeEncodeError as error:
        raise InvalidSettingError("TWOFOLD_REDIS_PASSWORD is not UTF-8") from error
    except ValueError as error:
        raise InvalidSettingError(
            f"TWOFOLD_REDIS_PASSWORD has no place in TWOFOLD_REDIS_URL: {error}"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
