#!/usr/bin/env python3
"""The figures of docs/performance.md in under a minute: `scripts/dev bench --quick [--json]`.

    quick.py --build build/release [--json] [--runs 1]

One {"name","value","unit"} object a line; without --json a table follows. Every figure that is a
ratio comes from the same run on the same machine. --runs N takes the median of N rounds.
"""

import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time


class Cell:
    """A fresh cell of its own; leaves nothing behind."""

    def __init__(self, build, *words):
        self.build = build
        self.top = tempfile.TemporaryDirectory(prefix="reeve-bench-")
        self.directory = self.top.name + "/cell"
        self.cli("up", *words)

    def cli(self, *words):
        done = subprocess.run([self.build + "/cli/reeve", "--state-dir", self.directory, *words],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit("reeve %s: %s" % (" ".join(words), done.stderr))
        return done.stdout

    def stream(self, *words):
        return figures([self.build + "/tests/bench/stream_bench", self.directory, *words])

    def pids(self):
        status = json.loads(self.cli("status", "--json"))
        pids = [process["pid"] for process in status["processes"] if process["pid"]]
        for pid in list(pids):
            with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as file:
                pids += [int(word) for word in file.read().split()]
        return sorted(set(pids))

    def plm(self):
        status = json.loads(self.cli("status", "--json"))
        return next(p["pid"] for p in status["processes"] if p["role"] == "plm")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cli("down")
        self.top.cleanup()


def figures(words):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, timeout=120, check=True)
    return {one["name"]: one["value"] for one in map(json.loads, done.stdout.splitlines())}


def cpu_seconds(pids):
    total = 0.0
    for pid in pids:
        for path in glob.glob("/proc/%d/task/*/schedstat" % pid):
            with open(path, encoding="ascii") as file:
                total += int(file.read().split()[0]) / 1e9
    return total


def resident_bytes(pid):
    """Private and shared memory of a process, as it is now."""
    with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def class_a(build):
    return figures([build + "/tests/bench/class_a", "--seconds", "2"])["class_a"]


def grpc_echo(build):
    return figures([build + "/tests/bench/stream_bench", "--echo", "--seconds", "1"])["grpc_echo"]


def launch_loop(build):
    return max(figures([build + "/tests/bench/launch_loop", "1000", "2", mode,
                        "/bin/true"]).popitem()[1] for mode in ("fork", "shared"))


def heap_ratio(build):
    return figures([build + "/tests/bench/heap_bench", "--quick", "--1p1c"])["heap_1p1c_ratio"]


def fdatasync_us(directory, times=50):
    """The median of one page appended and flushed, as far apart as the tasks of class C."""
    took = []
    with open(directory + "/flush", "ab", buffering=0) as file:
        for _ in range(times):
            begun = time.monotonic()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            took.append((time.monotonic() - begun) * 1e6)
            time.sleep(0.002)
    return statistics.median(took)


def plugin_of(build):
    return os.path.abspath(build + "/tests/bench/libclock_plugin.so")


def latencies(build):
    """What class C consists of, and class C without the flush."""
    out = figures([build + "/tests/bench/stream_bench", "--echo", "--latency", "200"])
    out = {"grpc_round_trip_p50_us": out["grpc_round_trip_p50_us"]}
    words = ("-c", "2", "--plugin", plugin_of(build), "--durability", "async")
    with Cell(build, *words) as cell:
        out["fdatasync_p50_us"] = fdatasync_us(cell.directory)
        latency = cell.stream("--latency", "200", "--function", "clock")
        out["class_c_async_p50_us"] = latency["class_c_p50_us"]
    return out


def streams(build):
    """class_b, its rate with a million tasks waiting, class_c: one cell."""
    plugin = plugin_of(build)
    out = {}
    with Cell(build, "-c", "2", "--plugin", plugin) as cell:
        latency = cell.stream("--latency", "200", "--function", "clock")
        out["class_c_p50_us"] = latency["class_c_p50_us"]
        out["class_c_result_p50_us"] = latency["class_c_result_p50_us"]
        out["class_b"] = cell.stream("--seconds", "2.5")["class_b"]
        few = cell.stream("--seconds", "1.8")["class_b"]
        # A million that wait behind everything else.
        waiting = cell.cli("submit", "--parsable", "--function", "noop", "-c", "2", "--array",
                           "1-1000000", "-p", "-100000").strip()
        many = cell.stream("--seconds", "1.8")["class_b"]
        out["flat_1m_ratio"] = many / few
        cell.cli("cancel", waiting)
    return out


def process_rate(build):
    with Cell(build, "-c", "2") as cell:
        begun = time.monotonic()
        cell.cli("submit", "--wait", "--output", "none", "--array", "1-2000", "--", "/bin/true")
        return 2000 / (time.monotonic() - begun)


def queued(build):
    """Bytes per queued task beyond its payload, and what a million of them cost at rest."""
    with Cell(build, "--workers", "2") as cell:
        before = resident_bytes(cell.plm())
        cell.stream("--queue", "1000000", "--bytes", "16")
        time.sleep(2)
        after = resident_bytes(cell.plm())
        # Its payload: 16 bytes, and the two that say how long they are.
        per_task = (after - before) / 1_000_000 - 18
        pids = cell.pids()
        spent, begun = cpu_seconds(pids), time.monotonic()
        time.sleep(4)
        used = cpu_seconds(pids) - spent
        idle = 100 * used / (time.monotonic() - begun)
    return {"bytes_per_task": per_task, "idle_cpu_percent": idle}


UNITS = {"grpc_round_trip_p50_us": "us", "fdatasync_p50_us": "us", "class_c_async_p50_us": "us",
         "class_c_p50_us": "us", "class_c_result_p50_us": "us", "heap_1p1c_ratio": "1",
         "flat_1m_ratio": "1", "bytes_per_task": "B", "idle_cpu_percent": "% of a core"}


def one_round(build):
    out = {"launch_loop": launch_loop(build), "class_b_process": process_rate(build)}
    out["grpc_echo"] = grpc_echo(build)
    out.update(latencies(build))
    out.update(streams(build))
    out["class_a"] = class_a(build)
    out["heap_1p1c_ratio"] = heap_ratio(build)
    out.update(queued(build))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="one round (the default)")
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    rounds = [one_round(options.build) for _ in range(options.runs)]
    table = []
    for name in rounds[0]:
        value = statistics.median(one[name] for one in rounds)
        unit = UNITS.get(name, "tasks/s")
        table.append((name, value, unit))
        print(json.dumps({"name": name, "value": round(value, 3), "unit": unit}), flush=True)
    if not options.json:
        print()
        for name, value, unit in table:
            print("%-24s %14.6g  %s" % (name, value, unit))
    return 0


if __name__ == "__main__":
    sys.exit(main())
