"""`config:` is the program's settings, and the program takes what is rendered from it."""

import json
import re
import tomllib

import pytest
import yaml
from chart import CHART, PROGRAM, SETS, manifests, pick, pod_specs, render, run

# Other defaults than the program's, each for a reason that stands in values.yaml.
OURS = {"grpc.listen", "admin.listen", "grpc.drain_delay", "ledger.url"}


def flat(tables):
    return {f"{section}.{key}": value for section, table in tables.items() for key, value in table.items()}


def settings_of_the_program():
    """Every setting with its default; empty where it is not set."""
    dumped = run(PROGRAM, "config", "dump", "--ledger-url", "memory://", env={})
    assert dumped.returncode == 0, dumped.stderr
    return flat(tomllib.loads(re.sub(r"^# (\w+) is not set$", r'\1 = ""', dumped.stdout, flags=re.M)))


def test_config_is_the_program_s_settings_with_their_defaults():
    theirs = settings_of_the_program()
    ours = flat(yaml.safe_load((CHART / "values.yaml").read_text())["config"])
    assert ours.keys() == theirs.keys()
    theirs["ens.endpoint"] = theirs["ens.endpoint"].rstrip("/")
    differing = {path for path in ours if (ours[path], type(ours[path])) != (theirs[path], type(theirs[path]))}
    assert differing == OURS


def test_the_schema_knows_every_value_and_no_other():
    schema = json.loads((CHART / "values.schema.json").read_text())

    def walk(values, properties, path):
        missing = properties.keys() ^ values.keys()
        # Those that Helm itself gives to a part of another chart.
        assert missing - {"global", "enabled"} == set(), f"{path}: {missing}"
        for key, value in values.items():
            if "properties" in properties[key]:
                assert properties[key]["additionalProperties"] is False, f"{path}{key}"
                walk(value, properties[key]["properties"], f"{path}{key}.")

    walk(yaml.safe_load((CHART / "values.yaml").read_text()), schema["properties"], "")


def test_scalars_stay_what_they_are(tmp_path):
    values = tmp_path / "values.yaml"
    odd = """
config:
  watch: { max_streams: 1000000 }
  odd: { integer: 10, large: 123456789012, negative: -1, float: 0.25, list: [a, "b"], digits: "0123", flag: true,
         quoted: 'a "b" \\ <c> &', inner: { deep: { value: 1 } }, empty: "", none: null }
"""
    values.write_text(odd)
    # The schema knows no such section; the template must not depend on that.
    text = render("minimum", "--values", values, "--skip-schema-validation")
    toml = pick(manifests(text), "ConfigMap", "gw-eni-gateway")["data"]["config.toml"]
    for line in ["max_streams = 1000000", "integer = 10", "large = 123456789012", 'digits = "0123"', "float = 0.25"]:
        assert re.search(f"^{re.escape(line)}$", toml, re.M), toml
    read = tomllib.loads(toml)
    assert read["odd"] == {
        "integer": 10,
        "large": 123456789012,
        "negative": -1,
        "float": 0.25,
        "list": ["a", "b"],
        "digits": "0123",
        "flag": True,
        "quoted": 'a "b" \\ <c> &',
        "inner": {"deep": {"value": 1}},
    }
    assert type(read["odd"]["integer"]) is int and type(read["watch"]["max_streams"]) is int


@pytest.fixture(scope="session")
def secrets(tmp_path_factory):
    """What the Secrets would hold, where the pods would see it."""
    directory = tmp_path_factory.mktemp("secrets")
    for name in ["tls", "client-ca", "redis-ca", "redis-client", "redis-password"]:
        (directory / name).mkdir()
    certificate, key = directory / "tls/tls.crt", directory / "tls/tls.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=gw"
    made = run(*command.split(), "-keyout", key, "-out", certificate)
    assert made.returncode == 0, made.stderr
    for name in ["client-ca", "redis-ca"]:
        (directory / name / "ca.crt").write_text(certificate.read_text())
    for name in ["tls.crt", "tls.key"]:
        (directory / "redis-client" / name).write_text((directory / "tls" / name).read_text())
    (directory / "redis-password/password").write_text("hunter2")
    return directory


@pytest.mark.parametrize("name", SETS)
def test_the_program_takes_what_is_rendered(name, secrets, tmp_path):
    documents = manifests(render(name))
    tried = 0
    for pod, spec in pod_specs(documents):
        for container in spec["containers"]:
            if "--config" not in container.get("args", []):
                continue
            volume = next(volume for volume in spec["volumes"] if volume["name"] == "config")
            toml = pick(documents, "ConfigMap", volume["configMap"]["name"])["data"]["config.toml"]
            file = tmp_path / f"{pod}.toml"
            toml = toml.replace("/etc/eni-gateway/secrets", str(secrets))
            toml = toml.replace("/etc/eni-gateway/policy", str(tmp_path)).replace("/etc/eni-gateway/logging", str(tmp_path))
            file.write_text(toml)
            for setting, suffix, key in [("policy_file", "-policy", "policy.toml"), ("filter_file", "-logging", "filter")]:
                if setting in toml:
                    (tmp_path / key).write_text(pick(documents, "ConfigMap", suffix)["data"][key])
            given = {each["name"]: each["value"] for each in container["env"] if "value" in each}
            # What the image sets, and the container wins over.
            env = {"ENI_GATEWAY_GRPC__LISTEN": "0.0.0.0:50051", "ENI_GATEWAY_ADMIN__LISTEN": "0.0.0.0:9090"} | given
            checked = run(PROGRAM, "check", "--offline", "--config", file, env=env)
            assert checked.returncode == 0, f"{pod}: {checked.stdout}{checked.stderr}"
            tried += 1
    # The gateway, the test of its configuration, and the job where there is one.
    assert tried == (2 if name in ("memory", "simulator") else 3)
