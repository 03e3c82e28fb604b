"""The chart as a part of another one."""

import shutil

import pytest
import yaml
from chart import CHART, HELMS, manifests, pick, run

PARENT = """
apiVersion: v2
name: platform
version: 1.0.0
dependencies:
  - { name: eni-gateway, version: ">=0.1.0", repository: "file://../eni-gateway", condition: eni-gateway.enabled }
"""
VALUES = """
global: { storageClass: fast }
eni-gateway:
  enabled: true
  config: { grpc: { allow_plaintext: true }, ledger: { url: redis://platform-redis:6379/0 } }
  # The Redis of the same release does not exist yet when a pre-install hook runs.
  ledgerInit: { enabled: false }
  credentials: { mode: secret, secret: { name: ens-key } }
"""


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("platform")
    (folder / "templates").mkdir()
    (folder / "Chart.yaml").write_text(PARENT)
    (folder / "values.yaml").write_text(VALUES)
    shutil.copytree(CHART, folder / "charts/eni-gateway")
    return folder


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_it_is_a_part_of_another_chart(helm, parent):
    linted = run(helm, "lint", parent)
    assert linted.returncode == 0 and "[ERROR]" not in linted.stdout, linted.stdout
    rendered = run(helm, "template", "platform", parent, "--namespace", "edge")
    assert rendered.returncode == 0, rendered.stderr
    documents = manifests(rendered.stdout)
    assert pick(documents, "Deployment")["metadata"]["name"] == "platform-eni-gateway"
    assert not [document for document in documents if document["kind"] == "Job"]


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_its_condition_leaves_it_out(helm, parent):
    rendered = run(helm, "template", "platform", parent, "--set", "eni-gateway.enabled=false")
    assert rendered.returncode == 0, rendered.stderr
    assert list(filter(None, yaml.safe_load_all(rendered.stdout))) == []


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_its_faults_are_reported_there_too(helm, parent):
    rendered = run(helm, "template", "platform", parent, "--set", "eni-gateway.credentials.mode=")
    assert rendered.returncode != 0 and "credentials.mode is not set" in rendered.stderr, rendered.stderr
