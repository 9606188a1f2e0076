"""Function tasks at full rate while every role is killed, again and again.

A client_probe keeps a stream of echo tasks under way, tens of thousands a second; roles, launchers
and agents are killed at random moments. Every task must come back exactly once with its own bytes
(the probe counts), the audit log must verify, and no task may have two endings in the history.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from kill_cell import ROLES, Cell  # noqa: E402

REEVE = os.environ["REEVE_BINARY"]
PROBE = os.environ["REEVE_CLIENT_PROBE"]
JOBS, TASKS = int(os.environ.get("REEVE_LOAD_JOBS", "3000")), 64
SEED = int(os.environ.get("REEVE_SEED", "0")) or random.randrange(1, 2**31)


class Load(unittest.TestCase):
    def test_nothing_is_lost_or_told_twice(self):
        print("seed %d (REEVE_SEED=%d replays the choices)" % (SEED, SEED), flush=True)
        rng = random.Random(SEED)
        kills = {}
        with tempfile.TemporaryDirectory(prefix="reeve-load-") as top:
            cell = Cell(REEVE, top + "/cell", {})
            cell.up()
            try:
                begun = time.monotonic()
                probe = subprocess.Popen([PROBE, cell.directory, "echo", str(JOBS), str(TASKS)],
                                         stdout=subprocess.PIPE, text=True)
                while probe.poll() is None and time.monotonic() - begun < 200:
                    time.sleep(rng.uniform(0.1, 0.6))
                    role = rng.choice(ROLES)
                    targets = [p for p in cell.processes() if p["role"] == role]
                    if not targets or probe.poll() is not None:
                        continue
                    try:
                        os.kill(rng.choice(targets)["pid"], signal.SIGKILL)
                        kills[role] = kills.get(role, 0) + 1
                    except ProcessLookupError:
                        pass
                out, _ = probe.communicate(timeout=60)
                seconds = time.monotonic() - begun
                print("%d tasks in %.1f s, kills %s: %s" % (JOBS * TASKS, seconds, kills,
                                                            out.strip()))
                self.assertEqual(out, "right %d wrong 0 open 0\n" % (JOBS * TASKS))
                self.one_ending_each(cell)
                verified = cell.run("audit", "verify", cell.directory + "/audit", timeout=120)
                self.assertEqual(verified.returncode, 0, verified.stderr)
            finally:
                cell.run("down")

    def one_ending_each(self, cell):
        database = sqlite3.connect("file:%s/history.db?mode=ro" % cell.directory, uri=True)
        deadline = time.monotonic() + 60
        ended = 0
        while ended < JOBS * TASKS and time.monotonic() < deadline:
            time.sleep(0.2)
            ended = database.execute("SELECT count(*) FROM attempt WHERE terminal").fetchone()[0]
        distinct = database.execute(
            "SELECT count(*) FROM (SELECT DISTINCT job, element FROM attempt)").fetchone()[0]
        self.assertEqual((ended, distinct), (JOBS * TASKS, JOBS * TASKS))


if __name__ == "__main__":
    unittest.main(verbosity=2)
