"""Preemption, live: who gives way to whom, how the attempt ends, and deaths in the middle of it."""
import os
import signal
import time
import unittest

from reeve_env import FAILED, TIMEOUT, OwnCellCase, alive, read, seconds, until

# Says that it runs, and that it was told to stop; ends when it is.
PATIENT = "echo start >> %s; exec sleep 600"
# Takes its time over TERM, so that something can happen meanwhile.
SLOW_TO_GO = "trap 'sleep 1.5; exit 0' TERM; echo start >> %s; while :; do sleep 0.05; done"


def attempts(env, job):
    rows = env.cli("history", "--json", job).json()["attempts"]
    return [(row["attempt"]["attempt"], row["attempt"]["state"], row["attempt"]["detail"])
            for row in rows]


def entries(env, job):
    lines = env.cli("audit", "history", job).out.splitlines()
    return [line.split()[3] for line in lines if line.strip()[:1].isdigit()]


class Preempt(OwnCellCase):
    cell = {"workers": 1, "cpus": 2}

    def start_low(self, *words, script=PATIENT, cpus=2):
        self.mark = self.env.file("mark")
        job = self.env.submit("--minimum-run", "0", "-c", cpus, *words, "--", "sh", "-c",
                              script % self.mark)
        until(lambda: self.starts() >= 1, "the first start")
        return job

    def starts(self):
        try:
            return read(self.mark).count("start")
        except OSError:
            return 0

    def test_requeue(self):
        """A critical task takes the room of a flexible one, which starts again afterwards."""
        env = self.env
        low = self.start_low("--sla", "flexible", "--retries", "0")
        pid = env.task(low)["pid"]
        high = env.submit("--sla", "critical", "-c", "2", "--", "sleep", "0.3")
        env.wait(high)
        self.assertFalse(alive(pid))
        until(lambda: self.starts() == 2, "its second start")
        self.assertEqual(attempts(env, low), [(1, "requeued", "preempted for job %d" % high)])
        task = env.task(low)
        self.assertEqual((task["state"], task["attempt"]), ("running", 2))
        env.cli("cancel", low)
        env.wait(low, code=FAILED)
        got = entries(env, low)
        self.assertEqual(got[:4], ["TASK_SUBMITTED", "ASSIGNED", "STARTED", "REQUEUED"])
        line = [x for x in env.cli("audit", "history", low).out.splitlines() if "REQUEUED" in x]
        self.assertIn("10012", line[0])

    def test_cancel(self):
        """With --preempt cancel the task that has to go ends, and says why."""
        env = self.env
        low = self.start_low("--sla", "spot", "--preempt", "cancel")
        high = env.submit("--sla", "critical", "-c", "2", "--", "true")
        env.wait(low, code=FAILED)
        env.wait(high)
        self.assertEqual(attempts(env, low), [(1, "cancelled", "preempted for job %d" % high)])
        self.assertEqual(env.job(low)["state"], "cancelled")

    def test_left_alone(self):
        """Who is protected, equal, started only once, or younger than its minimum run stays."""
        env = self.env
        for words in (("--preempt", "never", "--sla", "flexible"), ("--sla", "critical"),
                      ("--retries", "never", "--sla", "spot"),
                      ("--minimum-run", "10m", "--sla", "flexible"), ("--priority", "6")):
            with self.subTest(words):
                low = self.start_low(*words)
                high = env.submit("--sla", "critical", "-c", "2", "--", "true")
                # Long enough for the scheduler to look twice.
                env.cli("wait", "-q", "--timeout", "2500ms", high, code=TIMEOUT)
                self.assertEqual(env.task(low)["state"], "running")
                env.cli("cancel", low)
                env.wait(high)

    def test_only_as_many_as_needed(self):
        """Of several the least important goes, and of equals the one with the least to lose."""
        env = self.env
        spare = env.submit("--sla", "flexible", "--minimum-run", "0", "-c", "1", "--",
                           "sleep", "600")
        env.until_running(spare)
        gone = env.submit("--sla", "spot", "--minimum-run", "0", "-c", "1", "--", "sleep", "600")
        env.until_running(gone)
        high = env.submit("--sla", "critical", "-c", "1", "--", "true")
        env.wait(high)
        self.assertEqual(attempts(env, spare), [])
        self.assertEqual(len(attempts(env, gone)), 1)
        env.cli("cancel", spare, gone)

    def test_explained(self):
        """While the victim goes, explain says so, in text and JSON."""
        env = self.env
        low = self.start_low("--sla", "flexible", "--grace", "30s", script=SLOW_TO_GO)
        high = env.submit("--sla", "critical", "-c", "2", "--", "true")

        def pending():
            reasons = env.cli("explain", "--json", high).json()["jobs"][0]["reasons"]
            # The scheduler has decided before the victim is told, through the ledger.
            return [r for r in reasons if r["code"] == "preemption-pending" and r["jobs"]]
        reason = until(pending, "the reason")[0]
        self.assertEqual(reason["jobs"], [low])
        order = env.cli("explain", "--json", high).json()["jobs"][0]["order"]
        if order:
            self.assertEqual((order["sla"], order["fair_share"]), (20, 0))
        env.wait(high)
        env.cli("cancel", low)

    def test_kills_in_between(self):
        """One process, or all, killed while the victim ends: nothing lost, nothing twice."""
        for role in ("plm", "scheduler", "register", "worker", "all"):
            with self.subTest(role):
                env = self.start_cell(workers=1, cpus=2)
                low = self.start_low("--sla", "flexible", "--grace", "30s", script=SLOW_TO_GO)
                high = env.submit("--sla", "critical", "-c", "2", "--", "sh", "-c",
                                  "echo once >> %s" % env.file("high"))
                until(lambda: env.cli("shm", "dump", "--json", code=None).out.count('"intent":20'),
                      "the intent")
                if role == "all":
                    env.kill_all()
                    env.cli("up", *env.up_words)
                    env.learn()
                else:
                    env.kill(role)
                env.until_up()
                env.wait(high)
                self.assertEqual(read(env.file("high")), "once\n")
                until(lambda: self.starts() == 2, "the second start")
                self.assertEqual([a[:2] for a in attempts(env, low)], [(1, "requeued")])
                self.assertEqual(env.task(low)["attempt"], 2)
                env.cli("cancel", low)
                env.wait(low, code=FAILED)
                env.cli("audit", "verify")

    def test_asked_of_a_dead_plm(self):
        """What the scheduler asks while no PLM hears it is done by the next one."""
        env = self.env
        low = self.start_low("--sla", "flexible", "--minimum-run", "3s")
        high = env.submit("--sla", "critical", "-c", "2", "--", "true")
        until(lambda: env.task(high)["state"] == "queued", "the better task in the heap")
        pid = env.signal("plm", signal.SIGSTOP)
        until(lambda: any("asked to stop" in line for _, line in env.log_lines()), "the request")
        os.kill(pid, signal.SIGKILL)
        env.until_up()
        env.wait(high)
        until(lambda: self.starts() == 2, "the second start")
        self.assertEqual([a[:2] for a in attempts(env, low)], [(1, "requeued")])
        env.cli("cancel", low)

    def test_deadline(self):
        """A task whose deadline comes near counts as critical: first by its key, then by force."""
        env = self.env
        low = self.start_low("--sla", "flexible")
        late = env.submit("-c", "2", "-t", "10s", "--", "true")
        due = env.submit("--sla", "spot", "-c", "2", "-t", "10s", "--deadline", "13s", "--", "true")

        def said():
            return env.cli("explain", "--json", due).json()["jobs"][0]
        first = said()
        self.assertEqual((first["order"]["sla"], first["order"]["urgent"]), (-10, False))
        self.assertEqual(first["ahead"], 1)
        env.wait(due)   # two seconds from now it has to start within one more
        rows = env.cli("history", "--json", due).json()["attempts"][0]["attempt"]
        self.assertGreater(seconds(rows["started"]) - seconds(rows["submitted"]), 1)
        self.assertEqual(attempts(env, low)[0][1], "requeued")
        env.cli("cancel", low)
        env.wait(late)

    def test_deadline_over_a_restart(self):
        """The moment passes while no PLM runs: the next one makes the key anew."""
        env = self.env
        keep = env.submit("-c", "2", "--preempt", "never", "--", "sleep", "600")
        env.until_running(keep)
        early = env.submit("-c", "2", "-t", "10s", "--", "true")
        due = env.submit("-c", "2", "-t", "10s", "--deadline", "12500ms", "--", "true")

        def order(job):
            return env.cli("explain", "--json", job).json()["jobs"][0]["order"]
        supervisor = env.signal("supervisor", signal.SIGSTOP)
        env.kill("plm")
        begun = env.job(due)["submitted"]
        until(lambda: time.time() - seconds(begun) > 2, "the moment")
        self.assertFalse(order(due)["urgent"])
        os.kill(supervisor, signal.SIGCONT)
        env.until_up()
        until(lambda: order(due) and order(due)["urgent"], "the new key")
        self.assertEqual(order(due)["sla"], 20)
        self.assertIn("counts as critical", env.cli("explain", due).out)
        self.assertEqual(env.cli("explain", "--json", early).json()["jobs"][0]["ahead"], 1)
        env.cli("cancel", keep)
        env.wait(due, early)

    def test_pushed_often_is_safe(self):
        """Each time a task was pushed aside it counts ten points more, until nobody can."""
        env = self.env
        low = self.start_low("--sla", "standard")
        for turn in (1, 2):
            high = env.submit("--sla", "critical", "-c", "2", "--", "true")
            if turn == 1:
                env.wait(high)
                until(lambda: self.starts() == 2, "its next start")
            else:
                env.cli("wait", "-q", "--timeout", "2500ms", high, code=TIMEOUT)
        self.assertEqual(env.task(low)["attempt"], 2)
        env.cli("cancel", low)
        env.wait(high)


if __name__ == "__main__":
    unittest.main()
