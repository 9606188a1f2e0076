#!/usr/bin/env python3
"""Kills every role of a live cell at random moments under load and checks what is left.

    kill_cell.py --reeve build/release/cli/reeve --kills 200 [--seed N] [--seconds-max S]

Total-queue arithmetic over three independent records: what clients were told (acks), what the tasks
wrote themselves (witness.c), and the audit log read by our own reader.

  lost        acknowledged, but never ended                              must be empty
  doubled     two terminal records, or two attempts alive at once        must be empty
  unexpected  ran or recorded, but never submitted                       must be empty
  over        tasks that met others holding what they were given (cpus,
              a named resource, a GPU, a core), by their own locks        must be empty
  at rest     the cell's own books: nothing used, `shm check` finds
              nothing                                                    must be empty
  recovered   submitted without an acknowledgement, and run all the same  counted

Kills come from failpoints (a named line of the code, at a random pass) and from outside (a random
role at a random moment, or the segment: it is removed). Seeded bugs it catches: see the negative
controls in test_kill_cell.py.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import audit_reader  # noqa: E402

# Where the slot or the batch stands when the point is passed.
POINTS = {
    "plm.init": "init", "plm.before_commit": "mid-commit", "plm.after_commit": "mid-commit",
    "plm.before_push": "mid-commit", "plm.before_ack": "mid-commit",
    "plm.gathered_beside": "mid-commit",
    "scheduler.after_claim": "claimed", "scheduler.after_assign": "assigned",
    "scheduler.after_event": "assigned", "scheduler.retracted": "queued",
    "worker.before_start": "assigned", "worker.after_start": "running",
    "worker.before_launcher": "running", "worker.before_end": "running",
    "worker.after_end": "ended",
    "launcher.before_begin": "assigned", "launcher.after_begin": "running",
    "launcher.after_clone": "running", "launcher.after_exit": "running",
    "launcher.before_report": "running",
    "register.verdict": "running", "register.verdict_logged": "running",
    "register.before_requeue": "running", "register.mid_requeue": "running",
    "register.requeued": "queued",
}
STATES = ["init", "claimed", "assigned", "running", "mid-commit"]
ROLES = ["plm", "scheduler", "register", "worker", "launcher"]  # and runner, with --plugin
CPUS, LICENCES, GPUS = 2, 3, 2  # of each worker


class Cell:
    def __init__(self, reeve, directory, environment):
        self.reeve = reeve
        self.directory = directory
        self.environment = dict(os.environ, REEVE_STATE_DIR=directory, **environment)

    def run(self, *arguments, timeout=60, environment=None):
        return subprocess.run([self.reeve, *arguments], env=environment or self.environment,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=timeout, text=True, check=False)

    def up(self, *arguments):
        done = self.run("up", "--workers", "2", "--cpus", str(CPUS), "--gpus", str(GPUS),
                        "--resource", "lic=%d" % LICENCES, *arguments)
        if done.returncode != 0:
            raise SystemExit("up failed: " + done.stderr)

    def processes(self):
        done = self.run("status", "--json")
        try:
            return [p for p in json.loads(done.stdout)["processes"] if p.get("pid")]
        except (ValueError, KeyError):
            return []


class Load(threading.Thread):
    """Submits arrays of witness tasks until told to stop; keeps what was acknowledged."""

    def __init__(self, cell, command, rng, never, brief=False, mixed=True):
        super().__init__(daemon=True)
        self.cell, self.command, self.rng, self.never = cell, command, rng, never
        self.counts, self.lengths = [1, 1, 5, 30], [0, 1, 5, 20]
        if brief:
            self.counts, self.lengths = [30, 100], [0, 1]
        self.mixed = mixed and not brief
        self.acked, self.unanswered, self.done = {}, [], threading.Event()

    def request(self, count):
        """What a job asks for, and what the witness is told to hold."""
        asked, cpus, held = [], 1, []
        if self.mixed and count <= 5 and self.rng.random() < 0.4:
            cpus = self.rng.choice([1, 1, 2])
            asked += ["-c", str(cpus)]
            licences = self.rng.choice([0, 1, 2])
            if licences:
                asked += ["--resource", "lic=%d" % licences]
                held += ["lic:%d:%d" % (licences, LICENCES)]
            asked += self.rng.choice([[], ["--gpus", "1"], ["--gpus", "1"], ["--gpus", "2"]])
            asked += self.rng.choice([[], [], ["--pin"]])
        return asked, ["cpu:%d:%d" % (cpus, CPUS)] + held

    def run(self):
        number = 0
        while not self.done.is_set():
            number += 1
            key = "k%d-%d" % (id(self) % 100000, number)
            count = self.rng.choice(self.counts)
            milliseconds = str(self.rng.choice(self.lengths))
            arguments = ["submit", "--parsable", "--key", key, "-p", str(self.rng.randrange(-5, 6))]
            if count > 1:
                arguments += ["--array", "1-%d" % count]
            if self.never:
                arguments += ["--retries", "never"]
            asked, held = self.request(count)
            if self.mixed and count == 1 and self.rng.random() < 0.05:
                milliseconds = "800"  # some outlive a rebuild
            arguments += asked
            for word in self.command:
                word = word.replace("@MS", milliseconds).replace("@CPU", held[0])
                arguments += held if word == "@HELD" else [word]
            # The same key again and again until somebody answers: at most one job comes of it.
            while not self.done.is_set():
                try:
                    answer = self.cell.run(*arguments, timeout=20)
                except subprocess.TimeoutExpired:
                    continue
                if answer.returncode == 0:
                    self.acked[int(answer.stdout.split()[0])] = count
                    break
                if answer.returncode == 2:
                    raise SystemExit("submit refused: " + answer.stderr)
                time.sleep(0.02)
            else:
                self.unanswered.append(key)
            time.sleep(self.rng.uniform(0, 0.05))


def runners(processes):
    """Runner processes: children of the launchers."""
    out = []
    for launcher in (p["pid"] for p in processes if p["role"] == "launcher"):
        try:
            with open("/proc/%d/task/%d/children" % (launcher, launcher), encoding="ascii") as file:
                out += [{"role": "runner", "pid": int(pid)} for pid in file.read().split()]
        except OSError:
            pass
    return out


def kill_loop(cell, rng, kills, each, deadline, point_log, roles, segment_share):
    """Kills from outside until `kills` have landed, those of failpoints counted in, and at least
    `each` in every state."""
    outside = Counter()

    def enough():
        inside = read_points(point_log)
        states = Counter()
        for name, count in inside.items():
            states[POINTS[name]] += count
        return (sum(inside.values()) + sum(outside.values()) >= kills and
                all(states[state] >= each for state in STATES))

    while not enough() and time.monotonic() < deadline:
        time.sleep(rng.uniform(0.05, 0.4))
        if rng.random() < segment_share:
            outside["segment"] += remove_segment(cell)
            continue
        processes = cell.processes()
        role = rng.choice(roles)
        targets = [p for p in processes if p["role"] == role]
        if role == "runner":
            targets = runners(processes)
        if role == "worker" and rng.random() < 0.5 and targets:
            # Agent and launcher of one worker together.
            name = rng.choice(targets)["name"]
            targets = [p for p in processes if p.get("name") == name]
        elif targets:
            targets = [rng.choice(targets)]
        for target in targets:
            try:
                os.kill(target["pid"], signal.SIGKILL)
                outside[target["role"]] += 1
            except ProcessLookupError:
                pass
    return outside


def remove_segment(cell):
    try:
        with open(os.path.join(cell.directory, "segment"), encoding="utf-8") as file:
            os.unlink("/dev/shm" + file.read().strip())
        return 1
    except OSError:
        return 0  # there is none at the moment


def read_points(path):
    try:
        with open(path, encoding="utf-8") as log:
            names = [line.split()[0] for line in log if line.strip()]
            return Counter(name for name in names if name in POINTS)
    except FileNotFoundError:
        return Counter()


def read_witness(path):
    runs, overlaps, over = defaultdict(list), [], []
    if os.path.exists(path):
        with open(path, encoding="utf-8") as log:
            for line in log:
                task, attempt, _, _, what, when = line.split()
                if what.startswith("over-"):
                    over.append(line.strip())
                    continue
                job, element = task.split(".")
                runs[(int(job), int(element))].append((int(attempt), what, int(when)))
                if what == "overlap":
                    overlaps.append(line.strip())
    return runs, overlaps, over


def books_at_rest(cell, deadline):
    """What the cell's own books say too much of, once nothing runs."""
    while True:
        found = []
        nodes = json.loads(cell.run("node", "ls", "--json").stdout or '{"nodes": []}')["nodes"]
        for node in nodes:
            used = node["used"]
            if any([used["cpu"], used["gpu"], node["gpu_used_mask"], *used["named"].values()]):
                found.append("at rest: %s has in use %s, GPUs %s"
                             % (node["name"], used, node["gpu_used_mask"]))
        check = cell.run("shm", "check")
        if check.returncode != 0:
            found.append("at rest: shm check: " + (check.stdout + check.stderr).strip()[:500])
        if len(nodes) != 2:
            found.append("at rest: %d workers" % len(nodes))
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def wait_all(cell, acked, deadline):
    open_jobs = set(acked)
    while open_jobs and time.monotonic() < deadline:
        for job in sorted(open_jobs):
            try:
                done = cell.run("wait", str(job), timeout=max(5, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                break
            if done.returncode in (0, 1):
                open_jobs.discard(job)
    return open_jobs


def terminal_records(cell, deadline):
    """(job, element) -> number of terminal rows and outcomes, once history has caught up."""
    database = sqlite3.connect("file:%s/history.db?mode=ro" % cell.directory, uri=True)
    rows = database.execute("SELECT job, element, outcome FROM attempt WHERE terminal").fetchall()
    counts = Counter((job, element) for job, element, _ in rows)
    return counts, {(job, element): outcome for job, element, outcome in rows}


def check(cell, load, witness_path, never, report):
    failures = []
    deadline = time.monotonic() + 90
    stuck = wait_all(cell, load.acked, deadline)
    if stuck:
        failures.append("lost: jobs %s never ended" % sorted(stuck)[:10])
    time.sleep(3)  # nobody asks for a checkpoint: it comes by itself, within a second
    entries = list(audit_reader.read_entries(os.path.join(cell.directory, "audit")))
    problems, states = audit_reader.check_rules(entries)
    failures += problems[:10]
    runs, overlaps, over = read_witness(witness_path)
    if over:
        failures.append("over: %d times a task met others with what it was given: %s"
                        % (len(over), over[:5]))
    failures += books_at_rest(cell, time.monotonic() + 10)
    if overlaps:
        failures.append("doubled: %d attempts met their predecessor alive: %s"
                        % (len(overlaps), overlaps[:3]))
    finished = Counter(e.task for e in entries if e.kind == audit_reader.FINISHED)
    for task, count in finished.items():
        if count > 1:
            failures.append("doubled: task %s finished %d times" % (task, count))
    expected = {(job, element) for job, count in load.acked.items()
                for element in (range(1, count + 1) if count > 1 else [0])}
    for task in sorted(expected):
        if task[0] in stuck:
            continue
        if states.get(task) not in ("done", "failed"):
            failures.append("lost: task %s is %s in the audit log" % (task, states.get(task)))
        ended = any(what == "end" for _, what, _ in runs.get(task, []))
        if finished.get(task) and not ended:
            failures.append("task %s is recorded as finished and never ran to its end" % (task,))
        if never and sum(1 for _, what, _ in runs.get(task, []) if what != "end") > 1:
            failures.append("at most once: task %s was started twice" % (task,))
    submitted = {e.task for e in entries if e.kind == audit_reader.SUBMITTED}
    unexpected = [task for task in runs if task not in submitted]
    if unexpected:
        failures.append("unexpected: %s ran and was never submitted" % unexpected[:5])
    report["acknowledged_tasks"] = len(expected)
    report["recovered_tasks"] = len({t for t in runs if t not in expected})
    report["finished"] = sum(finished.values())
    report["entries"] = len(entries)
    verify = cell.run("audit", "verify", os.path.join(cell.directory, "audit"))
    if verify.returncode != 0:
        failures.append("audit verify: " + (verify.stderr or verify.stdout).strip())
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--reeve", required=True)
    parser.add_argument("--witness", required=True)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--each", type=int, default=0, help="at least so many kills in each state")
    parser.add_argument("--seconds-max", type=float, help="default: a second a kill, at least 240")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("REEVE_SEED", "0")) or None)
    parser.add_argument("--passes", default="1-400")
    parser.add_argument("--never", action="store_true", help="tasks with --retries never")
    parser.add_argument("--brief", action="store_true",
                        help="large arrays of the shortest tasks, which follow each other")
    parser.add_argument("--plugin", help="function tasks of this plug-in instead of programs")
    parser.add_argument("--hand-over", action="store_true",
                        help="the PLM gathers beside the flush of every batch, not of large ones")
    parser.add_argument("--async", dest="flush_later", action="store_true",
                        help="a cell with --durability async")
    parser.add_argument("--spare", default="",
                        help="roles that are not killed, by commas: what outlives a rebuild")
    parser.add_argument("--segment-share", type=float, default=0.03,
                        help="of the kills from outside; a cell takes a second to come back")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    if options.seconds_max is None:
        options.seconds_max = max(240, options.kills)
    seed = options.seed or random.randrange(1, 2**31)
    print("seed %d (REEVE_SEED=%d replays the choices)" % (seed, seed), flush=True)
    rng = random.Random(seed)
    top = tempfile.mkdtemp(prefix="reeve-kill-")
    os.mkdir(top + "/locks")
    spared = options.spare.split(",")
    points = ",".join("%s:kill:%s" % (name, options.passes) for name in POINTS
                      if name.split(".")[0] not in spared)
    roles = [role for role in ROLES if role not in spared]
    if options.hand_over:
        points += ",plm.small_batches_alone:skip"
    cell = Cell(options.reeve, top + "/cell",
                {"REEVE_FP": points, "REEVE_FP_LOG": top + "/points"})
    witness_path = top + "/witness.log"
    command = ["--output", "none", "--", options.witness, witness_path, top + "/locks", "@MS",
               "@HELD"]
    up = []
    if options.plugin:
        command = ["--function", "witness", "--data", "%s %s/locks @MS @CPU" % (witness_path, top)]
        up = ["--plugin", options.plugin]
    if options.flush_later:
        up += ["--durability", "async"]
    load = Load(cell, command, rng, options.never, options.brief,
                not options.plugin)
    report = {"seed": seed}
    started = time.monotonic()
    cell.up(*up)
    load.start()
    outside = kill_loop(cell, rng, options.kills, options.each, started + options.seconds_max,
                        top + "/points", roles + (["runner"] if options.plugin else []),
                        options.segment_share)
    load.done.set()
    load.join(30)
    # From here on nothing kills any more: the same cell, without failpoints.
    inside = read_points(top + "/points")
    calm = {k: v for k, v in cell.environment.items() if not k.startswith("REEVE_FP")}
    for process in cell.processes():
        try:
            os.kill(process["pid"], signal.SIGKILL)
            outside[process["role"]] += 1
        except ProcessLookupError:
            pass
    cell.environment = calm
    cell.up(*up)
    failures = check(cell, load, witness_path, options.never, report)
    down = cell.run("down")
    if down.returncode != 0:
        failures.append("down: " + down.stderr)
    report["kills_inside"] = sum(inside.values())
    report["kills_outside"] = dict(outside)
    by_role = defaultdict(Counter)
    for name, count in inside.items():
        by_role[name.split(".")[0]][POINTS[name]] += count
    report["states"] = {role: dict(states) for role, states in by_role.items()}
    report["kills"] = sum(inside.values()) + sum(outside.values())
    report["seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps(report, indent=1))
    landed = Counter()
    for states in by_role.values():
        landed.update(states)
    for state in STATES:
        if landed[state] < options.each:
            failures.append("only %d kills landed in state %s" % (landed[state], state))
    if report["kills"] < options.kills:
        failures.append("only %d of %d kills landed in time" % (report["kills"], options.kills))
    for failure in failures[:30]:
        print("FAIL", failure)
    if options.keep or failures:
        print("kept:", top)
    else:
        shutil.rmtree(top)
    print("kill test: %s" % ("FAILED" if failures else "passed"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
