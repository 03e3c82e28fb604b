"""What is rendered: the same as last time, the same by every Helm, and valid in every version of Kubernetes."""

import difflib
import re
import warnings

import pytest
import yaml
from chart import CHART, HELM, HELMS, HERE, SETS, manifests, pick, pod_specs, render, run, template

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kubernetes_validate

VERSIONS = [f"1.{minor}" for minor in range(30, 38)]
# Of the Prometheus operator: no schema of Kubernetes has them.
CUSTOM = {"ServiceMonitor", "PrometheusRule"}
# Kept whole; of the others only how they differ from the minimum.
WHOLE = {"minimum", "everything", "simulator"}

sets = pytest.mark.parametrize("name", SETS)


def compare(path, text, update):
    if update:
        path.write_text(text)
    assert path.exists(), f"no {path.name}: tests/chart/run --update"
    assert text == path.read_text(), f"{path.name} differs: tests/chart/run --update, and read the difference"


@sets
def test_it_renders_what_it_rendered_before(name, update):
    text = render(name)
    if name in WHOLE:
        compare(HERE / f"snapshots/{name}.yaml", text, update)
    else:
        lines = [each.splitlines() for each in (render("minimum"), text)]
        difference = "\n".join(difflib.unified_diff(*lines, "minimum", name, lineterm="", n=2))
        compare(HERE / f"snapshots/{name}.diff", difference + "\n", update)


@sets
def test_every_helm_renders_the_same(name):
    ordered = [
        sorted(yaml.safe_dump(d) for d in manifests(template("--values", SETS[name], helm=helm).stdout)) for helm in HELMS
    ]
    assert ordered[0] and ordered[0] == ordered[1]


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_lint_finds_nothing(helm):
    for values in SETS.values():
        linted = run(helm, "lint", "--strict", CHART, "--values", values)
        assert linted.returncode == 0, linted.stdout
        assert "[WARNING]" not in linted.stdout and "[ERROR]" not in linted.stdout, linted.stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_valid_in_every_version_of_kubernetes(version):
    # Many sets have many objects in common, and to look at one takes long.
    different = {yaml.safe_dump(document): document for name in SETS for document in manifests(render(name))}
    for document in different.values():
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, version, strict=True)


@sets
def test_every_pod_is_restricted(name):
    for pod, spec in pod_specs(manifests(render(name))):
        assert spec["automountServiceAccountToken"] is False, pod
        assert spec["enableServiceLinks"] is False, pod
        assert spec["securityContext"]["runAsNonRoot"] is True, pod
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, pod
        for container in spec["containers"] + spec.get("initContainers", []):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, container["name"]
            assert context["allowPrivilegeEscalation"] is False, container["name"]
            assert context["capabilities"] == {"drop": ["ALL"]}, container["name"]
            assert "cpu" not in container["resources"].get("limits", {}), container["name"]
            assert "memory" in container["resources"]["limits"], container["name"]


def scalars(node, path=()):
    """Every scalar, and the keys that lead to it."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from scalars(value, (*path, key))
    else:
        yield path, node


@pytest.mark.parametrize("name", ["everything", "simulator", "rrsa-token", "tls"])
@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_a_name_that_looks_like_a_number_stays_a_name(name, helm, tmp_path):
    # The name of Services must begin with a letter.
    values = tmp_path / "values.yaml"
    values.write_text("""
fullnameOverride: "null"
nameOverride: "123"
commonLabels: { number: "123" }
commonAnnotations: { number: "123" }
imagePullSecrets: [{ name: "123" }]
serviceAccount: { name: "123" }
priorityClassName: "123"
podLabels: { exponent: "1e3" }
podAnnotations: { exponent: "1e3" }
ledgerInit: { podLabels: { switch: "yes" }, podAnnotations: { switch: "yes" } }
service: { labels: { switch: "yes" }, annotations: { switch: "yes" } }
""")
    numbers = []
    if name == "tls":
        for value in ["tls.secretName", "tls.clientCaSecretName", "tls.clientCaKey", "tests.tlsSecretName"]:
            numbers += ["--set-string", f"{value}=123"]
        for value in ["passwordSecret.name", "passwordSecret.key", "caSecret.name", "caSecret.key", "clientCertSecretName"]:
            numbers += ["--set-string", f"redis.{value}=123"]
        for value in ["name", "accessKeyIdKey", "accessKeySecretKey", "securityTokenKey"]:
            numbers += ["--set-string", f"credentials.secret.{value}=123"]
    rendered = template("--values", SETS[name], "--values", values, *numbers, helm=helm, release="123", namespace="123")
    assert rendered.returncode == 0, rendered.stderr
    for document in manifests(rendered.stdout):
        for path, value in scalars(document):
            named = path[-1] in {"name", "namespace", "key", "secretName", "serviceAccountName", "priorityClassName", "cidr"}
            grouped = {"labels", "annotations", "matchLabels", "matchNames", "nodeSelector", "selector", "data"} & set(path)
            assert isinstance(value, str) if named or grouped else value not in (123, 1000), f"{document['kind']}: {path}"


@sets
def test_what_is_mounted_is_there(name):
    for pod, spec in pod_specs(manifests(render(name))):
        volumes = [volume["name"] for volume in spec.get("volumes", [])]
        assert len(volumes) == len(set(volumes)), pod
        for container in spec["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= set(volumes), pod


@sets
def test_a_selector_finds_its_pods_and_no_others(name):
    documents = manifests(render(name))
    labels = {
        d["metadata"]["name"]: (d["spec"]["template"] if "template" in d["spec"] else d)["metadata"]["labels"]
        for d in documents
        if d["kind"] in ("Deployment", "Job", "Pod")
    }
    for document in documents:
        if document["kind"] == "Service":
            selector = document["spec"]["selector"].items()
            found = [pod for pod, has in labels.items() if selector <= has.items()]
            assert len(found) == 1, f"{document['metadata']['name']}: {found}"
            expected = document["metadata"]["name"].removesuffix("-headless")
            assert found == [expected]


def test_the_ledger_is_called_new_before_an_install_and_never_again():
    documents = manifests(render("tls"))
    hooks = [d for d in documents if d["metadata"]["name"].endswith("-ledger-init")]
    assert {d["kind"] for d in hooks} == {"Job", "ConfigMap", "NetworkPolicy"}
    for hook in hooks:
        annotations = hook["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install"
        assert annotations["argocd.argoproj.io/hook"] == "Skip"
    job = pick(hooks, "Job")
    # It stands alone: whatever else the release brings is not there yet.
    volumes = {volume["name"]: volume for volume in job["spec"]["template"]["spec"]["volumes"]}
    assert volumes["config"]["configMap"]["name"] == job["metadata"]["name"]
    assert set(volumes) == {"config", "redis-password", "redis-ca", "redis-client"}
    assert job["spec"]["template"]["spec"]["serviceAccountName"] == "default"
    upgraded = manifests(render("tls", "--is-upgrade", "--no-hooks"))
    assert not [d for d in upgraded if d["metadata"]["name"].endswith("-ledger-init")]


def test_the_job_reaches_the_gateway_s_ledger_and_no_other():
    variable = "extraEnv[0].name=ENI_GATEWAY_LEDGER__URL,extraEnv[0].value=redis://other/0"
    documents = manifests(render("everything", "--set", f"{variable},extraEnvFrom[0].secretRef.name=more"))
    job = pick(documents, "Job")["spec"]["template"]["spec"]["containers"][0]
    gateway = pick(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "ENI_GATEWAY_LEDGER__URL", "value": "redis://other/0"} in job["env"]
    assert job["envFrom"] == gateway["envFrom"] == [{"secretRef": {"name": "more"}}]
    (more,) = yaml.safe_load(SETS["everything"].read_text())["networkPolicy"]["extraEgress"]
    for suffix in ["-ledger-init", "eni-gw"]:
        assert more in pick(documents, "NetworkPolicy", suffix)["spec"]["egress"]


def test_the_job_s_pod_differs_from_the_gateway_s_to_a_mesh():
    metadata = pick(manifests(render("everything")), "Job")["spec"]["template"]["metadata"]
    assert metadata["labels"].items() >= {"sidecar.istio.io/inject": "false", "sidecar": "yes", "team": "edge"}.items()
    assert metadata["annotations"] == {"note": "job", "owner": "edge@example.com"}
    instead = pick(manifests(render("everything", "--set", "ledgerInit.podLabels.sidecar=no")), "Job")
    assert instead["spec"]["template"]["metadata"]["labels"]["sidecar"] == "no"


def test_calls_by_tls_are_tried_only_by_who_knows_the_authority():
    def tests(*arguments):
        pods = [d for d in manifests(render("tls", *arguments)) if d["kind"] == "Pod"]
        return {pod["metadata"]["name"].rsplit("-", 1)[1]: pod["spec"]["containers"] for pod in pods}

    assert "--cert" in tests()["call"][0]["args"]
    assert tests("--set", "tests.tlsSecretName=").keys() == {"check"}
    open_to_all = ["--set", "tls.clientCaSecretName=", "--set", "identity.policy="]
    assert "--cert" not in tests(*open_to_all)["call"][0]["args"]
    assert tests(*open_to_all, "--set", "tests.tlsSecretName=").keys() == {"check"}


def test_a_changed_setting_restarts_the_pods_and_an_unchanged_one_does_not():
    def checksum(*arguments):
        deployment = pick(manifests(render("minimum", *arguments)), "Deployment")
        return deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    assert checksum() == checksum("--set", "replicaCount=5")
    assert checksum() != checksum("--set", "config.limit.enis_per_instance=11")


def test_two_replicas_in_memory_never_run_side_by_side():
    deployment = pick(manifests(render("memory")), "Deployment")
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    deployment = pick(manifests(render("minimum")), "Deployment")
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def ports(rule):
    return [port["port"] for port in rule["ports"]]


@pytest.mark.parametrize(
    "name, more, expected",
    [
        ("minimum", "", [6379]),
        ("minimum", "16379", [6379, 16379]),
        ("tls", "", [6380]),
        ("sentinel", "", [26379, 26380, 6379]),
        ("sentinel", "7000", [26379, 26380, 7000]),
        ("cluster", "7001", [7000, 7001]),
        ("simulator", "", [6379]),
        ("memory", "", [443]),
    ],
)
def test_redis_is_reached_at_the_ports_of_its_url_and_those_given(name, more, expected):
    given = ["--set", f"networkPolicy.redisPorts[0]={more}"] if more else []
    policy = pick(manifests(render(name, *given)), "NetworkPolicy", "-eni-gateway")
    dns, redis, *_ = policy["spec"]["egress"]
    # Those of OpenShift, too.
    assert ports(dns) == [53, 53, 5353, 5353]
    assert ports(redis) == expected


def test_only_the_node_s_role_reaches_the_metadata_service():
    for name in SETS:
        policies = [d for d in manifests(render(name)) if d["kind"] == "NetworkPolicy"]
        let_out = {d["metadata"]["name"] for d in policies if "cidr: 100.100.100.200/32" in yaml.safe_dump(d["spec"])}
        assert let_out == ({"gw-eni-gateway", "gw-eni-gateway-test"} if name == "ecs-role" else set()), name


@sets
def test_every_pod_has_its_policy(name):
    documents = manifests(render(name))
    policies = [d["spec"] for d in documents if d["kind"] == "NetworkPolicy"]
    for document in documents:
        if document["kind"] in ("Deployment", "Job", "Pod"):
            pod = document["spec"]["template"] if document["kind"] != "Pod" else document
            labels = pod["metadata"]["labels"].items()
            (policy,) = [each for each in policies if each["podSelector"]["matchLabels"].items() <= labels]
            assert policy["policyTypes"] == ["Ingress", "Egress"]
    without = manifests(render(name, "--set", "networkPolicy.enabled=false"))
    assert "NetworkPolicy" not in {document["kind"] for document in without}


def test_only_the_release_s_pods_reach_the_simulator_and_its_redis():
    documents = manifests(render("simulator"))
    release = {"app.kubernetes.io/name": "eni-gateway", "app.kubernetes.io/instance": "gw"}
    for suffix, port in [("-redis", "redis"), ("-simulator", "http")]:
        spec = pick(documents, "NetworkPolicy", suffix)["spec"]
        assert "egress" not in spec
        (rule,) = spec["ingress"]
        assert rule["from"] == [{"podSelector": {"matchLabels": release}}]
        (container,) = pick(documents, "Deployment", suffix)["spec"]["template"]["spec"]["containers"]
        assert ports(rule) == [port] == [each["name"] for each in container["ports"]]


def test_the_tests_are_let_to_all_that_they_try():
    documents = manifests(render("everything"))
    test, gateway = (pick(documents, "NetworkPolicy", suffix)["spec"]["egress"] for suffix in ["-test", "eni-gw"])
    (call,) = [rule for rule in test if rule not in gateway]
    assert ports(call) == [6000]
    assert call["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    # But for the collector of traces.
    assert [ports(rule) for rule in gateway if rule not in test] == [[4317]]


def test_the_package_holds_the_chart(tmp_path):
    packed = run(HELM, "package", CHART, "--destination", tmp_path)
    assert packed.returncode == 0, packed.stderr
    (package,) = tmp_path.glob("*.tgz")
    shown = run(HELM, "template", "gw", package, "--namespace", "edge", "--values", SETS["everything"])
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == render("everything")


def test_notes_warn_of_plaintext_and_of_what_is_not_real(tmp_path):
    def notes(name, *arguments):
        command = ["install", "gw", CHART, "--namespace", "edge", "--dry-run=client", "--values", SETS[name], *arguments]
        asked = run(HELM, *command)
        assert asked.returncode == 0, asked.stderr
        return asked.stdout.split("NOTES:")[1]

    assert "WARNING: calls are plaintext" in notes("minimum")
    assert "https://gw-eni-gateway.edge.svc:50051" in notes("tls")
    assert re.findall("WARNING: (.*) is empty", notes("tls")) == ["networkPolicy.callers", "networkPolicy.prometheus"]
    peer = "[0].podSelector.matchLabels.app=x"
    named = ["--set", f"networkPolicy.callers{peer}", "--set", f"networkPolicy.prometheus{peer}"]
    assert "WARNING" not in notes("tls", *named)
    assert "and a call from inside" in notes("minimum") and "and a call from inside" in notes("tls")
    without = notes("tls", "--set", "tests.tlsSecretName=")
    assert "and a call" not in without and "Set tests.tlsSecretName to a Secret" in without
    assert "No real ENI is attached" in notes("simulator")
    assert "memory://" in notes("memory")


def test_every_alert_has_the_labels_of_the_route():
    on = "metrics.prometheusRule.enabled=true"
    rendered = render("minimum", "--set", on, "--set-string", "metrics.prometheusRule.alertLabels.team=7")
    groups = pick(manifests(rendered), "PrometheusRule")["spec"]["groups"]
    alerts = [rule["labels"] for group in groups for rule in group["rules"] if "alert" in rule]
    assert alerts and all(labels["team"] == "7" and labels["severity"] for labels in alerts)
    assert render("minimum", "--set", on).count("labels: { severity:") == len(alerts)


def test_a_url_in_a_secret_reaches_every_pod_that_needs_it():
    secret = ["--set", "redis.urlSecret.name=redis-url,config.ledger.url="]
    documents = manifests(render("minimum", *secret))
    reference = {"secretKeyRef": {"name": "redis-url", "key": "url"}}
    pods = dict(pod_specs(documents))
    reading = {
        name
        for name, spec in pods.items()
        if {"name": "ENI_GATEWAY_LEDGER__URL", "valueFrom": reference} in spec["containers"][0].get("env", [])
    }
    assert {name.removeprefix("gw-eni-gateway") for name in reading} == {"", "-ledger-init", "-test-check"}
    policy = pick(documents, "NetworkPolicy", "-eni-gateway")
    assert ports(policy["spec"]["egress"][1]) == [6379]


def test_in_a_cluster_of_ipv6_all_listens_there():
    six = ["--set", "config.grpc.listen=[::]:50051,config.admin.listen=[::]:9090"]
    (container,) = pick(manifests(render("simulator", *six)), "Deployment", "-simulator")["spec"]["template"]["spec"]["containers"]
    assert container["args"][:3] == ["simulator", "--listen", "[::]:18080"]
