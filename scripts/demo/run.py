#!/usr/bin/env python3
"""Runs the demo: a fresh group, a few hundred real jobs over real files, every result checked.

    run.py --reeve PATH [--files N] [--workers N] [--dir DIR] [--keep]

Exit code 0 only if every job ended as it should, every output has the right bytes, the audit log
verifies, and nothing of the group is left afterwards.
"""

import argparse
import collections
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import make_jobs  # noqa: E402


class Failure(Exception):
    pass


class Cell:
    def __init__(self, reeve, state_dir):
        self.reeve = str(pathlib.Path(reeve).resolve())
        self.state_dir = str(state_dir)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("REEVE_")}
        self.environment["REEVE_STATE_DIR"] = self.state_dir

    def run(self, *words, expect=(0,), show=False, timeout=600):
        if show:
            print("$ reeve " + " ".join(words), flush=True)
        done = subprocess.run([self.reeve, *words], env=self.environment, timeout=timeout,
                              stdout=subprocess.PIPE, stderr=None if show else subprocess.PIPE,
                              check=False)
        text = done.stdout.decode(errors="replace")
        if show and text:
            print(text, end="", flush=True)
        if expect is not None and done.returncode not in expect:
            told = (done.stderr or b"").decode(errors="replace")
            raise Failure(f"reeve {' '.join(words[:3])} ended with {done.returncode}: "
                          f"{told}{text}".strip())
        return text

    def json(self, *words, expect=(0,)):
        return json.loads(self.run(*words, expect=expect))


def memory_limits(cell):
    checks = cell.json("doctor", "--json", expect=(0, 1))["checks"]
    return any(check["name"] == "memory limits" and check["verdict"] == "ok" for check in checks)


def digest_of(path):
    try:
        return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
    except OSError as error:
        return f"{error.strerror}: {path}"


def fits(expected, job, task_states):
    """Whether a job ended as expected: its tasks' outcomes, or its own state if it never ran."""
    if expected == "cancelled":
        return job["state"] == "cancelled"
    if expected == "succeeded":
        return job["state"] == "succeeded"
    return job["state"] == "failed" and (not task_states or expected in task_states)


def check_outputs(expected, wrong):
    wanted = dict(expected.get("elements", {}))
    if "sha256" in expected:
        wanted[expected["output"]] = expected["sha256"]
    for path, digest in wanted.items():
        if digest_of(path) != digest:
            wrong.append(f"{path}: wrong bytes ({digest_of(path)})")
    return len(wanted)


def check_jobs(cell, root, ids):
    """(rows of the summary, what is wrong)."""
    labels = [job["job_id"] for job in json.loads((root / "jobs.json").read_text())]
    expected = json.loads((root / "expected.json").read_text())
    shown = cell.json("show", "--json", f"{min(ids)}-{max(ids)}")["jobs"]
    by_id = {entry["job"]["job"]: entry for entry in shown}
    rows = collections.OrderedDict()
    wrong = []
    for label, job_id in zip(labels, ids):
        entry = by_id.get(job_id)
        if entry is None:
            wrong.append(f"{label}: job {job_id} is not known")
            continue
        want = expected[label]
        states = [task["state"] for task in entry["tasks"]]
        row = rows.setdefault(want["kind"], collections.Counter())
        row["jobs"] += 1
        row["tasks"] += entry["job"]["tasks"]["total"]
        row[entry["job"]["state"]] += 1
        row["files"] += check_outputs(want, wrong)
        if fits(want["outcome"], entry["job"], states):
            row["as expected"] += 1
        else:
            wrong.append(f"{label} (job {job_id}): {entry['job']['state']} {states[:3]}, "
                         f"expected {want['outcome']}")
    return rows, wrong


def print_table(rows):
    columns = ("jobs", "tasks", "succeeded", "failed", "cancelled", "as expected", "files")
    print(f"\n{'kind':<10}" + "".join(f"{name:>13}" for name in columns))
    total = collections.Counter()
    for kind, row in rows.items():
        print(f"{kind:<10}" + "".join(f"{row[name]:>13}" for name in columns))
        total.update(row)
    print(f"{'all':<10}" + "".join(f"{total[name]:>13}" for name in columns) + "\n")
    return total


def left_behind(cell, status):
    """What of the group is still there after `down`."""
    left = [f"process {process['role']} {process['pid']}" for process in status["processes"]
            if process["state"] not in ("dead", "missing")]
    left += [str(path) for path in pathlib.Path("/dev/shm").glob(f"reeve-{status['cell']}-*")]
    cgroups = pathlib.Path("/sys/fs/cgroup")
    left += [str(path) for path in cgroups.glob(f"**/reeve.{status['cell']}")]
    if os.path.exists(status["socket"]):
        left.append(status["socket"])
    return left


def run_demo(cell, root, words):
    limits = memory_limits(cell)
    count = make_jobs.make(root, words.files, limits)
    print(f"{count} jobs over {words.files} files in {root}"
          + ("" if limits else " (no memory limits on this machine: nothing runs out of memory)"))
    up = ["up"] + (["--workers", str(words.workers)] if words.workers != 1 else [])
    cell.run(*up, show=True)
    begun = time.monotonic()
    ids = [int(line) for line in
           cell.run("submit", "--parsable", str(root / "jobs.json")).split()]
    if len(ids) != count:
        raise Failure(f"{len(ids)} job ids for {count} jobs")
    print(f"$ reeve submit {root / 'jobs.json'}\njobs {min(ids)}-{max(ids)} submitted")
    cell.run("wait", f"{min(ids)}-{max(ids)}", show=True, expect=(0, 1))
    took = time.monotonic() - begun
    rows, wrong = check_jobs(cell, root, ids)
    total = print_table(rows)
    print(f"{total['tasks']} tasks in {took:.1f} s, {total['files']} output files checked byte for "
          f"byte; the report:\n{(root / 'out' / 'report').read_text().strip()}\n")
    cell.run("audit", "head", show=True)
    cell.run("audit", "verify", show=True)
    return wrong


def main():
    parser = argparse.ArgumentParser(description="runs the demo jobs in a fresh group")
    parser.add_argument("--reeve", required=True)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--dir", help="where to work (default: a temporary directory)")
    parser.add_argument("--keep", action="store_true", help="leave files and group for a look")
    words = parser.parse_args()
    if words.dir:
        root = pathlib.Path(words.dir).resolve()
        root.mkdir(parents=True)  # a fresh one, or not at all
    else:
        root = pathlib.Path(tempfile.mkdtemp(prefix="reeve-demo-")).resolve()
    cell = Cell(words.reeve, root / "state")
    wrong = []
    try:
        wrong = run_demo(cell, root, words)
    except (Failure, subprocess.TimeoutExpired, OSError) as error:
        wrong = [str(error)]
    finally:
        if words.keep:
            print(f"still running: REEVE_STATE_DIR={cell.state_dir} {cell.reeve} ls --all")
        else:
            cell.run("down", show=True, expect=None)
            status = cell.json("status", "--json", expect=None)
            wrong += [f"left behind: {what}" for what in left_behind(cell, status)]
    for line in wrong[:20]:
        print("WRONG  " + line)
    if wrong:
        print(f"the demo failed: {len(wrong)} things are wrong; files and logs are in {root}")
        return 1
    if not words.keep:
        shutil.rmtree(root)
    print("the demo passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
