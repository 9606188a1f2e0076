#!/usr/bin/env python3
"""class_b for minutes: does it hold its rate, its files and its memory?

    sustained.py --build build/release [--seconds 180] [--backlog 0] [--sweep] [--history N]

Rounds of 10 s of stream_bench on one cell whose history grows all the while; after each a JSON line
with rate, write-ahead log, ledger, history, the PLM's memory and the age of the checkpoint. The
last line has the ratio of the last three rounds to the first three. --backlog N: a run of N tasks
waits behind it. --sweep: 10 s each at a backlog of 1k, 10k, 100k, 1M and 10M instead. --history N:
rounds until so many tasks ended, then in turns that cell and a fresh one, five times 4 s each, and
the ratio of the medians.
"""

import argparse
import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import quick  # noqa: E402

ROUND = 10
TURNS = 5
SWEEP = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)


def mib(path):
    try:
        return round(os.path.getsize(path) / 2**20, 1)
    except FileNotFoundError:
        return 0.0


def wait_behind(cell, count):
    cell.cli("submit", "--function", "noop", "-c", "2", "--array", "1-%d" % count,
             "-p", "-100000")


def one_round(cell, ended):
    begun = time.monotonic()
    rate = cell.stream("--seconds", str(ROUND))["class_b"]
    age = time.time() - os.stat(cell.directory + "/audit/checkpoint").st_mtime
    ended += round(rate * ROUND)
    print(json.dumps({
        "class_b": round(rate), "ended": ended, "seconds": round(time.monotonic() - begun, 1),
        "ledger_wal_mib": mib(cell.directory + "/ledger.db-wal"),
        "ledger_mib": mib(cell.directory + "/ledger.db"),
        "history_mib": mib(cell.directory + "/history.db"),
        "plm_mib": round(quick.resident_bytes(cell.plm()) / 2**20, 1),
        "checkpoint_age_s": round(age, 2)}), flush=True)
    return rate, ended


def sweep(build):
    for count in SWEEP:
        with quick.Cell(build, "-c", "2") as cell:
            wait_behind(cell, count)
            cell.stream("--seconds", "1")
            rate = cell.stream("--seconds", str(ROUND))["class_b"]
        print(json.dumps({"name": "class_b", "backlog": count, "value": round(rate),
                          "unit": "tasks/s"}), flush=True)


def with_history(build, count):
    """The rate of a cell that has so many ended tasks, beside one that has none."""
    rates = {"full": [], "fresh": []}
    with quick.Cell(build, "-c", "2") as full:
        ended = 0
        while ended < count:
            _, ended = one_round(full, ended)
        with quick.Cell(build, "-c", "2") as fresh:
            fresh.stream("--seconds", "1")
            for turn in range(TURNS):
                pair = [("full", full), ("fresh", fresh)]
                for name, cell in pair if turn % 2 else reversed(pair):
                    rates[name].append(cell.stream("--seconds", "4")["class_b"])
        ratio = statistics.median(rates["full"]) / statistics.median(rates["fresh"])
        print(json.dumps({"ended": ended, **{k: [round(r) for r in v] for k, v in rates.items()}}))
        print(json.dumps({"name": "history_ratio", "unit": "1", "value": round(ratio, 3)}),
              flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--backlog", type=int, default=0)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--history", type=int, default=0)
    options = parser.parse_args()
    if options.history:
        with_history(options.build, options.history)
        return 0
    if options.sweep:
        sweep(options.build)
        return 0
    with quick.Cell(options.build, "-c", "2") as cell:
        if options.backlog:
            wait_behind(cell, options.backlog)
        rates, ended = [], 0
        while len(rates) * ROUND < options.seconds:
            rate, ended = one_round(cell, ended)
            rates.append(rate)
    print(json.dumps({"name": "sustained_ratio", "unit": "1", "value": round(
        statistics.median(rates[-3:]) / statistics.median(rates[:3]), 3)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
