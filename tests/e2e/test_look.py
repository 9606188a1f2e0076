"""Looking: explain, shm, node, history, and every look with daemons stopped.

BEHAVIOURS.md rows 15 and 114 and issue 2's "with the scheduler stopped, ls, show, explain, shm
dump still answer, and explain names the ids that block a task (cancelling one starts it)".
"""
import datetime
import os
import signal
import subprocess
import time
import unittest

from reeve_env import (BINARY, FAILED, UNREACHABLE, OwnCellCase, SharedCellCase, until, write)


class Explain(OwnCellCase):
    cell = {"workers": 2, "cpus": 2, "mem": "1G"}

    def codes(self, job):
        told = self.env.cli("explain", "--json", job).json()["jobs"][0]
        codes = {}
        for reason in told["reasons"]:
            codes.setdefault(reason["code"], []).extend(reason["jobs"])
        return codes, told

    def test_blockers(self):
        """Row 15: what is missing on each worker and which ids hold it; cancelling one starts."""
        env = self.env
        one = env.submit("-c", "2", "--", "sleep", "300")
        two = env.submit("-c", "2", "--", "sleep", "300")
        for job in (one, two):
            env.until_running(job)
        blocked = env.submit("-c", "2", "--mem", "512M", "--", "true")
        codes, told = self.codes(blocked)
        self.assertEqual(codes, {"resources": [one, two]})
        self.assertEqual([(w["code"], w["missing"]["cpu"]) for w in told["workers"]],
                         [("busy", 2)] * 2)
        self.assertEqual({w["name"]: w["held_by"][0]["job"] for w in told["workers"]},
                         {env.task(j)["worker_name"]: j for j in (one, two)})
        text = env.cli("explain", blocked).out
        self.assertRegex(text, r"asks for 2 cpus, 512.*no worker has free")
        self.assertRegex(text, r"\b%d ending makes room" % one)
        env.cli("cancel", two)
        env.wait(blocked)
        self.assertEqual(env.task(one)["state"], "running")

    def test_earliest_start(self):
        """When a task could start, by the time limits of what is before it; dry runs say it too."""
        env = self.env
        limited = env.submit("-c", "2", "-t", "1h", "--", "sleep", "300")
        unlimited = env.submit("-c", "2", "--", "sleep", "300")
        for job in (limited, unlimited):
            env.until_running(job)
        ahead = env.submit("-c", "2", "-t", "10m", "--", "true")
        last = env.submit("-c", "1", "--name", "never ran", "--", "true")

        def hours(told):
            when = datetime.datetime.fromisoformat(told["earliest_start"].replace("Z", "+00:00"))
            return round((when.timestamp() - time.time()) / 3600, 1)

        self.assertEqual(hours(self.codes(ahead)[1]), 1.0)
        self.assertEqual(hours(self.codes(last)[1]), 1.2)
        order = self.codes(last)[1]["order"]
        self.assertEqual(order["priority"], 0)
        self.assertAlmostEqual(order["score"], order["priority"] + order["age"])
        self.assertRegex(env.cli("explain", last).out, r"can start at .* \(in 1h\d+m\) by the time")
        dry = env.cli("submit", "--dry-run", "--json", "-c", "2", "--", "true").json()["jobs"][0]
        self.assertIsNone(dry["earliest_start"], "the last one has no limit")
        first = env.cli("submit", "--dry-run", "--json", "-p", "1", "--", "true").json()["jobs"][0]
        self.assertEqual(hours(first), 1.0, "an earlier place in the queue")
        env.cli("cancel", "all")
        env.wait(limited, unlimited, ahead, last, code=FAILED)
        self.assertIn("it can start now", env.cli("submit", "--dry-run", "--", "true").out)

    def test_learned_run_times(self):
        """What ran before is expected to take as long; so nothing needs a limit to be planned."""
        env = self.env
        nap = ("-c", "2", "--name", "a nap", "--", "sleep")
        env.wait(*[env.submit(*nap, "1") for _ in range(2)])
        naps = [env.submit(*nap, "4") for _ in range(2)]
        for job in naps:
            env.until_running(job)
        blocked = env.submit("-c", "2", "--name", "never ran", "--", "true")

        def at(told, what):
            return datetime.datetime.fromisoformat(told[what].replace("Z", "+00:00")).timestamp()

        told = self.codes(naps[0])[1]
        self.assertAlmostEqual(at(told, "likely_end"), env.task(naps[0])["started"] and
                               at(env.task(naps[0]), "started") + 1, delta=1.1)
        self.assertIn("likely ends at", env.cli("explain", naps[0]).out)
        told = self.codes(blocked)[1]
        self.assertLess(at(told, "earliest_start"), time.time() + 120)
        self.assertIsNone(told["likely_end"], "it never ran")
        self.assertEqual(told["order"]["length"], 0)
        env.wait(*naps, blocked)

    def test_memory_and_several_holders(self):
        """Row 15: memory is missing; no single holder is enough, both are named."""
        env = self.env
        fill = [env.submit("-c", "0.5", "--mem", "600M", "--", "sleep", "300") for _ in range(2)]
        for job in fill:
            env.until_running(job)
        big = env.submit("-c", "0.5", "--mem", "900M", "--", "true")
        codes, told = self.codes(big)
        self.assertEqual(sorted(codes["resources"]), fill)
        for worker in told["workers"]:
            self.assertGreater(worker["missing"]["memory_bytes"], 0)
            self.assertEqual(worker["missing"]["cpu"], 0)
        small = env.submit("-c", "0.5", "--mem", "100M", "--", "true")
        env.wait(small)   # the big one in front of it does not stand in its way

    def test_every_reason(self):
        """Row 15: held, dependencies (counted), begin time, %N, wrong node, ended, running."""
        env = self.env
        held = env.submit("--hold", "--", "true")
        self.assertEqual(list(self.codes(held)[0]), ["held"])
        parent = env.submit("--array", "1-4%1", "--", "sh", "-c",
                            "[ $REEVE_TASK_ID = 1 ] || sleep 300")
        until(lambda: env.job(parent)["tasks"]["succeeded"] == 1, "one of four")
        child = env.submit("--after", parent, "--after", "afterany:%d" % held, "--", "true")
        codes, told = self.codes(child)
        self.assertEqual(sorted(codes["dependency"]), [held, parent])
        texts = " ".join(r["text"] for r in told["reasons"])
        self.assertIn("1 of 4", texts)
        self.assertIn(str(held), texts)
        until(lambda: "max-running" in self.codes(parent)[0], "the reason of %1")
        later = env.submit("--begin", "+1h", "--", "true")
        self.assertIn("begin", self.codes(later)[0])
        nowhere = env.submit("--node", "elsewhere", "--", "true")
        codes, told = self.codes(nowhere)
        self.assertIn("node", codes)
        self.assertEqual({w["code"] for w in told["workers"]}, {"wrong-node"})
        env.cli("cancel", parent)
        env.wait(parent, code=FAILED)
        self.assertIn("ended", self.codes(parent)[0])
        running = env.submit("--", "sleep", "300")
        env.until_running(running)
        self.assertIn("running", self.codes(running)[0])
        env.cli("cancel", "all")

    def test_priority_is_told(self):
        """What stands before a queued task is counted."""
        env = self.env
        full = [env.submit("-c", "2", "--", "sleep", "300") for _ in range(2)]
        for job in full:
            env.until_running(job)
        before = env.submit("-c", "2", "-p", "5", "--array", "1-3", "--", "true")
        last = env.submit("-c", "2", "--", "true")
        told = self.codes(last)[1]
        self.assertEqual((told["ahead"], told["ahead_alike"]), (3, 3))
        env.cli("cancel", *full)
        env.wait(before, last)


class Stopped(OwnCellCase):
    LOOKS = (["ls"], ["ls", "--all", "--json"], ["show", "1"], ["show", "--json", "1-3"],
             ["explain", "3"], ["explain", "--json", "3"], ["shm", "dump"], ["shm", "stat"],
             ["shm", "dump", "--json"], ["shm", "check"], ["node", "ls"], ["node", "show", "1"],
             ["history"], ["logs", "1"], ["top", "-n", "1"])

    def prepare(self):
        env = self.env
        done = env.submit("--", "echo", "hi")
        env.wait(done)
        self.full = env.submit("-c", "2", "--array", "1-2", "--", "sleep", "300")
        until(lambda: env.job(self.full)["tasks"]["running"] == 2, "both workers full")
        self.blocked = env.submit("-c", "2", "--", "true")
        until(lambda: env.job(done)["state"] == "succeeded", "the end of the first")

    def look_at_all(self):
        for words in self.LOOKS:
            with self.subTest(" ".join(words)):
                begun = time.monotonic()
                self.env.cli(*words, timeout=20)
                self.assertLess(time.monotonic() - begun, 5)

    def test_scheduler_stopped(self):
        """The scheduler stopped: everything answers; it goes on where it was when continued."""
        env = self.env
        self.prepare()
        pid = env.signal("scheduler", signal.SIGSTOP)
        try:
            self.look_at_all()
            told = env.cli("explain", "--json", self.blocked).json()["jobs"][0]
            self.assertIn(self.full, [j for r in told["reasons"] for j in r["jobs"]])
            later = env.submit("-p", "1", "--", "true")   # the PLM still acknowledges
            self.assertEqual(env.job(later)["state"], "queued")
            env.cli("cancel", "%d.1" % self.full)
            until(lambda: "scheduler-silent" in [
                r["code"] for r in env.cli("explain", "--json", self.blocked).json()["jobs"][0]
                ["reasons"]], "the word about the silent scheduler", 8)
        finally:
            os.kill(pid, signal.SIGCONT)
        env.wait(later, self.blocked)

    def test_scheduler_dead(self):
        """The scheduler killed, and nobody to start it: `explain` says that first and at once, and
        names no holder that has ended."""
        env = self.env
        self.prepare()
        env.kill("supervisor")
        env.kill("scheduler")
        env.cli("cancel", self.full)
        until(lambda: env.job(self.full)["state"] == "cancelled", "the end of what ran")
        told = env.cli("explain", "--json", self.blocked).json()["jobs"][0]
        self.assertEqual(told["reasons"][0]["code"], "scheduler-down")
        self.assertEqual([h for w in told["workers"] for h in w["held_by"]], [])
        self.assertNotIn(self.full, [j for r in told["reasons"] for j in r["jobs"]])
        env.up()
        env.wait(self.blocked)

    def test_all_stopped(self):
        """Every process of the cell stopped: everything that looks still answers."""
        env = self.env
        self.prepare()
        pids = [p["pid"] for p in env.processes()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            self.look_at_all()
            self.assertIn(env.status()["state"], ("up", "degraded"))
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        env.cli("cancel", self.full)
        env.wait(self.blocked)

    def test_all_dead(self):
        """Every process killed: everything that looks still answers, from what they left."""
        env = self.env
        self.prepare()
        env.kill_all()
        self.look_at_all()
        self.one_line(env.cli("submit", "--", "true", code=UNREACHABLE), "reeve up")
        self.one_line(env.cli("cancel", "1", code=UNREACHABLE), "reeve up")


class Dump(SharedCellCase):
    def test_dump_names_every_task(self):
        """Row 114: the dump holds the whole state as JSON; shm-dump is a name for it."""
        env = self.env
        job = env.submit("--array", "1-3", "--hold", "--name", "dumped", "--", "true")
        running = env.submit("--", "sleep", "300")
        env.until_running(running)
        dump = env.cli("shm", "dump", "--json").json()
        self.assertEqual(dump["schema"], "reeve.shm-dump.v1")
        self.assertLessEqual({"header", "participants", "workers", "classes", "jobs", "tasks",
                              "heaps", "rings"}, set(dump))
        self.assertIn(running, [t["job"] for t in dump["tasks"]])
        self.assertIn(job, [j["job"] for j in dump["jobs"]])
        link = os.path.join(os.path.dirname(BINARY), "shm-dump")
        ran = subprocess.run([link, "--section", "workers"], env=env.environment(),
                             capture_output=True, text=True, timeout=30)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertIn("worker-1", ran.stdout)
        self.assertNotIn("participants", ran.stdout)
        env.cli("cancel", job, running)

    def test_check(self):
        """`shm check` finds a sound segment sound while tasks come and go, and damage damaged."""
        env = self.env
        job = env.submit("--array", "1-300", "--output", "none", "--", "true")
        while env.job(job)["state"] != "succeeded":
            env.cli("shm", "check")
        self.assertEqual(env.cli("shm", "check").out, "the segment is sound\n")

    def test_watch(self):
        """`shm watch` prints a line for each slot that moves."""
        env = self.env
        watch = env.popen("shm", "watch", "--for", "2", stdout=subprocess.PIPE, text=True)
        job = env.submit("--", "sleep", "0.5")
        out = watch.communicate(timeout=20)[0]
        env.wait(job)
        self.assertRegex(out, r"running")

    def test_idle_costs_nothing(self):
        """An idle group uses next to no cpu (promise: 0.5 % of one core; 3 % asserted here)."""
        env = self.env
        pids = [p["pid"] for p in env.processes()]

        def ticks():
            total = 0
            for pid in pids:
                words = open("/proc/%d/stat" % pid).read().rpartition(")")[2].split()
                total += int(words[11]) + int(words[12])
            return total / os.sysconf("SC_CLK_TCK")
        begun, used = time.monotonic(), ticks()
        until(lambda: time.monotonic() - begun > 4, "four seconds")
        self.assertLess((ticks() - used) / (time.monotonic() - begun), 0.03)


class Damage(OwnCellCase):
    def test_heap_nodes_overwritten(self):
        """The chunk heaps' nodes overwritten while running: placement heals, nothing is lost."""
        env = self.env
        full = env.submit("-c", "2", "--array", "1-2", "--", "sleep", "300")
        until(lambda: env.job(full)["tasks"]["running"] == 2, "both workers full")
        jobs = [env.submit("-c", "1", "-p", p, "--array", "1-150", "--output", "none", "--", "true")
                for p in (0, 5, -5)]
        dump = env.cli("shm", "dump", "--json", "--section", "header").json()
        places = dump["header"]["offsets"]
        with open("/dev/shm" + env.status()["segment"], "r+b") as file:
            for start, end in (("heap_slot_nodes", "heap_group_nodes"),
                               ("heap_group_nodes", "dirty"), ("worker_heap", "jobs")):
                file.seek(places[start])
                file.write(os.urandom(places[end] - places[start]))
        env.cli("cancel", full)
        env.wait(*jobs)
        self.assertEqual([env.job(j)["tasks"]["succeeded"] for j in jobs], [150] * 3)


class Down(OwnCellCase):
    def test_explain_while_the_cell_is_down(self):
        """What ended is told from history; what waits, that nothing starts."""
        env = self.env
        ended = env.submit("--", "false")
        env.wait(ended, code=FAILED)
        waits = env.submit("--hold", "--", "true")
        env.down()
        self.assertIn("failed at", env.cli("explain", ended).out)
        self.assertIn("reeve up", env.cli("explain", waits).out)
        answer = env.cli("explain", "--json", waits).json()["jobs"][0]
        self.assertEqual([reason["code"] for reason in answer["reasons"]], ["cell-down"])
        env.cli("explain", "999", code=None)

    def test_elements_cancelled_with_the_rest_of_the_run(self):
        """They have no row anywhere, and are shown all the same."""
        env = self.env
        env.cli("node", "drain", "worker-1")
        env.cli("node", "drain", "worker-2")
        job = env.submit("--array", "1-30000", "--output", "none", "--", "true")
        until(lambda: env.job(job)["tasks"]["queued"] > 0, "some in slots")
        env.cli("cancel", job)
        env.wait(job, code=FAILED)
        until(lambda: self.is_told(job), "the history of those in slots")
        one = env.cli("show", "--json", "%d.20000" % job).json()["jobs"][0]["tasks"]
        self.assertEqual([(task["element"], task["state"]) for task in one],
                         [(20000, "cancelled")])
        whole = env.cli("show", "--json", "--limit", "100000", job).json()["jobs"][0]
        self.assertEqual(len(whole["tasks"]), 30000)
        self.assertEqual({task["state"] for task in whole["tasks"]}, {"cancelled"})

    def is_told(self, job):
        rows = self.env.cli("history", "--json", "--limit", "100000", job).json()["attempts"]
        return len(rows) >= 1024


if __name__ == "__main__":
    unittest.main(verbosity=2)
