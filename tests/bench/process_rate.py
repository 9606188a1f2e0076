#!/usr/bin/env python3
"""Process tasks per second through the whole cell, against the bare launch loop of the same run.

    process_rate.py --build build/release [--tasks 5000] [--runs 5] [--parallel 2]

Each run launches `true` so many times from a bare loop (cgroup, output file, no scheduler, no
record; forked or sharing memory, whichever is faster), once with a fresh cgroup directory for each
and once with directories used again, from `xargs -P` (no cgroup, no file), and then as one array
through a cell: submitted, durable, placed, run, recorded, audited. The rate is counted from the
first start to the last end as `reeve show` has them. Runs take turns; ratios are those of the
medians. Every run has an empty directory for its output, and none is removed before the end: a new
file takes longer where others were removed in the last minute. Also says what each process of the
group spent per task.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "stress"))
from kill_cell import Cell  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def spent(cell):
    """role -> cpu seconds of its processes until now"""
    status = json.loads(cell.run("status", "--json").stdout)
    return {process["role"]: cpu_seconds(process["pid"])
            for process in status["processes"] if process["pid"]}


def through_cell(cell, options):
    before = spent(cell)
    output = tempfile.mkdtemp(dir=options.outputs) + "/%a"
    job = int(cell.run("submit", "--parsable", "--output", output, "--array",
                       "1-%d" % options.tasks, "--", options.program).stdout)
    cell.run("wait", str(job))
    after = spent(cell)
    record = json.loads(cell.run("show", str(job), "--json", "--limit", "1").stdout)["jobs"][0]
    begun, ended = (datetime.datetime.fromisoformat(record["job"][name].replace("Z", "+00:00"))
                    for name in ("started", "ended"))
    seconds = (ended - begun).total_seconds()
    return options.tasks / seconds, {role: (after[role] - before.get(role, 0)) / options.tasks * 1e6
                                     for role in after}


def bare_rate(options, directories):
    def rate(mode):
        done = subprocess.run([options.build + "/tests/bench/launch_loop", str(options.tasks),
                               str(options.parallel), mode, options.program, directories,
                               tempfile.mkdtemp(dir=options.outputs)],
                              check=True, capture_output=True, text=True)
        return json.loads(done.stdout)["value"]
    return max(rate("fork"), rate("shared"))


def xargs_rate(options):
    words = "\n".join(str(number) for number in range(options.tasks))
    begun = time.monotonic()
    subprocess.run(["xargs", "-P", str(options.parallel), "-I{}", options.program], check=True,
                   input=words, text=True)
    return options.tasks / (time.monotonic() - begun)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--program", default="/bin/true")
    options = parser.parse_args()
    loop, again, xargs, ours, costs = [], [], [], [], {}
    with tempfile.TemporaryDirectory(prefix="reeve-bench-") as top:
        options.outputs = top
        cell = Cell(options.build + "/cli/reeve", top + "/cell", {})
        try:
            cell.run("up", "--workers", "1", "--cpus", str(options.parallel))
            for _ in range(options.runs):
                loop.append(bare_rate(options, "fresh"))
                again.append(bare_rate(options, "again"))
                xargs.append(xargs_rate(options))
                rate, cost = through_cell(cell, options)
                ours.append(rate)
                for role, value in cost.items():
                    costs.setdefault(role, []).append(value)
                time.sleep(0.5)
        finally:
            cell.run("down")
    for name, value, unit in (
            ("launch_loop", statistics.median(loop), "tasks/s"),
            ("launch_loop_again", statistics.median(again), "tasks/s"),
            ("xargs", statistics.median(xargs), "tasks/s"),
            ("process_rate", statistics.median(ours), "tasks/s"),
            ("process_ratio", statistics.median(ours) / statistics.median(loop), "1"),
            ("process_ratio_again", statistics.median(ours) / statistics.median(again), "1"),
            ("process_ratio_xargs", statistics.median(ours) / statistics.median(xargs), "1"),
            *(("process_cpu_" + role, statistics.median(values), "us/task")
              for role, values in sorted(costs.items()))):
        print(json.dumps({"name": name, "unit": unit, "runs": options.runs,
                          "value": round(value, 3)}))


if __name__ == "__main__":
    sys.exit(main())
