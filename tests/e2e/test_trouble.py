"""What a person is told while the cell under a command is stopped, hangs, or loses its segment."""
import os
import shutil
import signal
import subprocess
import time
import unittest

from reeve_env import (FAILED, OK, TIMEOUT, UNREACHABLE, OwnCellCase, alive, read, until)


def finish(child, timeout=60):
    out, err = child.communicate(timeout=timeout)
    return child.returncode, out, err


class Trouble(OwnCellCase):
    def start(self, *words):
        return self.env.popen(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_the_plm_is_stopped(self):
        """After two seconds a command says whom it waits for; it gives up in time, or is served
        once, when the PLM goes on."""
        env = self.env
        plm = env.pid("plm")
        pids = [env.pid("supervisor"), plm]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            submit = self.start("submit", "--", "true")
            drain = self.start("node", "drain", "worker-1")
            code, out, err = finish(drain)
            self.assertEqual((code, out), (UNREACHABLE, ""))
            late, end = err.splitlines()
            self.assertEqual(late, "reeve: the PLM (pid %d) is stopped; waiting up to 18 s more"
                             % plm)
            self.assertRegex(end, r"reeve: the PLM \(pid %d\) is stopped, waited 20 s; .*"
                             "reeve status" % plm)
            self.assertIsNone(submit.poll())
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        code, out, err = finish(submit)
        self.assertEqual((code, out), (OK, "submitted job 1\n"))
        self.assertEqual(err, "reeve: the PLM (pid %d) is stopped; waiting up to 58 s more\n" % plm)
        self.assertEqual(env.job_ids(), [1])

    def test_wait_keeps_its_timeout(self):
        """`wait --timeout` ends in time though nobody answers, whatever names the job."""
        env = self.env
        job = env.submit("--name", "long", "--", "sleep", "60")
        env.until_running(job)
        pids = [env.pid("supervisor"), env.pid("plm")]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            for name in (job, "@", "all", "1-5", "name:lo*"):
                begun = time.monotonic()
                done = env.cli("wait", "--timeout", "1s", name, code=TIMEOUT)
                self.assertLess(time.monotonic() - begun, 3, repr(done))
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        env.cli("cancel", job)

    def test_down_under_listeners(self):
        """`events` and `shm watch` end with the cell and say so in one line."""
        env = self.env
        listeners = [self.start("events", "--from", "0"), self.start("shm", "watch")]
        job = env.submit("--", "sleep", "2")
        self.assertIn("reeve.event.v1", listeners[0].stdout.readline())
        self.assertIn(" -> ", listeners[1].stdout.readline())
        env.wait(job)
        env.down()
        for child in listeners:
            code, _, err = finish(child)
            self.assertEqual(code, UNREACHABLE, err)
            self.assertEqual(len(err.splitlines()), 1)
            self.assertRegex(err, "reeve: .*reeve up")

    def test_killed_probes_are_swept(self):
        """What a killed `doctor` left in the cgroup tree is removed by the next one; what belongs
        to a living process stays."""
        base = next((d for d in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
                     if os.path.exists(d + "/cgroup.procs")), None)
        if os.geteuid() != 0 or base is None or not os.access(base, os.W_OK):
            self.skipTest("needs root and a cgroup v2 tree")
        gone = subprocess.Popen(["true"])
        gone.wait()
        left = ["%s/reeve.probe.%d.%s" % (base, gone.pid, made) for made in ("7", "k7")]
        mine = "%s/reeve.probe.%d.7" % (base, os.getpid())
        for path in left + [mine]:
            os.mkdir(path)
        try:
            self.env.cli("doctor", code=None)
            self.assertEqual([p for p in left + [mine] if os.path.exists(p)], [mine])
        finally:
            for path in left + [mine]:
                if os.path.exists(path):
                    os.rmdir(path)

    def test_only_the_supervisor_is_dead(self):
        """The PLM alone is a cell that runs: commands wait for it."""
        env = self.env
        env.kill("supervisor")
        plm = env.pid("plm")
        os.kill(plm, signal.SIGSTOP)
        submit = self.start("submit", "--", "true")
        self.assertIn("is stopped", submit.stderr.readline())
        os.kill(plm, signal.SIGCONT)
        self.assertEqual(finish(submit)[0], OK)
        env.up()

    def test_down_by_several(self):
        """Each `down` returns when the cell is down, and none of them fails."""
        env = self.env
        for child in [self.start("down") for _ in range(5)]:
            code, out, err = finish(child)
            self.assertEqual((code, err), (OK, ""), out)
            self.assertRegex(out, "reeve is down|nothing runs")
        self.assertEqual(env.leftovers(), [])

    def test_down_under_run(self):
        """`run` tells that the cell went, what becomes of its task, and ends with 125."""
        env = self.env
        run = self.start("run", "--", "sh", "-c",
                         "echo attempt $REEVE_ATTEMPT; [ $REEVE_ATTEMPT -gt 1 ] || sleep 60")
        env.until_state(until(env.job_ids, "it")[0], "running")
        env.down()
        code, _, err = finish(run)
        self.assertEqual(code, 125)
        self.assertEqual(len(err.splitlines()), 1)
        self.assertRegex(err, "reeve: the PLM went away .*reeve up.*job 1 is kept and runs again.*"
                              "reeve logs -f 1")
        env.up()
        env.wait("1")
        self.assertEqual(env.cli("logs", "1").out, "attempt 2\n")

    def test_down_under_logs(self):
        """`logs -f` ends with the cell and says so; what the task had written is all there."""
        env = self.env
        job = env.submit("--", "sh", "-c", "echo first; sleep 60")
        env.until_running(job)
        logs = self.start("logs", "-f", job)
        self.assertEqual(logs.stdout.readline(), "first\n")
        env.down()
        code, _, err = finish(logs)
        self.assertEqual(code, UNREACHABLE)
        self.assertEqual(len(err.splitlines()), 1)
        self.assertRegex(err, "task 1 has not ended, and no cell runs .*reeve up")

    def test_logs_over_a_new_segment(self):
        """`logs -f` sees the end of a task that a rebuilt segment tells."""
        env = self.env
        gate = env.file("gate")
        job = env.submit("--", "sh", "-c", "echo first; while [ ! -e %s ]; do sleep 0.02; done;"
                         " echo last" % gate)
        env.until_running(job)
        logs = self.start("logs", "-f", job)
        self.assertEqual(logs.stdout.readline(), "first\n")
        old = env.status()["segment"]
        os.unlink("/dev/shm" + old)
        until(lambda: env.status()["segment"] not in ("", old), "a new segment")
        open(gate, "w").close()
        self.assertEqual(finish(logs), (OK, "last\n", ""))

    def test_segment_cut_short(self):
        """Cut to nothing or in the middle, the segment is SIGBUS for whoever writes it; the
        supervisor lives and starts them again, and nothing is lost."""
        env = self.env
        many = env.submit("--array", "1-500", "--output", "none", "--", "true")
        held = env.submit("--hold", "--", "true")
        for size in (0, 65536):
            supervisor = env.pid("supervisor")
            segment = env.status()["segment"]
            os.truncate("/dev/shm" + segment, size)
            until(lambda: env.status()["segment"] not in ("", segment), "a new segment")
            env.until_up(2)
            self.assertEqual(env.pid("supervisor"), supervisor)
            env.wait(env.submit("--", "true"))
        env.wait(many)
        self.assertEqual(env.job(many)["tasks"]["succeeded"], 500)
        self.assertEqual(env.job(held)["state"], "held")

    def test_all_killed_and_fewer_workers(self):
        """`up` counts the workers that live, not the slots the dead ones left."""
        env = self.env
        env.kill_all()
        self.assertIn(", 1 worker)", env.cli("up", "--workers", "1").out)

    def test_log_without_key(self):
        """What a cell wrote while its directory was removed does not keep the next one from
        starting: a signed log without key and ledger is set aside."""
        env = self.env
        env.wait(env.submit("--", "true"))
        env.down()
        kept = read(os.path.join(env.state, "audit", "checkpoint"))
        for name in os.listdir(env.state):
            path = os.path.join(env.state, name)
            if name != "audit":
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        env.up()
        env.wait(env.submit("--", "true"))
        aside = [n for n in os.listdir(env.state) if n.startswith("audit.without-key-")]
        self.assertEqual(len(aside), 1)
        self.assertEqual(read(os.path.join(env.state, aside[0], "checkpoint")), kept)
        # With a ledger, it is still refused: the key has to be found.
        env.down()
        os.unlink(os.path.join(env.state, "audit.key"))
        env.expected_errors.append("cannot start|cannot be kept running")
        self.assertIn("the key of this audit log is gone", env.cli("up", code=None).err)
        shutil.rmtree(os.path.join(env.state, "audit"))

    def test_directory_removed_again_and_again(self):
        """A cell whose directory goes leaves no audit log behind."""
        for _ in range(3):
            env = self.env
            env.submit("--array", "1-300", "--output", "none", "--", "true")
            pids = [p["pid"] for p in env.processes()]
            shutil.rmtree(env.state, ignore_errors=True)
            until(lambda: not any(alive(pid) for pid in pids), "the end of the group")
            env.up()
            env.wait(env.submit("--", "true"))


class ManyJobs(OwnCellCase):
    def test_retry_all(self):
        """What did not fail is no error: one line for what is retried, one for the rest."""
        env = self.env
        good = [env.submit("--", "true") for _ in range(3)]
        bad = env.submit("--", "false")
        env.wait("all")
        env.cli("wait", *good, bad, code=FAILED)
        done = env.cli("retry", "all")
        self.assertEqual(done.out, "queued again job %d\n" % bad)
        self.assertEqual(done.err, "reeve: nothing to retry in jobs 1-3\n")
        env.cli("wait", bad, code=FAILED)
        self.assertEqual(env.task(bad)["attempt"], 2)
        self.assertEqual(env.cli("retry", "1-3").err, "reeve: nothing to retry in jobs 1-3\n")
        # Named one by one, it is told as refused.
        self.one_line(env.cli("retry", 1, bad, code=FAILED), "job 1: nothing of it failed")

    def test_requeue_of_what_runs(self):
        """Elements that wait are queued already; those that run are queued again."""
        env = self.env
        job = env.submit("--array", "1-20", "--", "sleep", "60")
        until(lambda: env.job(job)["tasks"]["running"] == 4, "four running")
        done = env.cli("requeue", job)
        self.assertEqual((done.out, done.err), ("requeued job %d (4 tasks)\n" % job, ""))
        env.cli("hold", job)
        env.cli("cancel", "all")
        env.cli("wait", job, code=FAILED)

    def test_only_held_elements(self):
        """A job all of whose waiting elements are held is held."""
        env = self.env
        env.submit("--array", "1-4", "--", "sleep", "60")
        job = env.submit("--array", "1-3", "--", "true")
        env.cli("hold", "%d.1-3" % job)
        self.assertEqual(env.job(job)["state"], "held")
        env.cli("release", "%d.2" % job)
        self.assertEqual(env.job(job)["state"], "queued")
        env.cli("cancel", "all")


if __name__ == "__main__":
    unittest.main(verbosity=2)
