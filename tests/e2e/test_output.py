"""Output files and streams: BEHAVIOURS.md section 2 (rows 19 to 23 and 25 to 32)."""
import hashlib
import os
import random
import subprocess
import unittest

from reeve_env import (FAILED, NIGHTLY, NOT_FOUND, OwnCellCase, SharedCellCase, read, until, write)


class Files(SharedCellCase):
    def test_default_files(self):
        """Row 19: the file exists even when the program cannot start, and is empty then."""
        env = self.env
        bad = env.submit("--no-check", "--", "/no/such/program")
        good = env.submit("--", "sh", "-c", "echo out; echo err >&2; echo end")
        env.wait(bad, good, code=FAILED)
        self.assertEqual(env.output(bad), "")
        self.assertEqual(env.output(good), "out\nerr\nend\n")  # one file, in order
        self.assertEqual(os.stat(env.output_path(good)).st_mode & 0o777, 0o600)

    def test_configured_files(self):
        """Row 20: relative, absolute, in missing directories, or none at all."""
        env = self.env
        base = env.file("configured")
        os.makedirs(base)
        says = ["--", "sh", "-c", "echo out; echo err >&2"]
        relative = env.submit("--output", "a/b/out.txt", "--error", "a/c/err.txt", *says, cwd=base)
        absolute = env.submit("--output", base + "/abs.txt", "--error", "none", *says)
        none = env.submit("--output", "none", *says)
        env.wait(relative, absolute, none)
        self.assertEqual(read(base + "/a/b/out.txt"), "out\n")
        self.assertEqual(read(base + "/a/c/err.txt"), "err\n")
        self.assertEqual(read(base + "/abs.txt"), "out\n")
        self.assertFalse(os.path.exists(env.output_path(none)))
        self.assertFalse(os.path.exists(env.output_path(absolute)))
        self.assertEqual(sorted(os.listdir(base)), ["a", "abs.txt"])

    def test_each_stream_alone(self):
        """Row 27: only stdout, or only stderr, in a file; the other one is nowhere."""
        env = self.env
        base = env.file("alone")
        os.makedirs(base)
        says = ["--", "sh", "-c", "echo out; echo err >&2"]
        out = env.submit("--output", base + "/only.out", "--error", "none", *says)
        err = env.submit("--output", "none", "--error", base + "/only.err", *says)
        env.wait(out, err)
        self.assertEqual(sorted(os.listdir(base)), ["only.err", "only.out"])
        self.assertEqual(read(base + "/only.out"), "out\n")
        self.assertEqual(read(base + "/only.err"), "err\n")
        self.assertEqual(env.cli("logs", out).out, "out\n")
        self.assertEqual(env.cli("logs", "--error", err).out, "err\n")

    def test_symlink_is_not_followed(self):
        """Row 20 B: a symlink where the output should go: that task fails, the target is whole."""
        env = self.env
        target = write(env.file("precious"), "keep me")
        os.symlink(target, env.file("trap"))
        job = env.submit("--no-check", "--output", env.file("trap"), "--", "echo", "overwritten")
        fine = env.submit("--", "true")
        env.wait(job, fine, code=FAILED)
        self.assertEqual(read(target), "keep me")
        task = env.task(job)
        self.assertEqual((task["state"], task["exit_code"]), ("failed", 125))
        self.assertRegex(task["detail"], "trap.*symlink")
        self.assertEqual(env.job(fine)["state"], "succeeded")

    def test_impossible_path_fails_that_task_only(self):
        """Row 21: an impossible path fails that task, with the path and the reason."""
        env = self.env
        job = env.submit("--no-check", "--array", "1-2", "--output", "/dev/null/%a", "--", "true")
        path = write(env.file("a-file"), "")
        other = env.submit("--no-check", "--output", path + "/below", "--", "true")
        fine = env.submit("--", "echo", "fine")
        env.wait(job, other, fine, code=FAILED)
        self.assertRegex(env.task(job, 2)["detail"], "/dev/null/2: .*no directory")
        self.assertRegex(env.task(other)["detail"], "a-file/below: .*no directory")
        self.assertEqual(env.output(fine), "fine\n")

    def test_output_of_the_unsuccessful_is_kept(self):
        """Rows 22 and 29: whatever ended the task, all it wrote before is in the file."""
        env = self.env
        failed = env.submit("--", "sh", "-c", "echo before; exit 9")
        timed = env.submit("-t", "400ms", "--", "sh", "-c", "echo before; sleep 60")
        cut = env.submit("--", "sh", "-c", "echo before; sleep 60")
        killed = env.submit("--", "sh", "-c", "echo before; kill -9 $$")
        until(lambda: os.path.exists(env.output_path(cut)) and env.output(cut) == "before\n",
              "the output of job %d" % cut)
        env.cli("cancel", cut)
        jobs = (failed, timed, cut, killed)
        env.wait(*jobs, code=FAILED)
        self.assertEqual([env.output(j) for j in jobs], ["before\n"] * 4)
        self.assertEqual([env.task(j)["state"] for j in jobs],
                         ["failed", "timed-out", "cancelled", "failed"])

    def test_placeholders(self):
        """Row 31: every placeholder in paths; an unknown one is warned about and kept."""
        env = self.env
        base = env.file("place")
        os.makedirs(base)
        job = env.submit("--array", "5-6", "--output",
                         "%j.%a.%A.%x.%u.%%.%{JOB_ID}.%{TASK_ID}.%{ATTEMPT}.%{INSTANCE_ID}",
                         "--error", "%{CWD}/err.%a", "--", "sh", "-c", "echo hi; echo no >&2",
                         cwd=base)
        env.wait(job)
        import pwd
        user = pwd.getpwuid(os.getuid()).pw_name
        want = ["%d.%d.%d.1.%s.%%.%d.%d.1.1" % (job, i, job, user, job, i) for i in (5, 6)]
        self.assertEqual(sorted(os.listdir(base)), sorted(want + ["err.5", "err.6"]))
        node = env.submit("--output", base + "/on-%N", "--", "true")
        env.wait(node)
        self.assertTrue(os.path.exists(base + "/on-" + env.task(node)["worker_name"]))
        warned = env.cli("submit", "--output", "x%Z-%{WHAT}", "--", "true", cwd=base)
        self.assertRegex(warned.err, "%Z is no placeholder")
        self.assertRegex(warned.err, r"%\{WHAT\} is no placeholder")
        env.wait("@")
        self.assertTrue(os.path.exists(base + "/x%Z-%{WHAT}"))
        shared = env.cli("submit", "--array", "1-3", "--output", "same.txt", "--", "true", cwd=base)
        self.assertRegex(shared.err, "all 3 elements write .*add %a")
        env.wait("@")

    def test_value_with_a_percent_is_not_filled_twice(self):
        """Row 31: what a placeholder yields is not looked at again (no recursion)."""
        env = self.env
        odd = env.file("odd%j")
        os.makedirs(odd)
        job = env.submit("--cwd", odd.replace("%", "%%"), "--output", "%{CWD}/o", "--", "pwd")
        env.wait(job)
        self.assertEqual(read(odd + "/o"), odd + "\n")

    def test_every_attempt_is_streamed(self):
        """`run` and `logs -f` show short attempts that come and go between two looks."""
        words = ["--retries", "4", "--", "sh", "-c", "echo t$REEVE_ATTEMPT; exit 1"]
        done = self.env.cli("run", *words, code=FAILED)
        self.assertEqual(done.out.split(), ["t1", "t2", "t3", "t4", "t5"])

    def test_output_limit(self):
        """--output-limit keeps the newest of a long output, byte exact (cap of DESIGN.md 8)."""
        env = self.env
        job = env.submit("--output-limit", "1M", "--", "seq", "1", "1000000")
        env.wait(job)
        data = env.output(job, mode="rb").lstrip(b"\0")
        whole = b"".join(b"%d\n" % i for i in range(1, 1000001))
        self.assertGreaterEqual(len(data), 512 << 10)
        self.assertTrue(whole.endswith(data))
        used = os.stat(env.output_path(job)).st_blocks * 512
        self.assertLess(used, 3 << 20)


class Input(SharedCellCase):
    def test_stdin(self):
        """Row 32: stdin is empty unless asked for; reading only part of it is no trouble."""
        env = self.env
        data = os.urandom(3 << 20)
        path = write(env.file("big-input"), data)
        empty = env.submit("--", "wc", "-c")
        whole = env.submit("--input", path, "--", "sha256sum")
        part = env.submit("--input", path, "--", "head", "-c", "100")
        inline = env.submit_file({"command": "cat", "stdin": "typed\nin the file\n"})[0]
        env.wait(empty, whole, part, inline)
        self.assertEqual(env.output(empty).strip(), "0")
        self.assertEqual(env.output(whole).split()[0], hashlib.sha256(data).hexdigest())
        self.assertEqual(env.output(part, mode="rb"), data[:100])
        self.assertEqual(env.output(inline), "typed\nin the file\n")


class Reading(SharedCellCase):
    def test_logs(self):
        """Row 23: outputs of tasks by id and job, with headers; a word when there is none."""
        env = self.env
        array = env.submit("--array", "1-3", "--", "sh", "-c", "echo task $REEVE_TASK_ID")
        split = env.submit("--error", "err.%j", "--", "sh", "-c", "echo out; echo err >&2")
        none = env.submit("--output", "none", "--", "echo", "unheard")
        held = env.submit("--hold", "--", "true")
        env.wait(array, split, none)
        self.assertEqual(env.cli("logs", "%d.2" % array).out, "task 2\n")
        self.assertEqual(env.cli("logs", array).out,
                         "".join("==> %d.%d <==\ntask %d\n" % (array, i, i) for i in (1, 2, 3)))
        self.assertEqual(env.cli("logs", split).out, "out\n")
        self.assertEqual(env.cli("logs", "--error", split).out, "err\n")
        self.assertEqual(env.cli("logs", "--paths", "%d.1" % array).out,
                         env.output_path(array, 1) + "\n")
        for job in (none, held):
            done = env.cli("logs", job, code=None)
            self.assertEqual(done.out, "")
            self.assertIn(str(job), done.err, "no word about there being nothing: %r" % done)
        env.cli("cancel", held)
        done = env.cli("logs", held, code=NOT_FOUND)
        self.assertIn("was cancelled before it started", done.err)
        done = env.cli("logs", "--limit", "2", array)
        self.assertEqual(len(done.out.splitlines()), 4)
        self.assertIn("not all tasks of job %d are shown" % array, done.err)

    def test_logs_of_attempts(self):
        """An attempt that is not there is said to be none; one file of several attempts, too."""
        env = self.env
        job = env.submit("--retries", "1", "--output", env.file("same"), "--", "sh", "-c",
                         "echo try $REEVE_ATTEMPT; exit 1")
        env.wait(job, code=FAILED)
        done = env.cli("logs", "--attempt", "9", job, code=NOT_FOUND)
        self.assertIn("there is no attempt 9; the newest one is 2", done.err)
        self.assertIn("write the same file", env.cli("logs", "--attempt", "1", job).err)
        self.assertEqual(env.cli("logs", "--attempt", "2", job).err, "")

    def test_order_of_many(self):
        """Row 24: of many tasks that print at once each one's lines come whole and in order."""
        env = self.env
        job = env.submit("--array", "1-20", "-c", "0.2", "--", "sh", "-c",
                         "i=0; while [ $i -lt 200 ]; do echo $REEVE_TASK_ID $i out; "
                         "echo $REEVE_TASK_ID $i err >&2; i=$((i+1)); done")
        env.wait(job)
        want = "".join("==> %d.%d <==\n" % (job, e) + "".join(
            "%d %d out\n%d %d err\n" % (e, i, e, i) for i in range(200)) for e in range(1, 21))
        self.assertEqual(env.cli("logs", job).out, want)

    def test_follow(self):
        """Row 28 B: following a running task gives a true prefix at every moment, then all."""
        env = self.env
        gate = env.file("gate")
        job = env.submit("--", "sh", "-c", "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1));"
                         " [ $((i %% 100)) = 0 ] && while [ ! -e %s$i ]; do sleep 0.01; done; "
                         "done; echo end" % gate)
        env.until_running(job)
        follower = env.popen("logs", "-f", job, stdout=subprocess.PIPE)
        os.set_blocking(follower.stdout.fileno(), False)
        want = "".join("line %d\n" % i for i in range(300)) + "end\n"
        got = [b""]

        def drain():
            try:
                got[0] += follower.stdout.read() or b""
            except BlockingIOError:
                pass
            self.assertTrue(want.startswith(got[0].decode()), "no prefix: %r" % got[0][-200:])
            return got[0].decode()
        for i in (100, 200, 300):
            until(lambda: drain().endswith("line %d\n" % (i - 1)), "%d lines" % i)
            until(lambda: env.output(job).endswith("line %d\n" % (i - 1)), "the file")
            self.assertTrue(want.startswith(env.cli("logs", job).out))
            write(gate + str(i), "")
        until(lambda: drain() == want, "the end of the output")
        self.assertEqual(follower.wait(10), 0)

    def test_run_streams_both(self):
        """`run` gives stdout, stderr and the exit code of its task."""
        env = self.env
        done = env.cli("run", "-q", "--", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
        self.assertEqual(done.out, "out\n")
        self.assertIn("err\n", done.err)
        self.assertEqual(env.cli("run", "-t", "300ms", "--", "sleep", "60", code=124).out, "")
        env.cli("run", "--", "sh", "-c", "kill -KILL $$", code=137)
        done = env.cli("run", "--no-check", "--", "/no/such/program", code=127)
        self.assertIn("/no/such/program", done.err)

    def test_interrupted_run_cancels(self):
        """Ctrl-C on `run` cancels the task."""
        env = self.env
        import signal
        child = env.popen("run", "--name", "interrupted", "--", "sleep", "60",
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        job = until(lambda: env.cli("ls", "--parsable", "name:interrupted", code=None).out, "it")
        env.until_running(int(job))
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=20)
        self.assertEqual(env.until_state(int(job), "cancelled"), "cancelled")


class Big(SharedCellCase):
    def test_big_random_output(self):
        """Row 25 B: random bytes come back exactly; 64 MiB, 1 GiB under REEVE_NIGHTLY."""
        env = self.env
        size = (1 << 30) if NIGHTLY else (64 << 20)
        block = random.Random(7).randbytes(1 << 20)
        path = write(env.file("block"), block)
        script = env.script("many", "#!/bin/sh\ni=0; while [ $i -lt %d ]; do cat %s; i=$((i+1)); "
                            "done\n" % (size >> 20, path))
        job = env.submit("--", script)
        env.wait(job, timeout=120)
        want, got = hashlib.sha256(), hashlib.sha256()
        for _ in range(size >> 20):
            want.update(block)
        with open(env.output_path(job), "rb") as file:
            while chunk := file.read(1 << 20):
                got.update(chunk)
        self.assertEqual(got.hexdigest(), want.hexdigest())
        reader = env.popen("logs", job, stdout=subprocess.PIPE)
        got = hashlib.sha256()
        while chunk := reader.stdout.read(1 << 20):
            got.update(chunk)
        self.assertEqual(reader.wait(30), 0)
        self.assertEqual(got.hexdigest(), want.hexdigest())
        os.unlink(env.output_path(job))


class Superseded(OwnCellCase):
    def test_each_attempt_has_its_own_file(self):
        """Rows 26 and 106: after a worker's loss only the last attempt counts; both are kept."""
        env = self.env
        gate = env.file("gate")
        job = env.submit("--", "sh", "-c", "echo attempt $REEVE_ATTEMPT; "
                         "while [ ! -e %s ]; do sleep 0.02; done; echo done" % gate)
        task = env.until_running(job)
        until(lambda: "attempt 1" in env.output(job), "its first words")
        env.kill_worker(task["worker_name"])
        until(lambda: env.task(job)["attempt"] == 2 and env.task(job)["state"] == "running",
              "attempt 2")
        env.until_up()
        env.kill_all()   # row 106: also told apart after a restart
        env.up()
        until(lambda: env.task(job)["attempt"] == 3 and env.task(job)["state"] == "running",
              "attempt 3")
        write(gate, "")
        env.wait(job)
        self.assertEqual(env.output(job, attempt=1), "attempt 1\n")
        self.assertEqual(env.output(job, attempt=2), "attempt 2\n")
        self.assertEqual(env.output(job, attempt=3), "attempt 3\ndone\n")
        self.assertEqual(env.cli("logs", job).out, "attempt 3\ndone\n")
        self.assertEqual(env.cli("logs", "--attempt", "1", job).out, "attempt 1\n")
        attempts = env.cli("show", "--attempts", "--json", job).json()["jobs"][0]["tasks"]
        self.assertEqual([(t["attempt"], t["state"]) for t in attempts][-1], (3, "succeeded"))
        self.assertEqual([t["attempt"] for t in attempts], [1, 2, 3])


class TwoCells(OwnCellCase):
    def test_two_cells_side_by_side(self):
        """Row 30: two cells on one machine do not mix, even when writing into one directory."""
        one = self.env
        two = self.start_cell()
        shared = one.file("shared")
        os.makedirs(shared)
        self.assertNotEqual(one.hash, two.hash)
        for env, word in ((one, "one"), (two, "two")):
            env.submit("--output", shared + "/%j." + word, "--", "echo", word)
        for env in (one, two):
            env.wait("1")
            self.assertEqual(env.job_ids(), [1])
        self.assertEqual(sorted(os.listdir(shared)), ["1.one", "1.two"])
        one.down()
        job = two.submit("--", "true")
        two.wait(job)


if __name__ == "__main__":
    unittest.main(verbosity=2)
