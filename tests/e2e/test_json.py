"""Row 14: every command's JSON, checked against the committed schemas.json, every field.

schemas.json maps the "schema" of a document to its shape: an object names every field (a field
that is missing or unknown fails), [x] is a list of x, "a|b" one of two kinds, "=x" that very text,
"@name" a shape of the file, "time" a time stamp, "any" anything.
"""
import json
import os
import re
import unittest

from reeve_env import FAILED, OK, REFUSED, ROOT, USAGE, OwnCellCase, read, until, write

SHAPES = json.loads(read(os.path.join(os.path.dirname(os.path.abspath(__file__)), "schemas.json")))
FOLDER = os.path.join(ROOT, "docs/formats/schema")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def kind_fits(kind, value):
    if kind == "any":
        return True
    if kind == "null":
        return value is None
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "count":
        return kind_fits("int", value) and value >= 0
    if kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "text":
        return isinstance(value, str)
    if kind == "time":
        return isinstance(value, str) and TIME.fullmatch(value) is not None
    if kind == "hex":
        return isinstance(value, str) and re.fullmatch("[0-9a-f]+", value) is not None
    if kind == "base64":
        return isinstance(value, str) and re.fullmatch("[A-Za-z0-9+/]+=*", value) is not None
    if kind.startswith("="):
        return value == kind[1:]
    raise AssertionError("no such kind: " + kind)


def problems(shape, value, at="$"):
    """What is wrong with a value, as a list of places and words."""
    if isinstance(shape, str) and "@" not in shape:
        fits = any(kind_fits(kind, value) for kind in shape.split("|"))
        return [] if fits else ["%s: %r is no %s" % (at, value, shape)]
    if isinstance(shape, str):
        kinds = shape.split("|")
        if any(kind_fits(k, value) for k in kinds if not k.startswith("@")):
            return []
        found = [problems(SHAPES[k[1:]], value, at) for k in kinds if k.startswith("@")]
        return min(found, key=len)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return ["%s: %r is no list" % (at, value)]
        return [p for i, v in enumerate(value) for p in problems(shape[0], v, "%s[%d]" % (at, i))]
    if not isinstance(value, dict):
        return ["%s: %r is no object" % (at, value)]
    if list(shape) == ["*"]:
        return [p for k, v in value.items() for p in problems(shape["*"], v, at + "." + k)]
    wrong = ["%s.%s: missing" % (at, k) for k in shape if k not in value and k[-1] not in "?*"]
    for key, part in value.items():
        known = shape.get(key, shape.get(key + "?", shape.get("*")))
        wrong += (["%s.%s: not in the schema" % (at, key)] if known is None
                  else problems(known, part, at + "." + key))
    return wrong


class Json(OwnCellCase):
    def check(self, *words, code=OK):
        with self.subTest(" ".join(map(str, words))):
            done = self.env.cli(*words, code=code)
            document = done.json()
            name = document["schema"]
            self.seen.add(name)
            self.assertIn(name, SHAPES)
            found = problems(SHAPES[name], document)
            self.assertEqual(found, [], "%s\n%s" % ("\n".join(found), done.out[:2000]))
            return document
        return None

    def witnessed(self):
        """The documents of a witness: before it saw anything, cosigning, after, and refusing."""
        words = ["audit", "witness", "--key", self.env.file("witness.key"),
                 "--state", self.env.file("witness.seen"), "--json"]
        new = self.check(*words, "--create", "watcher")
        self.assertEqual((new["size"], new["root"]), (0, ""))
        cosigned = self.check(*words, "--cosign")
        self.assertEqual(cosigned["status"], 200)
        seen = self.check(*words)
        self.assertGreater(seen["size"], 0)
        nonsense = self.check(*words, "--request", write(self.env.file("nonsense"), "?"),
                              code=FAILED)
        self.assertEqual(nonsense["status"], 400)
        return [new, cosigned, seen, nonsense]

    def test_every_command(self):
        """All commands with --json, on jobs in every state."""
        env = self.env
        self.seen = set()
        good = env.submit("--array", "1-3", "--env", "A=b", "--key", "k", "--", "true")
        bad = env.submit("--no-check", "--", "/no/such")
        env.wait(good, bad, code=FAILED)
        running = env.submit("-c", "2", "--mem", "10M", "--", "sleep", "300")
        task = env.until_running(running)
        held = env.submit("--hold", "--name", "héld", "--", "true")
        waiting = env.submit("--after", running, "--after", "afterany:%d" % held, "--", "true")
        blocked = env.submit("-c", "2", "--array", "1-9%2", "--", "sleep", "300")
        self.check("submit", "--json", "--hold", "--", "true")
        self.check("submit", "--json", "--dry-run", "--", "true")
        for words in (["ls"], ["ls", "--all"], ["history"], ["history", bad], ["show", "all"],
                      ["show", good, bad, running, held, waiting, blocked],
                      ["show", "--attempts", good], ["explain", blocked, held, waiting, good],
                      ["status"], ["node", "ls"], ["node", "show", task["worker_name"]],
                      ["shm", "stat"], ["shm", "check"], ["shm", "dump"], ["top", "-n", "1"],
                      ["logs", "--paths", good], ["audit", "head"], ["audit", "verify"],
                      ["wait", good]):
            self.check(*words, "--json")
        self.check("doctor", "--json", code=(OK, FAILED))
        self.check("wait", "--json", bad, code=FAILED)
        for words in (["hold", blocked], ["release", blocked], ["update", blocked, "-p", "3"],
                      ["requeue", running], ["cancel", held, "--reason", "none"], ["retry", bad],
                      ["node", "drain", "worker-2"], ["node", "undrain", "worker-2"],
                      ["node", "notice", "worker-2", "--in", "1h"],
                      ["node", "undrain", "worker-2"], ["history", "--by", "user"],
                      ["ledger", "flush"], ["ledger", "prune"]):
            self.check(*words, "--json")
        self.check("cancel", good, "--json", code=REFUSED)
        self.check("cancel", running, waiting, blocked, "--json")
        lines = env.cli("audit", "history", "%d.1" % good, "--json").out.splitlines()
        entries = [json.loads(line) for line in lines]
        self.assertEqual([p for e in entries if "kind" in e
                          for p in problems(SHAPES["audit-line"], e)], [])
        # The files in docs/formats/schema name the same fields.
        for document in (entries + self.witnessed() +
                         [env.cli("audit", w, "--json").json() for w in ("head", "verify")]):
            schema = json.loads(read(os.path.join(FOLDER, document["schema"][6:] + ".json")))
            self.assertEqual(schema["properties"]["schema"]["const"], document["schema"])
            self.assertEqual(sorted(document), schema["required"])
            status = schema["properties"].get("status", {"enum": [document.get("status")]})
            self.assertIn(document.get("status"), status["enum"])
        self.assertEqual(entries[-1]["schema"], "reeve.audit.history.v1")
        self.one_line(env.cli("audit", "prove", "0", "--json", code=USAGE), "--json")
        unseen = {n for n in SHAPES if n.startswith("reeve.")} - self.seen
        # These two are lines of a stream, checked below and in test_events.py.
        self.assertEqual(unseen - {"reeve.shm-move.v1", "reeve.event.v1"}, set())

    def test_exit_codes_of_jobs(self):
        """One meaning everywhere, with the cell up and down: null unless a task failed with one."""
        env = self.env
        array = ["--array", "1-3", "--", "sh", "-c", "exit $(( REEVE_TASK_ID == 2 ? 7 : 0 ))"]
        expected = {env.submit(*array): (7, None),
                    env.submit("--", "sh", "-c", "kill -9 $$"): (None, 9),
                    env.submit("--", "true"): (None, None)}
        env.wait(*expected, code=FAILED)
        cancelled = env.submit("--hold", "--", "true")
        env.cli("cancel", cancelled, "--reason", "not today")
        expected[cancelled] = (None, None)
        held = env.submit("--hold", "--array", "1-2", "--", "true")
        ended = list(expected)
        expected[held] = (None, None)

        def told(*words, code=OK):
            jobs = env.cli(*words, "--json", code=code).json()["jobs"]
            jobs = [job.get("job") if "spec" in job else job for job in jobs]
            self.assertEqual([p for job in jobs for p in problems(
                SHAPES["listed" if "sla" in job else "job"], job)], [])
            return {job["job"]: job for job in jobs}

        def check(down):
            for words, code in ((["ls", "-a"], OK), (["history"], OK), (["show", *expected], OK),
                                (["wait", *ended], FAILED)):
                jobs = told(*words, code=code)
                self.assertEqual({i: (j["exit_code"], j["signal"]) for i, j in jobs.items()},
                                 {i: expected[i] for i in jobs}, (words, down))
                self.assertLessEqual(set(ended), set(jobs))
                self.assertEqual(jobs[cancelled]["reason"], "not today", (words, down))
                if held in jobs:
                    self.assertEqual(jobs[held]["tasks"]["held"], None if down else 2)

        until(lambda: set(ended) <= set(told("history")), "the history")
        check(False)
        env.down()
        check(True)
        env.up()

    def test_watch_lines(self):
        """`shm watch --json` gives one document a line."""
        import subprocess
        env = self.env
        watch = env.popen("shm", "watch", "--json", "--for", "1", stdout=subprocess.PIPE,
                          text=True)
        job = env.submit("--", "sleep", "0.3")
        out = watch.communicate(timeout=20)[0]
        env.wait(job)
        self.assertTrue(out)
        for line in out.splitlines():
            self.assertEqual(problems(SHAPES["reeve.shm-move.v1"], json.loads(line)), [])

    def test_errors_are_not_json_on_stdout(self):
        """An error is one line on stderr also with --json; stdout stays parsable or empty."""
        done = self.env.cli("show", "--json", "777", code=3)
        self.one_line(done, "777")
        if done.out:
            self.assertEqual(done.json()["jobs"], [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
