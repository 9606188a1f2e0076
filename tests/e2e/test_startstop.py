"""Starting, stopping, and a damaged state directory: BEHAVIOURS.md section 8 (103, 112, 113).

Damage of the ledger at every offset is in the unit tests of plm/ledger.
"""
import os
import shutil
import signal
import subprocess
import unittest

from reeve_env import OK, REFUSED, UNREACHABLE, OwnCellCase, read, until, write


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
                    self.assertNotEqual(done.code, OK)
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


class UpAndDown(OwnCellCase):
    autostart = False

    def test_up_twice_and_down_twice(self):
        """Row 112: up on a running cell says so; down on none is no error; wait is by `up`."""
        env = self.start_cell()
        self.assertIn("was up already", env.up().out + env.up().err)
        env.down()
        self.assertEqual(env.cli("status", code=UNREACHABLE).code, UNREACHABLE)
        self.one_line(env.cli("submit", "--", "true", code=UNREACHABLE), "reeve up")
        env.cli("down", code=(OK, UNREACHABLE))

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
