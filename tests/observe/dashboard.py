"""Evaluates the dashboard's expressions on the start of replicas and on clocks, with promtool, over the series of a rollout."""

import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "helm/files/dashboard.json").read_text())
TEST = ROOT / "target/observe/dashboard_test.yaml"

# Ten minutes after the beginning one replica ends, and another one takes its place. The third one
# restarts in its pod at twenty minutes.
STARTS = {"old": "-7200+0x9 stale", "new": "_x10 600+0x30", "same": "-3600+0x19 1200+0x20"}
# Its clock is 19.9 s ahead of ENS's, then agrees; another one's is behind; the last one's agrees.
CLOCKS = {"ahead": "-19.9+0x19 0+0x20", "behind": "6.5+0x40", "right": "0+0x40"}


def query(expression):
    """An expression of the dashboard, with one release chosen."""
    return expression.replace("$namespace", "n").replace("$job", "eni-gateway")


def labels(instance):
    return '{instance="%s",job="eni-gateway",namespace="n"}' % instance


def series(metric, values):
    of = '{}{{namespace="n",job="eni-gateway",instance="{}"}}'
    return [{"series": of.format(metric, name), "values": each} for name, each in values.items()]


def at(expression, time, **expected):
    samples = [{"labels": labels(name), "value": value} for name, value in expected.items()]
    return {"expr": query(expression), "eval_time": time, "exp_samples": samples}


def main():
    (starts,) = [each for each in DASHBOARD["annotations"]["list"] if each["name"] == "Starts"]
    (clock,) = [panel for panel in DASHBOARD["panels"] if panel["title"].startswith("Clock of ENS")]
    starts, (clocks,) = starts["expr"], [target["expr"] for target in clock["targets"]]
    tests = [
        {
            "name": "a start is marked, and only a start",
            "interval": "1m",
            "input_series": series("process_start_time_seconds", STARTS),
            "promql_expr_test": [
                at(starts, "9m"),
                at(starts, "10m", new=0),
                at(starts, "11m", new=60),
                at(starts, "12m"),
                at(starts, "19m"),
                at(starts, "21m", same=60),
                at(starts, "23m"),
            ],
        },
        {
            "name": "a clock that differs is not zero, on either side",
            "interval": "1m",
            "input_series": series("eni_gateway_ens_clock_offset_seconds", CLOCKS),
            "promql_expr_test": [
                at(clocks, "10m", ahead=19.9, behind=6.5, right=0),
                at(clocks, "30m", ahead=0, behind=6.5, right=0),
            ],
        },
    ]
    TEST.write_text(json.dumps({"evaluation_interval": "1m", "tests": tests}))
    subprocess.run(["promtool", "test", "rules", TEST], check=True)
    # What is not zero is red.
    steps = clock["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [(step["color"], step["value"]) for step in steps] == [("green", None), ("red", 0.001)], steps


if __name__ == "__main__":
    main()
