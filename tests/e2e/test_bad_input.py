"""Bad input: one clear line that names the field and the cure, exit code 2, nothing changed.

Each row of the tables is a way a person or a program gets it wrong (issue 2, "How good").
"""
import json
import os
import signal
import subprocess
import unittest

from reeve_env import (BINARY, FAILED, INTERNAL, NOT_FOUND, OK, REFUSED, UNREACHABLE, USAGE,
                       OwnCellCase, SharedCellCase, write)

RUN_FAILED = 125    # what `run` ends with when it is not its task that failed

# words after `submit`, patterns the line must hold (the field first, then the cure)
COMMAND_LINES = [
    (["--cpuz", "2", "--", "true"], ["cpuz", "--cpus"]),
    (["-c", "two", "--", "true"], ["--cpus", "two"]),
    (["-c", "0", "--", "true"], ["--cpus", "0"]),
    (["-c", "-1", "--", "true"], ["--cpus", "-1"]),
    (["-c", "2000", "--", "true"], ["resources.cpu", "2000", "less"]),
    (["--mem", "8", "--", "true"], ["--mem", "no unit.*8G"]),
    (["--mem", "8X", "--", "true"], ["--mem", "8X"]),
    (["--mem", "0", "--", "true"], ["--mem", "no memory", "leave it out"]),
    (["--timeout", "5s", "--", "true"], ["--timeout", "--wait"]),
    (["--mem", "-1G", "--", "true"], ["--mem"]),
    (["--mem", "99999T", "--", "true"], ["mem"]),
    (["--mem", "900T", "--", "true"], ["resources.memory", "921600G", "less"]),
    (["--gpus", "1.5", "--", "true"], ["--gpus", "1.5"]),
    (["--gpus", "4", "--", "true"], ["resources.gpu", "4", "less"]),
    (["-t", "30", "--", "true"], ["--time", "no unit.*30m"]),
    (["-t", "soon", "--", "true"], ["--time", "soon"]),
    (["-t", "11y", "--", "true"], ["--time", "11y"]),
    (["-t", "0s", "--", "true"], ["--time"]),
    (["--grace", "2d", "--", "true"], ["--grace"]),
    (["-p", "high", "--", "true"], ["--priority", "high"]),
    (["-p", "9999999", "--", "true"], ["--priority", "500000"]),
    (["--retries", "-1", "--", "true"], ["--retries"]),
    (["--retries", "many", "--", "true"], ["--retries", "many", "write for example 3"]),
    (["--array", "5-1", "--", "true"], ["--array", "5-1"]),
    (["--array", "x", "--", "true"], ["--array", "x"]),
    (["--array", "1-10%0", "--", "true"], ["--array"]),
    (["--array", "", "--", "true"], ["--array"]),
    (["--array", "1-99999999999999999999", "--", "true"], ["--array"]),
    (["--after", "afterwards:1", "--", "true"], ["--after", "afterwards"]),
    (["--after", "0", "--", "true"], ["after"]),
    (["--after", "6.3", "--", "true"], ["--after", r"6\.3", "whole jobs; write 6"]),
    (["--after", "afterok:x", "--", "true"], ["--after", "x is no job id"]),
    (["--each-line", "-", "--input", "-", "--", "true"], ["--input", "stdin is read already"]),
    (["--begin", "yesterday", "--", "true"], ["--begin", "yesterday"]),
    (["--begin", "2600-01-01T00:00", "--", "true"], ["--begin", "2600", "too late"]),
    (["--begin", "9999-12-31T23:59", "--", "true"], ["--begin", "9999", "too late"]),
    (["--env", "=value", "--", "true"], ["--env"]),
    (["--env", "SURELY_NOT_SET", "--", "true"], ["--env", "SURELY_NOT_SET"]),
    (["--cwd", "/no/such/dir", "--", "true"], ["cwd", "/no/such/dir", "--no-check"]),
    (["--input", "/no/such/file", "--", "true"], ["input", "/no/such/file"]),
    (["--output", "/dev/null/x", "--", "true"], ["output", "/dev/null/x"]),
    (["--output", "/proc/x/y", "--", "true"], ["output: /proc/x/y", "in /proc", "another place"]),
    (["--error", "/sys/%j", "--", "true"], ["error: /sys/%j", "in /sys", "another place"]),
    (["--max-fails", "0", "--", "true"], ["--max-fails", "0", "write 1"]),
    (["--name", "", "--", "true"], ["name"]),
    (["--", "/no/such/program"], ["command", "/no/such/program"]),
    (["--", ""], ["command|program"]),
    (["--"], ["command|program"]),
    ([], ["command|program|--help"]),
    (["no-such-script.sh"], ["no-such-script.sh", "--"]),
    (["/tmp"], ["/tmp", "directory"]),
    (["--json", "--parsable", "--", "true"], ["--json|--parsable"]),
    (["--param", "X", "--", "true"], ["--param", "X=|NAME="]),
    (["--each-line", "/no/such/list", "--", "true"], ["/no/such/list"]),
    (["--array", "1-2", "--each-line", "/etc/passwd", "--", "true"], ["array|each-line"]),
    (["--timeout", "5", "--wait", "--", "true"], ["--timeout", "5"]),
    (["--array", "1-", "--", "true"], ["--array", "a number is missing"]),
    (["--after", "", "--", "true"], ["--after", "a job is missing; "]),
]

# the text of a job file, patterns of the line
JOB_FILES = [
    ('{"command": "true", "prio": 5}', ['did you mean "priority"']),
    ('[{"command": "true"}, {"command": "true", "resources": {"memory": "100T"}}]',
     [r"jobs\[1\]: resources.memory: asks for"]),
    ('[{"command": "true", "key": "d"}, {"command": "true", "key": "d"}]', [r"jobs\[1\]: key"]),
    ('[{"command": "true"}, {"command": "cat", "stdin": "a", "input": "/etc/passwd"}]',
     [r"jobs\[1\]: task.input: is given together with stdin"]),
    ("", ["jobs.json is empty", "command"]),
    (" \n", ["jobs.json is empty"]),
    ("{", ["line 1"]),
    ('{"command": "true",}', ["line 1: unexpected '}'", "correct"]),
    ('{"command": "true"} x', ["line 1"]),
    ('{"command": "true"}{"command": "true"}', ["line 1"]),
    ('[{"command": "true"},\n {"command": "true"\n]', ["line 3"]),
    ('{"command": "true", "comand": "x"}', ["comand", "command"]),
    ('{"command": "true", "colour": "red"}', ["colour", "unknown field"]),
    ('{"command": "true", "memory": "8G"}', ["memory", "resources"]),
    ('{"command": "true", "resources": {"cpus": 2}}', ["resources.cpus", "cpu"]),
    ('{"command": "true", "resources": {"memory": 8}}', ["resources.memory", "8G"]),
    ('{"command": "true", "resources": {"memory": "8"}}', ["resources.memory", "8G"]),
    ('{"command": "true", "resources": {"cpu": "a lot"}}', ["cpu", "number", "for example 2"]),
    ('{"command": "true", "resources": {"cpu": "2"}}', ["cpu", "number", "for example 2"]),
    ('{"command": "true", "resources": {"cpu": 4000}}', ["cpu", "less|4000"]),
    ('{"command": "true", "resources": {"gpu": -1}}', ["resources.gpu"]),
    ('{"command": "true", "resources": []}', ["resources", "object"]),
    ('{"command": "true", "priority": "first"}', ["priority", "number", "10"]),
    ('{"command": "true", "priority": 1.5}', ["priority"]),
    ('{"command": "true", "time_limit": 30}', ["time_limit", "30m|30s"]),
    ('{"command": "true", "timeout": "30s"}', ["timeout", "time_limit"]),
    ('{"command": "true", "output": 7}', ["output"]),
    ('{"command": "true", "env": ["A=1"]}', ["env", "object"]),
    ('{"command": "true", "env": {"A": 1}}', ["env.A", "quotes"]),
    ('{"command": "true", "after": {"job": 1}}', ["after"]),
    ('{"command": "true", "after": ["ghost"]}', ["after", "ghost"]),
    ('{"command": "true", "hold": "yes"}', ["hold", "true or false"]),
    ('{"command": "true", "command": "false"}', ["command", "twice|again|before"]),
    ('{"command": 5}', ["command", "5|number|integer"]),
    ('{"command": ["true", 5]}', [r"command\[1\]", "quotes"]),
    ('{"command": "echo a | wc"}', ["command", r"\|", "shell"]),
    ('{"command": "echo \\"open"}', ["command", "quote"]),
    ('{"name": "no command"}', ["command", "missing"]),
    ('{"jobs": {"command": "true"}}', ["jobs", "list"]),
    ('{"jobs": []}', ["jobs|empty|no job"]),
    ("[]", ["jobs|empty|no job"]),
    ("7", ["object|job"]),
    ('{"defaults": {"command": "true"}, "jobs": [{}]}', ["default"]),
    ('{"command": "true", "name": "a\\u0000b"}', ["name"]),
    ('{"command": "true", "name": "a\\nb"}', ["name", "control"]),
    ('{"command": ["echo", "a\\u0000b"]}', ["command", "NUL"]),
    ('{"command": "/no/such/program"}', ["command", "/no/such/program"]),
    ('{"command": "true", "array": "1-3", "each": ["a"]}', ["each|array"]),
    ("[" * 20000, ["line 1|deep"]),
    ('{"command": "\\ud800"}', ["line 1"]),
    (b'{"command": "\xff\xfe"}', ["UTF-8|line 1"]),
]

# words after `run`
RUN_LINES = [
    (["--cpuz", "2", "--", "true"], ["cpuz", "--cpus"]),
    (["--wait", "--", "true"], ['"--wait" was not expected']),
    (["-c", "x", "--", "true"], ["--cpus", "x"]),
    (["--json", "--", "true"], ["--json"]),
    ([], ["command|program"]),
    (["--array", "1-3", "--", "true"], ["one task only"]),
    (["--state-dir", "/etc/passwd", "--", "true"], ["/etc/passwd", "no directory"]),
    (["--", "/no/such/program"], ["command", "/no/such/program"]),
]

# other commands
OTHER_LINES = [
    (["frobnicate"], ["frobnicate"]),
    (["lst"], ["lst", "ls"]),
    (["squeue"], [r"did you mean ls\?"]),
    (["tail", "1"], [r"did you mean logs -f\?"]),
    (["sinfo"], [r"did you mean node ls\?"]),
    (["submit", "-J", "x", "--", "true"], [r'"-J" was not expected; did you mean --name\?']),
    (["submit", "--dependency", "afterok:1", "--", "true"], [r"did you mean --after\?"]),
    (["submit", "sleep 1; true"], [r"like: reeve submit --shell -- 'sleep 1; true'"]),
    (["submit", "--", "sleep 1; true"], ["for a line of shell add --shell"]),
    (["audit", "nope"], ['"nope" was not expected; see reeve audit --help']),
    (["audit", "verfy"], ["did you mean verify"]),
    (["show"], ["jobs|required"]),
    (["show", "1.x"], [r"1\.x"]),
    (["show", "5-1"], ["5-1"]),
    (["show", "-1"], ["-1"]),
    (["ls", "--state", "done"], ["--state", "done", "succeeded"]),
    (["wait", "1", "--timeout", "10"], ["--timeout", "10s"]),
    (["update", "1"], ["--priority|--time"]),
    (["update", "1", "-p", "lots"], ["--priority", "lots"]),
    (["up", "--workers", "-1"], ["workers"]),
    (["up", "--cpus", "lots"], ["--cpus", "lots"]),
    (["up", "--mem", "4"], ["--mem", "4G"]),
    (["up", "--slots", "many"], ["--slots", "many"]),
    (["up", "--durability", "maybe"], ["--durability", "maybe", "sync"]),
    (["down", "--grace", "x"], ["--grace", "x", "number"]),
    (["up", "--wait", "0"], ["--wait", "0", "seconds"]),
    (["up", "--wait", "-1"], ["--wait", "-1", "seconds"]),
    (["up", "--lease", "0"], ["--lease", "0", "seconds"]),
    (["--state-dir", "/etc/passwd", "ls"], ["/etc/passwd", "no directory", "--state-dir"]),
    (["--state-dir", "/etc/passwd", "up"], ["/etc/passwd", "no directory", "--state-dir"]),
    (["top", "--interval", "0"], ["--interval", "0", "range"]),
    (["events", "--from", "x"], ["--from", "x", "number"]),
    (["events", "--from", "-1"], ["--from", "-1", "negative"]),
    (["events", "-n", "0"], ["--count", "1 or more"]),
    (["events", "-n", "-1"], ["--count", "-1", "negative"]),
    (["audit", "prove", "-1"], ["index", "-1", "negative"]),
    (["audit", "prove", "0", "--json"], ["--json"]),
    (["ls", "--limit", "-1"], ["--limit", "-1", "negative"]),
    (["explain", "--parsable", "1"], ["--parsable"]),
    (["node", "show", "--parsable", "worker-1"], ["--parsable"]),
    (["history", "--limit", "0"], ["--limit", "1 or more"]),
    (["top", "-n", "-1"], ["--count", "-1", "negative"]),
    (["up", "--slots", "0"], ["--slots", "0 is too few; write 64 or more"]),
    (["up", "--slots", "10"], ["--slots", "10 is too few; write 64 or more"]),
    (["up", "--slots", "100"], ["--slots", "no multiple of 64; write 128"]),
    (["up", "--slots", "99999999999"], ["--slots", "too many; write 16777216 or fewer"]),
    (["plm", "--slots", "10"], ["--slots", "10 is too few; write 64 or more"]),
    (["--state-dir", "", "down"], ["--state-dir", "empty"]),
    (["ledger"], ["ledger --help"]),
    (["shm", "dump", "--section", "x"], ["--section", "x", "rings"]),
    (["node", "drain"], ["worker|required"]),
    (["logs"], ["tasks|required"]),
    (["worker", "--cpus", "many"], ["--cpus", "many"]),
    (["plm", "--durability", "maybe"], ["--durability", "maybe"]),
    (["completion", "tcsh"], ["tcsh", "bash"]),
]


class BadInput(SharedCellCase):
    def setUp(self):
        self.before = self.env.job_ids()

    def tearDown(self):
        self.assertEqual(self.env.job_ids(), self.before, "something was made")
        super().tearDown()

    def refused(self, words, patterns, text="", code=USAGE):
        with self.subTest(text or " ".join(words)[:60]):
            done = self.env.cli(*words, code=None)
            self.assertEqual(done.code, code, repr(done))
            self.assertEqual(done.out, "")
            line = self.one_line(done)
            for pattern in patterns:
                self.assertRegex(line, pattern)
            self.assertLess(len(line), 400, "a wall of text: " + line)
            self.assertRegex(line, "; |at most|did you mean| from .* to ", "no cure is named")

    def test_each_line(self):
        """A line that cannot be a value is named by its number, with what is wrong with it."""
        for text, part in ((b"a\n\nb\0c\n", "line 3 holds a NUL byte"),
                           (b"a\n" + b"x" * 200000 + b"\n", "line 2 has more than 128 KiB")):
            path = write(self.env.file("lines"), text)
            self.refused(["submit", "--each-line", path, "--", "true"],
                         ["--each-line: " + path, part])

    def test_submit_lines(self):
        """Wrong options of submit."""
        for words, patterns in COMMAND_LINES:
            self.refused(["submit"] + words, patterns)

    def test_job_files(self):
        """Wrong job files: the line number or the path of the field is named."""
        for text, patterns in JOB_FILES:
            path = write(self.env.file("jobs.json"), text)
            shown = text if isinstance(text, str) else repr(text)
            self.refused(["submit", path], patterns, shown[:80])

    def test_run(self):
        """Its exit code is its task's: all that is wrong with the line itself is 125."""
        for words, patterns in RUN_LINES:
            self.refused(["run"] + words, patterns, code=RUN_FAILED)

    def test_other_commands(self):
        """Wrong words of other commands."""
        for words, patterns in OTHER_LINES:
            self.refused(words, patterns)


class LostOutput(SharedCellCase):
    def refused(self, redirection, *words, code=INTERNAL):
        done = subprocess.run(["/bin/sh", "-c", 'exec "$@" ' + redirection, "sh", BINARY, *words],
                              env=self.env.environment(), stderr=subprocess.PIPE, text=True,
                              timeout=60, check=False)
        with self.subTest(" ".join(words) + " " + redirection):
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertRegex(done.stderr, r"^reeve: the output could not be written: [^\n]*\n$")

    def test_full_disk_and_closed_stdout(self):
        """What could not be written is told once, with exit code 7."""
        job = self.env.submit("--", "echo", "hello")
        self.env.wait(job)
        held = self.env.submit("--hold", "--", "true")
        for words in (["--help"], ["ls", "-a"], ["ls", "-a", "--json"], ["show", str(job)],
                      ["logs", str(job)], ["submit", "--", "true"], ["cancel", str(held)]):
            self.refused(">/dev/full", *words)
        self.refused(">/dev/full", "run", "--", "echo", "x", code=RUN_FAILED)
        for words in (["ls", "-a"], ["submit", "--", "true"]):
            self.refused(">&-", *words)

    def test_limit_of_ls(self):
        """ls -a --limit N lists the N newest of the ended jobs."""
        for _ in range(3):
            last = self.env.submit("--", "true")
        self.env.wait(last)
        done = self.env.cli("ls", "-a", "--state", "ended", "--limit", "1", "--parsable")
        self.assertEqual(done.out.split(), [str(last)])


class Keys(SharedCellCase):
    def test_key_of_another_job(self):
        """A key stands for one job: another command, resources or elements are refused."""
        env = self.env
        job = env.submit("--key", "k1", "--array", "1-2", "--", "true")
        self.assertEqual(env.submit("--key", "k1", "--array", "1-2", "--", "true"), job)
        for words, what in ((["--array", "1-2", "--", "false"], "command"),
                            (["--array", "1-3", "--", "true"], "elements"),
                            (["--array", "1-2", "-c", "0.5", "--", "true"], "resources")):
            done = env.cli("submit", "--key", "k1", *words, code=REFUSED)
            self.one_line(done, "key", "k1", "job " + str(job), what)

    def test_missing_elements(self):
        """An element that a job does not have is named at once by everybody who looks for it."""
        env = self.env
        job = env.submit("--array", "1-3,5", "--", "true")
        env.wait(job)
        for command in ("wait", "show", "explain", "history", "result"):
            for element in ("9", "2-5", "0"):
                done = env.cli(command, f"{job}.{element}", code=NOT_FOUND, timeout=5)
                missing = "4" if element == "2-5" else element
                self.one_line(done, f"job {job} has no element {missing};")
        env.cli("wait", f"{job}.2-3")
        env.cli("show", f"{job}.5")

    def test_ls_of_what_is_not_there(self):
        """`ls` of a job that never was says so, as `show` does; the others are listed."""
        env = self.env
        job = env.submit("--array", "1-2", "--", "true")
        env.wait(job)
        for form in ([], ["--json"], ["--parsable"]):
            done = env.cli("ls", "99999", *form, code=NOT_FOUND)
            self.one_line(done, "job 99999", "not known", "reeve ls --all")
            self.assertEqual(done.out if form != ["--json"] else done.json()["jobs"],
                             [] if form == ["--json"] else "")
            self.assertEqual(done.err, env.cli("show", "99999", *form, code=NOT_FOUND).err)
        done = env.cli("ls", job, "99999", "--parsable", code=NOT_FOUND)
        self.assertEqual(done.out.split(), [str(job)])
        self.one_line(env.cli("ls", "%d.7" % job, code=NOT_FOUND), "no element 7")
        # Known, and of another state than was asked for: that is no error.
        self.assertEqual(env.cli("ls", job, "--state", "running").out, "no jobs\n")

    def test_cancelled_parent(self):
        """A dependant is told that what it waited for was cancelled, not that it failed."""
        env = self.env
        parent = env.submit("--hold", "--", "true")
        child = env.submit("--after", str(parent), "--", "true")
        env.cli("cancel", parent)
        env.wait(child, code=FAILED)
        self.assertIn("was cancelled", env.cli("show", child).out)

    def test_too_late_to_act(self):
        """What is being cancelled is not requeued; what runs has no limit to update."""
        env = self.env
        job = env.submit("--grace", "60s", "--", "sh", "-c", "trap '' TERM; echo on; sleep 60")
        env.until_running(job)
        self.one_line(env.cli("update", job, "-t", "1h", code=REFUSED), "waiting")
        env.cli("cancel", job)
        self.one_line(env.cli("requeue", job, code=REFUSED), "being cancelled")
        os.killpg(env.task(job)["pid"], signal.SIGKILL)
        env.wait(job, code=FAILED)


class NotUtf8(SharedCellCase):
    def submit(self, *words, cwd=None, **variables):
        environment = {os.fsencode(k): v for k, v in self.env.environment().items()}
        environment.update({os.fsencode(k): v for k, v in variables.items()})
        return subprocess.run([BINARY, "submit", "--no-check", *words], env=environment, cwd=cwd,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                              check=False)

    def test_fields(self):
        """Bytes that are not UTF-8 are refused by the name of the field."""
        env = self.env
        before = env.job_ids()
        lines = write(env.file("lines"), b"a\nb\xe9\n")
        place = os.path.join(os.fsencode(env.scratch), b"d\xe9")
        os.makedirs(place, exist_ok=True)
        bad = b"x\xff"
        rows = [(["--", "echo", bad], "command"), (["--output", bad, "--", "true"], "--output"),
                (["--error", bad, "--", "true"], "--error"),
                (["--input", bad, "--", "true"], "--input"),
                (["--name", bad, "--", "true"], "--name"), (["--key", bad, "--", "true"], "--key"),
                (["--node", bad, "--", "true"], "--node"),
                (["--cwd", place, "--", "true"], "--cwd"),
                (["--env", b"A=" + bad, "--", "true"], "--env A"),
                (["--env", "B", "--", "true"], "--env B"),
                (["--param", b"P=a," + bad, "--", "true"], "--param"),
                (["--each-line", lines, "--", "true"], "--each-line")]
        for words, field in rows:
            with self.subTest(field):
                done = self.submit(*words, B=bad)
                self.assertEqual(done.returncode, USAGE, done)
                self.assertRegex(
                    done.stderr.decode(),
                    r"^reeve: [^\n]*" + field + r" holds bytes that are not UTF-8[^\n]*\n$")
        self.assertEqual(self.submit("--", "true", cwd=place).returncode, USAGE)
        self.assertEqual(env.job_ids(), before)
        job = env.submit("--hold", "--", "true")
        done = subprocess.run([BINARY, "cancel", str(job), "--reason", bad], check=False,
                              env=env.environment(), stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(done.returncode, USAGE)
        self.assertIn(b"--reason holds bytes", done.stderr)
        env.cli("cancel", job)

    def test_copied_environment(self):
        """A variable that is copied unasked and is not UTF-8 is left out."""
        self.assertEqual(self.submit("--", "true", LANG=b"x\xff").returncode, OK)


class Limits(SharedCellCase):
    def setUp(self):
        self.before = self.env.job_ids()

    def refused(self, done, *patterns):
        self.assertIn(done.code, (USAGE, REFUSED), repr(done))
        self.one_line(done, *patterns)
        self.assertEqual(self.env.job_ids(), self.before)

    def test_oversized(self):
        """Requests beyond the limits are refused with the limit; nothing is made."""
        env = self.env
        long = "x" * (100 << 10)
        self.refused(env.cli("submit", "--", "true", long, long, code=None), "128|bytes|long")
        many = ["a"] * 20000
        self.refused(env.cli("submit", "--", "true", *many, code=None), "16384|arguments")
        self.refused(env.cli("submit", "--array", "1-99999999999", "--", "true", code=None),
                     "array|elements")
        path = write(env.file("large.json"), json.dumps(
            [{"command": ["true", "y" * 60000], "env": {"PAD": "z" * 60000}}] * 400))
        self.refused(env.cli("submit", path, code=None), "large|16|MiB|split|M")
        path = write(env.file("huge.json"), "[" + " " * (70 << 20) + "]")
        self.refused(env.cli("submit", path, code=None), "larger|split|empty|no job")

    def test_terminal_escapes_are_not_printed_raw(self):
        """What others wrote (names, reasons, outputs' paths) cannot command the terminal."""
        env = self.env
        path = write(env.file("esc.json"), json.dumps(
            {"command": ["echo", "\u001b[2J"], "env": {"X": "\u001b[31m"}}))
        job = int(env.cli("submit", "--parsable", path).out)
        env.wait(job)
        for words in (["show", job], ["show", "--env", job], ["ls", "-a"], ["history"]):
            done = env.cli(*words)
            self.assertNotIn("\x1b", done.out + done.err, words)
        env.cli("cancel", job, "--reason", "\x1b[31m", code=None)
        self.assertNotIn("\x1b", env.cli("show", job).out)

    def test_unknown_parents(self):
        """A dependency on a job that does not exist is refused with its number."""
        done = self.env.cli("submit", "--after", "999999", "--", "true", code=(USAGE, NOT_FOUND))
        self.one_line(done, "after", "999999", "reeve ls --all")


class Unwritable(OwnCellCase):
    autostart = False

    def test_paths_of_others(self):
        """Row 20 B: an output this user may not write is refused with the path and the reason; a
        task that is let through fails alone, and nothing is written."""
        env = self.start_cell(uid=65534 if os.geteuid() == 0 else None)
        theirs = os.path.join(env.scratch, "theirs")
        os.makedirs(os.path.join(theirs, "below"))
        os.chmod(theirs, 0o555)
        if os.geteuid() == 0:
            os.chown(env.scratch, 65534, 65534)
        for path in ("/usr/out.txt", theirs + "/out.txt", theirs + "/new/dirs/out.txt"):
            with self.subTest(path):
                done = env.cli("submit", "--output", path, "--", "true", code=USAGE)
                self.one_line(done, "output", path, "ermission", "choose another")
                env.cli("submit", "-q", "--no-check", "--output", path, "--wait", "--", "true",
                        code=FAILED)
                task = env.task("@")
                self.assertEqual((task["state"], task["exit_code"]), ("failed", 125))
                self.assertIn("permission denied", task["detail"])
                self.assertFalse(os.path.exists(path))
        env.wait(env.submit("--", "true"))
        os.chmod(theirs, 0o755)


class NoCell(SharedCellCase):
    def test_state_directories(self):
        """A state directory that is a file, is not writable, or belongs to nobody."""
        env = self.env
        path = write(env.file("a-file"), "")
        for place in (path, path + "/below", "/proc/reeve"):
            done = env.cli("--state-dir", place, "up", code=None)
            self.assertNotEqual(done.code, OK)
            self.assertLessEqual(len(done.err.splitlines()), 1, repr(done))
            self.assertIn(place if place != path + "/below" else path, done.err)
        done = env.cli("--state-dir", "/proc", "up", code=REFUSED)
        self.one_line(done, "create directory /proc/|belongs to uid 0, not to us", "--state-dir")
        done = env.cli("--state-dir", env.file("fresh"), "ls", code=None)
        self.one_line(done, "reeve up")
        self.assertFalse(os.path.exists(env.file("fresh")), "looking made a directory")

    def test_no_cell(self):
        """Where no cell is, every look says so and ends with 4; `run` ends with 125."""
        fresh = self.env.file("fresh")
        for words in (["ls"], ["ls", "1"], ["show", "1"], ["explain", "1"], ["logs", "1"],
                      ["result", "1"], ["history"], ["history", "1"], ["history", "--by", "user"],
                      ["wait", "1"], ["cancel", "1"], ["node", "ls"], ["shm", "check"],
                      ["events"], ["sim", "--replay"]):
            with self.subTest(" ".join(words)):
                done = self.env.cli("--state-dir", fresh, *words, code=UNREACHABLE)
                self.one_line(done, "no cell", fresh, "start .*: reeve up")
                self.assertEqual(done.out, "")
        done = self.env.cli("--state-dir", fresh, "run", "--", "true", code=RUN_FAILED)
        self.one_line(done, "no cell", fresh)
        self.assertFalse(os.path.exists(fresh), "looking made a directory")


if __name__ == "__main__":
    unittest.main(verbosity=2)
