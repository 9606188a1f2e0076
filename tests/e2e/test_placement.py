"""Where work may run and what it costs: labels, prices, spot workers, budgets, notices."""
import getpass
import os
import time
import unittest

from reeve_env import NOT_FOUND, OK, USAGE, OwnCellCase, until, write

ME = getpass.getuser()


class Placement(OwnCellCase):
    def submit(self, *words):
        return self.env.submit(*words)

    def run_on(self, *words):
        """Name of the worker that ran the job's only task."""
        job = self.submit(*words)
        self.env.wait(job)
        return self.env.task(job)["worker_name"]

    def why(self, job):
        return self.env.cli("explain", job, "--json").json()["jobs"][0]

    def codes(self, job):
        return [reason["code"] for reason in self.why(job)["reasons"]]

    def worker(self, name):
        return self.env.cli("node", "show", name, "--json").json()["node"]


class Labels(Placement):
    cell = {"workers": 2,
            "up": ["--label", "rack=7", "--label", "worker-2:disk=ssd", "--zone", "worker-1:a",
          "--zone", "worker-2:b"]}

    def test_labels_are_shown_and_obeyed(self):
        self.assertEqual(self.worker("worker-1")["labels"], ["rack=7", "zone=a"])
        self.assertEqual(self.worker("worker-2")["labels"], ["disk=ssd", "rack=7", "zone=b"])
        table = self.env.cli("node", "ls").out
        self.assertIn("disk=ssd,rack=7,zone=b", table)
        self.assertNotIn("PRICE", table)
        for _ in range(3):
            self.assertEqual(self.run_on("--label", "disk=ssd", "--", "true"), "worker-2")
            self.assertEqual(self.run_on("--label", "zone=a", "--label", "rack=7", "--", "true"),
                             "worker-1")
            self.assertEqual(self.run_on("--node", "worker-2", "--", "true"), "worker-2")
            self.assertEqual(self.run_on("--label", "node=worker-1", "--", "true"), "worker-1")

    def test_a_label_nobody_has_waits_for_the_worker_that_brings_it(self):
        done = self.env.cli("submit", "--label", "gpu=h100", "--", "true")
        self.assertIn("needs the label gpu=h100, which no worker has", done.err)
        job = int(done.out.split()[-1])
        until(lambda: self.codes(job) == ["label-missing"], "its reason")
        answer = self.why(job)
        self.assertEqual({w["code"] for w in answer["workers"]}, {"label-missing"})
        self.assertIn("has no label gpu=h100", self.env.cli("explain", job).out)
        self.env.popen("worker", "--name", "big", "--label", "gpu=h100", "--cpus", "1")
        self.env.wait(job)
        self.assertEqual(self.env.task(job)["worker_name"], "big")

    def test_an_unknown_node_is_told(self):
        done = self.env.cli("submit", "--node", "worker-9", "--", "true")
        self.assertIn("may run only on worker-9, which is not here; it waits until", done.err)
        self.env.cli("cancel", done.out.split()[-1])
        # Too large for the only worker with the label, though not for that one alone.
        big = self.env.cli("submit", "--label", "zone=b", "-c", "64", "--", "true", code=USAGE)
        self.assertIn("64", big.err)

    def test_bad_words(self):
        for words, says in ((["--label", "a b"], "is no label"), (["--label", "=x"], "is no label"),
                            (["--label", "foo"], "KEY=VALUE"), (["--label", "foo="], "KEY=VALUE"),
                            (["--max-price", "cheap"], "is not a price"),
                            (["--max-price", "0"], "leaves no worker"),
                            (["--sla", "gold"], "none of critical")):
            done = self.env.cli("submit", *words, "--", "true", code=USAGE)
            self.assertIn(says, done.err)
        for words, says in ((["--label", "worker-9:a=b"], "is not started"),
                            (["--label", "foo"], "KEY=VALUE"),
                            (["--label", "node=x"], "own name"),
                            (["--price", "1e3"], "is not a price"),
                            (["--spot-price", "worker-3:1"], "is not started"),
                            (["--budget", "nobody-here=5"], "there is no user"),
                            (["--budget", "5"], "is no budget")):
            done = self.env.cli("up", *words, code=USAGE)
            self.assertIn(says, done.err)

    def test_a_job_file_has_the_same_fields(self):
        job, = self.env.submit_file([{"command": "true", "labels": ["disk=ssd", "rack=7"],
                                      "max_price": 1.5, "spread": True, "sla": "flexible"}])
        self.env.wait(job)
        spec = self.env.cli("show", job, "--json").json()["jobs"][0]["spec"]
        self.assertEqual(spec["labels"], ["disk=ssd", "rack=7"])
        self.assertEqual((spec["max_price"], spec["spread"], spec["sla"]), (1.5, True, "flexible"))
        self.assertEqual(self.env.task(job)["worker_name"], "worker-2")


class Named(Placement):
    cell = {"workers": 2,
            "up": ["--resource", "fpga=2", "--resource", "worker-2:port=3",
                   "--resource", "worker-2:fpga=1"]}

    def used(self, name):
        return self.worker(name)["used"]["named"]

    def test_they_are_counted_shown_and_given_back(self):
        self.assertEqual(self.worker("worker-1")["capacity"]["named"], {"fpga": 2})
        self.assertEqual(self.worker("worker-2")["capacity"]["named"], {"fpga": 1, "port": 3})
        first = self.submit("--resource", "fpga=2", "--", "sleep", "60")
        self.assertEqual(self.env.until_running(first)["worker_name"], "worker-1")
        second = self.submit("--resource", "fpga", "--resource", "port=2", "--", "sleep", "60")
        self.assertEqual(self.env.until_running(second)["worker_name"], "worker-2")
        self.assertIn("fpga=1/1,port=2/3", self.env.cli("node", "ls").out)
        third, = self.env.submit_file([{"command": "true", "resources": {"cpu": 1, "port": 2}}])
        until(lambda: self.codes(third) == ["resources"], "its reason")
        answer = {w["name"]: w for w in self.why(third)["workers"]}
        self.assertEqual(answer["worker-1"]["refusals"], ["too-few-resources"])
        self.assertEqual(answer["worker-2"]["refusals"], ["resources-busy"])
        self.assertEqual(answer["worker-2"]["missing"]["named"], {"port": 1})
        self.assertEqual(answer["worker-2"]["held_by"][0]["job"], second)
        listed = {job["job"]: job for job in self.env.cli("ls", "--json").json()["jobs"]}
        self.assertEqual(listed[second]["named_resources"], {"fpga": 1, "port": 2})
        # Who comes after the scheduler or the agent counts again what is taken.
        for role, name in (("scheduler", None), ("worker", "worker-2")):
            self.env.kill(role, name)
            until(lambda: self.used("worker-2") == {"fpga": 1, "port": 2}, "the same is taken")
        self.assertEqual(self.env.job(third)["state"], "queued")
        self.env.cli("cancel", second)
        self.env.wait(third)
        self.env.cli("cancel", first)
        until(lambda: self.used("worker-1") == {} == self.used("worker-2"), "all is given back")
        self.env.cli("shm", "check")

    def test_jobs_that_wait_do_not_use_the_names_up(self):
        names = ",".join("n%d=1" % i for i in range(8))
        waits = self.submit("--node", "worker-9", "--resource", names, "--", "true")
        late = self.submit("--label", "k=v", "--resource", "late=1", "--", "true")
        worker = self.env.popen("worker", "--name", "w9", "--resource", "late=1", "--label", "k=v")
        self.env.wait(late)
        worker.terminate()
        worker.wait()
        self.assertEqual(self.env.job(waits)["state"], "queued")
        answer = self.env.cli("worker", "--name", "w10", *[
            word for i in range(8) for word in ("--resource", "m%d=1" % i)], code=5)
        self.assertIn("knows 8 named resources already", answer.err + answer.out)
        self.env.cli("cancel", waits)

    def test_never_more_at_once_than_there_are(self):
        job = self.submit("--resource", "fpga=1", "--array", "1-60", "-c", "0.1", "--",
                          "sh", "-c", "sleep 0.05")
        most = 0
        while self.env.job(job)["ended"] is None:
            used = [self.used(name).get("fpga", 0) for name in ("worker-1", "worker-2")]
            self.assertLessEqual(used[0], 2)
            self.assertLessEqual(used[1], 1)
            most = max(most, sum(used))
        self.assertGreaterEqual(most, 2)

    def test_a_segment_made_anew_knows_them_by_name(self):
        held = self.submit("--resource", "port=3", "--", "sleep", "60")
        self.env.until_running(held)
        waits = self.submit("--resource", "port=1,fpga=1", "--", "true")
        old = self.env.status()["segment"]
        os.unlink("/dev/shm" + old)
        until(lambda: self.env.status()["segment"] not in ("", old), "a new segment")
        until(lambda: self.codes(waits) == ["resources"], "it waits there, too")
        self.env.cli("cancel", held)
        self.env.wait(waits)

    def test_a_task_is_told_what_it_holds(self):
        for words, says in (((), ""), (("--resource", "port=2,fpga"), "fpga=1,port=2")):
            done = self.env.cli("run", *words, "--", "sh", "-c", 'echo "[$REEVE_RESOURCES]"')
            self.assertEqual(done.out.strip(), "[%s]" % says)

    def test_what_runs_on_keeps_its_own(self):
        """Also when all but the launcher died, and the segment with them."""
        job = self.submit("--resource", "port=1", "--", "sleep", "60")
        self.env.until_running(job)
        self.env.kill("supervisor")
        segment = self.env.status()["segment"]
        for role, name in (("worker", "worker-2"), ("plm", None)):
            self.env.kill(role, name)
        os.unlink("/dev/shm" + segment)
        done = self.env.cli("up", "--resource", "port=9")
        self.assertIn("keeps its own --resource", done.err)
        until(lambda: self.env.cli("node", "show", "worker-2", code=None).code == OK,
              "the worker in the new segment")
        until(lambda: self.used("worker-2") == {"port": 1}, "its task is counted again")
        self.assertEqual(self.worker("worker-2")["capacity"]["named"], {"fpga": 1, "port": 3})
        self.assertEqual(self.env.task(job)["attempt"], 1)
        self.env.cli("cancel", job)

    def test_bad_words(self):
        for words, says in ((["--resource", "gizmo=1"], "no worker has any"),
                            (["--resource", "fpga=3"], "the most a worker has is 2"),
                            (["--resource", "fpga=0"], "is no NAME=N"),
                            (["--resource", "fpga=1,fpga=2"], "fpga is named twice"),
                            (["--resource", "fpga=1", "--resource", "fpga=1"],
                             "--resource: fpga is named twice; write one number"),
                            (["--limit", "a", "--limit", "b,a:2"], "--limit: a is named twice"),
                            (["--resource", "gpus=1"], "options of their own"),
                            (["--resource", "fpga=128"], "is no NAME=N"),
                            (["--resource", "9lives=1"], "is no NAME=N")):
            done = self.env.cli("submit", *words, "--", "true", code=USAGE)
            self.assertIn(says, done.err)
        script = write(self.env.file("s.sh"), "#REEVE --resource fpga=2\ntrue\n")
        job = self.submit("--resource", "fpga=1", "--hold", script)   # the command line wins
        self.assertEqual(self.env.show(job)["spec"]["resources"]["named"], {"fpga": 1})
        self.env.cli("cancel", job)
        for words, says in ((["--resource", "fpga"], "is no NAME=N"),
                            (["--resource", "fpga=1", "--resource", "fpga=2"],
                             "--resource: fpga is named twice; write one number"),
                            (["--resource", "worker-1:a=1", "--resource", "worker-1:a=2"],
                             "--resource: a is named twice for worker-1"),
                            (["--price", "1", "--price", "2"], "--price: is given twice for all"),
                            (["--resource", "cpu=3"], "options of their own"),
                            (["--resource", "worker-9:fpga=1"], "is not started"),
                            ([w for i in range(9) for w in ("--resource", "r%d=1" % i)],
                             "more than 8")):
            done = self.env.cli("up", *words, code=USAGE)
            self.assertIn(says, done.err)


class Prices(Placement):
    cell = {"workers": 3,
            "up": ["--price", "2", "--price", "worker-2:0.5", "--spot-price", "worker-3:0.125"]}

    def test_the_cheapest_that_may_be_used(self):
        spot = self.worker("worker-3")
        self.assertEqual((spot["spot"], spot["price"], spot["on_demand_price"]), (True, 0.125, 2))
        self.assertIn("0.125 spot", self.env.cli("node", "ls").out)
        self.assertEqual(self.run_on("--", "true"), "worker-2")
        self.assertEqual(self.run_on("--sla", "critical", "--", "true"), "worker-2")
        self.assertEqual(self.run_on("--sla", "flexible", "--", "true"), "worker-3")
        self.assertEqual(self.run_on("--sla", "spot", "--max-price", "0.2", "--", "true"),
                         "worker-3")
        # Beyond what the cheap one has free the dear one is taken.
        long = self.submit("-c", "2", "--", "sleep", "60")
        self.assertEqual(self.env.until_running(long)["worker_name"], "worker-2")
        self.assertEqual(self.run_on("--", "true"), "worker-1")
        held = self.submit("--max-price", "0.5", "--", "true")
        until(lambda: self.codes(held) == ["resources"], "it waits for the cheap one")
        answer = {w["name"]: w for w in self.why(held)["workers"]}
        self.assertEqual(answer["worker-1"]["code"], "price-above-limit")
        self.assertEqual(answer["worker-1"]["refusals"], ["price-above-limit"])
        self.assertEqual(answer["worker-2"]["refusals"], ["cpus-busy"])
        self.assertEqual(answer["worker-3"]["code"], "spot-not-allowed")
        self.env.cli("cancel", long)
        self.env.wait(held)
        self.assertEqual(self.env.task(held)["worker_name"], "worker-2")

    def test_no_worker_within_the_price(self):
        done = self.env.cli("submit", "--max-price", "0.01", "--sla", "flexible", "--", "true")
        self.assertIn("pays at most 0.01 an hour", done.err)
        job = int(done.out.split()[-1])
        until(lambda: self.codes(job) == ["price-above-limit"], "its reason")
        self.env.cli("cancel", job)

    def test_what_it_cost(self):
        jobs = [self.submit("--", "sleep", "0.4"),
                self.submit("--sla", "flexible", "--array", "1-2", "--", "sleep", "0.4")]
        self.env.wait(*jobs)
        shown = self.env.cli("show", *jobs, "--json").json()["jobs"]
        for job, price in zip(shown, (0.5, 0.125)):
            costs = [task["cost"] for task in job["tasks"]]
            self.assertEqual({task["price"] for task in job["tasks"]}, {price})
            for cost in costs:
                self.assertGreater(cost, 0.4 / 3600 * price)
                self.assertLess(cost, 10 / 3600 * price)
            self.assertAlmostEqual(job["job"]["cost"], sum(costs), places=7)
        total = sum(job["job"]["cost"] for job in shown)
        self.assertIn("cost", self.env.cli("show", jobs[0]).out)

        def summed():
            by = self.env.cli("history", "--by", "user", "--json").json()
            return abs(by["total"] - total) < 1e-6 and by
        by_user = until(summed, "the history has all of it")
        self.assertEqual([(row["name"], row["jobs"], row["tasks"]) for row in by_user["rows"]],
                         [(ME, 2, 3)])
        by_sla = self.env.cli("history", "--by", "sla", "--json").json()["rows"]
        self.assertEqual({row["name"]: row["tasks"] for row in by_sla},
                         {"standard": 1, "flexible": 2})
        listed = self.env.cli("history", "--json").json()["jobs"]
        self.assertAlmostEqual(sum(job["cost"] for job in listed), total, places=7)
        self.assertIn("COST", self.env.cli("history").out)
        attempts = self.env.cli("history", jobs[1], "--json").json()["attempts"]
        self.assertEqual([one["attempt"]["price"] for one in attempts], [0.125, 0.125])
        self.env.cli("history", "--by", "user", jobs[0], code=USAGE)
        # The sums survive a restart and a segment made anew, and go on from there.
        self.env.down()
        self.env.up()
        again = self.env.cli("show", *jobs, "--json").json()["jobs"]
        self.assertAlmostEqual(sum(job["job"]["cost"] for job in again), total, places=7)


class Budgets(Placement):
    cell = {"workers": 1, "up": ["--price", "3600", "--budget", ME + "=0.5"]}

    def test_over_the_budget_waits(self):
        first = self.submit("--", "sleep", "0.6")     # 1 a second
        self.env.wait(first)
        second = self.submit("--", "true")
        until(lambda: "budget" in self.codes(second), "over the budget")
        self.assertIn("of a budget of 0.5", self.env.cli("explain", second).out)
        self.env.kill("plm")
        self.env.until_up()
        until(lambda: "budget" in self.codes(second), "it stays so")
        # More money, and it starts.
        self.env.down()
        self.env.up_words = [ME + "=100" if word == ME + "=0.5" else word
                             for word in self.env.up_words]
        self.env.up()
        self.env.wait(second)


class Notice(Placement):
    cell = {"workers": 2, "up": ["--price", "1", "--label", "worker-2:disk=fast",
                                 "--spot-price", "worker-2:0.1"]}

    def test_a_worker_that_will_vanish(self):
        on_spot = ["--sla", "flexible", "--label", "disk=fast"]
        stays = self.submit(*on_spot, "-t", "3s", "--", "sleep", "2")
        goes = self.submit("--sla", "flexible", "--", "sleep", "60")
        for job in (stays, goes):
            self.assertEqual(self.env.until_running(job)["worker_name"], "worker-2")
        told = self.env.cli("node", "notice", "worker-2", "--in", "1h", "--json").json()
        self.assertEqual((told["requeued"], told["left"]), (1, 1))
        until(lambda: self.env.task(goes)["worker_name"] == "worker-1", "it runs elsewhere")
        shown = self.worker("worker-2")
        self.assertTrue(shown["drain_wanted"])
        self.assertIsNotNone(shown["notice"])
        self.env.wait(stays)
        task = self.env.task(stays)
        self.assertEqual((task["worker_name"], task["attempt"], task["state"]),
                         ("worker-2", 1, "succeeded"))
        waits = self.submit(*on_spot, "--", "true")
        until(lambda: {"worker-2": ["node-closed"], "worker-1": ["label-missing"]} ==
              {one["name"]: one["refusals"] for one in self.why(waits)["workers"]}, "closed")
        until(lambda: '"detail":"notice"' in
              self.env.cli("events", "--from", "0", "--no-follow").out, "in the audit log")
        # Undrained, it stays after all.
        self.env.cli("node", "undrain", "worker-2")
        self.env.wait(waits)
        self.assertIsNone(self.worker("worker-2")["notice"])
        self.env.cli("cancel", goes)

    def test_at_once_and_unknown(self):
        once = self.submit("--sla", "spot", "--retries", "never", "--", "sleep", "1")
        self.env.until_running(once)
        goes = self.submit("--sla", "spot", "-t", "1h", "--", "sleep", "60")
        self.env.until_running(goes)
        said = self.env.cli("node", "notice", "worker-2").out
        self.assertIn("1 task requeued, 1 task left", said)
        until(lambda: self.env.task(goes)["worker_name"] == "worker-1", "it runs elsewhere")
        self.env.wait(once)
        self.assertEqual(self.env.task(once)["attempt"], 1)
        self.env.cli("cancel", goes)
        self.env.cli("node", "notice", "nobody", code=NOT_FOUND)
        self.env.cli("node", "notice", "worker-2", "--in", "5", code=USAGE)


class Spread(Placement):
    cell = {"workers": 2}

    def test_pack_or_spread(self):
        first = self.submit("--node", "worker-1", "--", "sleep", "60")
        self.env.until_running(first)
        self.assertEqual(self.run_on("--", "true"), "worker-1")
        self.assertEqual(self.run_on("--spread", "--", "true"), "worker-2")
        self.env.cli("cancel", first)


class Adopted(Placement):
    autostart = False

    def test_what_is_adopted_while_the_scheduler_counts_is_counted(self):
        env = self.start_cell(start=False, workers=1, cpus=1)
        env.cli("up", *env.up_words, env={"REEVE_FP": "scheduler.counted:sleep=1500:2"})
        env.learn()
        held = self.submit("--", "sleep", "60")
        env.until_running(held)
        waits = self.submit("--", "true")
        old = env.status()["segment"]
        os.unlink("/dev/shm" + old)
        until(lambda: env.status()["segment"] not in ("", old), "a new segment")
        until(lambda: self.codes(waits) == ["resources"], "it waits there, too")
        until(lambda: self.worker("worker-1")["used"]["cpu"] == 1, "what runs is counted")
        time.sleep(2)
        self.assertEqual(env.job(waits)["state"], "queued")
        env.cli("cancel", held)
        env.wait(waits)

    def test_gpus_and_cores_of_what_goes_on_are_its_own(self):
        """A segment made anew does not say who has which, and an agent begun anew may not know."""
        env = self.start_cell(workers=1, cpus=4, up=["--gpus", "2"])
        held = self.submit("--gpus", "1", "--pin", "--", "sh", "-c",
                           "grep Cpus_allowed_list /proc/self/status; sleep 60")
        env.until_running(held)
        until(lambda: "Cpus" in env.output(held), "its core")
        for agent_too in (False, True):
            old = env.status()["segment"]
            if agent_too:
                env.kill("worker")
            os.unlink("/dev/shm" + old)
            until(lambda: env.status()["segment"] not in ("", old), "a new segment")
            until(lambda: self.worker("worker-1")["used"]["gpu"] == 1, "it is counted")
            self.assertEqual(self.worker("worker-1")["gpu_used_mask"], 1)
            other = self.submit("--gpus", "1", "--pin", "--", "sh", "-c",
                                "echo $CUDA_VISIBLE_DEVICES; "
                                "grep Cpus_allowed_list /proc/self/status")
            env.wait(other)
            gpu, core = env.output(other).splitlines()
            self.assertEqual(gpu, "1")
            if len(os.sched_getaffinity(0)) > 1:
                self.assertNotEqual(core, env.output(held).strip())
            self.assertEqual(env.job(held)["state"], "running")
            env.cli("shm", "check")
        env.cli("cancel", held)


if __name__ == "__main__":
    unittest.main()
