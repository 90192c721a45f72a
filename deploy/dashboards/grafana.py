"""Grafana's JSON of a dashboard (schema 39: Grafana 11; 12 reads it too)."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

from deploy.dashboards.panels import Dashboard, Panel, Query, Row, Step

SCHEMA_VERSION = 39
COLUMNS = 24

_SIZES = {"stat": (4, 4), "timeseries": (8, 8)}
"""Width and height."""

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_UNITS = {"tps": "suffix: tokens/s"}


def grafana_json(dashboard: Dashboard) -> str:
    """Write *dashboard* as Grafana imports it; the same bytes for the same dashboard."""
    return json.dumps(_model(dashboard), indent=1) + "\n"


def _model(dashboard: Dashboard) -> dict[str, Any]:
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["twofold"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "title": "Twofold",
                "tags": ["twofold"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "templating": {"list": list(_variables())},
        "panels": list(_panels(dashboard)),
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
    }
    yield _query_variable("namespace", "label_values(twofold_router_workers, namespace)")
    selected = 'twofold_router_workers{namespace=~"$namespace"}'
    yield _query_variable("service", f"label_values({selected}, service)")


def _query_variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"{name}-values"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        # Finds what has no such label, too: outside Kubernetes nothing has a namespace.
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    ids = itertools.count(1)
    top = 0
    for row in dashboard.rows:
        yield _row(row, next(ids), top)
        top += 1
        for panel, position in _flow(row.panels, top):
            yield _panel(panel, next(ids), position)
            top = max(top, position["y"] + position["h"])


def _flow(panels: tuple[Panel, ...], top: int) -> Iterator[tuple[Panel, dict[str, int]]]:
    """Set *panels* from left to right, as words in lines."""
    left, height = 0, 0
    for panel in panels:
        width, own_height = _SIZES[panel.kind]
        if left + width > COLUMNS or (left > 0 and own_height != height):
            left, top = 0, top + height
        height = own_height
        yield panel, {"x": left, "y": top, "w": width, "h": height}
        left += width


def _row(row: Row, panel_id: int, top: int) -> dict[str, Any]:
    return {
        "id": panel_id,
        "type": "row",
        "title": row.title,
        "collapsed": False,
        "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
        "panels": [],
    }


def _panel(panel: Panel, panel_id: int, position: dict[str, int]) -> dict[str, Any]:
    names = (chr(letter) for letter in itertools.count(ord("A")))
    return {
        "id": panel_id,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": position,
        "targets": [_target(query, next(names), panel) for query in panel.queries],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _STAT_OPTIONS if panel.kind == "stat" else _GRAPH_OPTIONS,
    }


def _target(query: Query, name: str, panel: Panel) -> dict[str, Any]:
    return {
        "refId": name,
        "datasource": _DATASOURCE,
        "editorMode": "code",
        "expr": query.expression,
        "legendFormat": query.legend or "__auto",
        "instant": panel.kind == "stat",
        "range": panel.kind != "stat",
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": panel.base, "value": None}]
    steps += [_step(step) for step in panel.steps]
    defaults: dict[str, Any] = {
        "unit": _UNITS.get(panel.unit, panel.unit),
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
    }
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 20 if panel.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if panel.steps else "off"},
        }
    return defaults


def _step(step: Step) -> dict[str, Any]:
    return {"color": step.colour, "value": step.above}


_STAT_OPTIONS = {
    "colorMode": "value",
    "graphMode": "none",
    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
}
_GRAPH_OPTIONS = {
    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
    "tooltip": {"mode": "multi", "sort": "desc"},
}
