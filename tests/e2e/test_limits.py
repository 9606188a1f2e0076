"""Named limits, quotas and fair share: the cell's policy.json, live."""
import json
import os
import subprocess
import time
import unittest

from reeve_env import FAILED, USAGE, OwnCellCase, read, until, write

SLEEP = ("--", "sleep", "600")


class Limits(OwnCellCase):
    autostart = False

    def start(self, policy, **more):
        more.setdefault("cpus", 8)
        env = self.start_cell(start=False, workers=1, **more)
        self.policy_file = env.file("policy.json")
        write(self.policy_file, json.dumps(policy))
        os.chmod(self.policy_file, 0o644)
        env.up_words += ["--policy", self.policy_file]
        env.up()
        return env

    def running(self, *jobs):
        return [job for job in jobs if self.env.job(job)["tasks"]["running"] > 0]

    def reasons(self, job):
        jobs = self.env.cli("explain", "--json", job).json()["jobs"]
        return {r["code"]: r["text"] for r in jobs[0]["reasons"]}

    def test_limit(self):
        """Two licences: two run whatever is free, others are not held up, the best is next."""
        env = self.start({"limits": {"licence": 2}})
        first = [env.submit("--limit", "licence", *SLEEP) for _ in range(2)]
        late = env.submit("--limit", "licence", *SLEEP)
        best = env.submit("--limit", "licence", "--priority", "5", *SLEEP)
        env.wait(env.submit("--", "true"))
        until(lambda: self.running(*first) == first, "the first two")
        self.assertEqual(self.running(late, best), [])
        text = until(lambda: self.reasons(late).get("named-limit"), "the reason")
        self.assertIn("licence: 2 of 2 are taken", text)
        self.assertIn("licence: 2 of 2", env.cli("explain", late).out)
        self.assertEqual(env.show(late)["spec"]["limits"], {"licence": 1})
        due = env.submit("--sla", "critical", "--deadline", "2h", "--hold", "--", "true")
        listed = {job["job"]: job for job in env.cli("ls", "--json").json()["jobs"]}
        self.assertEqual([listed[late][name] for name in ("sla", "deadline", "limits")],
                         ["standard", None, {"licence": 1}])
        self.assertEqual([listed[due][name] for name in ("sla", "deadline", "limits")],
                         ["critical", env.show(due)["spec"]["deadline"], {}])
        env.cli("cancel", due)
        env.cli("cancel", first[0])
        until(lambda: self.running(best), "the better one")
        self.assertEqual(self.running(late), [])
        env.cli("cancel", first[1])
        until(lambda: self.running(late), "the last one")
        env.cli("cancel", best, late)

    def test_array(self):
        """An array takes as many as there are, each task its share, and all come to their turn."""
        env = self.start({"limits": {"licence": 4}})
        mark = env.file("mark")
        work = ("echo + >> %s; sleep 0.1; echo - >> %s" % (mark, mark))
        job = env.submit("--array", "1-30", "--limit", "licence:2", "-c", "0.1", "--", "sh", "-c",
                         work)
        env.wait(job)
        most = now = 0
        for sign in read(mark).split():
            now += 1 if sign == "+" else -1
            most = max(most, now)
        self.assertEqual((most, now), (2, 0))

    def test_quotas(self):
        """A user's cpus, memory and tasks: what is over waits, what needs none of it does not."""
        env = self.start({"quotas": {"*": {"cpu": 3, "memory": "1G", "tasks": 3}}})
        two = env.submit("-c", "2", *SLEEP)
        until(lambda: self.running(two), "two cpus")
        over = env.submit("-c", "2", *SLEEP)
        self.assertIn("quota of cpu: 2 of 3",
                      until(lambda: self.reasons(over).get("quota"), "the reason"))
        done = env.cli("submit", "-c", "4", "--", "true", code=USAGE)
        self.one_line(done, "resources.cpu: one task asks for more than the user's quota")
        env.cli("cancel", two)
        until(lambda: self.running(over), "its turn")
        more = [env.submit("-c", "0.1", "--mem", "600M", *SLEEP) for _ in range(2)]
        until(lambda: self.running(*more) == more[:1], "half of the memory")
        self.assertIn("memory", self.reasons(more[1])["quota"])
        env.cli("cancel", over, *more)

    def test_restart(self):
        """Killed at any time the same are counted again: never too many, none forgotten."""
        env = self.start({"limits": {"licence": 2}})
        jobs = [env.submit("--limit", "licence", *SLEEP) for _ in range(4)]
        until(lambda: self.running(*jobs) == jobs[:2], "the first two")
        env.kill("plm")
        env.until_up()
        env.wait(env.submit("--", "true"))
        self.assertEqual(self.running(*jobs), jobs[:2])
        env.cli("cancel", jobs[0])
        until(lambda: self.running(*jobs) == jobs[1:3], "the third")
        env.kill_all()
        env.up()
        env.until_up()
        until(lambda: len(self.running(*jobs[1:])) == 2, "two again")
        env.cli("cancel", "all")

    def test_held(self):
        """A held task gives its share back, and takes it again only when there is one."""
        env = self.start({"limits": {"licence": 1}}, cpus=1)
        block = env.submit("--preempt", "never", *SLEEP)
        env.until_running(block)
        one = env.submit("--limit", "licence", *SLEEP)
        until(lambda: env.job(one)["tasks"]["queued"] == 1, "one in the heap")
        env.cli("hold", one)
        two = env.submit("--limit", "licence", *SLEEP)
        until(lambda: env.job(two)["tasks"]["queued"] == 1, "the other in the heap")
        env.cli("release", one)
        # The earlier one is better: it gets the share that is not in use yet.
        env.cli("cancel", block)
        until(lambda: self.running(one, two), "one of them")
        time.sleep(0.3)
        self.assertEqual(len(self.running(one, two)), 1)
        env.cli("cancel", one, two)

    def test_backfill(self):
        """Room is kept for nobody, for the best task, or for each of the best."""
        env = self.start_cell(start=False, workers=2, cpus=2)
        self.policy_file = write(env.file("policy.json"), json.dumps({"backfill": "conservative"}))
        env.up_words += ["--policy", self.policy_file]
        env.up()
        nap = ("--", "sleep", "600")
        for node, limit in (("worker-1", "10m"), ("worker-2", "20m")):
            env.until_running(env.submit("--node", node, "-c", "1", "-t", limit, *nap))
        wide = [env.submit("-c", "2", "--mem", "%dM" % (10 + i), "-p", "5", *nap) for i in (0, 1)]
        time.sleep(3)   # a look ahead is taken every second
        small = [env.submit("-c", "1", "-t", "1h", *nap) for _ in range(2)]
        time.sleep(1.5)
        self.assertEqual(self.running(*small, *wide), [], "conservative keeps both workers")
        write(self.policy_file, json.dumps({"backfill": "easy"}))
        env.up()
        until(lambda: len(self.running(*small)) == 1, "one worker is kept")
        time.sleep(1.5)
        self.assertEqual(len(self.running(*small)), 1)
        write(self.policy_file, json.dumps({"backfill": "none"}))
        env.up()
        until(lambda: self.running(*small) == small, "none is kept")
        self.assertEqual(self.running(*wide), [])
        env.cli("cancel", "all")

    def test_policy_file(self):
        """A wrong file is refused with its line; a changed one is taken over by a running cell."""
        env = self.start_cell(workers=1, cpus=8)   # without one at first
        done = env.cli("submit", "--limit", "licence", "--", "true", code=USAGE)
        self.one_line(done, 'this cell has no limit "licence", it has none; define it')
        self.policy_file = write(env.file("policy.json"), json.dumps({"limits": {"licence": 1}}))
        env.up_words += ["--policy", self.policy_file]
        env.up()
        until(lambda: env.cli("submit", "--limit", "licence", "--dry-run", "--", "true",
                              code=None).code == 0, "the policy")
        jobs = [env.submit("--limit", "licence", *SLEEP) for _ in range(2)]
        until(lambda: self.running(*jobs) == jobs[:1], "the first")
        bad = write(env.file("bad.json"), '{\n "limits": {"licence": "two"}}')
        done = env.cli("up", *env.up_words[:-1], bad, code=USAGE)
        self.one_line(done, r"bad.json: limits.licence \(line 2\): expected a whole number")
        write(self.policy_file, json.dumps({"limits": {"licence": 2}, "minimum_run": "0"}))
        env.up()
        until(lambda: self.running(*jobs) == jobs, "both")
        done = env.cli("submit", "--limit", "other", "--", "true", code=USAGE)
        self.one_line(done, 'limits: this cell has no limit "other", it has licence')
        done = env.cli("submit", "--limit", "licence:3", "--", "true", code=USAGE)
        self.one_line(done, 'takes 3 of "licence", there are 2')
        done = env.cli("submit", "--limit", "licence:0", "--", "true", code=USAGE)
        self.one_line(done, "1 to 1000000")
        # The minimum run of the policy is what a task gets that does not ask for its own.
        env.cli("cancel", "all")
        low = env.submit("--sla", "flexible", "-c", "8", *SLEEP)
        env.until_running(low)
        env.wait(env.submit("--sla", "critical", "-c", "8", "--", "true"))
        env.cli("cancel", low)
        env.wait(low, code=FAILED)


@unittest.skipUnless(os.geteuid() == 0, "another group needs root")
class FairShare(OwnCellCase):
    autostart = False

    def submit_as(self, group, *words):
        """Another group of the same user: a cell takes submissions of its owner only."""
        ran = subprocess.run([self.env.binary, "submit", "--parsable"] + list(words),
                             env=self.env.environment(), cwd=self.env.work, capture_output=True,
                             text=True, timeout=60, group=group)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return int(ran.stdout)

    def order(self, job):
        return until(lambda: self.env.cli("explain", "--json", job).json()["jobs"][0]["order"],
                     "the order of %d" % job)

    def test_points(self):
        """Whose group used more than the fair share stands behind; a restart still knows."""
        env = self.start_cell(workers=1, cpus=2)
        heavy = self.submit_as(4001, "-c", "2", "--", "sleep", "1")
        env.wait(heavy)
        env.wait(self.submit_as(4002, "-c", "0.1", "--", "true"))
        block = env.submit("-c", "2", "--preempt", "never", *SLEEP)
        env.until_running(block)
        late = self.submit_as(4001, "-c", "2", "--", "true")
        early = self.submit_as(4002, "-c", "2", "--", "true")
        points = self.order(late)["fair_share"]
        self.assertGreater(points, 4)
        self.assertLessEqual(points, 5)
        self.assertEqual(self.order(early)["fair_share"], 0)
        self.assertEqual(env.cli("explain", "--json", late).json()["jobs"][0]["ahead"], 1)
        env.kill("plm")
        env.until_up()
        self.assertEqual(self.order(late)["fair_share"], points)
        again = self.submit_as(4001, "-c", "2", "--", "true")
        self.assertAlmostEqual(self.order(again)["fair_share"], points, delta=0.1)
        # With its due weight the group is within its share.
        write(env.file("policy.json"), json.dumps({"shares": {"4001": 1000000}}))
        env.cli("up", *env.up_words, "--policy", env.file("policy.json"))

        def weighed():
            job = self.submit_as(4001, "-c", "2", "--", "true")
            fair = self.order(job)["fair_share"]
            env.cli("cancel", job)
            return fair < 1
        until(weighed, "the weight", pause=0.2)
        env.cli("cancel", block)
        env.wait(late, early, again)


if __name__ == "__main__":
    unittest.main()
