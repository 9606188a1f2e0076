"""Durability and identity: BEHAVIOURS.md section 8 (rows 97 to 102, 105 and 108).

Processes die by SIGKILL. Random kills under load are in tests/stress.
"""
import os
import shutil
import signal
import sqlite3
import time
import unittest

from reeve_env import FAILED, OwnCellCase, alive, read, until, write


class Restart(OwnCellCase):
    def crash(self):
        self.env.kill_all()
        self.env.up()

    def test_ended_jobs_and_ids(self):
        """Row 97: after a restart all is as it was; ids go on, of jobs and of workers."""
        env = self.env
        good = env.submit("--name", "good", "--", "echo", "hi")
        bad = env.submit("--", "sh", "-c", "exit 4")
        env.wait(good, bad, code=FAILED)
        before = [env.show(j) for j in (good, bad)]
        workers = [p["worker_number"] for p in env.processes("worker")]
        for stop in (env.kill_all, env.down, env.kill_all):   # row 102: again and again
            stop()
            env.up()
            self.assertEqual([env.show(j) for j in (good, bad)], before)
            self.assertEqual(env.job_ids(), [good, bad])
            now = [p["worker_number"] for p in env.processes("worker")]
            self.assertEqual(len(set(now) | set(workers)), len(now) + len(workers), "reused")
            workers += now
        self.assertEqual(env.submit("--", "true"), bad + 1)

    def test_waiting_tasks(self):
        """Row 98: what waited still waits, then runs; held stays held."""
        env = self.env
        full = env.submit("-c", "2", "--array", "1-2", "--", "sleep", "300")
        until(lambda: env.job(full)["tasks"]["running"] == 2, "both workers full")
        waiting = env.submit("--", "echo", "ran")
        held = env.submit("--hold", "--", "echo", "held")
        begin = env.submit("--begin", "+1h", "--", "true")
        env.kill_all()
        env.up()
        self.assertEqual(env.job(held)["state"], "held")
        self.assertIn(env.job(begin)["state"], ("waiting", "queued"))
        self.assertIn(env.job(waiting)["state"], ("queued", "waiting"))
        env.cli("cancel", full, begin)
        env.wait(waiting)
        env.cli("release", held)
        env.wait(held)
        self.assertEqual((env.output(waiting), env.output(held)), ("ran\n", "held\n"))

    def test_partly_finished(self):
        """Row 99: finished ones do not run again; running ones run again, as attempt 2."""
        env = self.env
        gate = env.file("gate")
        job = env.submit("--array", "1-5", "-c", "0.5", "--", "sh", "-c",
                         "echo $REEVE_TASK_ID.$REEVE_ATTEMPT >> ran; [ $REEVE_TASK_ID -le 2 ] || "
                         "while [ ! -e %s ]; do sleep 0.02; done" % gate)
        until(lambda: os.path.exists(env.file("ran")) and len(read(env.file("ran")).split()) == 5
              and env.job(job)["tasks"]["succeeded"] == 2, "two done and three running")
        self.crash()
        until(lambda: len(read(env.file("ran")).split()) == 8, "the three to run again")
        write(gate, "")
        env.wait(job)
        self.assertEqual(sorted(read(env.file("ran")).split()),
                         ["1.1", "2.1", "3.1", "3.2", "4.1", "4.2", "5.1", "5.2"])
        self.assertEqual([t["attempt"] for t in env.show(job)["tasks"]], [1, 1, 2, 2, 2])

    def test_failed_and_cancelled(self):
        """Rows 100 and 101: failed stay failed with their message, cancelled stay cancelled."""
        env = self.env
        bad = env.submit("--no-check", "--array", "1-2", "--", "/no/such/program")
        gone = env.submit("--hold", "--", "true")
        env.cli("cancel", gone, "--reason", "not needed")
        env.wait(bad, gone, code=FAILED)
        until(lambda: env.job(gone)["reason"], "the reason")
        before = [env.show(j) for j in (bad, gone)]
        self.crash()
        self.assertEqual([env.show(j) for j in (bad, gone)], before)
        self.assertIn("/no/such/program", env.task(bad, 1)["detail"])
        self.assertEqual(env.job(gone)["reason"], "not needed")

    def test_dependencies(self):
        """Row 105: a graph survives: parents before and after the restart."""
        env = self.env
        gate = env.file("gate")
        jobs = [{"job_id": "slow", "command": ["sh", "-c", "while [ ! -e %s ]; do sleep 0.02; "
                                               "done; echo slow >> order" % gate]},
                {"job_id": "quick", "command": ["sh", "-c", "echo quick >> order"]},
                {"job_id": "last", "command": ["sh", "-c", "echo last >> order"],
                 "after": ["slow", "quick"]},
                {"job_id": "bad", "command": "false"},
                {"job_id": "never", "command": "true", "after": ["bad", "slow"]}]
        slow, quick, last, bad, never = env.submit_file(jobs)
        env.wait(quick)
        env.wait(bad, code=FAILED)
        self.crash()
        self.assertEqual(env.job(last)["state"], "waiting")
        write(gate, "")
        env.wait(last)
        env.wait(never, code=FAILED)
        self.assertEqual(read(env.file("order")).split(), ["quick", "slow", "last"])
        self.assertEqual(env.job(never)["state"], "cancelled")

    def test_acknowledged_then_killed(self):
        """Row 108: SIGKILL of all right after the ACK: every job is there, and the cancel too."""
        env = self.env
        acked = []
        for i in range(4):
            acked.append(env.submit("--name", "acked-%d" % i, "--hold", "--", "true"))
            cancelled = env.submit("--hold", "--", "true")
            env.cli("cancel", cancelled)
            os.kill(env.pid("plm"), signal.SIGKILL)
            self.crash()
            self.assertEqual([env.job(j)["name"] for j in acked],
                             ["acked-%d" % n for n in range(i + 1)])
            self.assertEqual(env.job(cancelled)["state"], "cancelled")
            self.assertEqual(env.job_ids(), list(range(1, 2 * i + 3)))

    def test_the_last_entries_are_signed(self):
        """What a killed PLM had not signed yet its successor signs, though nothing happens then."""
        env = self.env
        env.wait(env.submit("--array", "1-20", "--output", "none", "--", "true"))
        env.kill("plm")

        def unsigned():
            ledger = sqlite3.connect("file:%s/ledger.db?mode=ro" % env.state, uri=True)
            (leaves,) = ledger.execute("SELECT max(first_leaf + leaf_count) FROM batch").fetchone()
            ledger.close()
            checkpoint = os.path.join(env.state, "audit", "checkpoint")
            signed = int(read(checkpoint).split("\n")[1]) if os.path.exists(checkpoint) else 0
            return leaves - signed
        until(lambda: unsigned() == 0, "the checkpoint")

    def test_idempotency_keys(self):
        """One key, one job: again, after an end, after a restart; another job is refused."""
        env = self.env
        first = env.cli("submit", "--json", "--key", "nightly-1", "--", "true").json()["jobs"][0]
        again = env.cli("submit", "--json", "--key", "nightly-1", "--", "true").json()["jobs"][0]
        self.assertEqual((first["existed"], again["existed"]), (False, True))
        self.assertEqual(first["job"], again["job"])
        env.wait(first["job"])
        self.assertEqual(env.submit("--key", "nightly-1", "--", "true"), first["job"])
        self.crash()
        self.assertEqual(env.submit("--key", "nightly-1", "--", "true"), first["job"])
        other = env.submit("--key", "nightly-2", "--", "true")
        self.assertNotEqual(other, first["job"])
        self.assertEqual(env.job_ids(), [first["job"], other])

    def test_plm_alone(self):
        """The PLM killed under way: tasks go on, results arrive, the next submit works."""
        env = self.env
        gate = env.file("gate")
        job = env.submit("--array", "1-2", "--", "sh", "-c",
                         "while [ ! -e %s ]; do sleep 0.02; done; echo $REEVE_ATTEMPT" % gate)
        until(lambda: env.job(job)["tasks"]["running"] == 2, "both running")
        env.kill("plm")
        write(gate, "")
        env.until_up()
        env.wait(job)
        self.assertEqual([env.output(job, i) for i in (1, 2)], ["1\n", "1\n"])
        env.wait(env.submit("--", "true"))

    def test_each_role_alone(self):
        """Scheduler and register killed: a running task goes on, a new one starts."""
        env = self.env
        running = env.submit("--", "sh", "-c", "while [ ! -e gate ]; do sleep 0.02; done")
        env.until_running(running)
        for role in ("scheduler", "register", "supervisor"):
            env.kill(role)
            if role == "supervisor":
                self.assertIn("is up", env.up().out)
            job = env.submit("--", "true")
            env.wait(job)
            env.until_up(2)
        write(env.file("gate"), "")
        env.wait(running)
        self.assertEqual(env.task(running)["attempt"], 1)

    def test_segment_gone_or_damaged(self):
        """The segment removed or overwritten while down: rebuilt from the ledger."""
        env = self.env
        gate = env.file("gate")
        held = env.submit("--hold", "--", "echo", "held")
        job = env.submit("--", "sh", "-c", "while [ ! -e %s ]; do sleep 0.02; done" % gate)
        env.until_running(job)
        for damage in ("removed", "zeroed", "garbage", "another version"):
            with self.subTest(damage):
                segment = "/dev/shm" + env.status()["segment"]
                env.kill_all()
                if damage == "removed":
                    os.unlink(segment)
                else:
                    with open(segment, "r+b") as file:
                        size = 8192 if damage != "another version" else 0
                        file.write({"zeroed": bytes(size), "garbage": os.urandom(size)}.get(
                            damage, b""))
                        if damage == "another version":
                            file.seek(8)          # after the magic: the layout's version
                            file.write(b"\xff\x7f\x00\x00")
                env.up()
                self.assertEqual(env.job(held)["state"], "held")
                env.until_state(job, "running")
        write(gate, "")
        env.wait(job)
        env.cli("release", held)
        env.wait(held)


class Lost(OwnCellCase):
    """What others remove or damage under a running cell."""

    def segment(self):
        return "/dev/shm" + self.env.status()["segment"]

    def test_segment_removed_or_damaged(self):
        """The PLM makes a new segment; roles follow; a running attempt is taken over."""
        env = self.env
        long = env.submit("--output", "none", "--", "sh", "-c",
                          "until [ -e over ]; do sleep 0.1; done")
        env.until_state(long, "running")
        old = self.segment()
        os.unlink(old)
        until(lambda: self.segment() != old, "a new segment")
        env.wait(env.submit("--", "true"), timeout=20)
        old = self.segment()
        with open(old, "r+b") as file:
            file.write(os.urandom(64))
        until(lambda: self.segment() != old, "a new segment")
        env.wait(env.submit("--", "true"), timeout=20)
        os.unlink(self.segment())
        env.kill("plm")
        env.wait(env.submit("--", "true"), timeout=20)
        until(lambda: env.task(long)["state"] == "running", "its worker has it again")
        write(env.file("over"), "")
        env.wait(long)
        self.assertEqual(env.task(long)["attempt"], 1)

    def test_state_directory_removed(self):
        """The group stops, and leaves no process behind."""
        env = self.env
        pids = [p["pid"] for p in env.processes()]
        # A role may write a file between the listing of a directory and its removal.
        until(lambda: shutil.rmtree(env.state, ignore_errors=True) or
              not os.path.exists(env.state), "the removal of the directory")
        until(lambda: not any(alive(pid) for pid in pids), "the end of the group")
        shutil.rmtree(env.state, ignore_errors=True)  # what a role wrote while it ended
        env.up()
        env.wait(env.submit("--", "true"))


class Between(OwnCellCase):
    autostart = False

    def test_a_rebuild_between_a_death_and_what_follows_from_it(self):
        """Nothing is told of the dead worker's attempt but that it goes back."""
        env = self.start_cell(start=False, workers=1, cpus=1)
        env.cli("up", *env.up_words, env={
            "REEVE_FP": "worker.before_start:kill:1,register.before_requeue:sleep=3000:1"})
        env.learn()
        job = env.submit("--", "true")
        until(lambda: env.job(job)["state"] == "running", "it is assigned")
        env.kill("launcher")
        logs = os.path.join(env.state, "logs")
        until(lambda: "declared dead" in read(logs + "/register.log"), "the verdict")
        time.sleep(0.3)  # its record
        old = env.status()["segment"]
        os.unlink("/dev/shm" + old)
        until(lambda: env.status()["segment"] not in ("", old), "a new segment")
        env.kill("plm")
        until(lambda: "taken over" in read(logs + "/plm.log"), "who finds the orphan")
        time.sleep(1.2)  # it sweeps; what it recorded is verified with the cell's end


if __name__ == "__main__":
    unittest.main(verbosity=2)
