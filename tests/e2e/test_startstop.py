"""Starting, stopping, and a damaged state directory: BEHAVIOURS.md section 8 (103, 112, 113).

Damage of the ledger at every offset is in the unit tests of plm/ledger.
"""
import os
import shutil
import signal
import subprocess
import time
import unittest

from reeve_env import (INTERNAL, OK, REFUSED, TIMEOUT, UNREACHABLE, Done, OwnCellCase, read,
                       until, write)


class TornLedger(OwnCellCase):
    def test_torn_tail(self):
        """Row 103: a write cut short by a power cut is dropped; all that was acknowledged stays."""
        env = self.env
        jobs = [env.submit("--hold", "--name", "j%d" % i, "--", "true") for i in range(5)]
        for tail in (b"\0" * 24, os.urandom(24), os.urandom(4096 + 24), b"\0" * 60000):
            env.kill_all()
            with open(os.path.join(env.state, "ledger.db-wal"), "ab") as file:
                file.write(tail)
            env.up()
            self.assertEqual(env.job_ids(), jobs)
            self.assertEqual([env.job(j)["name"] for j in jobs],
                             ["j%d" % i for i in range(len(jobs))])
            jobs.append(env.submit("--hold", "--name", "j%d" % len(jobs), "--", "true"))

    def test_cut_below_what_is_signed(self):
        """A ledger cut below its signed audit log is refused with the cure, and not changed."""
        env = self.env
        for i in range(5):
            env.submit("--hold", "--", "true")
        until(lambda: env.cli("audit", "head", "--json", code=None).code == OK, "a checkpoint")
        before = env.cli("audit", "head", "--json").json()["size"]
        until(lambda: env.cli("audit", "head", "--json").json()["size"] >= before, "all signed")
        env.kill_all()
        path = os.path.join(env.state, "ledger.db-wal")
        whole = read(path, "rb")
        os.truncate(path, len(whole) - 1)
        env.expected_errors.append("cannot start|cannot be kept running")
        done = env.cli("up", *env.up_words, code=None)
        if done.code != OK:
            self.assertRegex(done.err, "audit.*(restore|move)")
            write(path, whole)
            env.up()
        ids = env.job_ids()
        self.assertEqual(ids, list(range(1, len(ids) + 1)))
        self.assertGreaterEqual(len(ids), 4)

    def test_truncated(self):
        """A ledger cut in half, emptied, of another kind or version: one line with its name and
        the cure, exit code 7, nothing changed; the sound file put back serves again."""
        env = self.env
        for _ in range(5):
            env.submit("--hold", "--", "true")
        env.cli("ledger", "flush")
        env.down()
        path = os.path.join(env.state, "ledger.db")
        sound = read(path, "rb")
        version = sound[:60] + b"\0\0\0\x63" + sound[64:]
        env.expected_errors.append("cannot start|cannot be kept running")
        for text, words, cure in (
                (sound[:len(sound) // 2], "damaged|malformed", "restore it from a backup"),
                (b"", "is empty", "restore it from a backup"),
                (b"not a ledger\n" * 500, "not a database|not a reeve ledger", "restore it"),
                (version, "has version 99, this reeve reads", "use the reeve that wrote it")):
            with self.subTest(words):
                write(path, text)
                done = env.cli("up", *env.up_words, code=INTERNAL)
                self.one_line(done, "the PLM cannot start", "ledger.db", words, cure)
                self.assertNotRegex(done.err, "level=|msg=")
                self.assertEqual(read(path, "rb"), text)
                self.assertEqual(env.leftovers(), [])
        write(path, sound)
        env.up()
        self.assertEqual(env.job_ids(), [1, 2, 3, 4, 5])

    def test_damaged_in_the_middle(self):
        """Row 103 B: damage in the middle is refused with the file's name; nothing is skipped."""
        env = self.env
        for i in range(20):
            env.submit("--hold", "--", "true")
        env.down()
        ledger = os.path.join(env.state, "ledger.db")
        sound = read(ledger, "rb")
        wal = ledger + "-wal"
        if os.path.exists(wal) and os.path.getsize(wal) > 0:
            target = wal
        else:
            target = ledger
        whole = read(target, "rb")
        middle = len(whole) // 2
        damaged = whole[:middle] + bytes(b ^ 0x55 for b in whole[middle:middle + 64]) + \
            whole[middle + 64:]
        write(target, damaged)
        env.expected_errors.append("level=error")
        done = env.cli("up", *env.up_words, code=None)
        if done.code == OK:   # what was hit held nothing that is needed
            self.assertEqual(env.job_ids(), list(range(1, 21)))
            return
        self.assertIn("ledger", done.err)
        self.assertLessEqual(len(done.err.splitlines()), 2, repr(done))
        write(target, whole)
        self.assertEqual(read(ledger, "rb"), sound)
        env.up()
        self.assertEqual(env.job_ids(), list(range(1, 21)))

    def test_history_is_rebuilt(self):
        """history.db gone: it is a projection, rebuilt or started anew; nothing live is lost."""
        env = self.env
        held = env.submit("--hold", "--", "true")
        env.wait(env.submit("--", "true"))
        env.down()
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(os.path.join(env.state, "history.db" + suffix)):
                os.unlink(os.path.join(env.state, "history.db" + suffix))
        env.up()
        self.assertEqual(env.job(held)["state"], "held")
        env.cli("release", held)
        env.wait(held)


class WrongSegment(OwnCellCase):
    def test_lookers_refuse_what_they_do_not_know(self):
        """A segment of another version, or no segment at all: one line, and `up` rebuilds it."""
        env = self.env
        job = env.submit("--hold", "--", "true")
        segment = "/dev/shm" + env.status()["segment"]
        env.kill_all()
        whole = read(segment, "rb")
        for place, text, words in ((8, b"\xff\x7f\0\0", "version 32767"),
                                   (12, b"\xff\x7f\0\0", "another build"),
                                   (0, b"not ours", "damaged|magic")):
            with self.subTest(words):
                with open(segment, "r+b") as file:
                    file.seek(place)
                    file.write(text)
                for command in (["shm", "dump"], ["node", "ls"], ["shm", "check"]):
                    done = env.cli(*command, code=None)
                    self.assertIn(done.code, (REFUSED, INTERNAL), repr(done))
                    self.one_line(done, words)
                with open(segment, "r+b") as file:
                    file.write(whole[:64])
        with open(segment, "r+b") as file:
            file.truncate(len(whole) // 2)
        done = env.cli("shm", "dump", code=None)
        self.assertNotEqual(done.code, OK)
        self.one_line(done, "damaged|size")
        env.up()
        self.assertEqual(env.job(job)["state"], "held")


class Access(OwnCellCase):
    @unittest.skipUnless(os.geteuid() == 0, "only root can be two users")
    def test_other_users_are_kept_out(self):
        """Rows 110 and 111: another user's commands get no word out of a cell, and change nothing,
        even where the directories would let them in; its files are for its owner alone."""
        env = self.start_cell()
        job = env.submit("--hold", "--", "true")
        env.binary = shutil.copy(env.binary, os.path.join(env.scratch, "reeve"))
        os.chmod(env.scratch, 0o755)
        stranger = {"uid": 65534, "cwd": "/tmp", "code": None, "env": {"HOME": "/tmp"}}
        commands = (["ls"], ["submit", "--no-check", "--", "true"], ["cancel", str(job)],
                    ["shm", "dump"], ["events", "--from", "0", "--no-follow"], ["up"])
        for opened in (False, True):
            if opened:   # a person's mistake: chmod -R
                for place in (env.state, env.runtime):
                    subprocess.run(["chmod", "-R", "a+rwX", place], check=True)
                os.chmod(os.path.dirname(env.runtime), 0o755)
            # What its owner opened may be read, but is not acted upon.
            for words in commands[1:] if opened else commands:
                with self.subTest("%s, opened: %s" % (words[0], opened)):
                    done = env.cli(*words, **stranger)
                    self.assertNotEqual(done.code, OK, repr(done))
                    self.assertEqual(done.out, "")
                    self.one_line(done)
            self.assertEqual(env.job_ids(), [job])
            self.assertEqual(env.job(job)["state"], "held")
        shared = [n for n in os.listdir("/dev/shm") if n.startswith("reeve-%s-" % env.hash)]
        self.assertEqual([os.stat("/dev/shm/" + n).st_mode & 0o777 for n in shared], [0o600])


class Waiting(OwnCellCase):
    def test_at_once_delayed_and_timeout(self):
        """Row 112: commands are answered at once, wait for a PLM on its way, and give up in time;
        so does `up`."""
        env = self.env
        self.assertEqual(env.cli("status").code, OK)
        plm = env.kill("plm")
        job = env.submit("--hold", "--", "true")     # delayed until it is back
        self.assertNotEqual(env.pid("plm"), plm)
        self.assertEqual(env.job_ids(), [job])
        waiter = env.popen("wait", "--timeout", "700ms", job, stderr=subprocess.PIPE, text=True)
        _, err = waiter.communicate(timeout=20)
        self.assertEqual(waiter.returncode, TIMEOUT)
        self.assertIn("the time is up", err)
        env.down()
        env.expected_errors.append("does not become ready")
        done = env.cli("up", *env.up_words, "--wait", "0.5", code=None,
                       env={"REEVE_FP": "plm.before_segment:sleep=3000"})
        self.assertNotEqual(done.code, OK)
        self.one_line(done, "plm", "ready")
        until(lambda: not env.leftovers(), "the end of the group that did not start")
        env.up()
        self.assertEqual(env.job_ids(), [job])

    def test_down_while_a_plm_starts(self):
        """Asked to stop before it hears signals: it records what the last one left, and stops."""
        env = self.start_cell(start=False)
        env.cli("up", *env.up_words, env={"REEVE_FP": "role.starting:sleep=500"})
        env.learn()
        job = env.submit("--", "sh", "-c", "echo once >> ran; sleep 0.3")
        env.until_running(job)
        plm = env.pid("plm")
        os.kill(plm, signal.SIGSTOP)    # so that the end is told to nobody
        time.sleep(1)
        os.kill(plm, signal.SIGKILL)
        path = os.path.join(env.state, "run", "plm.pid")
        until(lambda: os.path.exists(path) and read(path).split()[0] != str(plm), "the next PLM")
        env.down()
        self.assertEqual(env.leftovers(), [])
        env.up()
        env.wait(job)
        self.assertEqual((env.task(job)["attempt"], read(env.file("ran"))), (1, "once\n"))


class UpAndDown(OwnCellCase):
    autostart = False

    def test_up_twice_and_down_twice(self):
        """Row 112: up on a running cell says so; down on none is no error; wait is by `up`."""
        env = self.start_cell()
        for more, says in (((), ""), (("--durability", "sync"), ""), (("--lease", "3"), ""),
                           (("--durability", "async", "--slots", "1024"), "--durability --slots"),
                           (("--workers", "3"), "--workers"), (("--cpus", "3"), "--cpus")):
            with self.subTest(more):
                done = env.cli("up", *more)
                self.assertIn("was up already; its options are unchanged", done.out)
                if says:
                    self.one_line(done, "keeps its own %s;" % says, "reeve down")
                else:
                    self.assertEqual(done.err, "")
        self.one_line(env.cli("up", "--workers", "2", "--lease", "9"), "own --lease;")
        env.kill("supervisor")
        self.one_line(env.cli("up", "--workers", "2", "--durability", "async"),
                      "what still runs of the cell keeps its own --durability;")
        policy = write(env.file("policy.json"), '{"limits": {"licence": 2}}')
        done = env.cli("up", "--policy", policy)
        self.assertIn("takes the new policy over", done.out)
        self.assertEqual(done.err, "")
        until(lambda: env.cli("submit", "--limit", "licence", "--", "true", code=None).code == OK,
              "the policy in force")
        self.assertIn("without a policy", env.cli("up", "--policy", "none").out)
        env.down()
        self.assertEqual(env.cli("status", code=UNREACHABLE).code, UNREACHABLE)
        self.one_line(env.cli("submit", "--", "true", code=UNREACHABLE), "reeve up")
        env.cli("down", code=(OK, UNREACHABLE))

    def test_at_the_same_time(self):
        """Two `up`, two `down`, and one of each: who comes second waits for the first."""
        env = self.start_cell(start=False)

        def together(*commands):
            children = [env.popen(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True) for words in commands]
            said = [child.communicate(timeout=60) for child in children]
            return [Done(words, child.returncode, out, err) for words, child, (out, err) in
                    zip(commands, children, said)]
        up = ["up"] + env.up_words
        for _ in range(3):
            done = together(up, up, up)
            self.assertEqual([one.code for one in done], [OK] * 3, done)
            self.assertEqual(sum("was up already" in one.out for one in done), 2, done)
            self.assertEqual(len({one.out.splitlines()[-1] for one in done}), 1, done)
            env.learn()
            done = together(["down"], ["down"])
            self.assertEqual([one.code for one in done], [OK] * 2, done)
            self.assertEqual(env.leftovers(), [])
        env.up()
        # Whoever is first, `up` ends with a cell that is up or says that it was stopped.
        for first, second in ((["down"], up), (up, ["down"])):
            done = together(first, second)
            for one in done:
                if one.words == ["down"] or one.code == OK:
                    self.assertEqual(one.code, OK, done)
                else:
                    self.one_line(one, "asked to stop", "repeat reeve up")
        env.up()
        env.wait(env.submit("--", "true"))

    def test_foreground_and_ctrl_c(self):
        """Row 113: Ctrl-C on `up --foreground` stops all and clears the runtime directory."""
        env = self.start_cell(start=False)
        child = env.popen("up", "--foreground", "--workers", "1", stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
        until(lambda: env.status()["state"] == "up", "the group")
        env.learn()
        job = env.submit("--", "sleep", "60")
        env.until_running(job)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=20)
        self.assertEqual(child.returncode, OK)
        self.assertEqual(env.leftovers(), [])

    def test_stale_runtime_after_sigkill(self):
        """Row 113: stale sockets and pid files of a killed cell do not hinder the next start."""
        env = self.start_cell()
        env.kill_all()
        self.assertTrue(os.listdir(env.runtime))
        self.assertEqual(env.status()["state"], "down")
        env.up()
        env.wait(env.submit("--", "true"))
        env.kill_all()
        env.down()
        self.assertEqual(env.leftovers(), [])

    def test_second_plm(self):
        """A second PLM, and a second supervisor, on one state directory are refused."""
        env = self.start_cell()
        done = env.cli("plm", code=REFUSED)
        self.assertRegex(done.err, "another plm serves.*reeve down")
        done = env.cli("supervise", code=REFUSED)
        self.assertRegex(done.err, "has a supervisor already.*reeve down")
        for role in ("scheduler", "register"):
            done = env.cli(role, code=REFUSED)
            self.assertRegex(done.err, "another %s" % role)
        env.wait(env.submit("--", "true"))

    def test_state_directory_moved(self):
        """A copied state directory is a cell of its own, with all the jobs."""
        env = self.start_cell()
        job = env.submit("--hold", "--name", "carried", "--", "true")
        env.down()
        other = self.start_cell(start=False)
        shutil.copytree(env.state, other.state)
        other.up()
        self.assertNotEqual(env.hash, other.hash)
        self.assertEqual(other.job(job)["name"], "carried")
        other.cli("release", job)
        other.wait(job)


if __name__ == "__main__":
    unittest.main(verbosity=2)
