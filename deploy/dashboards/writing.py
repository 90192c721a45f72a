"""All that is generated here, by its path."""

from pathlib import Path

from deploy.dashboards import placement, platform, service, workers
from deploy.dashboards.alerts import GROUPS
from deploy.dashboards.grafana import grafana_json
from deploy.dashboards.panels import Dashboard
from deploy.dashboards.prometheus import rules_yaml
from deploy.dashboards.reference import reference

DASHBOARDS: tuple[Dashboard, ...] = (
    service.DASHBOARD,
    placement.DASHBOARD,
    workers.DASHBOARD,
    platform.DASHBOARD,
)

_CHART = Path("helm", "twofold")


def files() -> dict[Path, str]:
    """Return every file's text; the chart has copies, as it is packed without its surroundings."""
    rules = rules_yaml(GROUPS)
    found = {
        Path("docs", "metrics.md"): reference(DASHBOARDS),
        Path("deploy", "prometheus", "twofold.yaml"): rules,
        _CHART / "rules" / "twofold.yaml": rules,
    }
    for dashboard in DASHBOARDS:
        text, name = grafana_json(dashboard), f"{dashboard.uid}.json"
        found[Path("deploy", "grafana", name)] = text
        found[_CHART / "dashboards" / name] = text
    return found
