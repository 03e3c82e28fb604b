"""A release in a scratch clone: every place that carries the version, the changelog, the tag, the artifacts."""

import datetime
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tarfile

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
NEXT = "98.7.6"
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n\n## [0.0.1] - 2020-01-01\n\n- The first.\n"
# It stands in for buildah, cargo and strip, which need root or a long build.
FAKE = """#!/bin/sh
for to; do :; done
case "$1" in
  push) to=${to#oci-archive:}; echo image >"${to%%:*}" ;;
  run) echo descriptors >"$to" ;;
esac
"""


def run(clone, *command):
    path = f"{clone.parent / 'bin'}:{ROOT / '.venv/bin'}:{os.environ['PATH']}"
    return subprocess.run(command, cwd=clone, env={**os.environ, "PATH": path}, capture_output=True, text=True)


def git(clone, *arguments):
    done = run(clone, "git", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit(clone, message):
    git(clone, "commit", "--quiet", "--all", "--message", message)


@pytest.fixture
def clone(tmp_path):
    """The files as they are in the working tree, on a branch main of their own."""
    clone = tmp_path / "clone"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        if (ROOT / name).exists():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    (clone / "CHANGELOG.md").write_text(CHANGELOG)
    (clone / "tools/image").write_text("#!/bin/sh\n")
    fakes = tmp_path / "bin"
    fakes.mkdir()
    for name in ("buildah", "cargo", "strip"):
        (fakes / name).write_text(FAKE)
        (fakes / name).chmod(0o755)
    helm = shutil.which("helm") or shutil.which(str(ROOT / "target/chart-tools/helm-4.1.4"))
    assert helm, "tests/chart/run installs Helm"
    (fakes / "helm").symlink_to(helm)
    git(clone, "init", "--quiet", "--initial-branch", "main")
    git(clone, "config", "user.name", "a test")
    git(clone, "config", "user.email", "test@example.com")
    git(clone, "add", "--all")
    commit(clone, "start")
    return clone


def refuses(clone, version, why):
    before = git(clone, "rev-parse", "HEAD")
    status = git(clone, "status", "--porcelain")
    done = run(clone, "tools/release", version)
    assert done.returncode == 1 and why in done.stderr, done.stdout + done.stderr
    assert (git(clone, "rev-parse", "HEAD"), git(clone, "status", "--porcelain")) == (before, status)


def version():
    return re.search(r'(?m)^version = "(.*)"', (ROOT / "Cargo.toml").read_text())[1]


def test_a_release_changes_every_place_and_builds_everything(clone):
    done = run(clone, "tools/release", NEXT)
    if os.geteuid() != 0:
        assert "needs root" in done.stderr
        return
    assert done.returncode == 0, done.stdout + done.stderr
    assert git(clone, "tag") == f"v{NEXT}"
    assert git(clone, "log", "-1", "--format=%s", f"v{NEXT}") == f"release: {NEXT}"
    assert git(clone, "status", "--porcelain") == ""

    read = lambda name: (clone / name).read_text()
    assert f'\nversion = "{NEXT}"\n' in read("Cargo.toml")
    for lock in ("Cargo.lock", "fuzz/Cargo.lock"):
        assert f'name = "eni-gateway"\nversion = "{NEXT}"\n' in read(lock)
    chart = yaml.safe_load(read("helm/Chart.yaml"))
    assert (chart["version"], chart["appVersion"]) == (NEXT, NEXT)
    assert f"ARG VERSION={NEXT}\n" in read("Dockerfile")
    snapshots = "".join(path.read_text() for path in (clone / "tests/chart/snapshots").iterdir())
    assert f"helm.sh/chart: eni-gateway-{NEXT}" in snapshots
    old = re.escape(version())
    assert not re.search(rf'eni-gateway[:-]{old}\b|version: "{old}"', snapshots)
    today = datetime.date.today().isoformat()
    assert f"## [Unreleased]\n\n## [{NEXT}] - {today}\n\n### Added\n\n- A thing.\n\n## [0.0.1]" in read("CHANGELOG.md")

    out = clone / f"target/release-{NEXT}"
    proto = f"eni-gateway-proto-{NEXT}.tar.gz"
    files = {path.name for path in out.iterdir()}
    image = next(name for name in files if re.fullmatch(rf"eni-gateway-{NEXT}-image-\w+\.tar", name))
    assert files == {image, f"eni-gateway-{NEXT}.tgz", f"eni-gateway-{NEXT}.binpb", proto, "NOTES.md", "SHA256SUMS"}
    for line in (out / "SHA256SUMS").read_text().splitlines():
        sum, name = line.split("  ")
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == sum
    with tarfile.open(out / proto) as tar:
        assert f"eni-gateway-proto-{NEXT}/proto/eni/gateway/v1/attachment_service.proto" in tar.getnames()
    assert (out / "NOTES.md").read_text() == "### Added\n\n- A thing.\n"

    refuses(clone, NEXT, f"the tag v{NEXT} exists")


def test_the_current_version_can_be_released_once(clone):
    done = run(clone, "tools/release", version(), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"+## [{version()}] - " in done.stdout


def test_a_dry_run_shows_the_changes_and_makes_none(clone):
    before = git(clone, "rev-parse", "HEAD")
    done = run(clone, "tools/release", NEXT, "--dry-run")
    assert done.returncode == 0, done.stderr
    for line in (f'+version = "{NEXT}"', f'+appVersion: "{NEXT}"', f"would tag v{NEXT}"):
        assert line in done.stdout.splitlines(), done.stdout
    assert (git(clone, "rev-parse", "HEAD"), git(clone, "status", "--porcelain"), git(clone, "tag")) == (before, "", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_failed_build_leaves_no_tag_and_can_be_continued(clone):
    (clone / "tools/image").write_text("#!/bin/sh\nexit 1\n")
    commit(clone, "break the image")
    done = run(clone, "tools/release", NEXT)
    assert done.returncode == 1 and "run the same command again" in done.stderr
    assert git(clone, "tag") == "" and git(clone, "log", "-1", "--format=%s") == f"release: {NEXT}"
    (clone / "tools/image").write_text("#!/bin/sh\n")
    git(clone, "commit", "--quiet", "--all", "--amend", "--no-edit")
    assert run(clone, "tools/release", NEXT).returncode == 0
    assert git(clone, "tag") == f"v{NEXT}" and git(clone, "rev-list", "--count", "HEAD") == "3"


def test_what_is_not_ready_is_refused(clone):
    refuses(clone, "v1", "is no version")
    refuses(clone, "0.0.9", "is below the current version")
    (clone / "README.md").write_text("dirty\n")
    refuses(clone, NEXT, "the working tree is not clean")
    git(clone, "checkout", "--quiet", "README.md")
    git(clone, "checkout", "--quiet", "-b", "feature")
    refuses(clone, NEXT, "releases are made on main")
    git(clone, "checkout", "--quiet", "main")
    (clone / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n")
    commit(clone, "empty the changelog")
    refuses(clone, NEXT, "nothing under [Unreleased]")


def test_a_version_in_an_unknown_place_is_refused(clone):
    (clone / "CHANGELOG.md").write_text(CHANGELOG)
    (clone / "src/lib.rs").write_text(f"//! This is {version()}.\n")
    commit(clone, "carry the version")
    refuses(clone, NEXT, "src/lib.rs:1 carries")
