#!/usr/bin/env python3
"""Where the time goes from `reeve submit` to the task's first instruction, on an idle cell.

    latency.py --reeve build/release/cli/reeve --witness build/release/tests/stress/witness

Prints a table and JSON lines, medians in milliseconds:
  start        the command is loaded and linked             (as `reeve version`, same run)
  grpc         it connects, sends, the PLM takes the request
  fdatasync    one page appended and flushed there          (a bare loop, same run)
  commit+wake  the rest until it is placed: ledger row, slot published, scheduler woken
  hand-off     the worker is woken and marks the task running
  spawn        launcher: clone into a fresh cgroup, files, exec     (until the task's first line)
  ack          all of `reeve submit`, start to exit
"""

import argparse
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "stress"))
from kill_cell import Cell, read_witness  # noqa: E402


def bare_flush(directory):
    """Milliseconds of one appended page with its fdatasync, without a database."""
    file = os.open(directory + "/flush", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    begun = time.monotonic_ns()
    os.write(file, b"x" * 4096)
    os.fdatasync(file)
    took = (time.monotonic_ns() - begun) / 1e6
    os.close(file)
    return took


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--reeve", required=True)
    parser.add_argument("--witness", required=True)
    parser.add_argument("--runs", type=int, default=50)
    options = parser.parse_args()
    parts = {name: [] for name in ("start", "grpc", "fdatasync", "commit+wake", "hand-off",
                                   "spawn", "ack")}
    client, placed = [], []
    with tempfile.TemporaryDirectory(prefix="reeve-bench-") as top:
        os.mkdir(top + "/locks")
        cell = Cell(options.reeve, top + "/cell", {})
        cell.up()
        begun = {}
        for _ in range(options.runs):
            started = time.time_ns()
            done = cell.run("submit", "--parsable", "--", options.witness, top + "/log",
                            top + "/locks", "0")
            parts["ack"].append((time.time_ns() - started) / 1e6)
            begun[int(done.stdout)] = started
            started = time.monotonic_ns()
            cell.run("version")
            parts["start"].append((time.monotonic_ns() - started) / 1e6)
            parts["fdatasync"].append(bare_flush(top))
            time.sleep(0.1)
        time.sleep(1.5)
        rows = sqlite3.connect(top + "/cell/history.db").execute(
            "SELECT job, submit_ns, assigned_ns, started_ns FROM attempt").fetchall()
        runs, _ = read_witness(top + "/log")
        boot_to_wall = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        cell.run("down")
    for job, submit, assigned, running in rows:
        first = next(when for _, what, when in runs[(job, 0)] if what == "start") + boot_to_wall
        client.append((submit - begun[job]) / 1e6)
        placed.append((assigned - submit) / 1e6)
        parts["hand-off"].append((running - assigned) / 1e6)
        parts["spawn"].append((first - running) / 1e6)
    start, flush = statistics.median(parts["start"]), statistics.median(parts["fdatasync"])
    parts["grpc"] = [max(value - start, 0) for value in client]
    parts["commit+wake"] = [max(value - flush, 0) for value in placed]
    for name, values in parts.items():
        print("%-12s %8.3f ms" % (name, statistics.median(values)))
    for name, values in parts.items():
        print(json.dumps({"name": "latency_" + name, "unit": "ms", "runs": len(values),
                          "value": round(statistics.median(values), 3)}))


if __name__ == "__main__":
    sys.exit(main())
