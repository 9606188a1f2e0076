"""Function tasks: handlers of runners, their results, and what breaks under them."""
import os
import signal
import subprocess
import unittest

from reeve_env import (FAILED, NOT_FOUND, OK, ROOT, USAGE, OwnCellCase, SharedCellCase, alive, read,
                       until, write)

EXAMPLE = os.path.join(ROOT, "scripts/demo/functions/words.c")


def build_example(env):
    """The documented example, built with the documented command."""
    out = env.file("libwords.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-I",
                    os.path.join(ROOT, "worker/include"), "-o", out, EXAMPLE], check=True)
    return out


def children(pid):
    try:
        return [int(word) for word in read("/proc/%d/task/%d/children" % (pid, pid)).split()]
    except OSError:
        return []


def launchers(env):
    return [p["pid"] for p in env.cli("status", "--json").json()["processes"]
            if p["role"] == "launcher"]


def runners(env):
    return [pid for launcher in launchers(env) for pid in children(launcher)]


def running(env, job):
    until(lambda: env.task(job)["state"] == "running", "task %s running" % job)


class BuiltIn(SharedCellCase):
    cell = {"workers": 1, "cpus": 2}

    def test_echo(self):
        env = self.env
        job = env.submit("--function", "echo", "--data", "hello")
        env.wait(job)
        self.assertEqual(env.cli("result", job).out, "hello")
        told = env.cli("result", job, "--json").json()
        self.assertEqual(told["schema"], "reeve.result.v1")
        self.assertEqual(told["results"][0]["result_base64"], "aGVsbG8=")
        self.assertEqual(told["results"][0]["bytes"], 5)

    def test_a_short_one_is_one_event_of_its_worker(self):
        """Its start is told with its end; a long one's is told while it runs."""
        env = self.env

        def pushed():
            return env.cli("shm", "stat", "--json").json()["events"]
        tasks = 200

        def events_of_many():
            before = pushed()
            env.wait(env.submit("--function", "noop", "--array", "1-%d" % tasks))
            return pushed() - before
        self.assertGreaterEqual(events_of_many(), 2 * tasks)  # assigned, ended
        # The runners are started by now; a busy machine may take several goes.
        until(lambda: events_of_many() < 2.5 * tasks, "starts told with their ends")
        before = pushed()
        job = env.submit("--function", "sleep", "--data", "300ms")
        until(lambda: pushed() - before == 2, "assigned and running")
        env.wait(job)
        self.assertEqual(pushed() - before, 3)

    def test_each_line_in_order(self):
        env = self.env
        lines = ["line %d" % i for i in range(200)]
        path = write(env.file("lines"), "\n".join(lines) + "\n")
        job = env.submit("--function", "echo", "--each-line", path)
        env.wait(job)
        self.assertEqual(env.cli("result", job).out.split("\n")[:-1], lines)
        self.assertEqual(env.cli("result", "%d.7" % job).out, lines[6])

    def test_from_a_job_file(self):
        env = self.env
        path = write(env.file("jobs.json"), '[{"function": "echo", "data": "one"}, '
                     '{"function": "sleep", "data": "1ms", "priority": 3}]')
        jobs = [int(word) for word in env.cli("submit", "--parsable", path).out.split()]
        env.wait(*jobs)
        self.assertEqual(env.cli("result", jobs[0]).out, "one")
        self.assertIn("echo, 3", env.cli("show", jobs[0]).out)

    def test_large_and_binary(self):
        """A result that does not fit shared memory is whole, and leaves no file behind."""
        env = self.env
        path = write(env.file("blob"), os.urandom(700_000))
        job = env.submit("--function", "echo", "--data-file", path)
        env.wait(job)
        got = subprocess.run([os.environ.get("REEVE_BINARY") or "reeve", "--state-dir", env.state,
                              "result", str(job)], stdout=subprocess.PIPE, check=True).stdout
        self.assertEqual(got, read(path, "rb"))
        self.assertEqual(os.listdir(os.path.join(env.state, "results")), [])

    def test_unknown_handler_and_no_result_yet(self):
        env = self.env
        job = env.submit("--function", "nobody")
        env.wait(job, code=FAILED)
        self.assertIn("no handler", env.task(job)["detail"])
        self.assertEqual(env.task(job)["exit_code"], 127)
        waiting = env.submit("--function", "echo", "--hold")
        self.one_line(env.cli("result", waiting, code=NOT_FOUND), "reeve wait %d" % waiting)

    def test_time_limit_and_cancel(self):
        env = self.env
        late = env.submit("--function", "sleep", "--data", "30s", "-t", "200ms", "--grace", "1s")
        env.wait(late, code=FAILED)
        self.assertEqual(env.task(late)["state"], "timed-out")
        long = env.submit("--function", "sleep", "--data", "30s")
        running(env, long)
        env.cli("cancel", long)
        self.assertEqual(env.until_state(long, "cancelled"), "cancelled")

    def test_refused(self):
        env = self.env
        for words, field in ((("--function", "echo", "--", "true"), "command"),
                             (("--data", "x"), "--function"),
                             (("--function", "x" * 65), "64 bytes"),
                             (("--function", "echo", "--env", "A=1"), "--env")):
            self.one_line(env.cli("submit", *words, code=USAGE), field)


class PlugIn(OwnCellCase):
    cell = {"workers": 1, "cpus": 2, "start": False}

    def start(self):
        env = self.env
        env.up_words += ["--plugin", build_example(env)]
        env.up()
        return env

    def test_the_example(self):
        env = self.start()
        words = env.submit("--function", "words", "--data", "the quick brown fox")
        backwards = env.submit("--function", "reverse", "--data", "abc")
        refused = env.submit("--function", "refuse", "--data", "not today")
        env.wait(words, backwards)
        self.assertEqual(env.cli("result", words).out, "4")
        self.assertEqual(env.cli("result", backwards).out, "cba")
        env.wait(refused, code=FAILED)
        self.assertEqual((env.task(refused)["exit_code"], env.task(refused)["detail"]),
                         (3, "not today"))

    def test_a_crash_takes_only_itself(self):
        """The task in it fails with the signal; those queued behind it run elsewhere."""
        env = self.start()
        agent = [p["pid"] for p in env.cli("status", "--json").json()["processes"]
                 if p["role"] == "worker"]
        crash = env.submit("--function", "crash")
        others = env.submit("--function", "echo", "--data", "x", "--array", "1-500")
        more = env.submit("--function", "crash", "--array", "1-20")
        env.wait(others)
        env.wait(crash, more, code=FAILED)
        self.assertEqual(env.task(crash)["signal"], signal.SIGABRT)
        self.assertEqual(env.job(more)["tasks"]["failed"], 20)
        self.assertEqual(agent, [p["pid"] for p in env.cli("status", "--json").json()["processes"]
                                 if p["role"] == "worker"])

    def test_a_hang_is_killed(self):
        env = self.start()
        hang = env.submit("--function", "spin", "-t", "200ms", "--grace", "10s")
        env.wait(hang, code=FAILED)
        self.assertEqual(env.task(hang)["state"], "timed-out")
        deaf = env.submit("--function", "sleep", "--data", "20s", "-t", "100ms", "--grace", "10ms")
        after = env.submit("--function", "echo", "--data", "y")
        env.wait(deaf, code=FAILED)
        env.wait(after)

    def test_retries(self):
        env = self.start()
        job = env.submit("--function", "crash", "--retries", "2")
        env.wait(job, code=FAILED)
        attempts = env.cli("show", job, "--attempts", "--json").json()["jobs"][0]["tasks"]
        self.assertEqual(len(attempts), 3)

    def test_agent_dies_runner_goes_on(self):
        """The next agent takes the runner over with what it holds; nothing runs twice."""
        env = self.start()
        job = env.submit("--function", "sleep", "--data", "3s")
        running(env, job)
        before = runners(env)
        agent = [p["pid"] for p in env.cli("status", "--json").json()["processes"]
                 if p["role"] == "worker"][0]
        os.kill(agent, signal.SIGKILL)
        env.wait(job)
        self.assertEqual(env.task(job)["attempt"], 1)
        self.assertTrue(set(before) & set(runners(env)))

    def test_launcher_dies(self):
        """Everything of it is gone, and its tasks run on the worker that comes after."""
        env = self.start()
        job = env.submit("--function", "sleep", "--data", "2s")
        running(env, job)
        old = runners(env)
        for pid in launchers(env):
            os.kill(pid, signal.SIGKILL)
        env.wait(job)
        self.assertEqual(env.task(job)["attempt"], 2)
        self.assertFalse([pid for pid in old if alive(pid)])

    def test_a_plug_in_that_does_not_load(self):
        env = self.env
        env.up_words += ["--plugin", write(env.file("broken.so"), "no library")]
        env.expected_errors.append("a runner did not start")
        env.up()
        job = env.submit("--function", "echo", "--data", "x")
        env.wait(job, code=FAILED)
        self.assertIn("plug-in", env.task(job)["detail"])


class WarmRunner(OwnCellCase):
    """Programs in other languages, kept running from task to task."""
    cell = {"workers": 1, "cpus": 1, "start": False}

    def start(self, command, *more):
        self.env.up_words += ["--runner", command, *more]
        self.env.up()
        return self.env

    def python(self, *more):
        return self.start("python3 " + os.path.join(ROOT, "scripts/demo/functions/serve.py"), *more)

    def test_python_by_frames(self):
        env = self.python()
        job = env.submit("--function", "upper", "--data", "hello")
        env.wait(job)
        self.assertEqual(env.cli("result", job).out, "HELLO")
        blob = bytes(range(256)) * 1000
        binary = env.submit("--function", "upper", "--data-file", write(env.file("blob"), blob))
        env.wait(binary)
        wrong = env.submit("--function", "fail", "--data", "no such luck")
        env.wait(wrong, code=FAILED)
        self.assertEqual(env.task(wrong)["detail"], "ValueError: no such luck")
        self.assertIn("Traceback", env.cli("logs", wrong).out)

    def test_shell_by_json_lines(self):
        env = self.start("sh " + os.path.join(ROOT, "scripts/demo/functions/serve.sh"))
        job = env.submit("--function", "count", "--data", "to be or not to be")
        greet = env.submit("--function", "greet", "--data", "you")
        env.wait(job, greet)
        self.assertEqual(env.cli("result", job).out, "6")
        self.assertEqual(env.cli("logs", greet).out, "greeting you\n")
        unknown = env.submit("--function", "other")
        env.wait(unknown, code=FAILED)
        self.assertEqual(env.task(unknown)["exit_code"], 127)

    def test_a_dead_program_is_started_anew(self):
        env = self.start("sh " + os.path.join(ROOT, "scripts/demo/functions/serve.sh"))
        dead = env.submit("--function", "die")
        after = env.submit("--function", "count", "--data", "a b")
        env.wait(dead, code=FAILED)
        self.assertIn("ended with status 9", env.task(dead)["detail"])
        env.wait(after)
        self.assertEqual(env.cli("result", after).out, "2")

    def test_time_limit_and_cancel(self):
        env = self.python()
        late = env.submit("--function", "pause", "--data", "30", "-t", "300ms")
        env.wait(late, code=FAILED)
        self.assertEqual(env.task(late)["state"], "timed-out")
        long = env.submit("--function", "pause", "--data", "31")
        running(env, long)
        env.cli("cancel", long)
        self.assertEqual(env.until_state(long, "cancelled"), "cancelled")
        after = env.submit("--function", "upper", "--data", "x")
        env.wait(after)

    def test_recycling(self):
        """A fresh process after every third call."""
        script = write(self.env.file("pid.sh"), "echo reeve-json\nwhile read -r line; do "
                       "echo '{\"result\":\"'$$'\"}'; done\n")
        env = self.start("sh " + script, "--recycle", "3")
        job = env.submit("--function", "pid", "--array", "1-9")
        env.wait(job)
        pids = env.cli("result", job).out.split()
        self.assertEqual([pids.count(pid) for pid in dict.fromkeys(pids)], [3, 3, 3])

    def test_a_program_that_says_nothing_of_ours(self):
        self.env.expected_errors.append("a runner did not start")
        env = self.start("echo hello")
        job = env.submit("--function", "x")
        env.wait(job, code=FAILED)
        self.assertIn("not reeve-json", env.task(job)["detail"])


if __name__ == "__main__":
    unittest.main()
