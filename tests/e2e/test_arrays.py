"""Arrays, job files, dependencies: BEHAVIOURS.md section 7 (rows 90 to 95) and row 16."""
import json
import os
import time
import unittest

from reeve_env import (FAILED, NIGHTLY, USAGE, OwnCellCase, SharedCellCase, read, until, write)


class Arrays(SharedCellCase):
    def test_exact_ids(self):
        """Row 90: exactly the elements asked for run, once each."""
        env = self.env
        job = env.submit("--array", "3,7-9,100-110:5", "--", "sh", "-c",
                         "echo $REEVE_TASK_ID >> ran")
        env.wait(job)
        want = [3, 7, 8, 9, 100, 105, 110]
        self.assertEqual(sorted(map(int, read(env.file("ran")).split())), want)
        self.assertEqual([t["element"] for t in env.show(job)["tasks"]], want)
        self.assertEqual(env.job(job)["tasks"]["total"], 7)

    def test_some_and_all_fail(self):
        """Row 90: counts per state, and the first errors are listed."""
        env = self.env
        some = env.submit("--array", "0-9", "--", "sh", "-c",
                          "[ $((REEVE_TASK_ID % 5)) != 4 ] || exit 17")
        every = env.submit("--array", "0-9", "--", "sh", "-c", "exit 3")
        env.wait(some, every, code=FAILED)
        tasks = env.job(some)["tasks"]
        self.assertEqual((tasks["succeeded"], tasks["failed"]), (8, 2))
        self.assertEqual(env.job(some)["exit_code"], 17)
        self.assertRegex(env.cli("show", some).out, r"(?m)^failed +4,9$")
        self.assertEqual(env.job(every)["tasks"]["failed"], 10)
        self.assertRegex(env.cli("show", every).out, r"exit 3")

    def test_at_most_n_at_a_time(self):
        """%N: never more than N of an array run at once (witness files of the tasks)."""
        env = self.env
        place = env.file("at-once")
        os.makedirs(place)
        job = env.submit("--array", "1-12%2", "-c", "0.1", "--", "sh", "-c",
                         "touch %s/$REEVE_TASK_ID; ls %s | wc -l; sleep 0.05; "
                         "rm %s/$REEVE_TASK_ID" % (place, place, place))
        env.wait(job)
        seen = [int(env.output(job, i)) for i in range(1, 13)]
        self.assertLessEqual(max(seen), 2)

    def test_one_task_per_line(self):
        """Row 91: a task for each line, as {} in the command and as $REEVE_VALUE."""
        env = self.env
        lines = ["plain", "two words", "quote'd \"so\"", "$HOME `id`", "ä", "last without newline"]
        path = write(env.file("lines.txt"), "\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:]))
        env.cli("submit", "--each-line", path, "--output", "line.%a", "--", "printf", "%s\n", "{}")
        env.cli("wait", "@")
        got = sorted(read(env.file(n)) for n in os.listdir(env.work) if n.startswith("line."))
        self.assertEqual(got, sorted(line + "\n" for line in lines))
        env.cli("submit", "--each-line", "-", "--output", "var.%a", "--", "sh", "-c",
                'echo "$REEVE_VALUE"', input="a b\nc\n")
        env.cli("wait", "@")
        got = sorted(read(env.file(n)) for n in os.listdir(env.work) if n.startswith("var."))
        self.assertEqual(got, ["a b\n", "c\n"])

    def test_parameters(self):
        """--param: a task for each value, and for each combination of several."""
        env = self.env
        env.cli("submit", "--param", "LR=1,2,3", "--output", "one.%a", "--", "echo", "lr={LR}")
        env.cli("wait", "@")
        got = sorted(read(env.file(n)) for n in os.listdir(env.work) if n.startswith("one."))
        self.assertEqual(got, ["lr=1\n", "lr=2\n", "lr=3\n"])
        ids = env.cli("submit", "--parsable", "--param", "A=1,2", "--param", "B=x,y", "--output",
                      "both.%j", "--", "sh", "-c", "echo $A$B").out.split()
        env.wait(*ids)
        got = sorted(read(env.file("both." + i)) for i in ids)
        self.assertEqual(got, ["1x\n", "1y\n", "2x\n", "2y\n"])

    def test_elements_from_json(self):
        """Row 91: one task per element of a JSON list."""
        env = self.env
        job = env.submit_file({"command": ["sh", "-c", "echo got $ITEM"], "variable": "ITEM",
                               "each": ["x y", "z", 3], "output": env.file("each.%a")})[0]
        env.wait(job)
        got = sorted(read(env.file(n)) for n in os.listdir(env.work) if n.startswith("each."))
        self.assertEqual(got, ["got 3\n", "got x y\n", "got z\n"])


class JobFiles(SharedCellCase):
    def test_smallest(self):
        """Row 92: the smallest file: a command."""
        env = self.env
        for text in ('{"command": "echo small"}', '[{"command": ["echo", "small"]}]',
                     '{"jobs": [{"command": "echo small"}]}'):
            path = write(env.file("small.json"), text)
            job = int(env.cli("submit", "--parsable", path).out)
            env.wait(job)
            self.assertEqual(env.output(job), "small\n")
        piped = int(env.cli("submit", "--parsable", "-", input='{"command": "echo piped"}').out)
        env.wait(piped)
        self.assertEqual(env.output(piped), "piped\n")

    def test_fullest(self):
        """Row 92: every field of the fullest file arrives."""
        env = self.env
        write(env.file("full.in"), "input\n")
        jobs = {"defaults": {"env": {"BOTH": "default", "ONLY": "default"}},
                "jobs": [
                    {"job_id": "first", "command": "true"},
                    {"job_id": "full", "name": "the full one", "command": ["cat"],
                     "resources": {"cpu": 1.5, "memory": "64M", "gpu": 0}, "priority": -7,
                     "cwd": env.work, "input": env.file("full.in"), "output": env.file("full.out"),
                     "error": "none", "env": {"BOTH": "own"}, "time_limit": "90s", "grace": "3s",
                     "retries": 2, "key": "full-key", "array": "4-9:5%1", "max_failures": 1,
                     "after": ["first"]}]}
        first, full = env.submit_file(jobs)
        env.wait(first, full)
        shown = env.show(full)
        spec = shown["spec"]
        self.assertEqual(shown["job"]["name"], "the full one")
        self.assertEqual(shown["job"]["priority"], -7)
        self.assertEqual(spec["resources"],
                         {"cpu": 1.5, "memory_bytes": 64 << 20, "gpu": 0, "named": {}})
        self.assertEqual((spec["time_limit_ms"], spec["grace_ms"]), (90_000, 3_000))
        self.assertEqual((spec["retries"], spec["max_failures"], spec["max_running"]), (2, 1, 1))
        self.assertEqual((spec["label"], spec["key"]), ("full", "full-key"))
        self.assertEqual(spec["elements"], [[4, 4], [9, 9]])
        self.assertEqual((spec["env"]["BOTH"], spec["env"]["ONLY"]), ("own", "default"))
        self.assertEqual(spec["input"], env.file("full.in"))
        self.assertEqual(shown["job"]["after"], ["afterok:%d" % first])
        self.assertEqual(read(env.file("full.out")), "input\n")

    def test_contradictions_are_refused_whole(self):
        """Rows 91 and 93: one bad job in a file: nothing of the file is made."""
        env = self.env
        before = env.job_ids()
        good = {"command": "true"}
        for bad, words in (
                ({"command": "true", "input": "/dev/null", "stdin": "x"}, ("input", "stdin")),
                ({"command": "true", "array": "1-2", "each": ["a"]}, ("each|array",)),
                ({"command": "true", "variable": "X"}, ("variable", "each")),
                ({"command": "true", "after": ["nobody"]}, ("after", "nobody")),
                ({"job_id": "me", "command": "true", "after": ["me"]}, ("after|cycle",)),
                ({}, ("command",)), ({"command": []}, ("command",)), ("true", ("object",))):
            path = write(env.file("bad.json"), json.dumps([good, bad, good]))
            done = env.cli("submit", path, code=USAGE)
            self.one_line(done, *words)
        self.assertEqual(env.job_ids(), before)

    def test_one_label_twice(self):
        """Row 93: two jobs of one name in a file are refused."""
        env = self.env
        path = write(env.file("twice.json"), json.dumps(
            [{"job_id": "a", "command": "true"}, {"job_id": "a", "command": "true"}]))
        self.one_line(env.cli("submit", path, code=USAGE), '"?a"?', "unique|twice|two")


class Graphs(OwnCellCase):
    def test_any_order(self):
        """Row 94: a DAG in any order of the file runs in the order of its edges."""
        env = self.env
        names = ["a", "b", "c", "d", "e"]
        after = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": ["d", "a"]}
        jobs = [{"job_id": n, "command": ["sh", "-c", "echo %s >> order" % n], "after": after[n]}
                for n in reversed(names)]
        ids = env.submit_file(jobs)
        env.wait(*ids)
        order = read(env.file("order")).split()
        self.assertEqual(sorted(order), names)
        for name in names:
            for before in after[name]:
                self.assertLess(order.index(before), order.index(name))

    def test_cycle_is_refused_whole(self):
        """Row 94: a cycle is refused, with the jobs on it, and nothing is made."""
        env = self.env
        jobs = [{"job_id": "start", "command": "true"},
                {"job_id": "x", "command": "true", "after": ["z", "start"]},
                {"job_id": "y", "command": "true", "after": ["x"]},
                {"job_id": "z", "command": "true", "after": ["y"]}]
        path = write(env.file("cycle.json"), json.dumps(jobs))
        self.one_line(env.cli("submit", path, code=USAGE), "cycle", "x|y|z")
        self.assertEqual(env.job_ids(), [])
        self.assertEqual(env.submit("--", "true"), 1)

    def test_long_chain(self):
        """Row 95: a long chain runs in order; 100,000 links under REEVE_NIGHTLY."""
        env = self.env
        links = 100_000 if NIGHTLY else 1_000
        jobs = [{"job_id": "n%d" % i, "command": "true", "output": "none",
                 **({"after": ["n%d" % (i - 1)]} if i else {})} for i in range(links)]
        ids = []
        for start in range(0, links, 20_000):
            part = jobs[start:start + 20_000]
            if start:
                part[0] = dict(part[0], after=[str(ids[-1])])
            ids += env.submit_file(part)
        env.wait(ids[-1], timeout=links * 0.3 + 30)
        starts = [env.task(j)["started"] for j in (ids[0], ids[links // 2], ids[-1])]
        self.assertEqual(starts, sorted(starts))

    def test_many_pairs(self):
        """Row 95: many pairs of parent and child finish, each child after its parent."""
        env = self.env
        pairs = 50_000 if NIGHTLY else 500
        jobs = []
        for i in range(pairs):
            jobs.append({"job_id": "p%d" % i, "command": ["sh", "-c", "echo p%d >> seen" % i],
                         "output": "none"})
            jobs.append({"job_id": "c%d" % i, "command": ["sh", "-c", "echo c%d >> seen" % i],
                         "output": "none", "after": ["p%d" % i]})
        ids = []
        for start in range(0, len(jobs), 20_000):
            ids += env.submit_file(jobs[start:start + 20_000])
        env.wait("%d-%d" % (ids[0], ids[-1]), timeout=pairs * 0.2 + 60)
        seen = read(env.file("seen")).split()
        self.assertEqual(len(seen), 2 * pairs)
        place = {name: i for i, name in enumerate(seen)}
        self.assertTrue(all(place["p%d" % i] < place["c%d" % i] for i in range(pairs)))


class Huge(OwnCellCase):
    def test_submit_many_cancel_all(self):
        """Row 16 B: a million-task array: queued at once, cancelled at once, healthy after."""
        env = self.env
        gate = env.submit("-c", "2", "--", "sleep", "300")
        gate2 = env.submit("-c", "2", "--", "sleep", "300")
        env.until_running(gate2)
        begun = time.monotonic()
        job = env.submit("--array", "1-1000000", "--output", "none", "--", "true")
        self.assertLess(time.monotonic() - begun, 5)
        self.assertEqual(env.job(job)["tasks"]["total"], 1_000_000)
        urgent = env.submit("-p", "10", "--", "true")
        begun = time.monotonic()
        env.cli("cancel", job)
        env.wait(job, code=FAILED)
        self.assertLess(time.monotonic() - begun, 10)
        tasks = env.job(job)["tasks"]
        self.assertEqual(tasks["cancelled"] + tasks["succeeded"], 1_000_000)
        env.cli("cancel", gate, gate2)
        env.wait(urgent)

    def test_better_task_overtakes(self):
        """A high-priority task behind a long array starts next (of issue 2's "How good")."""
        env = self.env
        array = env.submit("--array", "1-100000", "--output", "none", "--", "sleep", "0.05")
        until(lambda: env.job(array)["tasks"]["running"], "the array to run")
        urgent = env.submit("-p", "100", "--", "true")
        env.wait(urgent)
        done = env.job(array)["tasks"]["succeeded"]
        self.assertLess(done, 2000)
        env.cli("cancel", array)
        env.wait(array, code=FAILED)


if __name__ == "__main__":
    unittest.main(verbosity=2)
