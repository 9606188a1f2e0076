"""The supervisor through the real binary: start order, adoption, restarts, crash loops, hung roles,
clean stops, and `status` and `down` in every state of the group.
"""
import os
import signal
import subprocess
import sys
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
from reeve_env import (BINARY, FAILED, OK, UNREACHABLE, OwnCellCase, alive,  # noqa: E402
                       read, until, write)

HEADS = ("plm", "scheduler", "register")


class Status(OwnCellCase):
    cell = {"workers": 2}

    def test_every_process_is_listed(self):
        env = self.env
        status = env.cli("status", "--json").json()
        self.assertEqual(status["schema"], "reeve.status.v1")
        self.assertEqual(status["state"], "up")
        roles = sorted(p["role"] for p in status["processes"])
        self.assertEqual(roles, sorted(["supervisor", *HEADS, "worker", "worker", "launcher",
                                        "launcher"]))
        pids = [p["pid"] for p in status["processes"]]
        self.assertEqual(len(set(pids)), len(pids))
        for process in status["processes"]:
            self.assertTrue(alive(process["pid"]))
            if process["role"] not in ("supervisor", "launcher"):
                self.assertLess(process["heartbeat_age_ms"], 5000)
        self.assertIn("plm", env.cli("status").out)

    def test_words_for_each_state(self):
        env = self.env
        register = env.signal("register", signal.SIGSTOP)
        until(lambda: env.cli("status", "--json", code=None).code == FAILED, "degraded")
        states = {p["role"]: p["state"] for p in env.status()["processes"]}
        self.assertEqual(states["register"], "stopped")
        os.kill(register, signal.SIGCONT)
        env.until_up()
        env.kill_all()
        self.assertEqual(env.cli("status", "--json", code=None).code, UNREACHABLE)
        for process in env.status()["processes"]:
            self.assertIn(process["state"], ("dead", "missing"))
        env.cli("status", code=UNREACHABLE)

    def test_nothing_was_ever_there(self):
        nowhere = os.path.join(self.env.scratch, "nowhere")
        self.env.cli("status", "--state-dir", nowhere, code=UNREACHABLE)
        self.env.cli("down", "--state-dir", nowhere)
        self.assertFalse(os.path.exists(nowhere))  # asking made nothing


class Restarts(OwnCellCase):
    cell = {"workers": 1}

    def test_killed_roles_come_back(self):
        env = self.env
        for role in (*HEADS, "worker"):
            old = env.kill(role)
            env.until_up(workers=1)
            self.assertNotEqual(env.pid(role), old)
        self.assertEqual(env.cli("run", "--", "echo", "well").out, "well\n")

    def test_supervisor_killed_and_replaced(self):
        """The roles live on; the next supervisor adopts them all."""
        env = self.env
        before = {p["role"]: p["pid"] for p in env.processes()}
        env.kill("supervisor")
        self.assertEqual(env.cli("run", "--", "echo", "alone").out, "alone\n")
        env.kill("scheduler")  # nobody restarts it
        time.sleep(0.3)
        self.assertEqual(env.processes("scheduler"), [])
        env.up()
        after = {p["role"]: p["pid"] for p in env.processes()}
        for role in ("plm", "register", "worker", "launcher"):
            self.assertEqual(after[role], before[role], role)
        self.assertNotEqual(after["scheduler"], before["scheduler"])
        self.assertNotEqual(after["supervisor"], before["supervisor"])
        self.assertEqual(env.cli("run", "--", "echo", "again").out, "again\n")

    def test_hung_role_is_killed(self):
        env = self.env
        env.expected_errors.append("a role hangs and is killed")
        old = env.signal("scheduler", signal.SIGSTOP)
        begun = time.monotonic()
        until(lambda: not alive(old), "the end of the hung scheduler", timeout=40)
        self.assertGreater(time.monotonic() - begun, 8)
        env.until_up(workers=1)
        self.assertEqual(env.cli("run", "--", "echo", "well").out, "well\n")

    def test_stopped_supervisor_harms_nobody(self):
        env = self.env
        env.signal("supervisor", signal.SIGSTOP)
        self.assertEqual(env.cli("run", "--", "echo", "well").out, "well\n")
        env.down()  # which wakes it up to stop the group

    def test_log_is_rotated(self):
        env = self.env
        log = os.path.join(env.state, "logs", "scheduler.log")
        with open(log, "ab") as file:
            file.truncate(17 << 20)
        env.kill("scheduler")
        env.until_up(workers=1)
        self.assertGreater(os.path.getsize(log + ".1"), 16 << 20)
        self.assertLess(os.path.getsize(log), 1 << 20)


class CrashLoop(OwnCellCase):
    cell = {"workers": 1, "start": False}

    def test_role_that_never_starts(self):
        """`up` fails soon, names the role and its last words, and leaves nothing."""
        env = self.env
        env.expected_errors.append("cannot be kept running|cannot start|ledger")
        ledger = os.path.join(env.state, "ledger.db")
        os.makedirs(env.state, mode=0o700, exist_ok=True)
        write(ledger, "not a ledger\n" * 1000)
        begun = time.monotonic()
        done = env.cli("up", code=None)
        self.assertNotEqual(done.code, OK)
        self.assertLess(time.monotonic() - begun, 20)
        self.assertIn("plm", done.err)
        self.assertIn("logs", done.err)
        env.learn()
        self.assertEqual(env.leftovers(), [])
        os.unlink(ledger)
        env.up()

    def test_worker_with_bad_options(self):
        env = self.env
        env.expected_errors.append("cannot be kept running")
        done = env.cli("supervise", "--workers", "1", "--worker-arg=--nonsense", code=None,
                       timeout=60)
        self.assertNotEqual(done.code, OK)
        env.learn()
        self.assertEqual(env.leftovers(), [])

    def test_crash_loop_after_a_good_start(self):
        """The supervisor gives up loudly; the others live on, and the next `up` mends it."""
        env = self.env
        env.expected_errors.append("cannot be kept running")
        supervisor = env.popen("supervise", "--workers", "1",
                               env={"REEVE_FP": "scheduler.after_claim:exit"},
                               stderr=subprocess.DEVNULL)
        until(lambda: env.status()["state"] == "up", "the group up")
        env.learn()
        worker = env.pid("worker")
        job = env.submit("--", "true")
        self.assertEqual(supervisor.wait(timeout=120), 7)
        self.assertEqual(env.pid("worker"), worker)
        self.assertEqual(env.processes("scheduler"), [])
        env.cli("status", code=FAILED)
        env.up()
        env.wait(job)


class Stops(OwnCellCase):
    cell = {"workers": 2}

    def test_term_to_the_supervisor_stops_all(self):
        env = self.env
        env.submit("--", "sleep", "1000")
        pid = env.signal("supervisor", signal.SIGTERM)
        until(lambda: not alive(pid), "the supervisor's end")
        self.assertEqual(env.leftovers(), [])

    def test_running_tasks_run_again_after_a_stop(self):
        env = self.env
        job = env.submit("--", "sh", "-c", "test $REEVE_ATTEMPT -gt 1 || sleep 1000")
        env.until_running(job)
        env.down()
        begun = time.monotonic()
        env.up()
        env.wait(job)
        self.assertLess(time.monotonic() - begun, 15)

    def test_down_without_a_supervisor(self):
        env = self.env
        env.submit("--", "sh", "-c", "setsid sleep 1000 & sleep 1000")
        env.kill("supervisor")
        env.signal("scheduler", signal.SIGSTOP)
        env.signal("worker", signal.SIGSTOP, "worker-1")
        env.signal("launcher", signal.SIGSTOP, "worker-2")
        env.cli("down", "--grace", "2", timeout=90)
        self.assertEqual(env.leftovers(), [])

    def test_down_after_everything_was_killed(self):
        env = self.env
        job = env.submit("--", "sh", "-c", "setsid sleep 1000 & sleep 1000")
        env.until_running(job)
        env.kill_all()
        env.down()
        self.assertEqual(env.leftovers(), [])

    def test_workers_of_a_larger_group_are_adopted(self):
        env = self.env
        before = sorted(p["pid"] for p in env.processes("worker"))
        env.kill("supervisor")
        env.cli("up", "--workers", "1")
        self.assertEqual(sorted(p["pid"] for p in env.processes("worker")), before)

    def test_second_supervisor_is_refused(self):
        done = self.env.cli("supervise", code=5)
        self.assertIn("supervisor", done.err)

    def test_reeve_up_script(self):
        env = self.env
        env.down()
        script = os.path.join(ROOT, "scripts", "reeve-up")
        child = subprocess.Popen([script, "--workers", "1"],
                                 env=env.environment({"REEVE_BIN": BINARY}),
                                 stderr=subprocess.DEVNULL)
        env.children.append(child)
        until(lambda: env.status()["state"] == "up", "the group up")
        self.assertEqual(env.pid("supervisor"), child.pid)  # it executed the supervisor
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(timeout=60), 0)
        self.assertEqual(env.leftovers(), [])

    def test_stale_pid_files_name_nobody(self):
        """A pid file whose pid belongs to a stranger by now is not believed."""
        env = self.env
        env.down()
        stranger = subprocess.Popen(["sleep", "1000"])
        try:
            for name in ("plm", "worker-1", "supervisor"):
                write(os.path.join(env.state, "run", name + ".pid"), "%d 12345\n" % stranger.pid)
            write(os.path.join(env.state, "run", "register.pid"), "garbage\n")
            env.up()
            self.assertNotEqual(env.pid("plm"), stranger.pid)
            env.down()
            self.assertIsNone(stranger.poll())
        finally:
            stranger.kill()
            stranger.wait()

    def test_no_tcp_socket(self):
        env = self.env
        pids = {p["pid"] for p in env.processes()}
        inodes = set()
        for table in ("/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6"):
            lines = read(table).splitlines()[1:] if os.path.exists(table) else []
            inodes |= {line.split()[9] for line in lines}
        for pid in pids:
            for fd in os.listdir("/proc/%d/fd" % pid):
                try:
                    target = os.readlink("/proc/%d/fd/%s" % (pid, fd))
                except OSError:
                    continue
                if target.startswith("socket:["):
                    self.assertNotIn(target[8:-1], inodes)


class Doctor(OwnCellCase):
    cell = {"workers": 1}

    def test_machine_is_described(self):
        checks = self.env.cli("doctor", "--json", code=(OK, FAILED)).json()["checks"]
        names = [check["name"] for check in checks]
        for name in ("kernel", "pidfd", "cpu", "/dev/shm", "cgroups", "open files", "grpc"):
            self.assertIn(name, names)
        for check in checks:
            self.assertIn(check["verdict"], ("ok", "warn", "bad"))
            if check["verdict"] != "ok":
                self.assertTrue(check["cure"], check)


if __name__ == "__main__":
    unittest.main(verbosity=2)
