"""`reeve sim` through the binary: schedules made by hand, bad input, and recorded logs if any."""

import glob
import gzip
import hashlib
import html.parser
import json
import os
import pty
import subprocess
import tempfile
import unittest

from reeve_env import FAILED, NOT_FOUND, USAGE, OwnCellCase, write

HERE = os.path.dirname(os.path.abspath(__file__))
REEVE = os.environ.get("REEVE_BINARY", os.path.join(HERE, "../../build/release/cli/reeve"))
DATA = os.path.join(HERE, "../data")
TINY = os.path.join(DATA, "tiny.swf")
TRACES = os.path.join(HERE, "../../../shared/traces")
JOBS = os.path.join(DATA, "sim/jobs.json")
NODES = os.path.join(DATA, "sim/nodes.json")
GPU_JOBS = os.path.join(DATA, "sim/gpu-jobs.csv")
GPU_NODES = os.path.join(DATA, "sim/gpu-nodes.csv")
SPOT = os.path.join(DATA, "sim/spot.json")
FIELDS = ("jobs wait_mean wait_p95 wait_max bsld_mean bsld_p95 util_submit_window makespan "
          "preemptions deadline_misses cost decisions_per_s").split()
NO_TRACES = "no recorded logs beside the checkout (../shared/traces)"


def sim(*arguments):
    return subprocess.run([REEVE, "sim", *arguments], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=120)


def figures(*arguments):
    done = sim(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def starts(*arguments):
    with tempfile.NamedTemporaryFile() as out:
        done = sim(*arguments, "--starts", out.name)
        assert done.returncode == 0, done.stderr
        return out.read()


class Bars(html.parser.HTMLParser):
    """Counts the bars of a timeline and collects what it says."""

    def __init__(self, page):
        super().__init__()
        self.bars, self.said = 0, ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.bars += tag == "rect" and ("fill", "#eee") not in attrs

    def handle_data(self, data):
        self.said += data


class Logs(unittest.TestCase):
    def test_schedules_by_hand(self):
        """Job 2 needs the whole machine at 100; 3 fits before it, 4 would delay it."""
        self.assertEqual(starts("--swf", TINY, "--policy", "fcfs"), b"1 0\n2 100\n3 150\n4 150\n")
        self.assertEqual(starts("--swf", TINY, "--policy", "easy"), b"1 0\n2 100\n3 20\n4 150\n")

    def test_every_policy_runs_every_job(self):
        for policy in "reeve fcfs sjf easy easy-sjbf sjf-easy conservative".split():
            found = figures("--swf", TINY, "--policy", policy)
            self.assertEqual(found["jobs"], 4, policy)
            self.assertEqual(found["policy"], policy)

    def test_gzip_is_the_same(self):
        with tempfile.NamedTemporaryFile(suffix=".gz") as packed:
            with open(TINY, "rb") as plain:
                packed.write(gzip.compress(plain.read()))
            packed.flush()
            self.assertEqual(starts("--swf", packed.name), starts("--swf", TINY))


class Cluster(unittest.TestCase):
    def test_what_ran_where_when_and_at_what_cost(self):
        found = figures(JOBS, NODES)
        for field in FIELDS:
            self.assertIn(field, found)
        ran = {}
        for attempt in found["attempts"]:
            ran.setdefault(attempt["job_id"], []).append(attempt)
        self.assertEqual(ran["prepare"][0]["nodes"], ["cpu-1"], "the cheapest that fits")
        self.assertEqual(ran["train"][0]["nodes"], ["gpu-1"])
        self.assertEqual(ran["sweep"][0]["nodes"], ["spot-1"])
        self.assertEqual(ran["sweep"][0]["end_reason"], "spot-notice")
        self.assertEqual(len(ran["sweep"]), 2, "it goes on elsewhere")
        # An hour but one minute was done, a restart costs a minute: an hour and two minutes left.
        self.assertEqual(ran["sweep"][1]["end"] - ran["sweep"][1]["start"], 7200 - 3540 + 60)
        self.assertEqual(len(set(ran["gang"][0]["nodes"])), 2)
        self.assertEqual(found["rejected"], [{"job_id": "huge", "reason": "impossible"}])
        self.assertEqual(found["deadline_misses"], 0)
        self.assertEqual(found["preemptions"], 1)
        self.assertAlmostEqual(ran["prepare"][0]["cost"], 0.5)
        self.assertAlmostEqual(found["cost"], sum(a["cost"] for a in found["attempts"]))
        self.assertAlmostEqual(found["cost"], sum(found["cost_by_user"].values()))
        self.assertAlmostEqual(found["cost"], sum(found["cost_by_sla"].values()))

    def test_every_policy(self):
        for policy in ("reeve fcfs sjf edf easy easy-sjbf sjf-easy conservative best-fit").split():
            found = figures(JOBS, NODES, "--policy", policy)
            self.assertEqual(found["jobs"], 4, policy)
            self.assertEqual(found["unfinished"], [], policy)

    def test_limits_quotas_and_budgets(self):
        job = {"run": "1h", "user": "ann", "limits": ["licence"]}
        jobs = {"limits": {"licence": 1}, "quotas": {"bob": {"cpu": 1}}, "budgets": {"eve": 1.5},
                "jobs": [dict(job, job_id="a"), dict(job, job_id="b"),
                         {"job_id": "c", "run": 60, "user": "bob"},
                         {"job_id": "d", "run": 60, "user": "bob"},
                         {"job_id": "e", "run": "1h", "user": "eve"},
                         {"job_id": "f", "run": "1h", "user": "eve", "submit": "1h"},
                         {"job_id": "g", "run": "1h", "user": "eve", "submit": "2h"}]}
        with tempfile.TemporaryDirectory() as folder:
            files = [os.path.join(folder, name) for name in ("j.json", "n.json")]
            for path, what in zip(files, (jobs, [{"name": "n", "price": 1,
                                                  "resources": {"cpu": 16, "memory": "1G"}}])):
                with open(path, "w", encoding="utf-8") as out:
                    json.dump(what, out)
            found = figures(*files)
        began = {a["job_id"]: a["start"] for a in found["attempts"]}
        self.assertEqual(began["b"], 3600, "one licence")
        self.assertEqual(began["d"], 60, "one cpu at once")
        self.assertEqual(began["f"], 3600)
        self.assertEqual(found["unfinished"], [{"job_id": "g", "reason": "budget"}])

    def test_starts_and_table(self):
        self.assertEqual(starts(JOBS, NODES), b"gang 120\nsweep 60\ntrain 60\nprepare 0\n")
        done = sim(JOBS, NODES)
        self.assertRegex(done.stdout, r"train +gpu-1 +60 +3660 +3\.0000")
        self.assertIn("huge                 rejected: impossible", done.stdout)

    def test_progress_bar(self):
        """On a terminal there is a bar, and it is gone in the end; --quiet has none."""
        for extra, drawn in (([], True), (["--quiet"], False)):
            ours, theirs = pty.openpty()
            done = subprocess.run([REEVE, "sim", JOBS, NODES, *extra], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=theirs, check=True)
            self.assertEqual(done.returncode, 0)
            os.write(theirs, b"end")
            told = b""
            while not told.endswith(b"end"):
                told += os.read(ours, 65536)
            os.close(theirs)
            os.close(ours)
            self.assertEqual(b"%" in told, drawn, told)
            self.assertTrue(told.endswith(b"\x1b[Kend" if drawn else b"end"), told)

    def test_timeline(self):
        with tempfile.NamedTemporaryFile(suffix=".html") as page:
            done = sim(JOBS, NODES, "--timeline", page.name)
            self.assertEqual(done.returncode, 0, done.stderr)
            read = Bars(page.read().decode())
        self.assertEqual(read.bars, 6, "one for each attempt and node")
        for word in ("gpu-1", "cpu-1", "spot-1", "train", "spot-notice"):
            self.assertIn(word, read.said)

    def test_names_cannot_break_the_page_or_the_terminal(self):
        with tempfile.TemporaryDirectory() as folder:
            jobs, nodes, page = (os.path.join(folder, n) for n in ("j.json", "n.json", "p.html"))
            with open(jobs, "w", encoding="utf-8") as out:
                json.dump([{"job_id": "<script>\x1b[2J", "run": 60}], out)
            with open(nodes, "w", encoding="utf-8") as out:
                json.dump([{"name": "n", "resources": {"cpu": 1}}], out)
            done = sim(jobs, nodes, "--timeline", page)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertNotIn("\x1b", done.stdout)
            with open(page, encoding="utf-8") as made:
                text = made.read()
            self.assertNotIn("<script>", text)
            self.assertIn("&lt;script&gt;", text)


class Gpus(unittest.TestCase):
    def test_gangs(self):
        # Job 1 holds all four; 2 would fit beside nothing.
        self.assertEqual(starts("--gpu", GPU_JOBS, "--gpus", "4", "--policy", "fifo"),
                         b"1 0\n2 1000\n3 1000\n4 1100\n")
        for policy in "reeve fifo fcfs fifo-skip sjf las srtf srsf edf".split():
            found = figures("--gpu", GPU_JOBS, "--gpus", "4", "--policy", policy)
            self.assertEqual(found["jobs"], 4, policy)
        found = figures("--gpu", GPU_JOBS, "--gpus", "4")
        self.assertEqual(found["deadline_misses"], 0, "the short one is let through")
        self.assertEqual(figures("--gpu", GPU_JOBS, "--gpus", "2")["skipped"], 2)

    def test_nodes(self):
        for policy in "reeve best-fit fgd-like".split():
            found = figures("--gpu", GPU_JOBS, "--nodes", GPU_NODES, "--policy", policy)
            self.assertGreater(found["gpus_allocated"], 0.5, policy)
            self.assertLessEqual(found["gpus_allocated"], 1, policy)
            for field in FIELDS:
                self.assertIn(field, found)

    def test_spot(self):
        on_demand = figures("--spot", SPOT, "--policy", "on-demand")
        self.assertAlmostEqual(on_demand["cost"], 1, places=2)
        for policy in "reeve greedy uniform".split():
            for extra in ([], ["--zones"]):
                found = figures("--spot", SPOT, "--policy", policy, *extra)
                self.assertLess(found["cost"], 0.9, policy)
                self.assertEqual(found["deadline_misses"], 0, policy)
        # Two machines at once are there more rarely than one.
        self.assertGreater(figures("--spot", SPOT, "--instances", "2")["cost"],
                           figures("--spot", SPOT)["cost"])


class BadInput(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def write(self, name, text):
        path = os.path.join(self.folder.name, name)
        with open(path, "wb") as out:
            out.write(text if isinstance(text, bytes) else text.encode())
        return path

    def refused(self, arguments, *words):
        done = sim(*arguments)
        self.assertEqual(done.returncode, 2, (arguments, done.stdout, done.stderr))
        self.assertEqual(done.stdout, "")
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_jobs(self):
        for text, words in (
                ('[{"job_id": "a"}]', ["line 1", "jobs[0]", '"run"']),
                ('[{"run": 1}]', ["jobs[0]", '"job_id"']),
                ('[{"job_id": "a", "run": 1},\n {"job_id": "b", "run": -1}]',
                 ["line 2", "jobs[1].run", "negative"]),
                ('[{"job_id": "a", "run": "3 parsecs"}]', ["jobs[0].run", "unknown unit"]),
                ('[{"job_id": "a", "run": 1,\n "submit": "-5s"}]', ["jobs[0].submit", "negative"]),
                ('[{"job_id": "a", "run": 1, "resources": {"memory": "4 gigs"}}]',
                 ["jobs[0].resources.memory", "unknown unit"]),
                ('[{"job_id": "a", "run": 1},\n\n {"job_id": "a", "run": 1}]',
                 ["line 3", "jobs[1]", "already used"]),
                ('[{"job_id": "a",\n "run": NaN}]', ["line 2", "not JSON"]),
                ('[{"job_id": "a", "run": 1e999}]', ["line 1", "not JSON"]),
                ('[{"job_id": "a", "run": "nan"}]', ["jobs[0].run", "number"]),
                ('[{"job_id": "a", "run": 1, "run": 2}]', ['"run"', "twice"]),
                ('[{"job_id": "a", "run": 1, "colour": 2}]', ["jobs[0]", '"colour"']),
                ('[{"job_id": "a", "run": 1, "sla": "gold"}]', ["jobs[0].sla", "critical"]),
                ('[' * 1000, ["nested"]),
                ('{"jobs": [], "limits": {"x": -1}}', ["limits.x", "negative"]),
                ('{"jobs": [], "colour": {}}', ["colour"]),
                ('{"jobs": 3}', ["no list of jobs"]), ("", ["not JSON"]), ("[3]", ["jobs[0]"])):
            self.refused([self.write("jobs.json", text), NODES], "jobs.json", *words)
        self.refused([JOBS, self.write("n.json", '[{"name": "n"}]')], "nodes[0]", "resources")
        self.refused([JOBS, self.write(
            "n.json", '[{"name": "n", "resources": {"cpu": 1}, "down": 5, "up": 9}]')], "nodes[0]")
        self.refused([JOBS], "NODES.json")
        self.refused([], "JOBS.json")

    def test_tables(self):
        head = "job_id,submit_s,run_s,gpus,gpu_milli\n"
        for text, words in (
                (head + "1,0,10,1,1000\n1,0,10,1,1000\n", ["line 3", "job_id", "already"]),
                (head + "1,-4,10,1,1000\n", ["line 2", "submit_s", "negative"]),
                (head + "1,0,nan,1,1000\n", ["line 2", "run_s", "number"]),
                (head + "1,0,10s,1,1000\n", ["line 2", "run_s", "number"]),
                (head + "1,0,10,1\n", ["line 2", "gpu_milli", "fields"]),
                (head + "1,0,10,2,500\n", ["line 2", "gpu_milli", "gpus = 1"]),
                (head + "1,,10,2,1000\n", ["line 2", "submit_s", "empty"]),
                ("job_id,submit_s,gpus\n", ["run_s", "no such column"]),
                (head + "1,0,\0,1,1000\n", ["line 2", "NUL"])):
            self.refused(["--gpu", self.write("g.csv", text), "--gpus", "4"], "g.csv", *words)
        self.refused(["--gpu", GPU_JOBS], "--gpus")
        self.refused(["--gpu", GPU_JOBS, "--gpus", "4", "--policy", "best"], "srsf")

    def test_logs(self):
        self.refused(["--swf", TINY, "--policy", "best"], "easy-sjbf")
        self.refused(["--swf", self.write("x.swf", "1 0 -1 nan 1 -1 -1 1 1 -1 1 1\n")],
                     "line 1", "run")
        line = "1 0 -1 10 1 -1 -1 1 10 -1 1 1\n"
        self.refused(["--swf", self.write("x.swf", line + line)], "line 2", "already")
        done = sim("--swf", "/nonexistent.swf")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("/nonexistent.swf", done.stderr)

    def test_spot(self):
        for text, words in (
                ("[]", ["object"]), ("{}", ["no traces"]),
                ('{"z": {"gap_seconds": -1, "rle": [[1, 1]]}}', ["z", "gap_seconds"]),
                ('{"z": {"gap_seconds": 60}}', ["z", "rle"]),
                ('{"z": {"gap_seconds": 60, "rle": [[1, -1]]}}', ["z", "rle"]),
                ('{"z": {"gap_seconds": 60, "rle": []}}', ["z", "no ticks"]),
                ('{"z": {"gap_seconds": 60, "ticks": 3, "rle": [[1, 2]]}}', ["z", "ticks"])):
            self.refused(["--spot", self.write("s.json", text)], "s.json", *words)
        self.refused(["--spot", SPOT, "--stretch", "1"], "--stretch")

    def test_a_line_of_a_gigabyte(self):
        """Refused before it is read; packed, so that the file itself is small."""
        path = os.path.join(self.folder.name, "long.gz")
        with gzip.open(path, "wb", compresslevel=1) as out:
            for _ in range(64):
                out.write(b"1" * (1 << 24))
        self.refused(["--swf", path], "line 1", "longer")
        self.refused(["--gpu", path, "--gpus", "1"], "line 1", "longer")
        self.refused([path, NODES], "larger")

    def test_cut_gzip(self):
        with open(TINY, "rb") as plain:
            packed = gzip.compress(plain.read() * 50)
        done = sim("--swf", self.write("cut.gz", packed[:len(packed) // 2]))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("cut.gz", done.stderr)


class Replay(OwnCellCase):
    cell = {"workers": 1, "cpus": 2, "mem": "1G"}

    def test_what_the_cell_has_run(self):
        """Six tasks of a second, two at a time, one that waits for them, and one that failed."""
        env = self.env
        self.assertIn("run nothing", env.cli("sim", "--replay", code=NOT_FOUND).err)
        array = env.submit("--array", "1-6", "--", "sleep", "0.7")
        last = env.submit("--after", "afterany:%d" % array, "-c", "2", "--", "false")
        env.wait(array, last, code=FAILED)
        for policy in ("reeve", "fcfs", "easy"):
            found = env.cli("sim", "--replay", "--json", "--policy", policy).json()
            self.assertEqual((found["jobs"], found["recorded"]["jobs"]), (7, 7))
            self.assertEqual(found["unfinished"], [])
            began = {a["job_id"]: a["start"] for a in found["attempts"]}
            self.assertEqual(max(began, key=began.get), str(last), "after what it waited for")
        nodes = write(env.file("wide.json"),
                      '[{"name": "wide", "resources": {"cpu": 64, "memory": "1G"}}]')
        wide = env.cli("sim", "--replay", nodes, "--json").json()
        self.assertEqual(wide["wait_max"], 0)
        self.assertIn("recorded", env.cli("sim", "--replay").out)
        self.assertIn("--replay", env.cli("sim", "--replay", "--swf", TINY, code=USAGE).err)


class Recorded(unittest.TestCase):
    def setUp(self):
        if not os.path.exists(TRACES + "/expected.jsonl"):
            self.skipTest(NO_TRACES)

    def test_identical_to_expected(self):
        """The schedule of every log there is, by sha256, under the four fixed policies."""
        with open(TRACES + "/expected.jsonl", encoding="utf-8") as lines:
            expected = [json.loads(line) for line in lines]
        checked = 0
        for row in expected:
            path = os.path.join(TRACES, "swf", row["log"])
            if row["passes"] != "batch" or not glob.glob(path):
                continue
            digest = hashlib.sha256(starts("--swf", path, "--policy", row["policy"])).hexdigest()
            self.assertEqual(digest, row["schedule_sha256"], (row["log"], row["policy"]))
            checked += 1
        self.assertGreater(checked, 0)
        print("%d schedules are identical" % checked)

    def test_gpu_targets(self):
        gpu = os.path.join(TRACES, "gpu/")
        philly = figures("--gpu", gpu + "philly-2017-10.csv.gz", "--gpus", "600")
        self.assertLessEqual(philly["completion_mean"], 0.52 * 23349)
        self.assertLessEqual(philly["preemptions"], 0.6 * philly["jobs"])
        slo = figures("--gpu", gpu + "philly-slo-chronus.csv.gz", "--gpus", "960")
        self.assertLessEqual(slo["deadline_misses"], 0.01 * slo["deadlines"])
        self.assertLessEqual(slo["preemptions"], 0.4 * slo["jobs"])
        openb = figures("--gpu", gpu + "openb-pods-default.csv.gz",
                        "--nodes", gpu + "openb-nodes.csv.gz", "--load", "1.3")
        self.assertGreaterEqual(openb["gpus_allocated"], 0.954)


if __name__ == "__main__":
    unittest.main(verbosity=2)
