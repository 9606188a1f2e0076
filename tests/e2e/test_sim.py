"""`reeve sim`: schedules against hand-made ones and, where there are any, recorded ones."""

import glob
import hashlib
import json
import os
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
REEVE = os.environ.get("REEVE_BINARY", os.path.join(HERE, "../../build/release/cli/reeve"))
TINY = os.path.join(HERE, "../data/tiny.swf")
TRACES = os.path.join(HERE, "../../../shared/traces")


def sim(*arguments):
    return subprocess.run([REEVE, "sim", *arguments], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=120)


def starts(path, policy):
    with tempfile.NamedTemporaryFile() as out:
        done = sim("--swf", path, "--policy", policy, "--starts", out.name)
        assert done.returncode == 0, done.stderr
        return out.read()


class Tiny(unittest.TestCase):
    def test_schedules_by_hand(self):
        """Job 2 needs the whole machine at 100; 3 fits before it, 4 would delay it."""
        self.assertEqual(starts(TINY, "fcfs"), b"1 0\n2 100\n3 150\n4 150\n")
        self.assertEqual(starts(TINY, "easy"), b"1 0\n2 100\n3 20\n4 150\n")

    def test_bad_input(self):
        done = sim("--swf", TINY, "--policy", "best")
        self.assertEqual(done.returncode, 2)
        self.assertIn("easy-sjbf", done.stderr)
        done = sim("--swf", "/nonexistent.swf")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("/nonexistent.swf", done.stderr)


class Recorded(unittest.TestCase):
    def test_identical_to_expected(self):
        """The schedule of every log there is, by sha256, under the four fixed policies."""
        if not os.path.exists(TRACES + "/expected.jsonl"):
            self.skipTest("no recorded logs beside the checkout (../shared/traces)")
        with open(TRACES + "/expected.jsonl", encoding="utf-8") as lines:
            expected = [json.loads(line) for line in lines]
        checked = 0
        for row in expected:
            path = os.path.join(TRACES, "swf", row["log"])
            if row["passes"] != "batch" or not glob.glob(path):
                continue
            digest = hashlib.sha256(starts(path, row["policy"])).hexdigest()
            self.assertEqual(digest, row["schedule_sha256"], (row["log"], row["policy"]))
            checked += 1
        self.assertGreater(checked, 0)
        print("%d schedules are identical" % checked)


if __name__ == "__main__":
    unittest.main(verbosity=2)
