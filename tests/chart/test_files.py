"""Alerts and dashboard are taken from the chart's files as they are; a copy of the chart without them says so."""

import shutil

import pytest
import yaml
from chart import CHART, HELM, MINIMUM, manifests, pick, render, run

ON = ["--set", "metrics.prometheusRule.enabled=true", "--set", "metrics.dashboard.enabled=true"]
# What templates would stumble over.
ALERTS = """groups:
  - name: gateway
    rules:
      - alert: Down
        expr: up == 0
        annotations: { summary: "{{ $labels.pod }} is down" }
"""
DASHBOARD = '{"title": "eni-gateway", "legend": "{{pod}}"}\n'


@pytest.fixture
def bare(tmp_path):
    """The chart without the files."""
    return shutil.copytree(CHART, tmp_path / "helm", ignore=shutil.ignore_patterns("files"))


def test_they_are_taken_as_they_are(bare):
    (bare / "files").mkdir()
    (bare / "files/alerts.yaml").write_text(ALERTS)
    (bare / "files/dashboard.json").write_text(DASHBOARD)
    rendered = run(HELM, "template", "gw", bare, "--values", MINIMUM, *ON)
    assert rendered.returncode == 0, rendered.stderr
    documents = manifests(rendered.stdout)
    assert pick(documents, "PrometheusRule")["spec"] == yaml.safe_load(ALERTS)
    dashboard = pick(documents, "ConfigMap", "-dashboard")
    assert dashboard["data"] == {"eni-gateway.json": DASHBOARD}
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"


@pytest.mark.parametrize("base", ["https://git.example/eni-gateway/operations.md", "https://git.example/eni-gateway/operations.md#"])
def test_alerts_lead_to_the_runbook_where_it_is_published(base):
    def rules(*arguments):
        rule = pick(manifests(render("minimum", *ON, *arguments)), "PrometheusRule")
        return [rule for group in rule["spec"]["groups"] for rule in group["rules"]]

    before, after = rules(), rules("--set", f"metrics.prometheusRule.runbookBaseUrl={base}")
    assert len(before) == len(after) > 0
    for old, new in zip(before, after, strict=True):
        page, anchor = old["annotations"]["runbook_url"].split("#")
        assert page == "docs/operations.md"
        old["annotations"]["runbook_url"] = f"https://git.example/eni-gateway/operations.md#{anchor}"
        assert old == new


@pytest.mark.parametrize("option", ["prometheusRule", "dashboard"])
def test_an_option_whose_file_is_missing_says_so(bare, option):
    asked = run(HELM, "template", "gw", bare, "--values", MINIMUM, "--set", f"metrics.{option}.enabled=true")
    assert asked.returncode != 0
    assert f"metrics.{option}.enabled is true" in asked.stderr, asked.stderr


def test_what_operators_and_sidecars_read_stands_where_they_look():
    named = []
    for option in ["serviceMonitor", "prometheusRule", "dashboard"]:
        for value in ["enabled=true", "namespace=monitoring", f"annotations.note={option}"]:
            named += ["--set", f"metrics.{option}.{value}"]
    documents = manifests(render("minimum", *named))
    for kind, suffix, note in [
        ("ServiceMonitor", "", "serviceMonitor"),
        ("PrometheusRule", "", "prometheusRule"),
        ("ConfigMap", "-dashboard", "dashboard"),
    ]:
        found = pick(documents, kind, suffix)["metadata"]
        assert (found["namespace"], found["annotations"]["note"]) == ("monitoring", note)
    # They are found in the release's own namespace.
    assert pick(documents, "ServiceMonitor")["spec"]["namespaceSelector"] == {"matchNames": ["edge"]}
