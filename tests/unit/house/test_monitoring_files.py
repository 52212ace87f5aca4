"""The files for Prometheus and Grafana name the metrics, services and alerts that docs/monitoring.md names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "monitoring"
PAGE = (ROOT / "docs" / "monitoring.md").read_text()
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana/dashboards/facet.json").read_text())
ARCHIVE: dict[str, Any] = json.loads((FOLDER / "grafana/dashboards/archive.json").read_text())
GRAPHS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in GRAPHS for target in panel["targets"]]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def documented() -> dict[str, set[str]]:
    """Return the labels of each metric in the tables of the page."""
    cells = " ".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `facet_"))
    return {
        name: set(labels.split(",")) - {""} for name, labels in re.findall(r"`(facet_\w+)(?:\{([\w,]+)\})?`", cells)
    }


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for query in QUERIES for name in re.findall(r"\bfacet_\w+", query)}
    assert len(shown) > 25
    assert shown == set(documented())


@pytest.mark.parametrize("query", QUERIES)
def test_queries_use_labels_that_metrics_have(query: str) -> None:
    (metric,) = set(re.findall(r"\bfacet_\w+", query))
    asked = {label for group in re.findall(r"\bby \(([^)]+)\)", query) for label in re.split(r",\s*", group)}
    asked |= set(re.findall(r"[{,](\w+)=", query))
    assert asked - {"instance"} <= documented()[metric]
    assert query.count("(") == query.count(")")
    if metric.endswith("_total"):
        assert re.search(rf"\b(rate|increase)\({metric}", query), "a counter is shown by how fast it grows"


def test_legends_name_labels_that_are_left() -> None:
    for target in (target for panel in GRAPHS for target in panel["targets"]):
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        left = {label for group in re.findall(r"by \(([^)]+)\)", target["expr"]) for label in re.split(r",\s*", group)}
        assert named == left


def test_panels_use_the_data_source_that_is_provided() -> None:
    source = data_source("prometheus")
    used = [place["datasource"] for panel in GRAPHS for place in (panel, *panel["targets"])]
    assert all(one == {"type": "prometheus", "uid": source["uid"]} for one in used)
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/facet.yml").read_text())["providers"]
    mounts = dict(mount.split(":")[:2] for mount in SERVICES["grafana"]["volumes"])
    assert mounts["./deploy/monitoring/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/monitoring/grafana/provisioning"] == "/etc/grafana/provisioning"


def data_source(name: str) -> dict[str, Any]:
    """Return the only data source of a file."""
    (source,) = yaml.safe_load((FOLDER / f"grafana/provisioning/datasources/{name}.yml").read_text())["datasources"]
    return dict(source)


def test_the_dashboard_of_the_data_asks_the_database_as_its_reader() -> None:
    source = data_source("facet")
    used = {"type": source["type"], "uid": source["uid"]}
    (variable,) = ARCHIVE["templating"]["list"]
    assert variable["datasource"] == used
    for panel in (panel for panel in ARCHIVE["panels"] if panel["type"] != "row"):
        (target,) = panel["targets"]
        assert panel["datasource"] == target["datasource"] == used
        assert target["rawQuery"]
        assert target["format"] == ("time_series" if panel["type"] == "timeseries" else "table")
    assert ARCHIVE["uid"] != DASHBOARD["uid"]
    address = re.sub(r"\$\{[^}]*\}", "password", SERVICES["beat"]["environment"]["FACET_READER_DATABASE_URL"])
    place = f"{source['user']}:password@{source['url']}/{source['jsonData']['database']}"
    assert address == f"postgresql://{place}"
    assert source["secureJsonData"] == {"password": "$FACET_READER_PASSWORD"}
    assert "FACET_READER_PASSWORD" in SERVICES["grafana"]["environment"]


@pytest.mark.parametrize("dashboard", [DASHBOARD, ARCHIVE], ids=lambda dashboard: dashboard["title"])
def test_panels_lie_beside_each_other(dashboard: dict[str, Any]) -> None:
    places = [(place["x"] + x, place["y"] + y) for place in (panel["gridPos"] for panel in dashboard["panels"])
              for x in range(place["w"]) for y in range(place["h"])]  # fmt: skip
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_prometheus_asks_the_programs_of_the_compose_file() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (scrape,) = config["scrape_configs"]
    (found,) = scrape["dns_sd_configs"]
    assert set(found["names"]) <= set(SERVICES)
    assert all(f"`{name}:{found['port']}`" in PAGE for name in found["names"])
    assert f"`FACET_METRICS_PORT={found['port']}`" in PAGE
    assert scrape["honor_labels"], "without it, the label `job` of a metric would be renamed"
    assert config["rule_files"] == ["alerts.yml"]


def test_the_alerts_are_those_of_the_page() -> None:
    shown = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])
    assert yaml.safe_load((FOLDER / "alerts.yml").read_text()) == shown
    used = {name for rule in shown["groups"][0]["rules"] for name in re.findall(r"\bfacet_\w+", rule["expr"])}
    assert used <= set(documented())
