"""JSON over HTTP: what of the values reaches Envoy. tests/envoy runs it."""

import pytest
import yaml
from chart import MINIMUM, manifests, pick, render, template

ON = ["--set", "json.enabled=true"]
PLAINTEXT = [*ON, "--set", "tls.secretName=", "--set", "config.grpc.allow_plaintext=true"]


def envoy(documents):
    return yaml.safe_load(pick(documents, "ConfigMap", "-envoy")["data"]["envoy.yaml"])


def test_ports_paths_and_tls_are_those_of_the_chart():
    documents = manifests(render("json"))
    resources = envoy(documents)["static_resources"]
    listener, cluster = resources["listeners"][0], resources["clusters"][0]
    assert listener["address"]["socket_address"]["port_value"] == 8443
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert endpoint["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 6000}
    assert "transport_socket" in listener["filter_chains"][0] and "transport_socket" in cluster

    pod = pick(documents, "Deployment")["spec"]["template"]["spec"]
    writer, proxy = pod["initContainers"]
    assert writer["args"] == ["descriptors", "/etc/envoy/descriptors/eni-gateway.binpb"]
    assert proxy["restartPolicy"] == "Always"
    mounted = {mount["mountPath"] for mount in proxy["volumeMounts"]}
    assert mounted == {"/etc/envoy/config", "/etc/envoy/descriptors", "/etc/envoy/tls"}
    ports = {port["name"]: port["port"] for port in pick(documents, "Service", "gw-eni-gateway")["spec"]["ports"]}
    assert ports == {"grpc": 50051, "json": 8443}


def test_without_tls_both_sides_are_plaintext():
    resources = envoy(manifests(render("minimum", *PLAINTEXT)))["static_resources"]
    assert "transport_socket" not in resources["listeners"][0]["filter_chains"][0]
    assert "transport_socket" not in resources["clusters"][0]


def test_an_envoy_that_changes_restarts_the_pods():
    def checksum(*arguments):
        annotations = pick(manifests(render("json", *arguments)), "Deployment")["spec"]["template"]["metadata"]["annotations"]
        return annotations["checksum/envoy"]

    assert checksum() == checksum() != checksum("--set", "json.port=8444")


@pytest.mark.parametrize("values, refusal", [
    (["tls.secretName=t", "tls.clientCaSecretName=ca"], "json.enabled is true, and callers must have a client certificate"),
    (["json.port=50051"], "json.port and service.port are the same"),
    (["json.port=9090"], "json.port is the port of config.admin.listen"),
    (["json.port=0"], "json.port"),
])
def test_what_cannot_work_is_refused(values, refusal):
    arguments = [part for value in values for part in ("--set", value)]
    asked = template("--values", MINIMUM, *ON, *arguments)
    assert asked.returncode != 0
    assert refusal in asked.stderr.replace("/", "."), asked.stderr
