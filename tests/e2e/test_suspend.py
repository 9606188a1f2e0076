"""suspend and resume: a running program stands still and goes on, over the death of anybody."""
import os
import unittest

from reeve_env import FAILED, REFUSED, OwnCellCase, until

COUNT = "i=0; while [ $i -lt %d ]; do echo $i >> %s; i=$((i+1)); sleep 0.05; done"


class Suspend(OwnCellCase):
    cell = {"workers": 1, "cpus": 2}

    def counting(self, most, *words):
        """A job that counts in steps of 50 ms, and how far it is."""
        path = self.env.file("count-%d" % most)
        job = self.env.submit(*words, "--", "sh", "-c", COUNT % (most, path))

        def count():
            try:
                with open(path, encoding="ascii") as lines:
                    return len(lines.readlines())
            except FileNotFoundError:
                return 0
        until(lambda: count() > 2, "it runs")
        return job, count

    def suspended(self, job):
        until(lambda: self.env.task(job)["state"] == "suspended", "job %d suspended" % job)

    def goes_on(self, job, count):
        before = count()
        until(lambda: count() > before + 2, "job %d goes on" % job)

    def test_stands_still_and_goes_on(self):
        """Its time limit stands still with it."""
        env = self.env
        job, count = self.counting(30, "-t", "4s")
        self.assertEqual(env.cli("suspend", job).out, "suspended job %d\n" % job)
        self.suspended(job)
        before = count()
        # More than its time limit on the wall clock: as long as another one's.
        other = env.submit("-t", "4s", "--", "sleep", "60")
        env.wait(other, code=FAILED)
        self.assertEqual(count(), before)
        self.assertIn("reeve resume %d" % job, env.cli("explain", job).out)
        self.one_line(env.cli("suspend", job, code=REFUSED), "suspended already")
        self.assertEqual(env.cli("resume", job).out, "resumed job %d\n" % job)
        env.wait(job)
        self.assertEqual(count(), 30)
        self.assertEqual(env.task(job)["attempt"], 1)
        kinds = [line.split('"kind":"')[1].split('"')[0] for line in
                 until(lambda: env.cli("events", "--from", "0", "--no-follow", job).out.count(
                     "FINISHED") and env.cli("events", "--from", "0", "--no-follow", job).out,
                       "its events").splitlines()]
        self.assertEqual(kinds, ["TASK_SUBMITTED", "ASSIGNED", "STARTED", "PREEMPTED", "RESUMED",
                                 "FINISHED"])

    def test_what_waits_is_held(self):
        env = self.env
        job = env.submit("--array", "1-4", "-c", "1", "--", "sleep", "60")
        until(lambda: env.job(job)["tasks"]["running"] == 2, "two run")
        self.assertIn("(4 tasks)", env.cli("suspend", job).out)
        until(lambda: [t["state"] for t in env.show(job)["tasks"][:2]] == ["suspended"] * 2,
              "two suspended")
        self.assertEqual(env.job(job)["tasks"]["held"], 2)
        self.one_line(env.cli("resume", "%d.77" % job, code=REFUSED), "no element 77")
        env.cli("resume", "%d.1" % job)
        until(lambda: env.task(job, 1)["state"] == "running", "one goes on")
        self.one_line(env.cli("resume", "%d.1" % job, code=REFUSED), "not suspended")
        self.assertIn("(3 tasks)", env.cli("resume", job, code=(0, 1)).out)
        until(lambda: env.task(job, 2)["state"] == "running", "the other goes on")
        self.assertEqual(env.job(job)["tasks"]["held"], 0)
        env.cli("suspend", job)
        env.cli("cancel", job)
        env.wait(job, code=FAILED)
        self.one_line(env.cli("suspend", job, code=REFUSED), "has ended")

    def test_requeue_of_a_suspended_one(self):
        env = self.env
        job, count = self.counting(40)
        env.cli("suspend", job)
        self.suspended(job)
        env.cli("requeue", job)
        until(lambda: env.task(job)["attempt"] == 2, "the second attempt")
        env.wait(job)
        self.assertGreater(count(), 40)

    def test_a_function_is_refused(self):
        env = self.env
        job = env.submit("--function", "sleep", "--data", "30s")
        until(lambda: env.job(job)["tasks"]["running"] == 1, "it runs")
        self.one_line(env.cli("suspend", job, code=REFUSED), "function", "hold", "cancel")
        env.cli("cancel", job)
        env.wait(job, code=FAILED)

    def test_over_deaths(self):
        """PLM, agent and segment go; it stands still until it is resumed. A dead worker's starts
        again."""
        env = self.env
        job, count = self.counting(400)
        env.cli("suspend", job)
        self.suspended(job)
        for victim in ("plm", "scheduler", "worker", "register"):
            before = count()
            env.kill(victim)
            env.until_up(workers=1)
            self.suspended(job)
            self.assertEqual(count(), before, victim)
        env.cli("resume", job)
        self.goes_on(job, count)
        env.cli("suspend", job)
        self.suspended(job)
        segment = env.status()["segment"]
        os.unlink("/dev/shm" + segment)
        until(lambda: env.status()["segment"] != segment, "another segment")
        env.until_up(workers=1)
        self.suspended(job)
        before = count()
        env.kill("plm")
        env.until_up(workers=1)
        self.suspended(job)
        self.assertEqual(count(), before)
        env.cli("resume", job)
        self.goes_on(job, count)
        env.cli("suspend", job)
        self.suspended(job)
        env.kill_worker("worker-1")
        until(lambda: env.task(job)["attempt"] == 2, "the second attempt")
        self.goes_on(job, count)
        env.cli("cancel", job)
        env.wait(job, code=FAILED)


if __name__ == "__main__":
    unittest.main(verbosity=2)
