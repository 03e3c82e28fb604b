"""What stands in several files of the repository, and must agree."""

import pathlib
import re
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]


def read(name):
    return (ROOT / name).read_text()


def test_the_pinned_toolchain_is_the_same_everywhere():
    channel = re.search(r"^ARG RUST_VERSION=(.+)$", read("Dockerfile"), re.M)[1]
    assert channel.startswith(tomllib.loads(read("Cargo.toml"))["package"]["rust-version"])
    images = {
        workflow.name: re.findall(r"\brust:[\w.-]+", workflow.read_text())
        for workflow in (ROOT / ".github/workflows").iterdir()
    }
    assert images["ci.yml"] and images["nightly.yml"]
    for name, named in images.items():
        assert set(named) <= {f"rust:{channel}-bookworm"}, name


def test_the_justfile_names_every_script():
    scripts = [".ci/run", "fuzz/run", "tools/release", "tests/faults", "tests/prove"]
    scripts += [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("tests/**/run"))]
    justfile = read("justfile")
    assert [script for script in scripts if not re.search(rf"^    {re.escape(script)}\b", justfile, re.M)] == []


def test_the_paths_in_contributing_exist():
    for name in ("CONTRIBUTING.md", "docs/releasing.md", "SECURITY.md"):
        paths = re.findall(r"`((?:src|tests|docs|helm|proto|fuzz|tools)/[\w/.-]+)`", read(name))
        paths += re.findall(r"\]\(([\w/.-]+)\)", read(name))
        folder = (ROOT / name).parent
        missing = [path for path in paths if not ((ROOT / path).exists() or (folder / path).exists())]
        assert missing == [], name
