"""What is refused, and what is said then."""

import pytest
from chart import HELMS, MINIMUM, SETS, run, template

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
    "STS in no region": (["credentials.rrsa.stsVpc=true"], ["without credentials.rrsa.stsRegion"]),
    "fewest above most": (["autoscaling.enabled=true", "autoscaling.minReplicas=11"], ["swap them"]),
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
    "config.grpc.listen=localhost": "listen",
    "credentials.mode=magic": "rrsa-webhook",
    "credentials.rrsa.roleArn=role": "roleArn",
    "credentials.rrsa.tokenExpirationSeconds=60": "tokenExpirationSeconds",
    "image.digest=latest": "digest",
    "image.pullPolicy=Sometimes": "IfNotPresent",
    "service.port=70000": "port",
    "autoscaling.metric=cpu": "eni_gateway_attempts_in_flight",
    "podDisruptionBudget.maxUnavailable=half": "maxUnavailable",
    "tracing.endpoint=collector:4317": "endpoint",
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
        for words in ["config.ledger.url is not set", "credentials.mode is not set", "callers have no way in"]:
            assert words in said, said


@pytest.mark.parametrize("value, expected", SCHEMA.items(), ids=SCHEMA)
def test_a_wrong_value_is_named(value, expected):
    for helm in HELMS:
        said = refusal(*BASE, "--set", value, helm=helm)
        assert "specifications of the schema" in said and expected in said, said


def test_a_password_is_refused_and_not_repeated():
    for url in ["redis://:hunter2@redis/0", "redis://user:hunter2@redis", "http://:hunter2@redis"]:
        said = refusal(*BASE, "--set", f"config.ledger.url={url}")
        assert "redis.passwordSecret.name" in said and "hunter2" not in said, said


def test_no_set_of_the_tests_is_refused():
    for name, path in SETS.items():
        assert template("--values", path).returncode == 0, name
