#!/usr/bin/env python3
"""How long a task waits when its worker (agent and launcher) is SIGKILLed: JSON lines.

    worker_kill.py --reeve build/release/cli/reeve [--runs 50]

kill_to_running   from the kill to the task running again on the other worker
dead_to_running   from WORKER_DEAD (written once its cgroup is empty) to the same, by the log
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "stress"))
import audit_reader  # noqa: E402
from kill_cell import Cell  # noqa: E402


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(part * len(values)))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--reeve", required=True)
    parser.add_argument("--runs", type=int, default=50)
    options = parser.parse_args()
    kills = {}
    with tempfile.TemporaryDirectory(prefix="reeve-bench-") as top:
        cell = Cell(options.reeve, top + "/cell", {})
        cell.up()
        for _ in range(options.runs):
            job = int(cell.run("submit", "--parsable", "--output", "none", "--",
                               "sleep", "600").stdout)
            deadline = time.monotonic() + 20
            worker = None
            while worker is None and time.monotonic() < deadline:
                tasks = json.loads(cell.run("show", str(job), "--json").stdout)["jobs"][0]["tasks"]
                worker = next((t["worker_name"] for t in tasks if t["state"] == "running"), None)
                victims = [p["pid"] for p in cell.processes() if p.get("name") == worker]
            kills[job] = time.time_ns()
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.6)
            cell.run("cancel", str(job))
            time.sleep(0.1)
        cell.run("audit", "head")
        time.sleep(0.5)
        entries = list(audit_reader.read_entries(top + "/cell/audit"))
        cell.run("down")
    dead = {e.index: e.time for e in entries if e.kind == audit_reader.WORKER_DEAD}
    cause, total, after = {}, [], []
    for entry in entries:
        job = entry.task[0]
        if entry.kind == audit_reader.REQUEUED and entry.cause in dead:
            cause[job] = dead[entry.cause]
        if entry.kind == audit_reader.STARTED and entry.attempt == 2 and job in cause:
            total.append((entry.time - kills[job]) / 1e6)
            after.append((entry.time - cause[job]) / 1e6)
    for name, values in (("kill_to_running", total), ("dead_to_running", after)):
        for part, label in ((0.5, "p50"), (0.99, "p99")):
            print(json.dumps({"name": "%s_%s" % (name, label), "unit": "ms",
                              "value": round(percentile(values, part), 2), "runs": len(values)}))


if __name__ == "__main__":
    sys.exit(main())
