"""A real cell in a temporary directory, driven through the `reeve` binary alone.

ReeveEnv starts and stops it, kills and stops single processes of it, submits and waits. close()
checks what must hold after every test, whatever it did: nothing of the cell is left (processes,
shared memory, cgroups, sockets, pid files), its audit log verifies, and no role wrote an error it
was not expected to write.

SharedCellCase gives all tests of a class one cell, OwnCellCase gives each test its own.
Never sleep to wait: until() polls a condition with a deadline that fails the test.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.path.abspath(
    os.environ.get("REEVE_BINARY", os.path.join(ROOT, "build/release/cli/reeve")))
NIGHTLY = os.environ.get("REEVE_NIGHTLY", "") not in ("", "0")
# All deadlines are for a loaded machine; REEVE_SLOW=4 stretches them for sanitizers.
SLOW = float(os.environ.get("REEVE_SLOW", "1"))
DEADLINE = 30 * SLOW

# Exit codes the CLI documents.
OK, FAILED, USAGE, NOT_FOUND, UNREACHABLE, REFUSED, TIMEOUT, INTERNAL = 0, 1, 2, 3, 4, 5, 6, 7


def until(condition, what, timeout=None, pause=0.01):
    """Polls until condition() is true and returns its value; fails the test at the deadline."""
    deadline = time.monotonic() + (timeout * SLOW if timeout else DEADLINE)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("not in time: " + what)
        time.sleep(pause)


def read(path, mode="r"):
    with open(path, mode) as file:
        return file.read()


def write(path, text, executable=False):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb" if isinstance(text, bytes) else "w") as file:
        file.write(text)
    if executable:
        os.chmod(path, 0o755)
    return path


def process_state(pid):
    """One letter of /proc/PID/stat, or "" when there is no such process."""
    try:
        return read("/proc/%d/stat" % pid).rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid):
    return process_state(pid) not in ("", "Z", "X")


def seconds(stamp):
    """A JSON time stamp as seconds since the epoch."""
    whole, _, part = stamp.rstrip("Z").partition(".")
    import calendar
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float("0." + (part or "0"))


def has(command):
    """Whether this binary knows the command (a build may leave parts out)."""
    if command not in _known:
        text = subprocess.run([BINARY, command, "--help"], capture_output=True, text=True).stdout
        _known[command] = "Usage: reeve %s" % command in text
    return _known[command]


_known = {}


class Done:
    """What one command said."""

    def __init__(self, words, code, out, err):
        self.words, self.code, self.out, self.err = words, code, out, err

    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return "reeve %s -> %d\n--- stdout\n%s\n--- stderr\n%s" % (
            " ".join(map(str, self.words)), self.code, self.out[-3000:], self.err[-3000:])


class ReeveEnv:
    def __init__(self, workers=2, cpus=2, mem=None, up=(), start=True, scratch=None, uid=None):
        if not os.access(BINARY, os.X_OK):
            raise AssertionError("no reeve at %s; build it or set REEVE_BINARY" % BINARY)
        self.own_scratch = scratch is None
        self.scratch = scratch or tempfile.mkdtemp(prefix="reeve-e2e-")
        self.binary = BINARY
        self.uid = uid              # whose cell it is; only root may say so
        if uid is not None:
            # Our own place may be closed to others.
            self.binary = shutil.copy(BINARY, os.path.join(self.scratch, "reeve"))
            os.chown(self.scratch, uid, uid)
        self.state = os.path.join(self.scratch, "state")
        self.work = os.path.join(self.scratch, "work")
        os.makedirs(self.work, exist_ok=True)
        if uid is not None:
            os.chown(self.work, uid, uid)
        self.up_words = ["--workers", str(workers), "--cpus", str(cpus)]
        if mem:
            self.up_words += ["--mem", mem]
        self.up_words += list(up)
        self.expected_errors = []   # patterns of level=error lines a test provokes on purpose
        self.children = []          # processes we started besides the commands
        self.hash = ""
        self.runtime = ""
        if start:
            self.up()

    # ---- commands -------------------------------------------------------------------------

    def environment(self, extra=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("REEVE_", "XDG_"))}
        # A test started with another user's PATH must not find directories it may not search.
        path = [d for d in env.get("PATH", "").split(":") if os.access(d, os.X_OK)]
        env.update(REEVE_STATE_DIR=self.state, NO_COLOR="1", PATH=":".join(path))
        if self.uid is not None:
            env.update(HOME=self.work, PATH="/usr/local/bin:/usr/bin:/bin")
        env.update(extra or {})
        return env

    def popen(self, *words, env=None, cwd=None, **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        child = subprocess.Popen([BINARY] + [str(w) for w in words], env=self.environment(env),
                                 cwd=cwd or self.work, **more)
        self.children.append(child)
        return child

    def cli(self, *words, code=OK, timeout=60, input=None, env=None, cwd=None, uid=None):
        """Runs a command; code None accepts any exit code, a tuple several."""
        words = [str(word) for word in words]
        uid = self.uid if uid is None else uid
        user = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
        try:
            ran = subprocess.run([self.binary] + words, env=self.environment(env), input=input,
                                 cwd=cwd or self.work, capture_output=True, text=True,
                                 errors="surrogateescape", timeout=timeout * SLOW, **user,
                                 stdin=subprocess.DEVNULL if input is None else None)
        except subprocess.TimeoutExpired as late:
            raise AssertionError("does not end: reeve %s" % " ".join(words)) from late
        done = Done(words, ran.returncode, ran.stdout, ran.stderr)
        wanted = code if isinstance(code, tuple) else (code,)
        if code is not None and done.code not in wanted:
            raise AssertionError("expected exit code %s: %r" % (code, done))
        return done

    def up(self, *words):
        done = self.cli("up", *self.up_words, *words)
        self.learn()
        return done

    def learn(self):
        status = self.status()
        self.hash = status["cell"]
        self.runtime = os.path.dirname(status["socket"])

    def down(self):
        return self.cli("down")

    def status(self):
        return self.cli("status", "--json", code=None).json()

    # ---- processes ------------------------------------------------------------------------

    def processes(self, role=None, name=None):
        return [p for p in self.status()["processes"]
                if p["state"] == "running" and (role is None or p["role"] == role)
                and (name is None or p["name"] == name)]

    def pid(self, role, name=None):
        found = self.processes(role, name)
        if not found:
            raise AssertionError("no %s %s runs" % (role, name or ""))
        return found[0]["pid"]

    def signal(self, role, number, name=None):
        pid = self.pid(role, name)
        os.kill(pid, number)
        return pid

    def kill(self, role, name=None):
        """SIGKILL to one process; returns when it is gone."""
        pid = self.signal(role, signal.SIGKILL, name)
        until(lambda: not alive(pid), "the death of %s" % role)
        return pid

    def kill_worker(self, name):
        """SIGKILL to agent and launcher of a worker, as close together as we can."""
        pids = [p["pid"] for p in self.processes(name=name) if p["role"] in ("worker", "launcher")]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return pids

    def kill_all(self):
        """SIGKILL to every process of the cell, the supervisor first."""
        pids = [p["pid"] for p in self.processes()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(alive(pid) for pid in pids), "the death of all")
        return pids

    def until_up(self, workers=None):
        """Waits until every process answers again."""
        def ready():
            status = self.status()
            if status["state"] != "up":
                return False
            lives = [p for p in status["processes"] if p.get("worker_state") == "alive"
                     and p["role"] == "worker" and p["state"] == "running"]
            return workers is None or len(lives) >= workers
        until(ready, "the group up again")

    # ---- jobs -----------------------------------------------------------------------------

    def submit(self, *words, **more):
        """The id of the one job made."""
        done = self.cli("submit", "--parsable", *words, **more)
        return int(done.out)

    def submit_file(self, jobs, name="jobs.json", **more):
        """Writes jobs to a file and submits it; the ids in order."""
        path = write(os.path.join(self.work, name), json.dumps(jobs, indent=1))
        return [int(line) for line in self.cli("submit", "--parsable", path, **more).out.split()]

    def wait(self, *jobs, code=OK, timeout=60):
        return self.cli("wait", "-q", "--timeout", "%ds" % (timeout * SLOW), *jobs, code=code,
                        timeout=timeout + 10)

    def show(self, job):
        return self.cli("show", "--json", job).json()["jobs"][0]

    def job(self, job):
        return self.show(job)["job"]

    def task(self, job, element=None):
        tasks = self.show(job if element is None else "%s.%s" % (job, element))["tasks"]
        if element is None and len(tasks) != 1:
            raise AssertionError("job %s has %d tasks" % (job, len(tasks)))
        for task in tasks:
            if element is None or task["element"] == element:
                return task
        raise AssertionError("show has no task %s.%s: %s" % (job, element, tasks))

    def until_state(self, job, *states, timeout=None):
        def reached():
            state = self.job(job)["state"]
            return state if state in states else None
        try:
            return until(reached, "job %s %s" % (job, " or ".join(states)), timeout)
        except AssertionError as late:
            raise AssertionError("%s: %s" % (late, self.cli("show", job, code=None).out)) from None

    def until_running(self, job, element=None):
        def running():
            task = self.task(job, element)
            return task if task["state"] == "running" and task["pid"] else None
        return until(running, "task %s running" % job)

    def output(self, job, element=0, attempt=1, mode="r"):
        return read(self.output_path(job, element, attempt), mode)

    def output_path(self, job, element=0, attempt=1):
        return os.path.join(self.state, "out", str(job), "%d.%d.out" % (element, attempt))

    def file(self, *parts):
        return os.path.join(self.work, *parts)

    def script(self, name, text):
        return write(self.file(name), text, executable=True)

    def job_ids(self):
        return [j["job"] for j in self.cli("ls", "--all", "--json").json()["jobs"]]

    # ---- the end --------------------------------------------------------------------------

    def leftovers(self):
        """What is left of the cell; empty after `down`."""
        found = []
        marks = (b"REEVE_INSTANCE=" + self.hash.encode(), b"REEVE_CELL=" + self.hash.encode())
        for name in os.listdir("/proc"):
            if not name.isdigit() or not alive(int(name)):
                continue
            try:
                env = read("/proc/%s/environ" % name, "rb").split(b"\0")
                line = read("/proc/%s/cmdline" % name, "rb")
            except OSError:
                continue
            if any(v.startswith(marks) for v in env) or (
                    self.state.encode() in line and b"reeve" in line.split(b"\0")[0]):
                found.append("process %s: %s" % (name, line.replace(b"\0", b" ")[:200]))
        found += ["shared memory " + n for n in os.listdir("/dev/shm")
                  if n.startswith("reeve-%s-" % self.hash)]
        for at, names, _ in os.walk("/sys/fs/cgroup"):
            found += ["cgroup %s/%s" % (at, n) for n in names if n == "reeve." + self.hash]
            if at.count("/") > 8:
                names.clear()
        if self.runtime and os.path.exists(self.runtime):
            found.append("runtime directory with %s" % os.listdir(self.runtime))
        run = os.path.join(self.state, "run")
        found += ["pid file " + n for n in (os.listdir(run) if os.path.isdir(run) else [])
                  if n.endswith(".pid")]
        if os.path.exists(os.path.join(self.state, "segment")):
            found.append("the segment's name")
        return found

    def log_lines(self):
        logs = os.path.join(self.state, "logs")
        for name in sorted(os.listdir(logs)) if os.path.isdir(logs) else []:
            for line in read(os.path.join(logs, name)).splitlines():
                yield name, line

    def unexpected_errors(self):
        bad = re.compile(r"level=(error|critical)|AddressSanitizer|ThreadSanitizer|runtime error:"
                         r"|terminate called|assertion|Segmentation fault", re.I)
        return ["%s: %s" % (name, line) for name, line in self.log_lines()
                if bad.search(line) and not any(re.search(p, line) for p in self.expected_errors)]

    def log_tail(self, lines=15):
        by_name = {}
        for name, line in self.log_lines():
            by_name.setdefault(name, []).append(line)
        return "\n".join("== %s\n%s" % (name, "\n".join(all_lines[-lines:]))
                         for name, all_lines in by_name.items())

    def close(self):
        """Stops the cell and checks what must hold after any test. Returns the problems."""
        problems = []
        for child in self.children:
            if child.poll() is None and child.stdin is not None:
                child.stdin.close()
        if os.path.isdir(self.state) and self.hash:
            down = self.cli("down", code=None)
            if down.code != OK:
                problems.append("down: %r" % down)
            for child in self.children:
                try:
                    child.wait(5 * SLOW)
                except subprocess.TimeoutExpired:
                    problems.append("a child of the test does not end: %s" % child.args)
                    child.kill()
                    child.wait()
                for stream in (child.stdin, child.stdout, child.stderr):
                    if stream is not None:
                        stream.close()
            problems += ["left behind: " + what for what in self.leftovers()]
            problems += ["unexpected in the logs: " + line for line in self.unexpected_errors()]
            if has("audit") and os.path.exists(os.path.join(self.state, "audit", "checkpoint")):
                verified = self.cli("audit", "verify", code=None)
                if verified.code != OK:
                    problems.append("audit verify: %r" % verified)
        return problems

    def remove(self):
        if self.own_scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)


class Case(unittest.TestCase):
    """What both kinds of test share."""
    maxDiff = None
    cell = {}  # arguments of ReeveEnv

    def one_line(self, done, *parts):
        """The error a person sees: one line, from reeve, with all the parts in it."""
        lines = done.err.splitlines()
        self.assertEqual(len(lines), 1, "not one line: %r" % done)
        self.assertTrue(lines[0].startswith("reeve: "), repr(done))
        for part in parts:
            self.assertRegex(lines[0], part, repr(done))
        self.assertNotRegex(done.out + done.err, "(?i)exception|terminate|assert|status_code")
        return lines[0]

    def failed_already(self):
        outcome = getattr(self, "_outcome", None)
        result = getattr(outcome, "result", None)
        found = list(getattr(result, "errors", [])) + list(getattr(result, "failures", []))
        return any(test is self for test, _ in found)


class SharedCellCase(Case):
    """One cell for all tests of a class: each looks at its own jobs only."""

    @classmethod
    def setUpClass(cls):
        cls.env = ReeveEnv(**cls.cell)

    @classmethod
    def tearDownClass(cls):
        problems = cls.env.close()
        tail = cls.env.log_tail() if problems else ""
        cls.env.remove()
        if problems:
            raise AssertionError("\n".join(problems) + "\n" + tail)

    def tearDown(self):
        if self.failed_already():
            print(self.id(), "failed; logs:\n" + self.env.log_tail())


class OwnCellCase(Case):
    """A cell for each test; start_cell() may be given other arguments."""
    autostart = True

    def setUp(self):
        self.envs = []
        if self.autostart:
            self.env = self.start_cell(**self.cell)

    def start_cell(self, **arguments):
        self.env = ReeveEnv(**arguments)
        self.envs.append(self.env)
        return self.env

    def tearDown(self):
        if self.failed_already():
            for env in self.envs:
                print(self.id(), "failed; logs:\n" + env.log_tail())
        problems = []
        for env in self.envs:
            problems += env.close()
            tail = env.log_tail() if problems else ""
            env.remove()
            if problems:
                problems.append(tail)
        if problems:
            self.fail("\n".join(problems))
