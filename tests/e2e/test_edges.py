"""What people ask for at the edge: full tables, fragmented arrays, limits, forgotten jobs."""
import base64
import os
import random
import re
import subprocess
import unittest

from reeve_env import FAILED, OK, REFUSED, OwnCellCase, until


class SmallTable(OwnCellCase):
    """A cell of 1,024 slots."""
    cell = {"workers": 1, "up": ("--slots", "1024")}

    def test_an_array_larger_than_the_table(self):
        env = self.env
        pids = [p["pid"] for p in env.processes()]
        busy = env.submit("-c", "2", "--output", "none", "--", "sleep", "300")
        until(lambda: env.job(busy)["state"] == "running", "the cpus busy")
        arrays = [env.submit("--array", "1-2000", "--mem", "%dM" % (n + 1), "-c", "2", "--output",
                             "none", "--", "true") for n in range(3)]
        env.cli("hold", *arrays)
        env.cli("cancel", busy)
        env.wait(env.submit("--output", "none", "--", "true"))
        env.cli("release", arrays[0])
        self.assertEqual(pids, [p["pid"] for p in env.processes()])
        env.cli("cancel", *arrays)


    def test_explain_of_a_kind_that_waits_for_its_turn(self):
        env = self.env
        busy = env.submit("-c", "2", "--output", "none", "--", "sleep", "300")
        until(lambda: env.job(busy)["state"] == "running", "the cpus busy")
        kinds = [env.submit("--mem", "%dM" % (n + 1), "--output", "none", "--", "true")
                 for n in range(40)]

        def told():
            out = env.cli("explain", "--json", *kinds).json()
            return [[reason["code"] for reason in job["reasons"]] for job in out["jobs"]]
        codes = until(lambda: [one for one in told() if "turn" in one], "kinds beyond the table")
        self.assertGreaterEqual(len(codes), 20)
        for one in codes:
            self.assertEqual(one, ["turn", "resources"])
        env.cli("cancel", busy)
        for one in told():
            self.assertFalse({"turn", "starting"} <= set(one), one)
        env.wait(*kinds)


class Edges(OwnCellCase):
    def test_a_refused_action_changes_no_reason(self):
        env = self.env
        job = env.submit("--array", "1-2", "--output", "none", "--", "false")
        env.wait(job, code=None)
        before = env.job(job)["reason"]
        env.cli("requeue", "%d.1" % job, "--reason", "zzz", code=REFUSED)
        self.assertEqual(env.job(job)["reason"], before)

    def test_a_refusal_names_its_elements(self):
        """What has ended is told by its numbers; the others are acted on."""
        env = self.env
        env.cli("node", "drain", "worker-1")
        env.cli("node", "drain", "worker-2")
        job = env.submit("--array", "1-9", "--output", "none", "--", "true")
        env.cli("cancel", "%d.1-3" % job, "%d.5" % job)
        done = env.cli("hold", "%d.1-7" % job, code=FAILED)
        self.assertEqual(done.out, "held job %d (3 tasks)\n" % job)
        self.assertEqual(done.err,
                         "reeve: job %d: each of the elements 1-3,5: it has ended\n" % job)
        self.assertEqual(env.job(job)["tasks"]["held"], 3)
        said = env.cli("hold", "%d.4" % job, "%d.12" % job, code=REFUSED).err
        self.assertIn("it has no element 12; element 4: it is held already", said)
        said = env.cli("release", "%d.3-5" % job, code=FAILED).err
        self.assertIn("each of the elements 3,5: it has ended", said)
        said = env.cli("retry", "%d.3-4" % job, code=REFUSED).err
        self.assertIn("element 3: it was cancelled; submit it again (1 more: other reasons)",
                      said)

    def test_retry_says_what_was_cancelled(self):
        env = self.env
        env.cli("node", "drain", "worker-1")
        env.cli("node", "drain", "worker-2")
        one = env.submit("--output", "none", "--", "true")
        many = env.submit("--array", "1-3", "--output", "none", "--", "true")
        env.cli("cancel", one, many)
        for job in one, many:
            self.assertEqual(env.cli("retry", job, code=REFUSED).err,
                             "reeve: job %d: it was cancelled; submit it again\n" % job)
        mixed = env.submit("--array", "1-3", "--output", "none", "--", "true")
        env.cli("cancel", "%d.2" % mixed)
        env.cli("node", "undrain", "worker-1")
        env.wait(mixed, code=FAILED)
        self.assertEqual(env.cli("retry", mixed, code=REFUSED).err,
                         "reeve: job %d: nothing of it failed; submit again what was cancelled\n"
                         % mixed)

    def test_retry_of_what_ended_long_ago(self):
        """Behind 1,000 ended jobs with large specs an old one is not known enough to be retried."""
        env = self.env
        old = env.submit("--env", "A=b", "--", "sh", "-c", "exit 3")
        env.wait(old, code=FAILED)
        large = [{"command": "true", "hold": True, "env": {"X": "x" * 12000}}] * 1100
        jobs = env.submit_file(large)
        env.cli("cancel", "%d-%d" % (jobs[0], jobs[-1]), "-q")

        def said(*words):
            done = env.cli(*words, code=None)
            return done.err + done.out
        until(lambda: "long ago" in said("cancel", old), "it is forgotten")
        self.assertIn("ended too long ago to be tried again; submit it again, as "
                      "reeve show %d --env tells it" % old, said("retry", old))
        shown = env.cli("show", old, "--env").out
        self.assertIn("A=b", shown)
        self.assertIn("exit 3", shown)

    def test_an_arrays_header_is_no_open_task(self):
        env = self.env
        env.wait(env.submit("--array", "1-5", "--output", "none", "--", "true"))
        env.submit("--hold", "--output", "none", "--", "true")

        def counts():
            done = env.cli("audit", "verify", "--json").json()
            return done["tasks"], done["open_tasks"]
        until(lambda: counts() == (6, 1), "five ended tasks and an open one")

    def test_every_cancelled_element_is_in_the_log(self):
        """Thousands of holes: what the header's entry has no room for gets entries of its own."""
        env = self.env
        env.cli("node", "drain", "worker-1")
        env.cli("node", "drain", "worker-2")
        job = env.submit("--array", "1-6000", "--output", "none", "--", "true")
        odd = ["%d.%d" % (job, n) for n in range(1, 6000, 2)]
        random.Random(3).shuffle(odd)
        env.cli("cancel", *odd)
        env.cli("cancel", job)
        env.cli("audit", "verify")
        header = env.cli("audit", "history", "%d.header" % job, "--json").out
        ranges = b",".join(base64.b64decode(text + "==")
                           for text in re.findall(r'"([A-Za-z0-9+/]{200,})=*"', header))
        missing = []
        for element in random.Random(4).sample(range(2, 6001, 2), 40):
            own = env.cli("audit", "history", "%d.%d" % (job, element), code=None)
            if own.code != OK and b"%d-%d" % (element, element) not in ranges:
                missing.append(element)
        self.assertEqual(missing, [])

    def test_a_limit_of_an_array_holds_for_retries_and_leaves_held_ones_out(self):
        env = self.env
        path = os.path.join(env.work, "started")
        script = "echo x >> %s; sleep 0.5; rm -f no; exit 1" % path
        job = env.submit("--array", "1-6%1", "--output", "none", "--", "sh", "-c", script)
        env.cli("cancel", "%d.5-6" % job)
        env.wait(job, code=None)
        env.cli("retry", job)
        seen = []
        until(lambda: seen.append(env.job(job)["tasks"]["running"])
              or env.job(job)["state"] not in ("running", "queued"), "the retries")
        self.assertLessEqual(max(seen), 1)
        limited = env.submit("--hold", "--array", "1-6%2", "--output", "none", "--", "true")
        env.cli("hold", "%d.1" % limited, "%d.2" % limited, code=None)
        env.cli("release", limited)
        env.cli("hold", "%d.1" % limited, "%d.2" % limited, code=None)
        until(lambda: env.job(limited)["tasks"]["succeeded"] >= 4, "those that are not held")
        env.cli("release", limited, code=None)
        env.wait(limited)

    def test_some_of_a_held_job_are_let_go(self):
        """They run, the others stay held, one by one, also after a restart."""
        env = self.env
        job = env.submit("--hold", "--array", "1-1000", "--output", "none", "--", "true")
        env.cli("release", "%d.1001" % job, code=REFUSED)
        self.assertNotIn("RELEASED", env.cli("audit", "history", "%d.header" % job).out)
        self.assertIn("(3 tasks)", env.cli("release", "%d.2" % job, "%d.900-901" % job).out)
        self.assertIn("RELEASED", env.cli("audit", "history", "%d.header" % job).out)
        until(lambda: env.job(job)["tasks"]["succeeded"] == 3, "those that were let go")
        env.kill("plm")
        env.until_up()
        tasks = env.job(job)["tasks"]
        self.assertEqual((tasks["succeeded"], tasks["held"]), (3, 997))
        env.cli("release", "%d.2" % job, code=REFUSED)
        self.assertIn("(997 tasks)", env.cli("release", job).out)
        env.wait(job)
        env.cli("audit", "verify")

    def test_what_was_held_as_the_run_went_by_starts_when_released(self):
        """Elements held one by one are let go at once, in their order, also after a restart."""
        env = self.env
        env.cli("node", "drain", "worker-1")
        env.cli("node", "drain", "worker-2")
        job = env.submit("--array", "1-100003", "--output", "none", "--", "true")
        env.cli("hold", "%d.1-50000" % job)
        env.cli("hold", "%d.50001-100001" % job)
        until(lambda: env.job(job)["tasks"]["queued"] == 2, "the run at its end")
        env.cli("cancel", "%d.2000-100000" % job)
        self.assertEqual(env.job(job)["tasks"]["held"], 2000)
        # Let go while the job is held as a whole, they are queued and the others stay held.
        env.cli("hold", job)
        env.cli("release", "%d.7" % job, "%d.9-1500" % job)
        env.cli("hold", "%d.9" % job)
        env.cli("ledger", "prune")
        env.kill("plm")
        env.until_up()
        held = env.job(job)["tasks"]["held"]
        self.assertGreater(held, 500)
        done = env.cli("release", job)
        self.assertIn("(%d tasks)" % held, done.out)
        tasks = env.job(job)["tasks"]
        self.assertEqual((tasks["held"], tasks["backlog"] + tasks["queued"]), (0, 2002))
        env.cli("release", job, code=REFUSED)
        env.kill("plm")
        env.until_up()
        env.cli("cancel", "%d.1000-2500" % job, code=None)
        env.cli("node", "undrain", "worker-1")
        env.cli("node", "undrain", "worker-2")
        env.wait(job, code=FAILED)
        tasks = env.job(job)["tasks"]
        self.assertEqual((tasks["succeeded"], tasks["cancelled"]), (1002, 99001))

    def test_a_large_action_is_done_in_pieces(self):
        """Others are served in between, and a kill in between keeps what was done."""
        env = self.start_cell(start=False)
        env.cli("up", *env.up_words, env={"REEVE_FP": "plm.after_commit:sleep=120"})
        env.learn()
        count = 180000
        job = env.submit("--array", "1-%d" % count, "--function", "no-such-handler")
        env.wait(job, code=FAILED)
        env.cli("node", "drain", "worker-1")
        env.cli("node", "drain", "worker-2")
        for action, held in (("retry", 0), ("hold", count), ("release", 0)):
            self.assertIn("(%d tasks)" % count, env.cli(action, job).out)
            self.assertEqual(env.job(job)["tasks"]["held"], held)
        child = env.popen("cancel", job, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        def cancelled():
            return env.cli("ls", "--json", job).json()["jobs"][0]["tasks"]["cancelled"]
        first = until(cancelled, "some cancelled", pause=0)
        env.kill("plm")
        child.communicate(timeout=60)
        env.until_up()
        self.assertLess(first, count)
        tasks = env.job(job)["tasks"]
        left = tasks["backlog"] + tasks["queued"]
        self.assertGreaterEqual(tasks["cancelled"], first)
        self.assertEqual(left + tasks["cancelled"], count)
        # What was recorded last may not have been shown before the kill: then nothing is left.
        env.cli("cancel", job, code=None)
        self.assertEqual(env.job(job)["tasks"]["cancelled"], count)

    def test_a_key_outlives_its_job(self):
        env = self.env
        first = env.submit("--key", "once", "--output", "none", "--", "true")
        env.wait(first)
        for _ in range(2):
            jobs = env.submit_file([{"command": "true", "hold": True, "output": "none"}
                                    for _ in range(5_100)])
            env.cli("cancel", "%d-%d" % (jobs[0], jobs[-1]))
        self.assertEqual(env.submit("--key", "once", "--output", "none", "--", "true"), first)
        env.cli("ledger", "prune")
        env.kill_all()
        env.up()
        self.assertEqual(env.submit("--key", "once", "--output", "none", "--", "true"), first)

    def test_what_may_start_once_is_not_started_again(self):
        env = self.env
        job = env.submit("--retries", "never", "--output", "none", "--", "sleep", "300")
        until(lambda: env.job(job)["state"] == "running", "it runs")
        said = env.cli("requeue", job, code=REFUSED).err
        self.assertIn("only once", said)
        env.cli("cancel", job)
        failed = env.submit("--retries", "never", "--output", "none", "--", "false")
        env.wait(failed, code=None)
        self.assertIn("only once", env.cli("retry", failed, code=REFUSED).err)

    def test_too_many_elements_by_name(self):
        """Each element has entries of its own: a million of them at once are refused whole."""
        env = self.env
        env.cli("node", "drain", "worker-1")
        env.cli("node", "drain", "worker-2")
        job = env.submit("--array", "1-1000000", "--output", "none", "--", "true")
        said = env.cli("cancel", "%d.200001-900000" % job, code=REFUSED).err
        self.assertIn("elements at once", said)
        self.assertEqual(env.job(job)["tasks"]["cancelled"], 0)
        env.cli("cancel", job)


if __name__ == "__main__":
    unittest.main(verbosity=2)
