"""Submit, list, inspect: BEHAVIOURS.md section 1 (rows 1 to 15 and 17; 16 is in test_arrays.py)."""
import os
import subprocess
import time
import unittest

from reeve_env import (FAILED, NOT_FOUND, OK, USAGE, OwnCellCase, SharedCellCase,
                       seconds, until, write)


class BeforeAnyWorker(OwnCellCase):
    cell = {"workers": 0}

    def test_tasks_wait_for_the_first_worker(self):
        """Row 1: tasks submitted before any worker exists wait, and run once one joins."""
        env = self.env
        first = env.submit("--name", "one", "--", "sh", "-c", "echo first")
        second = env.submit("--name", "two", "--", "sh", "-c", "echo second")
        listed = env.cli("ls", "--json").json()["jobs"]
        self.assertEqual([(j["job"], j["name"], j["state"]) for j in listed],
                         [(first, "one", "queued"), (second, "two", "queued")])
        self.assertEqual((first, second), (1, 2))
        env.popen("worker", "--name", "late", "--cpus", "1")
        env.wait(first, second)
        self.assertEqual(env.output(first), "first\n")
        listed = env.cli("ls", "--all", "--json").json()["jobs"]
        self.assertEqual([(j["job"], j["name"], j["state"]) for j in listed],
                         [(first, "one", "succeeded"), (second, "two", "succeeded")])
        self.assertEqual(env.task(second)["worker_name"], "late")


class Submit(SharedCellCase):
    def test_one_sentence(self):
        """Row 2: submit prints one known sentence; quiet mode and --parsable only the id."""
        done = self.env.cli("submit", "--", "true")
        self.assertRegex(done.out, r"\Asubmitted job \d+\n\Z")
        self.assertEqual(done.err, "")
        for flag in ("-q", "--parsable"):
            done = self.env.cli("submit", flag, "--", "true")
            self.assertRegex(done.out, r"\A\d+\n\Z")
            self.assertEqual(done.err, "")

    def test_directories(self):
        """Row 3: the work directory is the submission's, or the one asked for."""
        env = self.env
        os.makedirs(env.file("here"), exist_ok=True)
        os.makedirs(env.file("there"), exist_ok=True)
        here = env.submit("--", "pwd", cwd=env.file("here"))
        there = env.submit("--cwd", env.file("there"), "--", "pwd", cwd=env.file("here"))
        relative = env.submit("--cwd", "../there", "--", "pwd", cwd=env.file("here"))
        env.wait(here, there, relative)
        self.assertEqual(env.output(here), env.file("here") + "\n")
        self.assertEqual(env.output(there), env.file("there") + "\n")
        self.assertEqual(env.output(relative), env.file("there") + "\n")
        self.assertEqual(env.show(here)["spec"]["cwd"], env.file("here"))
        self.assertEqual(env.show(there)["spec"]["cwd"], env.file("there"))

    def test_names(self):
        """Row 4: a name is kept; one with a control character is refused, nothing is made."""
        env = self.env
        job = env.submit("--name", "my job ä", "--", "true")
        self.assertEqual(env.job(job)["name"], "my job ä")
        before = env.job_ids()
        for bad in ("two\nlines", "tab\there", "\x1b[31mred", "x" * 256):
            done = env.cli("submit", "--name", bad, "--", "true", code=USAGE)
            self.one_line(done, "name", ";")
        self.assertEqual(env.job_ids(), before)
        env.wait(job)

    def test_long_names_are_short_in_tables_only(self):
        """Row 5: a long name is cut in tables and whole everywhere else."""
        env = self.env
        name = "n" * 200
        job = env.submit("--name", name, "--", "true")
        env.wait(job)
        table = env.cli("ls", "--all", job).out
        self.assertNotIn("n" * 60, table)
        self.assertIn("nnn…", table)
        self.assertLess(max(len(line) for line in table.splitlines()), 120)
        self.assertEqual(env.job(job)["name"], name)
        self.assertIn(name, env.cli("show", job).out)

    def test_unknown_ids(self):
        """Row 8: an unknown id: one clean line, exit code 3, in every command that takes one."""
        for command in ("show", "wait", "cancel", "hold", "release", "requeue", "retry", "logs",
                        "explain", "history"):
            done = self.env.cli(command, "987654", code=NOT_FOUND)
            self.one_line(done, "987654")
        done = self.env.cli("show", "nonsense!", code=USAGE)
        self.one_line(done, "nonsense!")

    def test_environment(self):
        """Row 13: variables reach the task, and show names them."""
        env = self.env
        job = env.submit("--env", "COLOUR=dark blue", "--env", "FROM_HERE", "--",
                         "sh", "-c", 'echo "$COLOUR/$FROM_HERE/$NOT_GIVEN"',
                         env={"FROM_HERE": "copied", "NOT_GIVEN": "leaks"})
        env.wait(job)
        self.assertEqual(env.output(job), "dark blue/copied/\n")
        shown = env.show(job)["spec"]["env"]
        self.assertEqual((shown["COLOUR"], shown["FROM_HERE"]), ("dark blue", "copied"))
        self.assertIn("COLOUR", env.cli("show", "--env", job).out)

    def test_task_environment(self):
        """What every task finds in its environment (BRIEF of the CLI; row 31's words)."""
        env = self.env
        job = env.submit("--array", "7", "-c", "2", "--mem", "64M", "--", "sh", "-c",
                         "echo $REEVE_JOB_ID $REEVE_TASK_ID $REEVE_ATTEMPT $REEVE_CPUS "
                         "$OMP_NUM_THREADS $REEVE_MEM; test -n \"$REEVE_INSTANCE\"")
        env.wait(job)
        words = env.output(job, 7).split()
        self.assertEqual(words[:5], [str(job), "7", "1", "2", "2"])
        self.assertEqual(int(words[5]), 64 << 20)
        own = env.submit("--env", "OMP_NUM_THREADS=5", "--", "sh", "-c", "echo $OMP_NUM_THREADS")
        env.wait(own)
        self.assertEqual(env.output(own), "5\n")


class Listing(OwnCellCase):
    def make_one_of_each(self):
        env = self.env
        ok = env.submit("--name", "fine", "--", "true")
        bad = env.submit("--name", "broken", "--", "false")
        env.wait(ok, bad, code=FAILED)
        gone = env.submit("--name", "given-up", "--hold", "--", "true")
        env.cli("cancel", gone)
        running = env.submit("--name", "busy", "--", "sleep", "60")
        env.until_running(running)
        held = env.submit("--name", "kept", "--hold", "--", "true")
        waiting = env.submit("--name", "later", "--after", running, "--", "true")
        return ok, bad, gone, running, held, waiting

    def test_filters_and_hidden_jobs(self):
        """Rows 6 and 7: filter by state, also by several; ended jobs are hidden and counted."""
        env = self.env
        ok, bad, gone, running, held, waiting = self.make_one_of_each()

        def listed(*words):
            return [int(line) for line in env.cli("ls", "--parsable", *words).out.split()]
        self.assertEqual(listed(), [running, held, waiting])
        self.assertEqual(env.job(held)["tasks"]["held"], 1)
        self.assertEqual(listed("--all"), [ok, bad, gone, running, held, waiting])
        self.assertEqual(listed("--state", "failed"), [bad])
        self.assertEqual(listed("--state", "failed,succeeded"), [ok, bad])
        self.assertEqual(listed("--state", "cancelled"), [gone])
        self.assertEqual(listed("--state", "running"), [running])
        self.assertEqual(listed("--state", "held,waiting"), [held, waiting])
        self.assertEqual(listed("--state", "ended"), [ok, bad, gone])
        self.assertIn("3 ended jobs are not shown", env.cli("ls").err)
        self.assertEqual(env.cli("ls", "--json").json()["ended_hidden"], 3)
        self.one_line(env.cli("ls", "--state", "finished", code=USAGE), "--state", "succeeded")
        env.cli("cancel", running)
        env.wait(running, code=FAILED)

    def test_selectors(self):
        """Row 9: last, the one before, all, ranges, lists and names work in every command."""
        env = self.env
        jobs = [env.submit("--name", "sel-%d" % i, "--", "echo", "out%d" % i) for i in range(5)]
        env.wait("all")

        def shown(*words):
            return [j["job"]["job"] for j in env.cli("show", "--json", *words).json()["jobs"]]
        self.assertEqual(shown("@"), [jobs[4]])
        self.assertEqual(shown("@~1"), [jobs[3]])
        self.assertEqual(shown("%d-%d" % (jobs[0], jobs[2])), jobs[:3])
        self.assertEqual(shown(jobs[0], jobs[3]), [jobs[0], jobs[3]])
        self.assertEqual(shown("name:sel-[12]"), jobs[1:3])
        self.assertEqual(env.cli("logs", "@").out, "out4\n")
        self.assertIn("out2\n", env.cli("logs", "%d-%d" % (jobs[1], jobs[2])).out)
        env.cli("wait", "@", "@~1")
        held = [env.submit("--hold", "--", "true") for _ in range(4)]
        env.cli("cancel", "%d-%d" % (held[0], held[1]))
        env.cli("cancel", "@")
        self.assertEqual([env.job(j)["state"] for j in held],
                         ["cancelled", "cancelled", "held", "cancelled"])
        env.cli("cancel", "all")
        self.assertEqual(env.job(held[2])["state"], "cancelled")

    def test_counts_of_every_state(self):
        """Row 6, summary: the counts of an array add up at every moment and name each state."""
        env = self.env
        job = env.submit("--array", "1-30%4", "--", "sh", "-c",
                         "sleep 0.03; test $((REEVE_TASK_ID % 10)) != 0")
        while True:
            tasks = env.job(job)["tasks"]
            parts = sum(tasks[k] for k in ("backlog", "held", "queued", "running", "succeeded",
                                           "failed", "cancelled"))
            # One moment: a task on its way between two states may be in neither count.
            self.assertLessEqual(parts, tasks["total"])
            self.assertLessEqual(tasks["running"], 4)
            if tasks["succeeded"] + tasks["failed"] == 30:
                break
        self.assertEqual((tasks["succeeded"], tasks["failed"]), (27, 3))
        done = env.cli("show", job)
        self.assertRegex(done.out, r"(?m)^succeeded +1-9,11-19,21-29$")   # row 12
        self.assertRegex(done.out, r"(?m)^failed +10,20,30$")


class Tasks(SharedCellCase):
    def test_task_table(self):
        """Row 10: worker, state and error of each task, for several jobs at once."""
        env = self.env
        one = env.submit("--array", "1-3", "--", "sh", "-c", "exit $((REEVE_TASK_ID - 1))")
        two = env.submit("--no-check", "--", "/no/such/program")
        env.wait(one, two, code=FAILED)
        out = env.cli("show", one, two).out
        self.assertRegex(out, r"(?m)^ *%d\.1 +succeeded +1 +worker-[12] " % one)
        self.assertRegex(out, r"(?m)^ *%d\.2 +failed +1 +worker-[12] .*exit 1" % one)
        self.assertRegex(out, r"(?m)^ *%d\.3 +failed +1 +worker-[12] .*exit 2" % one)
        self.assertRegex(out, r"(?m)^ *%d +failed +1 +worker-[12] .*/no/such/program" % two)
        states = [(t["element"], t["state"], t["exit_code"]) for t in env.show(one)["tasks"]]
        self.assertEqual(states, [(1, "succeeded", 0), (2, "failed", 1), (3, "failed", 2)])

    def test_elements_that_have_not_started(self):
        """Row 10: an element is shown from the moment it exists: queued, held or waiting."""
        env = self.env
        held = env.submit("--hold", "--", "true")
        self.assertEqual((env.task(held)["state"], env.task(held)["attempt"]), ("held", 0))
        array = env.submit("--array", "1-5000%1", "--output", "none", "--", "sleep", "60")
        env.until_running(array, 1)
        shown = env.show("%d.4990-4992" % array)["tasks"]
        self.assertEqual([(t["element"], t["state"]) for t in shown],
                         [(4990, "queued"), (4991, "queued"), (4992, "queued")])
        waits = env.submit("--after", array, "--array", "7-9", "--", "true")
        self.assertEqual([(t["element"], t["state"]) for t in env.show("%d.8" % waits)["tasks"]],
                         [(8, "waiting")])
        self.one_line(env.cli("show", "%d.77" % waits, code=NOT_FOUND), "no element 77")
        env.cli("cancel", array, waits, held)

    def test_durations(self):
        """Row 11: durations stop at the end and are right; cancelled tasks have fixed times."""
        env = self.env
        job = env.submit("--", "sleep", "0.6")
        cut = env.submit("--", "sleep", "60")
        env.until_running(cut)
        env.wait(job)
        env.cli("cancel", cut)
        env.wait(cut, code=FAILED)
        task = env.task(job)
        took = seconds(task["ended"]) - seconds(task["started"])
        self.assertGreaterEqual(took, 0.6)
        self.assertLess(took, 0.66 + 0.5)  # within 10 %, and half a second for a loaded machine
        stamps = [(env.task(j), env.job(j)) for j in (job, cut)]
        table = env.cli("ls", "--all", job, cut).out
        until(lambda: time.time() > seconds(stamps[1][0]["ended"]) + 1.1, "a second to pass")
        self.assertEqual([(env.task(j), env.job(j)) for j in (job, cut)], stamps)
        self.assertEqual(env.cli("ls", "--all", job, cut).out, table)
        for task, status in stamps:
            order = [seconds(task[k]) for k in ("submitted", "assigned", "started", "ended")]
            self.assertEqual(order, sorted(order))
            self.assertEqual(status["ended"], task["ended"])

    def test_singles_and_arrays_interleaved(self):
        """Row 17: 50 arrays of 4 and 50 single jobs interleaved all finish; ids are in order."""
        env = self.env
        jobs = []
        for i in range(50):
            jobs.append({"command": "true", "array": "1-4"})
            jobs.append({"command": "true"})
        ids = env.submit_file(jobs)
        self.assertEqual(ids, list(range(ids[0], ids[0] + 100)))
        env.wait("%d-%d" % (ids[0], ids[-1]))
        listed = env.cli("ls", "--all", "--json", "%d-%d" % (ids[0], ids[-1])).json()["jobs"]
        self.assertEqual([j["job"] for j in listed], ids)
        self.assertEqual([j["tasks"]["succeeded"] for j in listed], [4, 1] * 50)

    def test_scripts(self):
        """A script with #REEVE lines; options of the command line win over them."""
        env = self.env
        path = env.script("train.sh", "#!/bin/sh\n#REEVE --name from-script -c 2 -t 10m\n"
                          "echo \"$REEVE_CPUS $1\"\n")
        job = env.submit(path, "argument")
        env.wait(job)
        shown = env.show(job)
        self.assertEqual(shown["job"]["name"], "from-script")
        self.assertEqual(shown["spec"]["time_limit_ms"], 600_000)
        self.assertEqual(env.output(job), "2 argument\n")
        job = env.submit("--name", "from-line", path)
        env.wait(job)
        self.assertEqual(env.job(job)["name"], "from-line")
        bad = write(env.file("bad.sh"), "#!/bin/sh\n#REEVE --cpuz 2\ntrue\n")
        self.one_line(env.cli("submit", bad, code=USAGE), "bad.sh", "cpu")


class DryRun(SharedCellCase):
    def test_nothing_is_queued(self):
        """--dry-run checks everything and makes nothing; a refusal is the same as without."""
        env = self.env
        before = env.job_ids()
        env.cli("submit", "--dry-run", "--", "true")
        self.one_line(env.cli("submit", "--dry-run", "-c", "999", "--", "true", code=USAGE), "cpu")
        self.assertEqual(env.job_ids(), before)
        self.assertEqual(env.cli("ls", "--all", "-q", code=OK).err, "")


class Stdin(SharedCellCase):
    def test_run_hands_its_stdin_on(self):
        """What is piped into `run` is the task's input, up to the limit of a stored one."""
        env = self.env
        self.assertEqual(env.cli("run", "--", "cat", input="two\nlines\n").out, "two\nlines\n")
        self.assertEqual(env.cli("run", "--", "wc", "-c", input="x" * 700_000).out.strip(),
                         "700000")
        self.assertEqual(env.cli("run", "--", "cat").out, "")
        before = env.job_ids()
        done = env.cli("run", "--", "cat", input="x" * 800_000, code=125)
        self.one_line(done, "stdin is larger than 768K", "--input FILE")
        self.assertEqual(env.job_ids(), before)

    def test_input_from_stdin(self):
        """`--input -` stores stdin with the job: every attempt and element reads it whole."""
        env = self.env
        job = env.submit("--input", "-", "--array", "1-3", "--", "cat", input="shared\n")
        env.wait(job)
        self.assertEqual([env.output(job, i) for i in (1, 2, 3)], ["shared\n"] * 3)

    def test_a_pipe_that_does_not_end(self):
        """After two seconds `run` tells what it waits for."""
        env = self.env
        child = env.popen("run", "--", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
        self.assertRegex(child.stderr.readline(), "waiting for the end of stdin.*/dev/null")
        self.assertEqual(child.communicate("late", timeout=30), ("late", ""))


class Limit(SharedCellCase):
    def test_show_tells_the_limit(self):
        """`show` tells the time limit as it is now."""
        env = self.env
        job = env.submit("--hold", "-t", "30m", "--", "true")
        self.assertRegex(env.cli("show", job).out, "time limit +30m")
        env.cli("update", "-t", "5m", job)
        self.assertRegex(env.cli("show", job).out, "time limit +5m")
        self.assertEqual(env.show(job)["spec"]["time_limit_ms"], 300_000)
        env.cli("cancel", job)
        self.assertRegex(env.cli("show", env.submit("--", "true")).out, "time limit +none")


if __name__ == "__main__":
    unittest.main(verbosity=2)
