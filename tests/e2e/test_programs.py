"""Starting programs and how they ended: BEHAVIOURS.md section 3 (rows 33 to 46)."""
import os
import signal
import time
import unittest

from reeve_env import (FAILED, USAGE, SharedCellCase, OwnCellCase, alive, read, seconds,
                       until, write)

# A task that leaves a tree of processes behind itself: a child in the same session, and a
# grandchild that left it (double fork, own session). All of them write their pid.
TREE = """#!/bin/sh
cd "$1"
sh -c 'echo $$ > child.tmp; mv child.tmp child; exec sleep 300' &
setsid sh -c '(sh -c "echo \\$\\$ > pid.tmp; mv pid.tmp grandchild; exec sleep 301" &)'
echo $$ > task.tmp; mv task.tmp task
%s
"""


def pids_of(directory, names=("child", "grandchild", "task")):
    """The pids of a TREE once all of it runs."""
    paths = [os.path.join(directory, name) for name in names]
    until(lambda: all(os.path.exists(p) for p in paths), "the tree in " + directory)
    return [int(read(p)) for p in paths]


class Starting(SharedCellCase):
    def ended(self, *words, cwd=None):
        """The one task of a job that fails, in full."""
        job = self.env.submit("--no-check", *words, cwd=cwd)
        self.env.wait(job, code=FAILED)
        return self.env.task(job)

    def test_no_such_program(self):
        """Row 33: a missing program: the exact name and a hint; refused at once where seen."""
        env = self.env
        task = self.ended("--", "/no/such/program", "--flag")
        self.assertEqual((task["state"], task["exit_code"]), ("failed", 127))
        self.assertIn("/no/such/program", task["detail"])
        task = self.ended("--", "surely-no-such-program")
        self.assertIn("no program 'surely-no-such-program' in PATH", task["detail"])
        env.script("runme", "#!/bin/sh\necho ran\n")
        task = self.ended("--", "runme")
        self.assertRegex(task["detail"], r"runme.*\./ has one")
        for word in ("/no/such/program", "surely-no-such-program", "runme"):
            self.one_line(env.cli("submit", "--", word, code=USAGE), word)

    def test_not_executable(self):
        """Row 34: no permission to execute: chmod is named; so are directories and bad scripts."""
        env = self.env
        write(env.file("plain.sh"), "#!/bin/sh\ntrue\n")
        task = self.ended("--", "./plain.sh")
        self.assertEqual(task["exit_code"], 126)
        self.assertRegex(task["detail"], r"plain\.sh.*chmod \+x")
        os.makedirs(env.file("folder"), exist_ok=True)
        self.assertRegex(self.ended("--", "./folder")["detail"], "is a directory")
        env.script("noshebang", "just some text\n")
        self.assertRegex(self.ended("--", "./noshebang")["detail"], "#! line")
        env.script("lost", "#!/no/such/interpreter\n")
        self.assertRegex(self.ended("--", "./lost")["detail"], "interpreter")

    def test_scripts_by_name_relative_and_absolute(self):
        """Row 35: scripts with a shebang run by relative and absolute path, and by PATH."""
        env = self.env
        path = env.script("bin/hello", "#!/bin/sh\necho hello from $0\n")
        relative = env.submit("--", "bin/hello")
        absolute = env.submit("--", path)
        paths = env.file("bin") + ":" + os.environ["PATH"]
        by_path = env.submit("--", "hello", env={"PATH": paths})
        env.wait(relative, absolute, by_path)
        self.assertEqual(env.output(relative), "hello from bin/hello\n")
        self.assertEqual(env.output(absolute), "hello from %s\n" % path)
        self.assertEqual(env.output(by_path), "hello from %s\n" % path)

    def test_missing_directory(self):
        """A work directory that went away fails that task with its name."""
        env = self.env
        task = self.ended("--cwd", env.file("no-dir"), "--", "true")
        self.assertEqual(task["exit_code"], 125)
        self.assertRegex(task["detail"], "directory .*no-dir.*does not exist")

    def test_bytes_of_arguments(self):
        """Arguments arrive as they are: empty ones, spaces, quotes, newlines, UTF-8."""
        env = self.env
        words = ["", " ", "a b", "'\"$HOME`", "two\nlines", "ä€", "-x", "--", "*"]
        job = env.submit("--", "printf", "<%s>\\n", *words)
        env.wait(job)
        self.assertEqual(env.output(job), "".join("<%s>\n" % w for w in words))


class Ending(SharedCellCase):
    def test_every_signal(self):
        """Row 36 B: each of the 31 signals is reported as that signal, with its name."""
        env = self.env
        ends = [s for s in range(1, 32) if s not in (
            signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGSTOP,
            signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)]
        # Python rather than sh: a shell may take some signals itself.
        code = ("import os,signal,sys; n=int(sys.argv[1]); "
                "n in (9,19) or signal.signal(n, signal.SIG_DFL); os.kill(os.getpid(), n)")
        ids = env.submit_file([{"command": ["python3", "-S", "-c", code, str(s)]} for s in ends])
        env.wait("%d-%d" % (ids[0], ids[-1]), code=FAILED)
        for number, job in zip(ends, ids):
            task = env.task(job)
            name = signal.Signals(number).name
            self.assertEqual((task["state"], task["signal"]), ("failed", number), name)
            # glibc's name for 29 and 6 may be an alias of Python's.
            self.assertRegex(task["detail"], "signal %d" % number)
            if number not in (signal.SIGIO, signal.SIGABRT):
                self.assertIn(name, task["detail"])
        ignored = env.submit("--", "sh", "-c", "kill -CHLD $$; kill -URG $$; kill -WINCH $$")
        env.wait(ignored)

    def test_core_dump_bit(self):
        """Row 36 B: whether a core was dumped is kept (the kernel's own word for it)."""
        env = self.env
        job = env.submit("--cwd", env.work, "--", "sh", "-c", "ulimit -c unlimited; kill -SEGV $$")
        env.wait(job, code=FAILED)
        task = env.task(job)
        self.assertEqual(task["signal"], signal.SIGSEGV)
        pattern = read("/proc/sys/kernel/core_pattern").strip()
        if pattern == "core":
            self.assertTrue(task["core_dumped"])
            self.assertIn("core dumped", task["detail"])

    def test_exit_codes(self):
        """Exit codes 0 to 255 come back as they are."""
        env = self.env
        job = env.submit("--array", "0-255:5", "--", "sh", "-c", "exit $REEVE_TASK_ID")
        env.wait(job, code=FAILED)
        codes = {t["element"]: t["exit_code"] for t in env.show(job)["tasks"]}
        self.assertEqual(codes, {i: i for i in range(0, 256, 5)})

    def test_cause_is_told_by_wait(self):
        """Rows 36 and 37: `wait` names the cause: exit code, signal, time limit."""
        env = self.env
        for words, cause in ((["--", "sh", "-c", "exit 3"], r"\b3\b"),
                             (["--", "sh", "-c", "kill -9 $$"], "SIGKILL|signal 9"),
                             (["-t", "300ms", "--", "sleep", "60"], "time limit")):
            job = env.submit(*words)
            done = env.cli("wait", job, code=FAILED)
            self.assertRegex(done.out + done.err, cause, repr(done))

    def test_usage_is_measured(self):
        """What a task used is recorded: cpu time and memory."""
        env = self.env
        job = env.submit("--", "python3", "-S", "-c",
                         "x = bytearray(80 << 20); y = sum(range(4000000))")
        env.wait(job)
        task = env.task(job)
        self.assertGreater(task["user_us"], 20_000)
        self.assertGreater(task["max_rss_bytes"], 80 << 20)
        self.assertLess(task["max_rss_bytes"], 200 << 20)


class TimeLimit(SharedCellCase):
    cell = {"workers": 1, "cpus": 8}

    def test_limit(self):
        """Row 37: the limit ends the task on time and says so; a longer limit does not."""
        env = self.env
        short = env.submit("-t", "500ms", "--", "sleep", "60")
        fine = env.submit("-t", "60s", "--", "sleep", "0.6")
        env.wait(fine)
        env.wait(short, code=FAILED)
        task = env.task(short)
        self.assertEqual(task["state"], "timed-out")
        self.assertRegex(task["detail"], "time limit of 500 ms")
        took = seconds(task["ended"]) - seconds(task["started"])
        self.assertGreaterEqual(took, 0.5)
        self.assertLess(took, 0.6 + 0.4)  # 100 ms, and some for a loaded machine

    def test_grace(self):
        """Row 37 B: TERM first; a task that cleans up is given the grace period to do it."""
        env = self.env
        job = env.submit("-t", "300ms", "--grace", "20s", "--error", "none", "--", "sh", "-c",
                         "trap 'echo cleaning; exit 0' TERM; echo on; while :; do sleep 0.05; done")
        env.wait(job, code=FAILED)
        self.assertEqual(env.output(job), "on\ncleaning\n")
        self.assertEqual(env.task(job)["state"], "timed-out")

    def test_term_is_ignored(self):
        """Row 37 B: who ignores TERM gets KILL after the grace period, children included."""
        env = self.env
        place = env.file("ignore")
        os.makedirs(place)
        script = env.script("ignore.sh", TREE % "trap '' TERM; while :; do sleep 0.05; done")
        job = env.submit("-t", "400ms", "--grace", "300ms", "--", script, place)
        pids = pids_of(place)
        env.wait(job, code=FAILED)
        task = env.task(job)
        self.assertEqual((task["state"], task["signal"]), ("timed-out", 9))
        took = seconds(task["ended"]) - seconds(task["started"])
        self.assertGreaterEqual(took, 0.7)
        self.assertLess(took, 0.7 + 1)
        until(lambda: not any(alive(p) for p in pids), "the end of its tree", 1)


class Trees(OwnCellCase):
    """Nothing a task started outlives it, whoever ended it (rows 40 to 46)."""

    def tree(self, name="tree", tail="wait", words=()):
        env = self.env
        place = env.file(name)
        os.makedirs(place)
        script = env.script(name + ".sh", TREE % tail)
        job = env.submit(*words, "--", script, place)
        return job, pids_of(place)

    def assert_gone(self, pids, within=1.0):
        until(lambda: not any(alive(p) for p in pids), "the end of the tree %s" % pids, within)

    def test_children_die_with_a_task_that_ends(self):
        """A task that ends leaves no child and no daemon behind."""
        job, pids = self.tree(
            tail="until [ -e child -a -e grandchild ]; do sleep 0.01; done; exit 0")
        self.env.wait(job)
        self.assert_gone(pids)

    def test_children_die_on_cancel(self):
        """Row 42: cancel ends the children and what left the session."""
        job, pids = self.tree()
        self.env.cli("cancel", job)
        self.env.wait(job, code=FAILED)
        self.assert_gone(pids)

    def test_worker_signalled(self):
        """Rows 43, 44, 46: INT and TERM to a worker end its tasks' trees; they run again."""
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number.name):
                job, pids = self.tree("tree-%d" % number)
                worker = self.env.task(job)["worker_name"]
                self.env.signal("worker", number, worker)
                self.assert_gone(pids[:2], within=8)
                self.env.until_state(job, "running", "queued")
                self.env.cli("cancel", job)
                self.env.wait(job, code=FAILED)
                self.env.until_up(2)

    def test_worker_killed(self):
        """Row 45 (a peer's xfail): SIGKILL of agent and launcher: the tree is gone within 1 s."""
        job, pids = self.tree()
        self.env.kill_worker(self.env.task(job)["worker_name"])
        self.assert_gone(pids[:2], within=1)
        self.env.cli("cancel", job)
        self.env.wait(job, code=FAILED)

    def test_agent_alone_killed(self):
        """Agent killed, launcher alive: the task goes on under the next agent, same attempt."""
        env = self.env
        job = env.submit("--", "sh", "-c", "sleep 1.5; echo attempt $REEVE_ATTEMPT")
        task = env.until_running(job)
        env.kill("worker", task["worker_name"])
        env.wait(job)
        self.assertEqual(env.output(job), "attempt 1\n")
        self.assertEqual(env.task(job)["attempt"], 1)

    def test_down_leaves_nothing(self):
        """Row 46: `down` ends every task's tree at once."""
        job, pids = self.tree()
        self.env.down()
        self.assertFalse([p for p in pids if alive(p)])

    def test_all_killed(self):
        """SIGKILL of every process of the cell: the next `up` ends what tasks left behind."""
        job, pids = self.tree()
        self.env.kill_all()
        self.env.up()
        self.assert_gone(pids[:2], within=5)
        self.env.until_state(job, "running")
        self.env.cli("cancel", job)

    def test_long_running(self):
        """Row 40: a task lives on for long after the threads that started it are idle."""
        env = self.env
        long = env.submit("--", "sleep", "8")
        env.until_running(long)
        for _ in range(3):   # others come and go meanwhile
            env.cli("submit", "-q", "--wait", "--array", "1-20", "--", "true")
        env.wait(long)
        self.assertEqual(env.task(long)["attempt"], 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
