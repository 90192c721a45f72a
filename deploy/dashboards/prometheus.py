"""Prometheus' YAML of the rules."""

from collections.abc import Iterable
from typing import Any

import yaml
from deploy.dashboards.alerts import Alert, Group, Recording

_HEADER = "# Made by scripts/generate of deploy/dashboards/alerts.py.\n"


def rules_yaml(groups: Iterable[Group]) -> str:
    """Write *groups* as a rule file, which is also the ``spec`` of a PrometheusRule."""
    written = {"groups": [_group(group) for group in groups]}
    return _HEADER + yaml.safe_dump(written, sort_keys=False, width=96)


def _group(group: Group) -> dict[str, Any]:
    return {"name": group.name, "rules": [_rule(rule) for rule in group.rules]}


def _rule(rule: Recording | Alert) -> dict[str, Any]:
    if isinstance(rule, Recording):
        return {"record": rule.name, "expr": rule.expression}
    return {
        "alert": rule.name,
        "expr": rule.expression,
        "for": rule.holds_for,
        "labels": {"severity": rule.severity},
        "annotations": {
            "summary": rule.summary,
            "description": rule.effect,
            "runbook": rule.runbook,
        },
    }
