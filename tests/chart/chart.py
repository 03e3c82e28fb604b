"""Real Helm, asked from the repository's root."""

import functools
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"
HERE = ROOT / "tests/chart"
TOOLS = ROOT / "target/chart-tools"
PROGRAM = ROOT / "target/debug/eni-gateway"
HELM = TOOLS / "helm-4.1.4"
HELMS = [HELM, TOOLS / "helm-3.17.3"]

# Every set of values that is tried: those of the tests, and the one for users.
SETS = {path.stem: path for path in sorted((HERE / "values").glob("*.yaml"))}
SETS["simulator"] = CHART / "values-simulator.yaml"
MINIMUM = SETS["minimum"]


def run(*command, **options):
    command = [str(part) for part in command]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)


def template(*arguments, helm=HELM, release="gw", namespace="edge"):
    """What `helm template` says."""
    return run(helm, "template", release, CHART, "--namespace", namespace, *arguments)


@functools.cache
def render(name, *arguments):
    """The manifests of a set of values, as text."""
    rendered = template("--values", SETS[name], *arguments)
    assert rendered.returncode == 0, rendered.stderr
    return rendered.stdout


def manifests(text):
    return [document for document in yaml.safe_load_all(text) if document]


def pick(documents, kind, suffix=""):
    """The one object of this kind whose name ends so."""
    found = [d for d in documents if d["kind"] == kind and d["metadata"]["name"].endswith(suffix)]
    assert len(found) == 1, f"{len(found)} of {kind} *{suffix}"
    return found[0]


def pod_specs(documents):
    """Every pod that would run, by the name of what makes it."""
    for document in documents:
        if document["kind"] in ("Deployment", "Job"):
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]
        elif document["kind"] == "Pod":
            yield document["metadata"]["name"], document["spec"]
