"""What a task leaves in files besides its output: BEHAVIOURS.md rows 22, 38 and 39."""
import os
import unittest

from reeve_env import FAILED, OwnCellCase, SharedCellCase, alive, read, until, write

DETAIL_MAX = 2048


class DeleteOutput(SharedCellCase):
    def test_deleted_on_success_only(self):
        """Row 22: with --delete-output the files of a success go, those of a failure stay."""
        env = self.env
        base = env.file("deleted")
        says = ["--", "sh", "-c", "echo out; echo err >&2; exit ${1:-0}", "sh"]
        named = ["--output", base + "/%j.out", "--error", base + "/%j.err"]
        good = env.submit("--delete-output", *says, "0")
        both = env.submit("--delete-output", *named, *says, "0")
        kept = env.submit(*named, *says, "0")
        bad = env.submit("--delete-output", *named, *says, "3")
        late = env.submit("--delete-output", "-t", "300ms", "--", "sh", "-c", "echo out; sleep 60")
        env.wait(good, both, kept, bad, late, code=FAILED)
        self.assertFalse(os.path.exists(env.output_path(good)))
        self.assertEqual(sorted(os.listdir(base)), sorted(
            "%d.%s" % (j, e) for j in (kept, bad) for e in ("out", "err")))
        self.assertEqual(read(base + "/%d.out" % bad), "out\n")
        self.assertEqual(env.output(late), "out\n")
        self.assertIn(str(good), env.cli("logs", good, code=None).err)
        # A device is not a file of the task's.
        env.wait(env.submit("--delete-output", "--output", "/dev/null", *says, "0"))
        self.assertTrue(os.path.exists("/dev/null"))

    def test_in_a_job_file(self):
        """Row 22: an array of a job file; a retried element's last success goes, others stay."""
        env = self.env
        job = env.submit_file({"command": ["sh", "-c", "echo $REEVE_ATTEMPT; "
                                           "[ $REEVE_ATTEMPT -ge $REEVE_TASK_ID ]"],
                               "array": "1-3", "retries": 5, "delete_output": True})[0]
        env.wait(job)
        left = sorted(os.listdir(os.path.join(env.state, "out", str(job))))
        self.assertEqual(left, ["2.1.out", "3.1.out", "3.2.out"])


class ErrorText(SharedCellCase):
    def failed(self, script, *words):
        job = self.env.submit(*words, "--", "sh", "-c", script)
        self.env.wait(job, code=FAILED)
        return job, self.env.task(job)

    def test_own_words(self):
        """Row 38: what a failing task writes to $REEVE_ERROR_FILE is its detail, everywhere."""
        env = self.env
        job, task = self.failed("echo 'no route to the é server' > $REEVE_ERROR_FILE; exit 3")
        self.assertEqual((task["detail"], task["exit_code"]), ("no route to the é server", 3))
        self.assertEqual(env.job(job)["reason"], "no route to the é server")
        for words in (["show", job], ["wait", job]):
            done = env.cli(*words, code=None)
            self.assertIn("no route to the é server", done.out + done.err)
        # And it is kept.
        self.assertIn("no route", env.cli("history", "--json", job).out)

    def test_cut_to_a_maximum(self):
        """Row 38: a text longer than one line, or than the maximum, is kept and cut there."""
        text = "".join("line %d of what went wrong\n" % i for i in range(20))
        path = write(self.env.file("text"), text)
        _, task = self.failed("cp %s $REEVE_ERROR_FILE; exit 1" % path)
        self.assertEqual(task["detail"], text.rstrip())
        path = write(self.env.file("long"), "é" * 50000)
        _, task = self.failed("cp %s $REEVE_ERROR_FILE; exit 1" % path)
        self.assertEqual(task["detail"], "é" * (DETAIL_MAX // 2))
        path = write(self.env.file("bytes"), b"bad \xff\xfe bytes \0 in it")
        _, task = self.failed("cp %s $REEVE_ERROR_FILE; exit 1" % path)
        self.assertEqual(task["detail"], "bad ?? bytes ? in it")
        self.assertEqual(os.listdir(os.path.join(self.env.state, "tmp", "said")), [])

    def test_empty_or_not_a_file(self):
        """Row 38: an empty text is noticed; what is no plain file is not read."""
        _, task = self.failed(": > $REEVE_ERROR_FILE; exit 4")
        self.assertEqual(task["detail"], "exit status 4; its error file is empty")
        secret = write(self.env.file("secret"), "not for you")
        for trick in ("ln -s %s $REEVE_ERROR_FILE", "ln %s $REEVE_ERROR_FILE",
                      "mkfifo $REEVE_ERROR_FILE; : %s"):
            _, task = self.failed((trick % secret) + "; exit 4")
            self.assertEqual(task["detail"], "exit status 4; its error file cannot be read", trick)
        _, task = self.failed("kill -9 $$")
        self.assertEqual(task["detail"], "signal 9 (SIGKILL)")

    def test_of_each_attempt(self):
        """Row 38: each attempt has its own words; those of a success are not kept."""
        env = self.env
        job = env.submit("--retries", "2", "--", "sh", "-c", "echo attempt $REEVE_ATTEMPT > "
                         "$REEVE_ERROR_FILE; [ $REEVE_ATTEMPT = 3 ]")
        env.wait(job)
        tasks = env.cli("show", "--attempts", "--json", job).json()["jobs"][0]["tasks"]
        self.assertEqual([t["detail"] for t in tasks], ["attempt 1", "attempt 2", ""])


class PrivateTmp(OwnCellCase):
    cell = {"workers": 2, "cpus": 4}

    def directories(self):
        found = []
        for at, names, _ in os.walk(os.path.join(self.env.state, "tmp")):
            found += [os.path.join(at, n) for n in names if n.count(".") == 2]
        return found

    def running(self, *words):
        """A task with a directory that holds files, one of them closed to itself."""
        env = self.env
        mark = env.file("mark-%d" % len(os.listdir(env.work)))
        job = env.submit("--private-tmp", *words, "--", "sh", "-c",
                         "mkdir -p $TMPDIR/a/b; echo x > $TMPDIR/a/b/c; chmod 0 $TMPDIR/a; "
                         "ln -s / $TMPDIR/root; echo $TMPDIR > %s.new; mv %s.new %s; "
                         "while [ ! -e %s.gate ]; do sleep 0.02; done; exit $(cat %s.gate)"
                         % ((mark,) * 5))
        until(lambda: os.path.exists(mark), "its directory's name")
        place = read(mark).strip()
        self.assertEqual(os.stat(place).st_mode & 0o777, 0o700)
        return job, place, mark + ".gate"

    def test_gone_at_every_end(self):
        """Row 39: there while it runs; gone on success, failure, cancel and time limit."""
        env = self.env
        for code in (0, 3):
            job, place, gate = self.running()
            write(gate + ".new", str(code))
            os.rename(gate + ".new", gate)
            env.wait(job, code=FAILED if code else 0)
            self.assertFalse(os.path.exists(place))
        job, place, _ = self.running()
        env.cli("cancel", job)
        env.wait(job, code=FAILED)
        self.assertFalse(os.path.exists(place))
        job, place, _ = self.running("-t", "500ms")
        env.wait(job, code=FAILED)
        self.assertEqual(env.task(job)["state"], "timed-out")
        self.assertFalse(os.path.exists(place))
        self.assertEqual(self.directories(), [])
        self.assertTrue(os.path.exists("/etc/passwd"), "a symlink was followed")
        # Without the option the variable is what it was; no directory is made.
        job = env.submit("--", "sh", "-c", "echo [$TMPDIR]")
        env.wait(job)
        self.assertEqual(env.output(job), "[]\n")

    def test_two_tasks_do_not_share(self):
        """Row 39: each task of an array has its own."""
        env = self.env
        job = env.submit("--private-tmp", "--array", "1-6", "--", "sh", "-c",
                         "ls -A $TMPDIR | wc -l; touch $TMPDIR/seen; echo $TMPDIR")
        env.wait(job)
        words = [env.output(job, i).split() for i in range(1, 7)]
        self.assertEqual({w[0] for w in words}, {"0"})
        self.assertEqual(len({w[1] for w in words}), 6)

    def test_worker_killed(self):
        """Row 39 A: also after the worker (agent and launcher) was killed."""
        env = self.env
        job, place, gate = self.running()
        env.kill_worker(env.task(job)["worker_name"])
        until(lambda: not os.path.exists(place), "the end of " + place)
        until(lambda: env.task(job)["attempt"] == 2 and env.task(job)["state"] == "running",
              "the second attempt")
        write(gate + ".new", "0")
        os.rename(gate + ".new", gate)
        env.wait(job)
        self.assertEqual(self.directories(), [])

    def test_agent_killed(self):
        """Row 39: the next agent removes what the launcher's task left, and keeps its words."""
        env = self.env
        job, place, gate = self.running("--delete-output")
        agent = env.kill("worker", env.task(job)["worker_name"])
        self.assertFalse(alive(agent))
        write(gate + ".new", "0")
        os.rename(gate + ".new", gate)
        env.wait(job)
        self.assertEqual(env.task(job)["attempt"], 1)
        self.assertFalse(os.path.exists(place))
        self.assertFalse(os.path.exists(env.output_path(job)))

    def test_all_killed_and_down(self):
        """Row 39: after SIGKILL of everything the next `up` removes it; `down` leaves nothing."""
        env = self.env
        job, place, _ = self.running()
        env.kill_all()
        self.assertTrue(os.path.exists(place))
        env.up()
        until(lambda: not os.path.exists(place), "the end of " + place)
        env.until_running(job)
        env.down()
        self.assertFalse(os.path.exists(os.path.join(env.state, "tmp")))

    def test_all_killed_and_segment_gone(self):
        """Row 39: also when the segment, which knew the workers, is gone too."""
        env = self.env
        _, place, _ = self.running()
        segment = "/dev/shm" + env.status()["segment"]
        env.kill_all()
        os.unlink(segment)
        env.up()
        until(lambda: not os.path.exists(place), "the end of " + place)


if __name__ == "__main__":
    unittest.main(verbosity=2)
