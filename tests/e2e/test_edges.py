"""What people ask for at the edge: full tables, fragmented arrays, limits, forgotten jobs."""
import base64
import os
import random
import re
import unittest

from reeve_env import OK, REFUSED, OwnCellCase, until


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


class Edges(OwnCellCase):
    def test_a_refused_action_changes_no_reason(self):
        env = self.env
        job = env.submit("--array", "1-2", "--output", "none", "--", "false")
        env.wait(job, code=None)
        before = env.job(job)["reason"]
        env.cli("requeue", "%d.1" % job, "--reason", "zzz", code=REFUSED)
        self.assertEqual(env.job(job)["reason"], before)

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
