"""Gangs: tasks of one job that start together, each on a worker of its own, or not at all."""
import json
import os
import random
import signal
import time
import unittest

from reeve_env import FAILED, REFUSED, USAGE, OwnCellCase, read, until, write

# One line as it starts, one as it ends by itself; O_APPEND keeps them whole.
WITNESS = ('echo "start $REEVE_GANG_RANK $REEVE_ATTEMPT $(date +%s.%N)" >> {0}; {1}; '
           'echo "end $REEVE_GANG_RANK $REEVE_ATTEMPT $(date +%s.%N)" >> {0}')


class Gang(OwnCellCase):
    def why(self, job):
        return self.env.cli("explain", job, "--json").json()["jobs"][0]

    def codes(self, job):
        return [reason["code"] for reason in self.why(job)["reasons"]]

    def tasks(self, job):
        return {task["element"]: task for task in self.env.show(job)["tasks"]}

    def states(self, job):
        return sorted(task["state"] for task in self.tasks(job).values())

    def until_all(self, job, state, count):
        until(lambda: self.states(job) == [state] * count,
              "all %d of job %d %s" % (count, job, state))

    def witness(self, name, body):
        self.log = self.env.file(name)
        return ["--", "sh", "-c", WITNESS.format(self.log, body)]

    def seen(self):
        """(word, rank, attempt, time) of each line."""
        lines = [line.split() for line in read(self.log).splitlines()]
        return [(word, int(rank), int(attempt), float(at)) for word, rank, attempt, at in lines]

    def check_no_attempt_twice(self):
        starts = [line[:3] for line in self.seen() if line[0] == "start"]
        self.assertEqual(len(starts), len(set(starts)), "an attempt began twice: %s" % starts)


class Together(Gang):
    cell = {"workers": 3, "cpus": 2}

    def test_each_has_a_worker_of_its_own(self):
        job = self.env.submit("--nodes", "3", *self.witness("all", "sleep 0.2"))
        self.env.wait(job)
        tasks = self.tasks(job)
        self.assertEqual(sorted(tasks), [0, 1, 2])
        self.assertEqual({task["worker_name"] for task in tasks.values()},
                         {"worker-1", "worker-2", "worker-3"})
        starts = [at for word, _, _, at in self.seen() if word == "start"]
        ends = [at for word, _, _, at in self.seen() if word == "end"]
        self.assertEqual(len(starts), 3)
        self.assertLess(max(starts), min(ends))
        self.assertEqual(self.env.show(job)["spec"]["nodes"], 3)
        self.assertIn("3 workers, a task on each", self.env.cli("show", job).out)

    def test_a_job_file_says_nodes(self):
        one, two = self.env.submit_file([
            {"command": ["sh", "-c", "echo $REEVE_GANG_RANK/$REEVE_GANG_SIZE"], "nodes": 2},
            {"command": ["sh", "-c", "echo ${REEVE_GANG_SIZE:-none}"], "nodes": 1}])
        self.env.wait(one, two)
        self.assertEqual([self.env.output(one, rank).strip() for rank in (0, 1)], ["0/2", "1/2"])
        self.assertEqual(self.env.output(two).strip(), "none")

    def test_it_waits_as_a_whole(self):
        block = self.env.submit("--node", "worker-2", "-c", "2", "--", "sleep", "60")
        self.env.until_running(block)
        job = self.env.submit("--nodes", "3", "--", "true")
        until(lambda: self.codes(job) == ["resources"], "its reason")
        answer = self.why(job)
        self.assertEqual(answer["gang"], {"nodes": 3, "able": 3, "free": 2})
        self.assertIn("needs 3 workers with 1 cpu", answer["reasons"][0]["text"])
        self.assertIn("at once, 2 have room now", answer["reasons"][0]["text"])
        self.assertEqual(answer["reasons"][0]["jobs"], [block])
        self.assertEqual(set(self.states(job)), {"queued"})
        # A smaller one that fits passes, and a single task too.
        self.env.wait(self.env.submit("--nodes", "2", "--", "true"), timeout=20)
        self.env.cli("cancel", block)
        self.env.wait(job)

    def test_what_cannot_be_is_refused(self):
        for words, says in ((["--nodes", "4"], "nodes: asks for 4 workers.* 3 have it"),
                            (["--nodes", "2", "-c", "3"], "resources.cpu"),
                            (["--nodes", "2", "--node", "worker-1"], "nodes: .* 1 has it"),
                            (["--nodes", "0"], "no number of workers"),
                            (["--nodes", "257"], "from 1 to 256"),
                            (["--nodes", "2", "--array", "1-2"], "a gang is no array"),
                            (["--nodes", "2", "--retries", "never"], "nodes: .*retries never")):
            with self.subTest(words):
                done = self.env.cli("submit", *words, "--", "true", code=USAGE)
                self.one_line(done, says)
        self.env.cli("run", "--nodes", "2", "--", "true", code=125)
        done = self.env.cli("submit", "--nodes", "2", "--function", "echo", code=USAGE)
        self.one_line(done, "functions run alone")

    def test_one_that_fails_ends_the_others(self):
        job = self.env.submit("--nodes", "3", "--", "sh", "-c",
                              "[ $REEVE_GANG_RANK = 1 ] && exit 7; sleep 60")
        self.env.wait(job, code=FAILED, timeout=20)
        self.assertEqual(self.states(job), ["cancelled", "cancelled", "failed"])
        self.assertEqual(self.tasks(job)[1]["exit_code"], 7)
        done = self.env.cli("retry", job, code=None)
        self.assertEqual(done.code, REFUSED)
        self.assertIn("only starts as a whole", done.err + done.out)
        verified = self.env.cli("audit", "verify", "--json").json()
        self.assertEqual((verified["tasks"], verified["open_tasks"]), (3, 0))

    def test_a_retry_is_of_all(self):
        job = self.env.submit("--nodes", "2", "--retries", "1", *self.witness(
            "retry", "[ $REEVE_GANG_RANK$REEVE_ATTEMPT = 11 ] && { sleep 1; exit 1; }; sleep 2"))
        self.env.wait(job, timeout=20)
        starts = sorted(line[1:3] for line in self.seen() if line[0] == "start")
        self.assertEqual(starts, [(0, 1), (0, 2), (1, 1), (1, 2)])
        self.check_no_attempt_twice()

    def test_held_cancelled_and_suspended(self):
        block = self.env.submit("--node", "worker-2", "-c", "2", "--", "sleep", "60")
        self.env.until_running(block)
        job = self.env.submit("--nodes", "3", "--", "sleep", "60")
        until(lambda: self.codes(job) == ["resources"], "its reason")
        self.env.cli("hold", "%d.1" % job)
        self.env.cli("cancel", block)
        until(lambda: self.env.job(block)["state"] == "cancelled", "its end")
        self.assertIn("held", self.codes(job))
        self.assertEqual(self.states(job), ["held", "queued", "queued"])
        self.env.cli("release", "%d.1" % job)
        self.until_all(job, "running", 3)
        self.env.cli("suspend", job)
        self.until_all(job, "suspended", 3)
        self.env.cli("resume", job)
        self.until_all(job, "running", 3)
        # What is put back is put back as a whole, and one that is cancelled ends all.
        self.env.cli("requeue", "%d.2" % job)
        until(lambda: sorted(task["attempt"] for task in self.tasks(job).values()) == [2, 2, 2]
              and self.states(job) == ["running"] * 3, "all of it again")
        self.env.cli("cancel", "%d.0" % job)
        self.env.wait(job, code=FAILED, timeout=20)
        self.assertEqual(self.states(job), ["cancelled"] * 3)

    def test_it_is_not_starved_by_small_ones(self):
        fill = self.env.submit("--array", "1-400", "-t", "2s", "--", "sleep", "0.3")
        until(lambda: self.env.job(fill)["tasks"]["running"] == 6, "a full cell")
        job = self.env.submit("--nodes", "3", "-c", "2", "--priority", "100", "--", "true")
        self.env.wait(job, timeout=20)
        self.assertGreater(self.env.job(fill)["tasks"]["queued"], 0)
        self.env.cli("cancel", fill)


class Limits(Gang):
    cell = {"workers": 3, "cpus": 2, "start": False}
    autostart = False

    def test_all_of_it_or_none_takes_its_share(self):
        env = self.start_cell(**self.cell)
        policy = write(env.file("policy.json"), json.dumps(
            {"quotas": {"*": {"tasks": 4}}, "limits": {"licence": 3}}))
        env.up("--policy", policy)
        self.one_line(env.cli("submit", "--nodes", "2", "--limit", "licence:2", "--", "true",
                              code=USAGE), "2 tasks at once: takes 4")
        first = env.submit("--nodes", "2", "--", "sleep", "60")
        self.until_all(first, "running", 2)
        second = env.submit("--nodes", "3", "--", "sleep", "60")
        until(lambda: self.codes(second) == ["quota"], "its reason")
        third = env.submit("--nodes", "2", "--limit", "licence", "--priority", "9", "--", "true")
        env.wait(third, timeout=20)
        self.assertEqual(env.job(second)["tasks"]["running"], 0)
        env.cli("cancel", first)
        self.until_all(second, "running", 3)
        env.kill("plm")
        env.until_up(workers=3)
        self.until_all(second, "running", 3)
        env.cli("cancel", second)
        env.wait(env.submit("--array", "1-8", "--", "true"), timeout=20)

    def test_a_part_that_is_held_takes_no_share(self):
        env = self.start_cell(**self.cell)
        policy = write(env.file("policy.json"), json.dumps({"limits": {"licence": 3}}))
        env.up("--policy", policy)
        # Held in part before it had any, and others use the limit meanwhile.
        held = env.submit("--hold", "--nodes", "3", "--limit", "licence", "--", "true")
        env.cli("release", "%d.0" % held)
        env.wait(env.submit("--limit", "licence:3", "--", "true"), timeout=20)
        # Held in part while it waits for its share: let go again, it still waits.
        blocker = env.submit("--limit", "licence", "--", "sleep", "60")
        env.until_running(blocker)
        waits = env.submit("--nodes", "3", "--limit", "licence", "--", "sleep", "60")
        until(lambda: self.codes(waits) == ["named-limit"], "its reason")
        env.cli("hold", "%d.1" % waits)
        env.wait(env.submit("--limit", "licence:2", "--", "true"), timeout=20)
        env.cli("release", "%d.1" % waits)
        until(lambda: self.codes(waits) == ["named-limit"], "its reason again")
        time.sleep(0.5)
        self.assertEqual(env.job(waits)["tasks"]["running"], 0)
        env.cli("cancel", blocker)
        self.until_all(waits, "running", 3)
        env.cli("cancel", waits)
        env.cli("release", held)
        env.wait(held, timeout=20)


class Deaths(Gang):
    cell = {"workers": 3, "cpus": 1}

    def test_a_worker_dies_under_it(self):
        job = self.env.submit("--nodes", "2", *self.witness("death", "sleep 2"))
        self.until_all(job, "running", 2)
        victim = self.tasks(job)[0]["worker_name"]
        self.env.kill_worker(victim)
        self.env.wait(job)
        tasks = self.tasks(job)
        self.assertEqual([tasks[rank]["attempt"] for rank in (0, 1)], [2, 2])
        self.assertNotEqual(tasks[0]["worker_name"], tasks[1]["worker_name"])
        self.check_no_attempt_twice()
        begun = {rank: at for word, rank, attempt, at in self.seen()
                 if word == "start" and attempt == 2}
        self.assertLess(abs(begun[0] - begun[1]), 1)

    def test_not_after_one_has_succeeded(self):
        job = self.env.submit("--nodes", "2", "--", "sh", "-c",
                              "[ $REEVE_GANG_RANK = 0 ] || sleep 60")
        until(lambda: self.tasks(job)[0]["state"] == "succeeded", "the first to end")
        self.env.kill_worker(self.tasks(job)[1]["worker_name"])
        self.env.wait(job, code=FAILED)
        until(lambda: self.states(job) == ["cancelled", "succeeded"], "their states")


class HalfStarted(Gang):
    """The scheduler sleeps in the middle of a gang's start, and somebody dies meanwhile."""
    autostart = False
    cell = {"workers": 4, "cpus": 1, "start": False}

    def torn(self, who, body="sleep 1"):
        env = self.start_cell(**self.cell)
        env.cli("up", *env.up_words, env={"REEVE_FP": "scheduler.after_event:sleep=600:2"})
        env.learn()
        job = env.submit("--nodes", "4", *self.witness("torn", body))
        until(lambda: os.path.exists(self.log), "the first of it")
        who(env)
        done = env.cli("wait", "-q", "--timeout", "60s", job, code=None, timeout=70)
        self.assertEqual(done.code, 0, env.cli("history", job).out)
        self.check_no_attempt_twice()
        last = {}
        for word, rank, attempt, at in self.seen():
            if word == "start":
                last[rank] = (attempt, at)
        self.assertEqual(sorted(last), [0, 1, 2, 3])
        starts = [at for _, at in last.values()]
        self.assertLess(max(starts) - min(starts), 2)
        self.assertEqual({task["state"] for task in self.tasks(job).values()}, {"succeeded"})
        env.cli("shm", "check")

    def test_the_scheduler(self):
        self.torn(lambda env: env.kill("scheduler"))

    def test_the_first_has_ended_before_the_last_starts(self):
        self.torn(lambda env: None, body="true")

    def test_the_first_has_ended_and_the_scheduler_dies(self):
        self.torn(lambda env: env.kill("scheduler"), body="true")

    def test_scheduler_and_plm(self):
        self.torn(lambda env: (env.kill("scheduler"), env.kill("plm")))

    def test_scheduler_and_register(self):
        self.torn(lambda env: (env.kill("scheduler"), env.kill("register")))

    def test_scheduler_and_segment(self):
        def lose(env):
            segment = env.status()["segment"]
            env.kill("scheduler")
            os.unlink("/dev/shm" + segment)
        self.torn(lose, "sleep 5")  # longer than it takes to be noticed

    def test_the_plm(self):
        self.torn(lambda env: env.kill("plm"))


class AtRandom(Gang):
    """Kills at random moments of many gangs: all end well, no attempt begins twice."""
    cell = {"workers": 3, "cpus": 2}

    def test_kills(self):
        seed = int(os.environ.get("REEVE_SEED", "0")) or random.randrange(1 << 30)
        print("REEVE_SEED=%d" % seed)
        dice = random.Random(seed)
        jobs = []
        for i in range(40):
            name = "log%d" % i
            jobs.append((name, self.env.submit("--nodes", str(dice.randint(2, 3)),
                                               *self.witness(name, "sleep 0.1"))))
        for _ in range(25):
            time.sleep(dice.random() * 0.15)
            role = dice.choice(["scheduler", "plm", "register", "worker"])
            names = ["worker-%d" % dice.randint(1, 3)] if role == "worker" else [None]
            for p in self.env.processes(name=names[0]) if names[0] else self.env.processes():
                if p["role"] == role:
                    try:
                        os.kill(p["pid"], signal.SIGKILL)
                    except ProcessLookupError:
                        pass
        self.env.until_up(workers=3)
        ended = 0
        for name, job in jobs:
            self.env.cli("wait", "-q", "--timeout", "90s", job, code=None, timeout=100)
            state = self.env.job(job)["state"]
            # One whose task succeeded before another's worker died is cancelled, as documented.
            self.assertIn(state, ("succeeded", "cancelled", "failed"))
            ended += state == "succeeded"
            self.log = self.env.file(name)
            if os.path.exists(self.log):
                self.check_no_attempt_twice()
        self.assertGreater(ended, 30)


if __name__ == "__main__":
    unittest.main(verbosity=2)
