"""Very much in the queue: a run costs no slots, the best starts next, memory stays bounded."""
import json
import os
import time
import unittest

from reeve_env import OwnCellCase, read, until, write

ARRAY = 1_000_000
# What a queued task may cost beyond its payload, over all processes and the segment.
QUEUED_BYTES_MAX = 512


def memory_bytes(pids):
    """Private memory and the shares of shared memory of these processes."""
    total = 0
    for pid in pids:
        for line in read("/proc/%d/smaps_rollup" % pid).splitlines():
            if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                total += int(line.split()[1]) * 1024
    return total


class Scale(OwnCellCase):
    def settled_memory(self):
        """What is left once a large submission's and a snapshot's own memory is given back."""
        least, since = memory_bytes(self.pids()), time.monotonic()
        while time.monotonic() - since < 7:
            time.sleep(0.5)
            now = memory_bytes(self.pids())
            if now < least * 0.995:
                least, since = now, time.monotonic()
        return least

    def pids(self):
        return [p["pid"] for p in self.env.processes()]

    def slots_used(self):
        stat = self.env.cli("shm", "stat", "--json").json()
        return sum(count for state, count in stat["slots"].items() if state != "free")

    def test_the_best_of_ten_million_starts_next(self):
        """Ten million tasks wait; one of priority 100 submitted last is the next to start."""
        env = self.env
        busy = [env.submit("--output", "none", "--", "sleep", "300") for _ in range(4)]
        until(lambda: all(env.job(job)["state"] == "running" for job in busy), "all cpus busy")
        waiting = [env.submit("--array", "1-%d" % ARRAY, "-p", str(n % 7), "--output", "none",
                              "--", "true") for n in range(10)]
        self.assertLess(self.slots_used(), 20_000)
        first = env.submit("-p", "100", "--output", "none", "--", "true")
        env.cli("cancel", busy[0])
        env.wait(first)
        started = env.task(first)["started"]
        for job in waiting:
            tasks = env.job(job)["tasks"]
            if tasks["running"] + tasks["succeeded"] + tasks["failed"] == 0:
                continue
            self.assertGreaterEqual(env.show("%d.1" % job)["tasks"][0]["started"], started)
        env.cli("cancel", *waiting, *busy[1:])

    def test_what_fits_starts_behind_more_than_fill_the_table(self):
        """70,000 tasks that fit nowhere wait in the table's windows; later, lesser ones start."""
        env = self.env
        busy = [env.submit("--node", name, "--output", "none", "--", "sleep", "300")
                for name in ("worker-1", "worker-2")]
        until(lambda: all(env.job(job)["state"] == "running" for job in busy), "two cpus busy")
        # One cpu of each worker is taken: two fit on neither.
        for _ in range(70):
            env.submit("--array", "1-1000", "-c", "2", "-p", "1", "--output", "none", "--", "true")
        self.assertLess(self.slots_used(), 20_000)
        env.wait(env.submit("-p", "-1", "--output", "none", "--", "true"))
        # The best of those that wait is what starts once there is room.
        first = env.submit("-p", "2", "-c", "2", "--output", "none", "--", "true")
        env.cli("cancel", busy[0])
        env.wait(first)
        env.cli("cancel", *busy[1:], "all")

    def test_many_kinds_of_tasks_take_turns(self):
        """More kinds than the table has chunks fit nowhere, then are held: what fits starts."""
        env = self.env
        busy = [env.submit("--node", name, "--output", "none", "--", "sleep", "300")
                for name in ("worker-1", "worker-2")]
        until(lambda: all(env.job(job)["state"] == "running" for job in busy), "two cpus busy")
        kinds = env.submit_file([{"command": "true", "output": "none",
                                  "resources": {"cpu": 2, "memory": "%dM" % (n + 1)}}
                                 for n in range(1_200)])
        env.wait(env.submit("--mem", "1201M", "--output", "none", "--", "true"))
        env.cli("hold", *kinds)
        env.wait(env.submit("--mem", "1202M", "--output", "none", "--", "true"))
        env.cli("release", *kinds)
        env.cli("cancel", *busy)
        env.wait(*kinds)

    def test_a_queued_task_is_small(self):
        """Elements of one array, then lines of a file with a value each, all waiting."""
        env = self.env
        env.cli("node", "drain", "worker-1")
        env.cli("node", "drain", "worker-2")
        env.wait(env.submit("--hold", "--", "true"), code=None, timeout=1)
        before = memory_bytes(self.pids())
        env.submit("--array", "1-%d" % ARRAY, "--output", "none", "--", "true")
        until(lambda: self.slots_used() >= 512, "the window of the run")
        per_element = (memory_bytes(self.pids()) - before) / ARRAY
        count = 200_000
        lines = write(os.path.join(env.work, "lines"),
                      "".join("value-%06d\n" % n for n in range(count)))
        payload = os.path.getsize(lines)
        before = memory_bytes(self.pids())
        env.submit("--each-line", lines, "--output", "none", "--", "echo")
        per_line = (memory_bytes(self.pids()) - before - payload) / count
        # Jobs of one task each; the first of them fill what a class may have in slots.
        def jobs():
            env.submit_file([{"job_id": "j%d" % n, "command": "true", "output": "none"}
                             for n in range(20_000)])
        jobs()
        jobs()
        before = self.settled_memory()
        spec = env.show(env.submit("--output", "none", "--", "true"))["spec"]
        # As serialised: six bytes for an entry of a map, two for another string.
        payload = sum(len(name) + len(value) + 6 for name, value in spec["env"].items())
        payload += sum(len(text) + 2 for text in
                       [spec["name"], spec["cwd"], spec["output"], *spec["command"]])
        for _ in range(8):
            jobs()
        per_job = (self.settled_memory() - before) / 160_000 - payload
        print(json.dumps({"bytes_per_element": round(per_element, 1),
                          "bytes_per_line": round(per_line, 1),
                          "bytes_per_job": round(per_job, 1)}))
        self.assertLess(per_element, QUEUED_BYTES_MAX)
        self.assertLess(per_line, QUEUED_BYTES_MAX)
        self.assertLess(per_job, QUEUED_BYTES_MAX)


if __name__ == "__main__":
    unittest.main(verbosity=2)
