"""Brief tasks of one kind wait in the launcher behind each other (docs/decisions/0016): what holds
for all others holds for them."""
import statistics
import time
import unittest
from collections import Counter

from reeve_env import OwnCellCase, read, until

# Appends a line when it begins, and one when it ends.
BRIEF = "echo + $REEVE_TASK_ID $REEVE_ATTEMPT >> %s; echo - $REEVE_TASK_ID >> %s"


class Followers(OwnCellCase):
    cell = {"workers": 1, "cpus": 2}

    def start(self, count, *words):
        self.mark = self.env.file("mark")
        job = self.env.submit("--output", "none", *words, "--array", "1-%d" % count, "--", "sh",
                              "-c", BRIEF % (self.mark, self.mark))
        until(lambda: self.begun() > 40, "some of them")
        return job

    def lines(self):
        try:
            return [line.split() for line in read(self.mark).splitlines()]
        except OSError:
            return []

    def begun(self):
        return sum(1 for line in self.lines() if line[0] == "+")

    def check_each_once(self, job, count):
        self.assertEqual(self.env.job(job)["tasks"]["succeeded"], count)
        runs = Counter(line[1] for line in self.lines() if line[0] == "+")
        self.assertEqual(len(runs), count)
        self.assertEqual([task for task, number in runs.items() if number > 1], [])

    def test_never_more_than_there_is_room_for(self):
        """Two cpus: never three at a time."""
        env = self.env
        job = self.start(400)
        env.wait(job)
        self.check_each_once(job, 400)
        alive = most = 0
        for line in self.lines():
            alive += 1 if line[0] == "+" else -1
            most = max(most, alive)
        self.assertLessEqual(most, 2)
        self.assertIn("sound", env.cli("shm", "check").out)

    def test_shown_as_queued(self):
        """Two cpus: no more than two run; what waits ahead of its room is queued."""
        env = self.env
        job = self.start(6000)
        seen = {"job": [], "show": [], "top": [], "node": []}
        for _ in range(20):
            tasks = env.job(job)["tasks"]
            self.assertEqual(tasks["total"], sum(n for word, n in tasks.items() if word != "total"))
            seen["job"].append(tasks["running"])
            one = env.cli("show", "--json", "--limit", "6000", job).json()["jobs"][0]
            live = [task for task in one["tasks"]
                    if task["state"] in ("assigned", "running", "queued")]
            placed = [task for task in live if task["state"] != "queued"]
            seen["show"].append(len(placed))
            self.assertTrue(all(task["assigned"] for task in placed))
            self.assertFalse([task for task in live if task["state"] == "queued" and
                              (task["assigned"] or task["worker"])])
            top = env.cli("top", "--json", "-n", "1").json()
            seen["top"].append(top["slots"]["assigned"] + top["slots"]["running"])
            seen["node"].append(env.cli("node", "ls", "--json").json()["nodes"][0]["tasks"])
        env.cli("cancel", job, code=None)
        # Slots are looked at one after the other, and the PLM hears of starts and ends from
        # several: a task may end and another begin meanwhile.
        for where, counts in seen.items():
            self.assertLessEqual(statistics.median(counts), 2, where)

    def test_others_come_first(self):
        """Who is more important does not wait for those that were given ahead."""
        env = self.env
        job = self.start(1500)
        urgent = env.submit("--output", "none", "-p", "50", "-c", "2", "--", "sh", "-c",
                            "echo ! >> %s" % self.mark)
        env.wait(urgent)
        seen = self.lines()
        self.assertLess(sum(1 for line in seen if line[0] == "+"), 1500)
        env.wait(job)
        self.check_each_once(job, 1500)

    def test_one_of_their_own_kind_comes_first(self):
        """It waits for one of the two that run, not for the lines behind them."""
        env = self.env
        job = self.start(6000)
        urgent = []
        for _ in range(9):
            urgent.append(env.submit("--output", "none", "-p", "50", "--", "true"))
            time.sleep(0.05)
        for each in urgent:
            env.wait(each)
        env.cli("cancel", job)
        env.wait(job, code=None)
        rows = env.cli("history", "--json", "--limit", "100000", job).json()["attempts"]
        begun = [row["attempt"]["started"] for row in rows if row["attempt"]["started"]]
        self.assertGreater(len(begun), 100)
        before = []
        for each in urgent:
            since, until_then = env.job(each)["submitted"], env.task(each)["started"]
            before.append(sum(1 for other in begun if since < other < until_then))
        self.assertLess(statistics.median(before), 5)

    def test_cancel(self):
        """After the cancel nothing begins."""
        env = self.env
        job = self.start(3000)
        env.cli("cancel", job)
        env.cli("wait", job, code=None)
        begun = self.begun()
        self.assertLess(begun, 3000)
        time.sleep(0.5)
        self.assertEqual(self.begun(), begun)
        tasks = env.job(job)["tasks"]
        self.assertEqual(tasks["succeeded"] + tasks["cancelled"], 3000)

    def test_drain(self):
        """A drained worker begins none of them; undrained it goes on."""
        env = self.env
        job = self.start(1500)
        env.cli("node", "drain", "worker-1")
        until(lambda: env.job(job)["tasks"]["running"] == 0, "those that ran")
        begun = self.begun()
        self.assertLess(begun, 1500)
        time.sleep(0.5)
        self.assertEqual(self.begun(), begun)
        env.cli("node", "undrain", "worker-1")
        env.wait(job)
        self.check_each_once(job, 1500)

    def test_deaths(self):
        """Scheduler, PLM, register and agent die; each task still runs once."""
        env = self.env
        job = self.start(2500)
        for role in ("scheduler", "worker", "plm", "scheduler", "register", "worker"):
            env.kill(role)
            time.sleep(0.15)
        env.wait(job, timeout=120)
        self.check_each_once(job, 2500)

    def test_launchers_die(self):
        """What a dead worker's followers were given back holds nobody's room on the next one."""
        env = self.env
        job = self.start(6000)
        for _ in range(8):
            env.kill("launcher")
            time.sleep(0.5)
        env.wait(job, timeout=120)
        self.assertEqual(env.job(job)["tasks"]["succeeded"], 6000)
        until(lambda: "sound" in env.cli("shm", "check", code=None).out, "nothing in use")


if __name__ == "__main__":
    unittest.main()
