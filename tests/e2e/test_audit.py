"""The record through the binary: verify, history, reassigned, prove, check, consistency.

The rules themselves are tested in tests/unit/common/audit; here a real cell wrote the log. Every
other test of this folder verifies its cell's log at the end (ReeveEnv.close).
"""
import json
import os
import shutil
import time
import unittest

from reeve_env import FAILED, OK, OwnCellCase, read, until, write


class Record(OwnCellCase):
    def reassign(self):
        """A task that ran on two workers, and ended; its id."""
        env = self.env
        gate = env.file("gate")
        job = env.submit("--", "sh", "-c", "while [ ! -e %s ]; do sleep 0.02; done" % gate)
        first = env.until_running(job)
        env.kill_worker(first["worker_name"])
        until(lambda: env.task(job)["attempt"] == 2, "the second attempt")
        env.until_running(job)
        write(gate, "")
        env.wait(job)
        return job

    def plain_copy(self):
        """The log's directory alone, with every daemon stopped and the cell's own files gone."""
        env = self.env
        env.down()
        copy = env.file("copy")
        shutil.copytree(os.path.join(env.state, "audit"), copy)
        return copy

    def test_reassignment_is_proven(self):
        """A reassignment is proven from a plain copy: evidence, checked offline; and forged."""
        env = self.env
        job = self.reassign()
        quiet = env.submit("--", "true")
        env.wait(quiet)
        copy = self.plain_copy()
        kinds = [line.split()[3] for line in
                 env.cli("audit", "history", job, "--dir", copy).out.splitlines()[1:-1]]
        self.assertEqual(kinds, ["TASK_SUBMITTED", "ASSIGNED", "STARTED", "REQUEUED", "ASSIGNED",
                                 "STARTED", "FINISHED"])
        evidence = env.file("evidence")
        env.cli("audit", "reassigned", job, "--dir", copy, "-o", evidence)
        text = read(evidence)
        self.assertEqual(text.count("\nentry "), 4)
        key = read(os.path.join(copy, "log.vkey")).strip()
        done = env.cli("audit", "check", evidence, "--vkey", key)
        self.assertIn(str(job), done.out)
        lines = text.splitlines()
        numbers = [i for i, line in enumerate(lines) if len(line) > 20]
        for number in (numbers[0], numbers[1], numbers[-2], numbers[-1]):
            line = lines[number]
            at = len(line) // 2
            forged = lines[:]
            forged[number] = line[:at] + ("A" if line[at] != "A" else "B") + line[at + 1:]
            path = write(env.file("forged"), "\n".join(forged) + "\n")
            done = env.cli("audit", "check", path, "--vkey", key, code=FAILED)
            self.assertLessEqual(len(done.err.splitlines()), 1, repr(done))
        self.assertNotEqual(
            env.cli("audit", "reassigned", quiet, "--dir", copy, code=None).code, OK)

    def test_every_ending_is_recorded(self):
        """Each way to end is an entry with its code; history of a task is complete."""
        env = self.env
        ok = env.submit("--", "echo", "x")
        bad = env.submit("--", "sh", "-c", "exit 7")
        timed = env.submit("-t", "200ms", "--", "sleep", "60")
        gone = env.submit("--hold", "--", "true")
        env.cli("cancel", gone)
        again = env.submit("--retries", "1", "--", "false")
        held = env.submit("--hold", "--", "true")
        env.cli("release", held)
        env.wait(ok, bad, timed, gone, again, held, code=FAILED)

        def entries(job):
            out = env.cli("audit", "history", job, "--json", code=None).out
            return [e for e in map(json.loads, out.splitlines()) if "kind" in e]

        def kinds(job):
            return [e["kind"] for e in entries(job)]
        until(lambda: "FINISHED" in kinds(held), "the checkpoint to cover all")
        until(lambda: kinds(again).count("FAILED") == 2, "the checkpoint to cover all")
        until(lambda: "FAILED" in kinds(timed), "the checkpoint to cover all")
        start = ["TASK_SUBMITTED", "ASSIGNED", "STARTED"]
        self.assertEqual(kinds(ok), start + ["FINISHED"])
        self.assertEqual(kinds(bad), start + ["FAILED"])
        self.assertEqual(kinds(timed), start + ["FAILED"])
        self.assertEqual(kinds(gone)[-1], "CANCELLED")
        self.assertEqual(kinds(again), start + ["FAILED", "REQUEUED", "ASSIGNED", "STARTED",
                                                "FAILED"])
        self.assertIn("RELEASED", kinds(held))
        self.assertEqual(entries(bad)[-1]["code"], 7)

    def test_any_change_is_found(self):
        """One flipped bit anywhere in the log's files: verify refuses."""
        env = self.env
        env.wait(env.submit("--array", "1-20", "--", "true"))
        copy = self.plain_copy()
        env.cli("audit", "verify", copy)
        files = [os.path.join(at, name) for at, _, names in os.walk(copy) for name in names
                 if os.path.getsize(os.path.join(at, name)) and name != "tiles.synced"]
        self.assertGreaterEqual(len(files), 4)
        for path in files:
            whole = read(path, "rb")
            for at in (0, len(whole) // 2, len(whole) - 2):
                write(path, whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1:])
                done = env.cli("audit", "verify", copy, code=None)
                used = "/entries/" in path or "/0/" in path or "checkpoint" in path
                if done.code == OK and used and self.is_superseded(path, copy):
                    done.code = FAILED   # a smaller partial tile than the checkpoint's: unused
                self.assertNotEqual(done.code, OK, "%s, byte %d" % (path, at))
                self.assertLessEqual(len(done.err.splitlines()), 2, repr(done))
            write(path, whole)
        env.cli("audit", "verify", copy)

    def is_superseded(self, path, copy):
        size = int(self.env.cli("audit", "head", copy, "--json").json()["size"])
        return ".p/" in path and int(os.path.basename(path)) != size % 256

    def test_rollback_is_found(self):
        """A log rolled back to an older, valid state is refused by who remembers a newer one."""
        env = self.env
        env.wait(env.submit("--", "true"))
        env.down()
        old = env.file("old")
        shutil.copytree(os.path.join(env.state, "audit"), old)
        env.up()
        env.wait(env.submit("--", "true"))
        env.down()
        new = os.path.join(env.state, "audit")
        memory = env.file("memory")
        env.cli("audit", "verify", old, "--remember", memory)
        env.cli("audit", "verify", new, "--remember", memory)
        done = env.cli("audit", "verify", old, "--remember", memory, code=FAILED)
        self.assertRegex(done.err, "(?i)roll|older|smaller|behind")
        proof = env.file("consistency")
        sizes = [env.cli("audit", "head", d, "--json").json()["size"] for d in (old, new)]
        env.cli("audit", "consistency", sizes[0], sizes[1], "--dir", new, "-o", proof)
        self.assertGreater(os.path.getsize(proof), 50)
        env.cli("audit", "compare", os.path.join(old, "checkpoint"),
                os.path.join(new, "checkpoint"), "--dir", new)

    def test_prove_one_entry(self):
        """One entry's proof checks offline with the key alone."""
        env = self.env
        job = env.submit("--", "true")
        env.wait(job)
        copy = self.plain_copy()
        proof = env.file("proof")
        env.cli("audit", "prove", "0", "--dir", copy, "-o", proof)
        key = read(os.path.join(copy, "log.vkey")).strip()
        entries = read(os.path.join(copy, "tile", "entries", "000.p", str(
            env.cli("audit", "head", copy, "--json").json()["size"])), "rb")
        size = int.from_bytes(entries[:2], "big")
        write(env.file("entry"), entries[2:2 + size])
        env.cli("audit", "check", proof, "--entry", env.file("entry"), "--vkey", key)
        write(env.file("entry"), entries[2:2 + size][:-1] + b"\x01")
        env.cli("audit", "check", proof, "--entry", env.file("entry"), "--vkey", key, code=FAILED)

    def test_checkpoint_is_fresh_under_load(self):
        """Under load the checkpoint is never older than 1 s (asserted with slack, tests/bench)."""
        env = self.env
        job = env.submit("--array", "1-1500", "--output", "none", "--", "true")
        path = os.path.join(env.state, "audit", "checkpoint")
        until(lambda: os.path.exists(path), "the first checkpoint")
        worst = 0
        while env.job(job)["state"] in ("running", "queued"):
            worst = max(worst, time.time() - os.stat(path).st_mtime)
        self.assertLess(worst, 4)
        env.wait(job)

    def test_after_many_kills(self):
        """Workers and PLM killed under load: the log still obeys every rule."""
        env = self.env
        # More than can end during all the kills, however slow the machine is.
        job = env.submit("--array", "1-20000", "--output", "none", "--", "sleep", "0.01")
        for victim in ("worker-1", "plm", "worker-2", "scheduler", "register", "plm"):
            until(lambda: env.job(job)["tasks"]["running"], "something running")
            if victim.startswith("worker"):
                env.kill_worker(victim)
            else:
                env.kill(victim)
            env.until_up(2)
        until(lambda: env.job(job)["tasks"]["running"], "something running")
        env.cli("cancel", job)
        env.wait(job, code=FAILED)
        tasks = env.job(job)["tasks"]
        self.assertEqual(tasks["failed"], 0)
        self.assertEqual(tasks["succeeded"] + tasks["cancelled"], 20000)


if __name__ == "__main__":
    unittest.main(verbosity=2)
