"""helm/README.md lists every value of values.yaml, with its comment and its default."""

import json
import re

import pytest
from chart import CHART, template

BEGIN, END = "<!-- values: written by tests/chart/run --update -->\n", "<!-- end of the values -->\n"


def rows():
    """Every key of values.yaml: (path, the comment right above it, what stands on its line)."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    path, comment = [], []
    for line in lines:
        text = line.strip()
        if text.startswith("# "):
            comment.append(text[2:])
            continue
        found = re.match(r"( *)(\w+):(?: (.*))?$", line)
        if found:
            depth = len(found[1]) // 2
            path[depth:] = [found[2]]
            yield ".".join(path), " ".join(comment), found[3] or ""
        comment = []


def table():
    written, described = ["| value | meaning | default |", "| --- | --- | --- |"], ()
    listed = list(rows())
    for at, (path, comment, default) in enumerate(listed):
        if path.startswith(tuple(f"{parent}." for parent in described)):
            continue
        inside = at + 1 < len(listed) and listed[at + 1][0].startswith(path + ".")
        if inside and any(row[1] for row in listed[at + 1 :] if row[0].startswith(path + ".")):
            continue
        if inside:
            described += (path,)
            default = "see values.yaml"
        else:
            assert comment, f"{path} has no comment"
        default = "" if default in ('""', "") else default if default.startswith("see ") else f"`{default}`"
        written.append(f"| `{path}` | {comment.replace('|', chr(92) + '|')} | {default} |")
    return "\n".join(written) + "\n"


def test_the_readme_lists_every_value(update):
    readme = CHART / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    if update:
        readme.write_text(before + BEGIN + table() + END + after)
    assert before + BEGIN + table() + END + after == readme.read_text(), "tests/chart/run --update"


def test_the_schema_s_properties_are_all_described():
    schema = json.loads((CHART / "values.schema.json").read_text())
    listed = {path.split(".")[0] for path, *_ in rows()}
    assert listed == schema["properties"].keys() - {"global", "enabled"}


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(# my-values.*?)```", (CHART / "README.md").read_text(), re.S))
def test_the_readme_s_examples_are_taken(example, tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text(example)
    rendered = template("--values", values)
    assert rendered.returncode == 0, rendered.stderr
