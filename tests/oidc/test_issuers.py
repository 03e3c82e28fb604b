"""Tokens of issuers from outside this project: a real gateway fetches their keys and decides."""

import json
import pathlib
import re
import subprocess
import sys
import urllib.parse
import urllib.request

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "python"))
from processes import PROGRAM, ROOT, Processes, free_port, listens, until  # noqa: E402

MOCK_SERVER = ROOT / "target/oidc-tools/node_modules/.bin/oauth2-mock-server"
AUDIENCE = "eni-gateway"
# Of the first issuer one subject may call; of the second one, a group. Its tokens name no key.
POLICY = """
version = 1

[[issuers]]
alias = "oauth2"
issuer = "http://localhost:{oauth2}"
audiences = ["eni-gateway"]
jwks_url = "http://localhost:{oauth2}/jwks"

[[issuers]]
alias = "oidc"
issuer = "http://127.0.0.1:{oidc}"
audiences = ["eni-gateway"]
jwks_url = "http://127.0.0.1:{oidc}/jwks"
require_key_id = false

[[allow]]
id = "web"
callers = ["oauth2:johndoe"]
actions = ["*"]
instances = ["i-stopped-1"]

[[allow]]
id = "readers"
callers = ["oidc:*"]
groups = ["readers"]
actions = ["get", "list"]
instances = ["*"]
"""


def post(url, **form):
    """The answer to a form."""
    request = urllib.request.Request(url, urllib.parse.urlencode(form).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect to the caller."""

    def redirect_request(self, *_):
        return None


class Stage(Processes):
    """Both issuers, a simulator and a gateway."""

    def run(self):
        self.oauth2, self.oidc, self.grpc, ens = (free_port() for _ in range(4))
        self.start(MOCK_SERVER, "-a", "localhost", "-p", self.oauth2)
        users = [{"sub": "ana", "groups": ["readers"]}, {"sub": "bob", "groups": ["others"]}]
        users = [part for user in users for part in ("--user-claims", json.dumps(user))]
        self.start(sys.executable, "-m", "oidc_provider_mock", "-p", self.oidc, *users)
        self.gateway("simulator", "--listen", f"127.0.0.1:{ens}")
        for port in (self.oauth2, self.oidc):
            until("an issuer", lambda port=port: answers(port))
        until("the simulator", lambda: listens(ens))
        policy = self.directory / "policy.toml"
        policy.write_text(POLICY.format(oauth2=self.oauth2, oidc=self.oidc))
        self.gateway("serve", **{
            "LEDGER__URL": "memory://",
            "ENS__ENDPOINT": f"http://127.0.0.1:{ens}",
            "GRPC__LISTEN": f"127.0.0.1:{self.grpc}",
            "ADMIN__LISTEN": f"127.0.0.1:{free_port()}",
            "IDENTITY__POLICY_FILE": policy,
            "LOG__AUDIT": self.directory / "audit",
        })
        until("the gateway", lambda: listens(self.grpc))

    def call(self, token, *arguments):
        """What the command prints, and the new audit lines."""
        file = self.directory / "token"
        file.write_text(token)
        seen = len(self.audit())
        command = [PROGRAM, *arguments, "--endpoint", f"http://127.0.0.1:{self.grpc}", "--token-file", file, "-o", "json"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        until("the lines of the call", lambda: len(self.audit()) > seen)
        return ran.returncode, ran.stdout + ran.stderr, self.audit()[seen:]

    def audit(self):
        whole, _, _ = (self.directory / "audit").read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def oauth2_token(self, kind="id_token", **form):
        form = {"grant_type": "password", "username": "web", "password": "x", "client_id": AUDIENCE} | form
        return post(f"http://localhost:{self.oauth2}/token", **form)[kind]

    def oidc_token(self, user, client=AUDIENCE):
        """The ID token of a person who logs in."""
        query = urllib.parse.urlencode({"client_id": client, "response_type": "code", "scope": "openid", "redirect_uri": "http://localhost/"})
        request = urllib.request.Request(f"http://127.0.0.1:{self.oidc}/oauth2/authorize?{query}", f"sub={user}".encode())
        with pytest.raises(urllib.error.HTTPError) as redirect:
            urllib.request.build_opener(NoRedirect).open(request, timeout=60)
        code = re.search("code=([^&]+)", redirect.value.headers["location"])[1]
        return post(f"http://127.0.0.1:{self.oidc}/oauth2/token", grant_type="authorization_code", code=code,
                    redirect_uri="http://localhost/", client_id=client, client_secret="x")["id_token"]


def answers(port):
    """Whether a server there sends its keys."""
    with urllib.request.urlopen(f"http://localhost:{port}/jwks", timeout=10) as answer:
        return answer.status == 200


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with Stage(tmp_path_factory.mktemp("stage")) as running:
        running.run()
        yield running


def test_a_token_attaches_and_watches(stage):
    status, text, lines = stage.call(stage.oauth2_token(), "attach", "i-stopped-1", "eni-0001", "--watch")
    assert status == 0, text
    assert "ATTACHED" in text
    assert {line["caller"] for line in lines} == {"oauth2:johndoe"}
    assert [line["rule"] for line in lines if line["message"] == "access"] == ["web"] * 2


def test_a_person_s_group_decides(stage):
    assert stage.call(stage.oidc_token("ana"), "list", "i-stopped-2")[0] == 0
    _, text, lines = stage.call(stage.oidc_token("bob"), "list", "i-stopped-2")
    assert "CALLER_FORBIDDEN" in text
    assert [(line["caller"], line["decision"]) for line in lines] == [("oidc:bob", "deny")]
    _, text, lines = stage.call(stage.oidc_token("ana"), "attach", "i-stopped-2", "eni-0002")
    assert "CALLER_FORBIDDEN" in text and lines[0]["action"] == "attach"


@pytest.mark.parametrize("token, cause", [
    (lambda stage: stage.oauth2_token(client_id="other"), "another audience"),
    (lambda stage: stage.oauth2_token("access_token"), "lacks one of the claims"),
    (lambda stage: stage.oauth2_token("access_token", grant_type="client_credentials", aud=AUDIENCE), "malformed"),
    (lambda stage: stage.oidc_token("ana", client="other"), "another audience"),
    (lambda stage: "x".join(stage.oidc_token("ana").rsplit(".", 1)), "form"),
])
def test_any_other_token_is_refused_with_its_cause(stage, token, cause):
    _, text, lines = stage.call(token(stage), "get", "i-stopped-1", "eni-0001")
    assert "CALLER_UNAUTHENTICATED" in text
    assert [line["decision"] for line in lines] == ["deny"]
    assert cause in lines[0]["cause"], lines
