"""An issuer of tokens: its key, its key set, and the tokens that it signs."""

import base64
import json
import pathlib
import subprocess
import time

ISSUER, AUDIENCE = "https://issuer.example", "eni-gateway"


def openssl(*arguments, data=None):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, input=data).stdout


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Issuer:
    """An issuer whose key and key set are in a directory."""

    def __init__(self, directory):
        self.key, self.keys = (pathlib.Path(directory) / name for name in ("issuer.key", "keys"))
        openssl("genrsa", "-out", self.key, "2048")
        modulus = openssl("rsa", "-in", self.key, "-noout", "-modulus").decode().strip().partition("=")[2]
        one = {"kty": "RSA", "kid": "one", "alg": "RS256", "e": "AQAB", "n": base64url(bytes.fromhex(modulus))}
        self.keys.write_text(json.dumps({"keys": [one]}))

    def token(self, subject, **changes):
        """A token of this subject for an hour, with these changes of its claims."""
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "exp": int(time.time()) + 3600} | changes
        message = ".".join(base64url(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "one"}, claims))
        signature = openssl("dgst", "-sha256", "-sign", self.key, data=message.encode())
        return f"{message}.{base64url(signature)}"
