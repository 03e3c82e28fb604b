"""What is refused, and what is said then."""

import pytest
import yaml
from chart import CHART, HELMS, MINIMUM, SETS, run, template

BASE = ["--values", MINIMUM]

# Each: what is set, and what the message has to say.
RELATIONS = {
    "several replicas in memory": (["config.ledger.url=memory://"], ["memory://", "set replicaCount to 1"]),
    "autoscaling in memory": (
        ["config.ledger.url=memory://", "replicaCount=1", "autoscaling.enabled=true"],
        ["memory://", "autoscaling.enabled to false"],
    ),
    "no way in": (["config.grpc.allow_plaintext=false"], ["set tls.secretName, or config.grpc.allow_plaintext=true"]),
    "a client CA alone": (["tls.clientCaSecretName=ca"], ["tls.clientCaSecretName is set without tls.secretName"]),
    "a policy without identities": (["identity.policy=version = 1"], ["identity.policy has no [[issuers]] and is set without tls.clientCaSecretName"]),
    "certificates in plaintext": (["tests.tlsSecretName=t"], ["tests.tlsSecretName is set, and calls are plaintext"]),
    "one port for both": (["config.admin.listen=0.0.0.0:50051"], ["config.grpc.listen and config.admin.listen"]),
    "a kill before the drain ends": (["config.grpc.drain_timeout=1m 30s"], ["terminationGracePeriodSeconds is 35", "95"]),
    "a delay as long as the drain": (["config.grpc.drain_delay=25s"], ["config.grpc.drain_delay is not below"]),
    "no scheme of ours": (["config.ledger.url=http://redis"], ["redis[s]://host:port/db"]),
    "a sentinel without a name": (["config.ledger.url=redis-sentinel://s"], ["?master=NAME"]),
    "TLS that the URL does not use": (["redis.caSecret.name=ca"], ["write rediss://"]),
    "a file given twice": (
        ["redis.passwordSecret.name=p", "config.ledger.password_file=/x"],
        ["redis.passwordSecret.name is set, and so is the file"],
    ),
    "the webhook without a role": (["credentials.mode=rrsa-webhook"], ["credentials.rrsa.roleName is not set"]),
    "the webhook without our account": (
        ["credentials.mode=rrsa-webhook", "credentials.rrsa.roleName=r", "serviceAccount.create=false"],
        ["serviceAccount.create is false", "credentials.mode=external"],
    ),
    "a token without a role": (["credentials.mode=rrsa-token"], ["rrsa-token needs both"]),
    "a Secret without a name": (["credentials.secret.name="], ["credentials.secret.name is not set"]),
    "credentials from nowhere": (["credentials.mode=external"], ["set extraEnv, extraEnvFrom"]),
    "terms of no role": (
        ["credentials.assumeRole.policy=p", "credentials.secret.externalIdKey=id"],
        ["credentials.assumeRole.policy is set without", "credentials.secret.externalIdKey is set without"],
    ),
    "a role that no key assumes": (
        ["credentials.mode=external", "extraEnv[0].name=X", "credentials.assumeRole.roleArn=acs:ram::1:role/r"],
        ["credentials.assumeRole.roleArn is set, and credentials.mode is external", "set the mode to secret"],
    ),
    "STS in no region": (["credentials.rrsa.stsVpc=true"], ["without credentials.rrsa.stsRegion"]),
    "a listener for the pod alone": (
        ["config.grpc.listen=127.0.0.1:50051", "config.admin.listen=localhost:9090"],
        ["config.grpc.listen is 127.0.0.1:50051, which is unreachable from outside the pod", "config.admin.listen is localhost:9090, which"],
    ),
    "loopback in other words": (
        ["config.grpc.listen=[::1]:50051", "config.admin.listen=[0:0:0:0:0:0:0:1]:9090"],
        ["config.grpc.listen is [::1]:50051, which is unreachable", "config.admin.listen is [0:0:0:0:0:0:0:1]:9090, which is unreachable"],
    ),
    "a port beyond the last": (
        ["config.grpc.listen=0.0.0.0:65536", "config.admin.listen=0.0.0.0:99999999999999999999"],
        ["config.grpc.listen is 0.0.0.0:65536, and must be", "config.admin.listen is 0.0.0.0:99999999999999999999, and"],
    ),
    "a port below the first": (["config.grpc.listen=[::]:0"], ["config.grpc.listen is [::]:0, and must be"]),
    "a name to listen at": (["config.grpc.listen=gateway:50051"], ["config.grpc.listen is gateway:50051, and must be"]),
    "listeners past their settings": (
        ["extraEnv[0].name=ENI_GATEWAY_GRPC__LISTEN", "extraEnv[1].name=ENI_GATEWAY_ADMIN__LISTEN"],
        ["set config.grpc.listen instead", "set config.admin.listen instead"],
    ),
    "labels of the chart's own": (
        [
            r"commonLabels.app\.kubernetes\.io/name=x",
            r"podLabels.app\.kubernetes\.io/instance=x",
            r"ledgerInit.podLabels.app\.kubernetes\.io/component=x",
            r"service.labels.helm\.sh/chart=x",
        ],
        [
            "commonLabels sets app.kubernetes.io/name, which the chart sets: remove it",
            "podLabels sets app.kubernetes.io/instance",
            "ledgerInit.podLabels sets app.kubernetes.io/component",
            "service.labels sets helm.sh/chart",
        ],
    ),
    "the checksum in other hands": (["podAnnotations.checksum/config=x"], ["podAnnotations sets checksum/config"]),
    "a tag beside the tag": (["image.repository=registry:5000/gw:1"], ["with a tag: set image.tag instead"]),
    "a digest beside the tag": (["image.repository=gw@sha256:0"], ["with a digest: set image.digest instead"]),
    "a role that the mode ignores": (
        ["credentials.rrsa.roleName=r", "credentials.rrsa.stsRegion=cn-x", "credentials.ecsRole.name=r"],
        [
            "credentials.rrsa.roleName is set, and credentials.mode is secret",
            "credentials.rrsa.stsRegion is set, and credentials.mode is secret",
            "credentials.ecsRole.name is set, and credentials.mode is secret, which ignores it: unset it",
        ],
    ),
    "both RRSA modes": (
        ["credentials.mode=rrsa-token", "credentials.rrsa.roleName=r"],
        ["set the mode to rrsa-webhook", "credentials.secret.name is set"],
    ),
    "a budget of nothing": (["podDisruptionBudget.maxUnavailable=0"], ["which blocks drains of nodes: set it to 1 or more"]),
    "a budget of no share": (["podDisruptionBudget.maxUnavailable=0%"], ["podDisruptionBudget.maxUnavailable is 0%, which"]),
    "a budget of too many": (["podDisruptionBudget.maxUnavailable=101%"], ["is 101%: set 100% or less"]),
    "fewest above most": (["autoscaling.enabled=true", "autoscaling.minReplicas=11"], ["swap them"]),
    "a budget of all": (["podDisruptionBudget.minAvailable=3"], ["minAvailable is 3, which blocks drains of nodes"]),
    "a budget of the whole": (["podDisruptionBudget.minAvailable=100%"], ["minAvailable is 100%, which blocks"]),
    "a port of nodes for the cluster": (
        ["service.nodePort=30000", "service.externalTrafficPolicy=Local"],
        ["service.nodePort is set, and service.type is ClusterIP", "service.externalTrafficPolicy is set"],
    ),
    "ranges without a balancer": (
        ["service.type=NodePort", "service.loadBalancerSourceRanges[0]=203.0.113.0/24"],
        ["so any address may connect: set the type to LoadBalancer"],
    ),
    "two URLs": (["redis.urlSecret.name=u"], ["config.ledger.url and redis.urlSecret.name are both set"]),
    "half a test": (["tests.instanceId=i-1"], ["set both or none"]),
    "a simulator beside a Redis": (
        ["simulator.enabled=true"],
        ["config.ledger.url is set", "credentials.mode is set", "ledgerInit.enabled"],
    ),
}

# Each: what is set, and what the schema's message names in both Helms.
SCHEMA = {
    "replicaCount=many": "replicaCount",
    "replicaCounts=3": "replicaCounts",
    "config.grpc.lisen=x": "lisen",
    "config.ledgr.url=x": "ledgr",
    "config.limit.enis_per_instance=0": "enis_per_instance",
    "config.ens.visibility_lag=10": "visibility_lag",
    "config.ens.describe_per_second=1": "describe_per_second",
    "credentials.mode=magic": "rrsa-webhook",
    "credentials.rrsa.roleArn=role": "roleArn",
    "credentials.assumeRole.roleArn=role": "roleArn",
    "credentials.rrsa.tokenExpirationSeconds=60": "tokenExpirationSeconds",
    "image.digest=latest": "digest",
    "image.pullPolicy=Sometimes": "IfNotPresent",
    "service.port=70000": "port",
    "autoscaling.metric=cpu": "eni_gateway_attempts_in_flight",
    "podDisruptionBudget.maxUnavailable=half": "maxUnavailable",
    "probes.liveness.path=/x": "path",
    "metrics.prometheusRule.alertLabels.severity=page": "severity",
    "service.loadBalancerSourceRanges[0]=any": "loadBalancerSourceRanges",
    "tracing.endpoint=collector:4317": "endpoint",
    "metrics.prometheusRule.runbookBaseUrl=docs/operations.md": "runbookBaseUrl",
    "extraEnv[0].value=x": "name",
}


def refusal(*arguments, helm=HELMS[0]):
    refused = template(*arguments, helm=helm)
    assert refused.returncode != 0 and refused.stdout == ""
    return refused.stderr


def setting(values):
    return [part for value in values for part in ("--set", value)]


@pytest.mark.parametrize("values, expected", RELATIONS.values(), ids=RELATIONS)
def test_what_does_not_go_together_is_refused_with_what_to_do(values, expected):
    said = refusal(*BASE, *setting(values))
    for words in expected:
        assert words in said, said


def test_everything_that_is_missing_is_said_at_once():
    for helm in HELMS:
        said = refusal(helm=helm)
        for words in ["config.ledger.url is not set", "credentials.mode is not set", "callers cannot connect"]:
            assert words in said, said


def sections(values, path=""):
    """Every table of values.yaml that the chart reads from, and not only hands on."""
    handed_on = {"resources", "podSecurityContext", "securityContext", "nodeSelector", "affinity", "dnsConfig", "behavior"}
    for key, value in values.items():
        if isinstance(value, dict) and key not in handed_on:
            yield path + key
            yield from sections(value, f"{path}{key}.")


@pytest.mark.parametrize("path", list(sections(yaml.safe_load((CHART / "values.yaml").read_text()))))
def test_a_section_that_is_null_is_named_among_the_faults_or_taken_for_empty(path):
    for helm in HELMS:
        tried = template(*BASE, "--set", f"{path}=null", helm=helm)
        assert tried.returncode == 0 or f"- {path}: null removes the defaults" in tried.stderr, tried.stderr


def test_null_does_not_hide_the_other_faults():
    for helm in HELMS:
        said = refusal(*BASE, *setting(["config.ledger.url=null", "config.grpc=null", "tls=null", "replicaCount=1"]), helm=helm)
        for words in ["- config.grpc, tls: null removes", "config.ledger.url is not set", "callers cannot connect"]:
            assert words in said, said


@pytest.mark.parametrize("value, expected", SCHEMA.items(), ids=SCHEMA)
def test_a_wrong_value_is_named(value, expected):
    for helm in HELMS:
        said = refusal(*BASE, "--set", value, helm=helm)
        assert "specifications of the schema" in said and expected in said, said


def test_a_name_that_no_service_may_have_is_refused():
    for release in ["123", "a.b"]:
        refused = template(*BASE, release=release)
        assert f"the Services would be named {release}-eni-gateway" in refused.stderr, refused.stderr
        assert template(*BASE, "--set", "fullnameOverride=gw", release=release).returncode == 0


def test_a_password_is_refused_and_not_repeated():
    for url in ["redis://:hunter2@redis/0", "redis://user:hunter2@redis", "http://:hunter2@redis"]:
        said = refusal(*BASE, "--set", f"config.ledger.url={url}")
        assert "redis.passwordSecret.name" in said and "hunter2" not in said, said


def test_what_is_near_a_fault_is_taken():
    near = ["image.repository=registry:5000/gw", "podDisruptionBudget.maxUnavailable=100%", "config.grpc.listen=[::]:65535"]
    role = ["credentials.mode=external", "credentials.secret.name=", "credentials.rrsa.sessionName=us", "extraEnv[0].name=X"]
    assumed = ["credentials.assumeRole.roleArn=acs:ram::1:role/r", "credentials.rrsa.stsRegion=cn-hangzhou", "credentials.rrsa.stsVpc=true"]
    assert template(*BASE, *setting(assumed)).returncode == 0
    tried = template(*BASE, *setting(near + role), "--set-string", r"podLabels.app\.kubernetes\.io/part-of=edge")
    assert tried.returncode == 0, tried.stderr


def test_no_set_of_the_tests_is_refused():
    for name, path in SETS.items():
        assert template("--values", path).returncode == 0, name
