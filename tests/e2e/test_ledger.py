"""The ledger on demand, and clients of another version: BEHAVIOURS.md rows 107 and 109."""
import os
import re
import sqlite3
import unittest

from reeve_env import BINARY, OK, REFUSED, UNREACHABLE, OwnCellCase, read, until, write


class Ledger(OwnCellCase):
    def files(self):
        path = os.path.join(self.env.state, "ledger.db")
        return sum(os.path.getsize(path + s) for s in ("", "-wal") if os.path.exists(path + s))

    def fill(self, elements=2000):
        """Ended jobs that fill the ledger, and live ones; the live ones' ids."""
        env = self.env
        pad = "x" * 60000
        for _ in range(20):
            env.submit("--hold", "--env", "PAD=" + pad, "--", "true")
        env.cli("cancel", "1-20")
        env.wait(env.submit("--array", "1-%d" % elements, "-c", "0.1", "--", "true"))
        held = env.submit("--hold", "--name", "held", "--", "echo", "held")
        parent = env.submit("--hold", "--", "true")
        child = env.submit("--after", parent, "--", "echo", "child")
        return held, parent, child

    def assert_whole(self, held, parent, child):
        env = self.env
        self.assertEqual(env.job(held)["state"], "held")
        self.assertEqual(env.job(held)["name"], "held")
        self.assertEqual(env.job(child)["state"], "waiting")
        self.assertEqual(env.job(21)["tasks"]["succeeded"], 2000)
        self.assertEqual(env.job(3)["state"], "cancelled")
        self.assertEqual(env.job_ids(), list(range(1, child + 1)))

    def test_flush(self):
        """Row 107: flush brings all of it into ledger.db itself, readable without its log."""
        env = self.env
        job = env.submit("--hold", "--name", "flushed", "--", "true")
        said = env.cli("ledger", "flush", "--json").json()
        self.assertEqual((said["action"], said["schema"]), ("flush", "reeve.ledger.v1"))
        copy = write(env.file("copy.db"), read(os.path.join(env.state, "ledger.db"), "rb"))
        with sqlite3.connect("file:%s?mode=ro&immutable=1" % copy, uri=True) as database:
            newest = database.execute("SELECT max(seq) FROM batch").fetchone()[0]
        self.assertGreaterEqual(newest, said["durable_seq"])
        self.assertRegex(env.cli("ledger", "flush").out, r"flushed up to batch \d+: ")
        self.assertEqual(env.job(job)["state"], "held")
        env.down()
        self.one_line(env.cli("ledger", "flush", code=UNREACHABLE), "reeve up")

    def test_prune(self):
        """Row 107: prune keeps the live only; the file gets smaller and stays readable."""
        env = self.env
        live = self.fill()
        before = self.files()
        said = env.cli("ledger", "prune", "--json").json()
        self.assertLess(said["batches_after"], said["batches_before"])
        self.assertLess(self.files(), before // 3)
        self.assert_whole(*live)
        self.assertRegex(env.cli("ledger", "prune").out, "pruned to what is live: .* before")
        env.kill_all()
        env.up()
        self.assert_whole(*live)
        held, parent, child = live
        env.cli("release", held, parent)
        env.wait(held, parent, child)
        self.assertEqual(env.submit("--", "true"), child + 1)

    def test_while_running(self):
        """Row 107: pruned while tasks end: none is lost, none runs twice."""
        env = self.env
        job = env.submit("--array", "1-400", "--output", "none", "--", "sh", "-c",
                         "echo $REEVE_TASK_ID >> ran; sleep 0.03")
        prunes = 0
        while env.job(job)["state"] not in ("succeeded", "failed"):
            env.cli("ledger", "prune")
            prunes += 1
        self.assertGreater(prunes, 1)
        self.assertEqual(sorted(map(int, read(env.file("ran")).split())), list(range(1, 401)))
        env.kill_all()
        env.up()
        self.assertEqual(env.job(job)["tasks"]["succeeded"], 400)


class CrashedPrune(OwnCellCase):
    autostart = False

    def test_crash_in_the_middle(self):
        """Row 107 A: killed at any step of a prune, nothing live is lost; the next one works."""
        for step in ("snapshot_before_head", "snapshot_after_head", "prune.dropped_some",
                     "prune.before_vacuum", "prune.before_truncate"):
            with self.subTest(step):
                env = self.start_cell(start=False)
                env.cli("up", *env.up_words, env={"REEVE_FP": step + ":kill"})
                env.learn()
                for i in range(30):
                    env.submit("--hold", "--env", "PAD=" + "x" * 50000, "--", "true")
                env.cli("cancel", "1-25")
                plm = env.pid("plm")
                done = env.cli("ledger", "prune", code=None)
                self.assertNotEqual(done.code, OK, repr(done))
                self.one_line(done)
                env.expected_errors.append("crash|cannot be kept running")
                until(lambda: env.processes("plm") and env.pid("plm") != plm, "the next PLM")
                env.until_up()
                env.down()
                env.up()    # without the crash point
                self.assertEqual(env.job_ids(), list(range(1, 31)))
                states = [j["state"] for j in env.cli("ls", "-a", "--json").json()["jobs"]]
                self.assertEqual((states.count("cancelled"), states.count("held")), (25, 5))
                env.cli("ledger", "prune")
                env.cli("release", "26-30")
                env.wait("26-30")


class Version(OwnCellCase):
    def test_another_version_is_refused(self):
        """Row 109: a client of another version is refused with both versions; nothing changes."""
        env = self.env
        whole = read(BINARY, "rb")
        version = re.search(rb"reeve (\d+\.\d+\.\d+)\0", whole)
        self.assertEqual(whole.count(version.group(0)), 1)
        ours = version.group(1).decode()
        theirs = ".".join("9" * len(part) for part in ours.split("."))
        other = write(env.file("other-reeve"), whole.replace(
            version.group(0), b"reeve " + theirs.encode() + b"\0"), executable=True)
        import subprocess
        for words in (["submit", "--", "true"], ["cancel", "1"], ["wait", "1"],
                      ["events", "--from", "0", "--no-follow"], ["ledger", "prune"],
                      ["run", "--", "true"]):
            with self.subTest(words[0]):
                done = subprocess.run([other] + words, env=env.environment(), cwd=env.work,
                                      capture_output=True, text=True, timeout=60)
                if words[0] in ("cancel", "wait"):   # refused earlier: there is no such job
                    self.assertNotEqual(done.returncode, OK)
                    continue
                refused = 125 if words[0] == "run" else REFUSED   # run: its own failure
                self.assertEqual(done.returncode, refused, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertIn("reeve " + theirs, done.stderr)
                self.assertIn("reeve " + ours, done.stderr)
                self.assertIn("same version", done.stderr)
        self.assertEqual(env.job_ids(), [])
        job = env.submit("--hold", "--", "true")
        done = subprocess.run([other, "cancel", str(job)], env=env.environment(),
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, REFUSED, done.stderr)
        self.assertEqual(env.job(job)["state"], "held")


if __name__ == "__main__":
    unittest.main(verbosity=2)
