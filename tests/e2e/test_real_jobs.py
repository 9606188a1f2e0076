"""Real jobs over real files: the job file of scripts/demo (hash, sort, count, compress, unpack,
compile and run a C program, graphs that join their results; failing, timing out, running out of
memory), every outcome exact and every output byte for byte; the same under kills; long arrays.
"""
import collections
import hashlib
import json
import os
import pathlib
import random
import signal
import sys
import time
import unittest

from reeve_env import FAILED, NIGHTLY, OK, ROOT, OwnCellCase, SharedCellCase, read, until

sys.path.insert(0, os.path.join(ROOT, "scripts", "demo"))
import make_jobs  # noqa: E402


def memory_limits(env):
    checks = env.cli("doctor", "--json", code=(OK, FAILED)).json()["checks"]
    return any(c["name"] == "memory limits" and c["verdict"] == "ok" for c in checks)


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


class RealJobs(OwnCellCase):
    cell = {"workers": 2, "cpus": 2, "mem": "4G"}

    def run_jobs(self, files, disturb=None):
        env = self.env
        root = pathlib.Path(env.work) / "jobs"
        root.mkdir()
        count = make_jobs.make(root, files, memory_limits(env))
        ids = [int(i) for i in env.cli("submit", "--parsable", root / "jobs.json",
                                       timeout=60).out.split()]
        self.assertEqual(len(ids), count)
        if disturb:
            disturb("%d-%d" % (ids[0], ids[-1]))
        env.wait("%d-%d" % (ids[0], ids[-1]), code=FAILED, timeout=240)
        labels = [job["job_id"] for job in json.loads((root / "jobs.json").read_text())]
        shown = env.cli("show", "--json", "%d-%d" % (ids[0], ids[-1])).json()["jobs"]
        by_label = {label: next(s for s in shown if s["job"]["job"] == job)
                    for label, job in zip(labels, ids)}
        return json.loads((root / "expected.json").read_text()), by_label

    def check(self, expected, shown):
        for label, want in expected.items():
            with self.subTest(label):
                job = shown[label]
                states = {t["state"] for t in job["tasks"]}
                if want["outcome"] == "cancelled":
                    self.assertEqual(job["job"]["state"], "cancelled")
                else:
                    self.assertEqual(states, {want["outcome"]})
                if "sha256" in want:
                    self.assertEqual(digest(want["output"]), want["sha256"], want["output"])
                for path, sha256 in want.get("elements", {}).items():
                    self.assertEqual(digest(path), sha256, path)
        kinds = collections.Counter(want["kind"] for want in expected.values())
        self.assertLessEqual({"hash", "sort", "count", "compress", "unpack", "compile", "run",
                              "join", "fails", "depends", "retry", "array"}, set(kinds))

    def check_capacity(self, shown):
        """At no moment did the tasks of a worker hold more than it has (invariant 6)."""
        steps = collections.defaultdict(list)
        for job in shown.values():
            resources = job["spec"]["resources"]
            for task in job["tasks"]:
                if not task["started"]:
                    continue
                for stamp, sign in ((task["started"], 1), (task["ended"], -1)):
                    steps[task["worker_name"]].append(
                        (stamp, sign, resources["cpu"], resources["memory_bytes"]))
        self.assertEqual(set(steps), {"worker-1", "worker-2"})
        for name, moves in steps.items():
            cpu = memory = 0
            for stamp, sign, cpus, size in sorted(moves):
                cpu, memory = cpu + sign * cpus, memory + sign * size
                # Stamps are cut to milliseconds: an end and the next start may swap.
                self.assertLessEqual(cpu, 2 + 1, "%s at %s" % (name, stamp))
                self.assertLessEqual(memory, (4 << 30) + (512 << 20))

    def test_a_few_hundred_jobs(self):
        """Outcomes and outputs of some 250 real jobs with priorities and resources."""
        expected, shown = self.run_jobs(40)
        self.assertGreater(len(expected), 220)
        self.check(expected, shown)
        self.check_capacity(shown)
        timed = shown["times-out"]["tasks"][0]
        self.assertIn("time limit", timed["detail"])
        oom = shown["eats-memory"]["tasks"][0]
        if oom["state"] == "out-of-memory":
            self.assertRegex(oom["detail"], "memory limit of 96.0 MiB")

    def test_under_kills(self):
        """The same with every kind of process killed on the way: no result differs."""
        env = self.env
        dice = random.Random(11)

        def disturb(jobs):
            def progress():
                listed = env.cli("ls", "-a", "--json", jobs).json()["jobs"]
                live = any(j["ended"] is None for j in listed)
                return sum(j["tasks"]["succeeded"] for j in listed), live
            for victim in ("worker-1", "plm", "scheduler", "register", "worker-2", "plm"):
                before = progress()[0]
                until(lambda: progress() > (before, True) or not progress()[1], "progress")
                time.sleep(dice.random() * 0.05)   # a random moment, not a wait
                if victim.startswith("worker"):
                    env.kill_worker(victim)
                else:
                    env.kill(victim)
            env.until_up(2)
        expected, shown = self.run_jobs(12, disturb)
        self.check(expected, shown)


class Memory(SharedCellCase):
    def test_out_of_memory_is_told_apart(self):
        """Row 36 B: the kernel's kill is out-of-memory, anybody else's is signal 9."""
        env = self.env
        if not memory_limits(env):
            self.skipTest("this machine gives no memory limits")
        hog = "x = bytearray(300 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1"
        own = env.submit("--mem", "64M", "--", "python3", "-S", "-c", hog)
        child = env.submit("--mem", "64M", "--", "python3", "-S", "-c",
                           "import os, sys, subprocess\n"
                           "p = subprocess.run([sys.executable, '-S', '-c', %r])\n"
                           "sys.exit(9 if p.returncode else 0)" % hog)
        killed = env.submit("--mem", "64M", "--", "sh", "-c", "kill -9 $$")
        fits = env.submit("--mem", "512M", "--", "python3", "-S", "-c", hog)
        env.wait(fits)
        env.wait(own, child, killed, code=FAILED)
        self.assertEqual([env.task(j)["state"] for j in (own, child, killed)],
                         ["out-of-memory", "out-of-memory", "failed"])
        self.assertRegex(env.task(own)["detail"], "memory limit of 64.0 MiB")
        self.assertEqual(env.task(killed)["signal"], signal.SIGKILL)
        done = env.cli("wait", own, code=FAILED)
        self.assertIn("memory", done.out)

    def test_limit_counts_the_whole_tree(self):
        """Limits hold for a task's children together, and end them together."""
        env = self.env
        if not memory_limits(env):
            self.skipTest("this machine gives no memory limits")
        code = ("import os, time\n"
                "for _ in range(4): os.fork()\n"
                "x = bytearray(20 << 20)\n"
                "for i in range(0, len(x), 4096): x[i] = 1\n"
                "time.sleep(60)\n")
        job = env.submit("--mem", "100M", "--", "python3", "-S", "-c", code)
        env.wait(job, code=FAILED)
        self.assertEqual(env.task(job)["state"], "out-of-memory")


class Order(OwnCellCase):
    cell = {"workers": 1, "cpus": 1}

    def test_priority(self):
        """Higher priority first, equal ones in the order of submission, on one cpu (row 73)."""
        env = self.env
        blocker = env.submit("--", "sleep", "300")
        env.until_running(blocker)
        priorities = [0, 5, -3, 5, 0, 100, -3, 5]
        jobs = [env.submit("-p", p, "--output", "none", "--", "sh", "-c",
                           "echo $REEVE_JOB_ID >> order") for p in priorities]
        env.cli("update", jobs[2], "-p", "50")
        env.cli("cancel", blocker)
        env.wait(*jobs)
        order = [int(i) for i in read(env.file("order")).split()]
        priorities[2] = 50
        self.assertEqual(order, sorted(jobs, key=lambda j: (-priorities[jobs.index(j)], j)))

    def test_what_does_not_fit_blocks_nobody(self):
        """Rows 74 and 75: a blocked high-priority task does not stand before one that fits."""
        env = self.env
        half = env.submit("-c", "0.5", "--", "sleep", "300")
        env.until_running(half)
        whole = env.submit("-c", "1", "-p", "100", "--array", "1-1000", "--", "true")
        small = env.submit("-c", "0.5", "--", "true")
        env.wait(small)
        self.assertEqual(env.job(whole)["tasks"]["succeeded"], 0)
        env.cli("cancel", half, whole)


    def test_backfill(self):
        """A place is kept for who does not fit: the short ones pass, the long one does not."""
        env = self.env
        half = env.submit("-c", "0.5", "-t", "6s", "--", "sleep", "4")
        env.until_running(half)
        whole = env.submit("-c", "1", "-t", "10s", "--", "true")
        time.sleep(0.5)  # a reservation is made a moment after the task was seen not to fit
        long = env.submit("-c", "0.5", "-t", "1h", "--", "true")
        env.wait(whole)
        env.wait(long)
        self.assertGreater(env.task(long)["started"], env.task(whole)["started"])
        again = env.submit("-c", "0.5", "-t", "60s", "--", "sleep", "300")
        env.until_running(again)
        whole = env.submit("-c", "1", "--", "true")
        time.sleep(0.5)
        short = env.submit("-c", "0.5", "-t", "5s", "--", "true")
        env.wait(short)
        self.assertEqual(env.task(whole)["state"], "queued")
        self.assertEqual(env.task(again)["state"], "running")
        env.cli("cancel", again)
        env.wait(whole)


class LongArray(OwnCellCase):
    cell = {"workers": 2, "cpus": 1}

    def test_long_array(self):
        """2,000 tasks (100,000 under REEVE_NIGHTLY): all succeed, each exactly once."""
        env = self.env
        count = 100_000 if NIGHTLY else 2_000
        job = env.submit("--array", "1-%d" % count, "--output", "none", "--", "sh", "-c",
                         "echo $REEVE_TASK_ID >> witness" if not NIGHTLY else "true")
        env.wait(job, timeout=60 + count / 100)
        tasks = env.job(job)["tasks"]
        self.assertEqual((tasks["succeeded"], tasks["failed"]), (count, 0))
        if not NIGHTLY:
            self.assertEqual(sorted(map(int, read(env.file("witness")).split())),
                             list(range(1, count + 1)))
        self.assertRegex(env.cli("show", job).out, r"(?m)^succeeded +1-%d$" % count)
        cut = env.cli("show", "--json", "--limit", "10", job).json()["jobs"][0]
        self.assertEqual((len(cut["tasks"]), cut["tasks_cut"]), (10, count - 10))


if __name__ == "__main__":
    unittest.main(verbosity=2)
