"""Cancel, fail, wait: BEHAVIOURS.md section 4 (rows 41, 50 to 54, 56 and 57)."""
import os
import unittest

from reeve_env import (FAILED, NOT_FOUND, OK, REFUSED, TIMEOUT, OwnCellCase, SharedCellCase,
                       read, until, write)


class Cancel(SharedCellCase):
    cell = {"workers": 1, "cpus": 8}

    def test_in_each_state(self):
        """Row 50: cancel a held, a waiting, a queued and a running job; then it is over."""
        env = self.env
        running = env.submit("--", "sleep", "60")
        env.until_running(running)
        held = env.submit("--hold", "--", "true")
        waiting = env.submit("--after", held, "--", "true")
        later = env.submit("--begin", "+1h", "--", "true")
        for job in (waiting, held, later, running):
            self.assertEqual(env.cli("cancel", job).out, "cancelled job %d\n" % job)
            self.assertEqual(env.until_state(job, "cancelled"), "cancelled")
        self.assertEqual(env.task(running)["state"], "cancelled")

    def test_queued_behind_others(self):
        """Row 50: a queued one behind a full worker never runs, and is over at once."""
        env = self.env
        full = env.submit("-c", "8", "--", "sleep", "60")
        env.until_running(full)
        queued = env.submit("-c", "8", "--", "touch", env.file("never"))
        env.cli("cancel", queued)
        self.assertEqual(env.job(queued)["state"], "cancelled")
        env.cli("cancel", full)
        env.wait(full, queued, code=FAILED)
        self.assertFalse(os.path.exists(env.file("never")))

    def test_twice_and_too_late(self):
        """Row 50: cancelling what has ended is refused with the reason; some may succeed."""
        env = self.env
        done = env.submit("--", "true")
        env.wait(done)
        self.one_line(env.cli("cancel", done, code=REFUSED), "job %d" % done, "has ended")
        gone = env.submit("--hold", "--", "true")
        env.cli("cancel", gone)
        self.one_line(env.cli("cancel", gone, code=REFUSED), "job %d" % gone, "has ended")
        alive_one = env.submit("--hold", "--", "true")
        mixed = env.cli("cancel", done, alive_one, code=FAILED)
        self.assertEqual(mixed.out, "cancelled job %d\n" % alive_one)
        self.one_line(mixed, "job %d" % done)
        told = env.cli("cancel", "--json", done, alive_one, code=REFUSED).json()["results"]
        self.assertEqual([(r["job"], r["changed"], r["refused"]) for r in told],
                         [(done, 0, 1), (alive_one, 0, 1)])

    def test_reason(self):
        """Row 51: the reason is kept and shown; a later one wins."""
        env = self.env
        job = env.submit("--hold", "--", "true")
        env.cli("hold", job, "--reason", "first thought", code=None)
        env.cli("cancel", job, "--reason", "second thought")
        until(lambda: env.job(job)["reason"] == "second thought", "the reason in show")
        self.assertIn("second thought", env.cli("show", job).out)

    def test_polite_then_not(self):
        """Row 41: TERM first, KILL after the grace period for who refuses."""
        env = self.env
        polite = env.submit("--error", "none", "--", "sh", "-c",
                            "trap 'echo bye; exit 0' TERM; echo on; while :; do sleep 0.05; done")
        rude = env.submit("--grace", "400ms", "--", "sh", "-c",
                          "trap '' TERM; echo on; while :; do sleep 0.05; done")
        for job in (polite, rude):
            until(lambda: os.path.exists(env.output_path(job)) and "on" in env.output(job), "on")
        env.cli("cancel", polite, rude)
        env.wait(polite, rude, code=FAILED)
        self.assertEqual(env.output(polite), "on\nbye\n")
        task = env.task(rude)
        self.assertEqual((task["state"], task["signal"]), ("cancelled", 9))
        self.assertEqual(env.task(polite)["state"], "cancelled")

    def test_part_of_an_array(self):
        """Row 52: what has finished stays finished, the others are cancelled."""
        env = self.env
        gate = env.file("array-gate")
        job = env.submit("--array", "1-10%2", "--", "sh", "-c",
                         "[ $REEVE_TASK_ID -le 4 ] || while [ ! -e %s ]; do sleep 0.02; done"
                         % gate)
        until(lambda: env.job(job)["tasks"]["succeeded"] == 4, "four of them")
        env.cli("cancel", "%d.9" % job)
        self.assertEqual(env.job(job)["tasks"]["cancelled"], 1)
        env.cli("cancel", job)
        env.wait(job, code=FAILED)
        self.assertEqual(env.task(job, 9)["state"], "cancelled")
        tasks = env.job(job)["tasks"]
        self.assertEqual((tasks["succeeded"], tasks["cancelled"], tasks["failed"]), (4, 6, 0))
        out = env.cli("show", job).out
        self.assertRegex(out, r"(?m)^succeeded +1-4$")
        self.assertRegex(out, r"(?m)^cancelled +5-10$")

    def test_max_fails(self):
        """Row 53: after N failures the rest is cancelled; the counts are exact."""
        env = self.env
        for limit in (1, 4):
            job = env.submit("--array", "1-10%1", "--max-fails", limit, "--", "false")
            env.wait(job, code=FAILED)
            tasks = env.job(job)["tasks"]
            self.assertEqual((tasks["failed"], tasks["cancelled"]), (limit, 10 - limit))
            self.assertIn("fail", env.job(job)["reason"])
        job = env.submit("--array", "1-10%1", "--max-fails", "5", "--", "sh", "-c",
                         "test $((REEVE_TASK_ID % 3)) != 0")
        env.wait(job, code=FAILED)
        tasks = env.job(job)["tasks"]
        self.assertEqual((tasks["succeeded"], tasks["failed"], tasks["cancelled"]), (7, 3, 0))

    def test_retries(self):
        """--retries: a failed task is tried again so often, then it has failed; success ends it."""
        env = self.env
        mark = env.file("tries")
        job = env.submit("--retries", "3", "--", "sh", "-c",
                         "echo x >> %s; [ $(wc -l < %s) = 3 ]" % (mark, mark))
        bad = env.submit("--retries", "2", "--", "false")
        env.wait(job)
        env.wait(bad, code=FAILED)
        self.assertEqual(env.task(job)["attempt"], 3)
        self.assertEqual((env.task(bad)["attempt"], env.task(bad)["state"]), (3, "failed"))

    def test_retry_by_hand(self):
        """`retry` queues the failed elements again and only those."""
        env = self.env
        gate = env.file("retry-gate")
        job = env.submit("--array", "1-4", "--", "sh", "-c",
                         "echo x >> ran.$REEVE_TASK_ID; [ $REEVE_TASK_ID != 3 ] || [ -e %s ]"
                         % gate)
        env.wait(job, code=FAILED)
        write(gate, "")
        env.cli("retry", job)
        env.wait(job)
        self.assertEqual([len(read(env.file("ran.%d" % i))) // 2 for i in (1, 2, 3, 4)],
                         [1, 1, 2, 1])
        self.one_line(env.cli("retry", job, code=REFUSED), str(job))

    def test_hold_release_requeue(self):
        """hold keeps a queued job; release starts it; requeue stops a running one and reruns it."""
        env = self.env
        full = env.submit("-c", "8", "--", "sleep", "60")
        env.until_running(full)
        queued = env.submit("-c", "8", "--", "true")
        env.cli("hold", queued)
        self.assertEqual(env.job(queued)["state"], "held")
        self.one_line(env.cli("hold", queued, code=REFUSED), "held already")
        env.cli("requeue", full)
        until(lambda: env.task(full)["attempt"] == 2 and env.task(full)["state"] == "running",
              "the second attempt")
        env.cli("cancel", full)
        env.wait(full, code=FAILED)
        self.assertEqual(env.job(queued)["state"], "held")
        env.cli("release", queued)
        env.wait(queued)
        self.one_line(env.cli("requeue", queued, code=REFUSED), str(queued))


class Wait(SharedCellCase):
    def test_exit_codes(self):
        """Row 54: wait and submit --wait: 0 all succeeded, 1 not all, 6 timeout, 3 unknown."""
        env = self.env
        good, bad = env.submit("--", "true"), env.submit("--", "false")
        env.cli("wait", good)
        env.cli("wait", bad, code=FAILED)
        env.cli("wait", good, bad, code=FAILED)
        env.cli("wait", good)           # again, after its end
        long = env.submit("--", "sleep", "60")
        done = env.cli("wait", long, "--timeout", "200ms", code=TIMEOUT)
        self.one_line(done, "time is up", "1 job")
        env.cli("cancel", long)
        env.cli("wait", long, code=FAILED)
        env.cli("wait", "98765", code=NOT_FOUND)
        env.cli("submit", "--wait", "--", "true")
        env.cli("submit", "--wait", "--", "false", code=FAILED)
        env.cli("submit", "--wait", "--timeout", "200ms", "--", "sleep", "5", code=TIMEOUT)
        env.cli("cancel", "@")

    def test_summary(self):
        """Row 54: what was waited for is summed up in one line."""
        env = self.env
        one = env.submit("--", "true")
        self.assertEqual(env.cli("wait", one).out, "job %d succeeded\n" % one)
        many = env.submit("--array", "1-5", "--", "sh", "-c", "[ $REEVE_TASK_ID != 2 ]")
        out = env.cli("wait", many, code=FAILED).out
        self.assertEqual(len(out.splitlines()), 1)
        self.assertRegex(out, "4 of 5")
        self.assertRegex(env.cli("wait", one, many, code=FAILED).out, "1 succeeded, 1 failed")

    def test_elements_are_told(self):
        """What elements came to is told like that of jobs."""
        env = self.env
        job = env.submit("--array", "1-3", "--", "sh", "-c", "[ $REEVE_TASK_ID != 2 ]")
        self.assertEqual(env.cli("wait", "%d.1" % job).out, "task %d.1 succeeded\n" % job)
        self.assertEqual(env.cli("wait", "%d.2" % job, code=FAILED).out,
                         "task %d.2 failed: exit 1\n" % job)
        self.assertEqual(env.cli("wait", "%d.1-3" % job, code=FAILED).out,
                         "3 tasks ended: 2 succeeded, 1 failed\n")
        told = env.cli("wait", "--json", "%d.2" % job, code=FAILED).json()
        self.assertEqual([task["exit_code"] for task in told["tasks"]], [1])

    def test_names_mean_ended_jobs_too(self):
        """A name that only ended jobs bear is known, and a failure of one of them counts."""
        env = self.env
        ended = env.submit("--name", "named-1", "--", "false")
        env.wait(ended, code=FAILED)
        self.assertEqual(env.cli("wait", "name:named-*", code=FAILED).out,
                         "job %d failed: exit status 1\n" % ended)
        done = env.cli("cancel", "name:named-*")
        self.assertEqual((done.out, done.err.strip()),
                         ("", "reeve: nothing to cancel in job %d" % ended))
        live = env.submit("--name", "named-2", "--", "sleep", "0.2")
        out = env.cli("wait", "--parsable", "name:named-*", code=FAILED).out
        self.assertEqual(out, "%d\n%d\n" % (ended, live))
        held = env.submit("--name", "named-3", "--hold", "--", "true")
        self.assertEqual(env.cli("cancel", "name:named-*").out, "cancelled job %d\n" % held)
        env.cli("wait", "name:nobody-*", code=NOT_FOUND)

    def test_waits_while_the_plm_restarts(self):
        """wait outlives a restart of the PLM."""
        env = self.env
        gate = env.file("gate")
        job = env.submit("--", "sh", "-c", "while [ ! -e %s ]; do sleep 0.02; done" % gate)
        env.until_running(job)
        import subprocess
        waiter = env.popen("wait", job, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        env.kill("plm")
        env.until_up()
        write(gate, "")
        out, err = waiter.communicate(timeout=30)
        self.assertEqual((waiter.returncode, out), (OK, "job %d succeeded\n" % job), err)


class Dependants(SharedCellCase):
    def test_failed_parent(self):
        """Row 57: dependants of a failed task are cancelled, independent ones finish."""
        env = self.env
        bad = env.submit("--", "false")
        child = env.submit("--after", bad, "--", "touch", env.file("child"))
        grandchild = env.submit("--after", child, "--", "touch", env.file("grandchild"))
        anyhow = env.submit("--after", "afterany:%d" % bad, "--", "true")
        on_failure = env.submit("--after", "afternotok:%d" % bad, "--", "true")
        independent = env.submit("--", "true")
        env.wait(independent, anyhow, on_failure)
        env.wait(child, grandchild, code=FAILED)
        self.assertEqual([env.job(j)["state"] for j in (bad, child, grandchild)],
                         ["failed", "cancelled", "cancelled"])
        self.assertIn(str(bad), env.job(child)["reason"])
        self.assertFalse(os.path.exists(env.file("child")))
        self.assertFalse(os.path.exists(env.file("grandchild")))
        good = env.submit("--", "true")
        never = env.submit("--after", "afternotok:%d" % good, "--", "true")
        env.wait(never, code=FAILED)
        self.assertEqual(env.job(never)["state"], "cancelled")

    def test_cancelled_parent(self):
        """Row 57: a cancelled parent counts as not succeeded."""
        env = self.env
        parent = env.submit("--hold", "--", "true")
        child = env.submit("--after", parent, "--", "true")
        anyhow = env.submit("--after", "afterany:%d" % parent, "--", "true")
        env.cli("cancel", parent)
        env.wait(anyhow)
        env.wait(child, code=FAILED)
        self.assertEqual(env.job(child)["state"], "cancelled")


class Retention(OwnCellCase):
    def test_ended_jobs_leave_shared_memory(self):
        """Row 56: ended jobs are dropped from memory, and still shown from the history."""
        env = self.env
        jobs = [env.submit("--name", "old-%d" % i, "--", "true") for i in range(3)]
        env.wait(*jobs)
        env.wait(env.submit("--array", "1-2000", "--output", "none", "--", "true"), timeout=90)
        self.assertEqual([env.job(j)["name"] for j in jobs], ["old-0", "old-1", "old-2"])
        env.down()
        # With no process and no shared memory left, the record is still there.
        self.assertEqual([env.job(j)["state"] for j in jobs], ["succeeded"] * 3)


if __name__ == "__main__":
    unittest.main(verbosity=2)
