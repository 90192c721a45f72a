"""What Grafana asks of a dashboard."""

import itertools
import json
import re
from typing import Any

import pytest
from deploy.dashboards.grafana import COLUMNS, grafana_json
from deploy.dashboards.panels import Dashboard
from deploy.dashboards.writing import DASHBOARDS


@pytest.fixture(params=DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def dashboard(request: pytest.FixtureRequest) -> Dashboard:
    found: Dashboard = request.param
    return found


@pytest.fixture
def model(dashboard: Dashboard) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(grafana_json(dashboard))
    return found


def test_addresses_do_not_change() -> None:
    assert {each.uid for each in DASHBOARDS} == {
        "twofold-service",
        "twofold-placement",
        "twofold-workers",
        "twofold-platform",
    }


def test_panels_have_ids_of_their_own_and_do_not_overlap(model: dict[str, Any]) -> None:
    panels = model["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(cells)) == len(cells)
    assert all(0 <= x < COLUMNS for x, _ in cells)


def test_the_data_source_is_the_users_choice(model: dict[str, Any]) -> None:
    variables = [variable["name"] for variable in model["templating"]["list"]]
    targets = [target for panel in model["panels"] for target in panel.get("targets", ())]

    assert variables == ["datasource", "namespace", "service"]
    assert {target["datasource"]["uid"] for target in targets} == {"${datasource}"}


def test_every_panel_says_what_it_shows_and_in_which_unit(dashboard: Dashboard) -> None:
    for panel in dashboard.panels():
        assert panel.description.endswith("."), panel.title
        assert panel.unit, panel.title
        assert panel.queries, panel.title


def test_titles_tell_panels_apart(dashboard: Dashboard) -> None:
    titles = [panel.title for panel in dashboard.panels()]

    assert len(set(titles)) == len(titles)


def test_queries_select_what_the_variables_name(dashboard: Dashboard) -> None:
    for panel in dashboard.panels():
        for query in panel.queries:
            one = r'(?<!["|])(?:twofold_router_|twofold_kv_|vllm:)\w+(\{[^}]*\})?'
            several = r"(\{__name__[^}]*\})"
            series = [*re.findall(one, query.expression), *re.findall(several, query.expression)]
            for matchers in series:
                assert 'service=~"$service"' in matchers, query.expression


def test_thresholds_ascend_and_targets_have_names_of_their_own(model: dict[str, Any]) -> None:
    for panel in model["panels"]:
        if panel["type"] == "row":
            continue
        steps = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        names = [target["refId"] for target in panel["targets"]]

        assert steps[0] is None
        assert all(low < high for low, high in itertools.pairwise(steps[1:]))
        assert len(set(names)) == len(names)
