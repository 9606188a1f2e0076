"""GPUs of a worker, with a driver library made for the test: rows 82, 83 and 116."""
import os
import unittest

from reeve_env import ROOT, USAGE, OwnCellCase, until, write

FAKE = os.environ.get("REEVE_FAKE_NVML", os.path.join(ROOT, "build/release/tests/e2e"))
UUIDS = ["GPU-aaaaaaaa-0000-4000-8000-00000000000%d" % i for i in range(4)]


@unittest.skipUnless(os.path.exists(os.path.join(FAKE, "libnvidia-ml.so.1")),
                     "build the target fake_nvml, or set REEVE_FAKE_NVML")
class Gpus(OwnCellCase):
    autostart = False

    def start(self, busy, visible=None, gpus=(), workers=1):
        env = self.start_cell(start=False, workers=workers, cpus=4)
        self.loads = os.path.join(env.scratch, "gpus")
        self.tell(busy)
        extra = {"LD_LIBRARY_PATH": FAKE, "FAKE_NVML": self.loads}
        if visible is not None:
            extra["CUDA_VISIBLE_DEVICES"] = visible
        env.cli("up", *env.up_words, *gpus, env=extra)
        env.learn()
        return env

    def tell(self, busy):
        lines = ["%s %d %d 81559" % (uuid, one, 1000 * (i + 1))
                 for i, (uuid, one) in enumerate(zip(UUIDS, busy))]
        write(self.loads + ".new", "\n".join(lines) + "\n")
        os.rename(self.loads + ".new", self.loads)

    def gpus(self):
        return self.env.cli("node", "show", "worker-1", "--json").json()["node"]["gpus"]

    def test_load_is_shown(self):
        """Row 116 B: what the driver says of each GPU is in `node show`, and follows it."""
        env = self.start([37, 0, 99])
        until(lambda: [g["busy_percent"] for g in self.gpus()] == [37, 0, 99], "the load")
        gpus = self.gpus()
        self.assertEqual([g["uuid"] for g in gpus], UUIDS[:3])
        self.assertEqual([g["memory_used"] >> 20 for g in gpus], [1000, 2000, 3000])
        self.assertEqual({g["memory_total"] >> 20 for g in gpus}, {81559})
        self.tell([5, 66, -1])   # the third one is lost
        until(lambda: [g["busy_percent"] for g in self.gpus()] == [5, 66, None], "the new load")
        self.assertIsNone(self.gpus()[2]["memory_used"])
        text = env.cli("node", "show", "worker-1").out
        self.assertRegex(text, r"66%\s+[\d.]+G/79\.6G\s+no\s+" + UUIDS[1])

    def test_granted_by_uuid(self):
        """Row 82: a task sees exactly the GPUs it was granted, by UUID; two share none."""
        env = self.start([0, 0, 0, 0])
        gate = env.file("gate")
        says = "echo $REEVE_GPUS $CUDA_VISIBLE_DEVICES; while [ ! -e %s ]; do sleep 0.02; done"
        two = env.submit("--gpus", "2", "-c", "1", "--", "sh", "-c", says % gate)
        one = env.submit("--gpus", "1", "-c", "1", "--", "sh", "-c", says % gate)
        none = env.submit("-c", "1", "--", "sh", "-c", "echo $REEVE_GPUS [$CUDA_VISIBLE_DEVICES]")
        waits = env.submit("--gpus", "2", "-c", "1", "--", "sh", "-c", says % gate)
        env.wait(none)
        for job in (two, one):
            env.until_running(job)
        until(lambda: env.output(two) and env.output(one), "their words")
        self.assertEqual(env.output(none), "0 []\n")
        first, second = env.output(two).split(), env.output(one).split()
        self.assertEqual((first[0], second[0]), ("2", "1"))
        granted = first[1].split(",") + second[1].split(",")
        self.assertEqual(len(granted), 3)
        self.assertEqual(len(set(granted) & set(UUIDS)), 3)
        self.assertEqual(env.job(waits)["state"], "queued")
        write(gate, "")
        env.wait(two, one, waits)

    def test_visible_devices_are_respected(self):
        """Row 83: what CUDA_VISIBLE_DEVICES of the worker leaves, by number or UUID, is offered."""
        for visible, want in (("2,0", [2, 0]), (UUIDS[3], [3]), ("1,9,2", [1]), ("", [])):
            with self.subTest(visible):
                env = self.start([1, 2, 3, 4], visible=visible)
                self.assertEqual([g["uuid"] for g in self.gpus()], [UUIDS[i] for i in want])
                env.down()

    def test_no_driver(self):
        """Without a driver a worker has no GPUs and says so once; a number can be given."""
        env = self.start_cell(workers=1, up=["--gpus", "2"])
        self.assertEqual([(g["uuid"], g["busy_percent"]) for g in self.gpus()], [("", None)] * 2)
        job = env.submit("--gpus", "2", "--", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
        env.wait(job)
        self.assertEqual(env.output(job), "0,1\n")
        env.down()
        self.one_line(env.cli("up", "--workers", "2", "--gpus", "auto", code=USAGE),
                      "--gpus", "--workers 1")
        self.one_line(env.cli("up", "--workers", "1", "--gpus", "some", code=USAGE),
                      "--gpus", "some")


if __name__ == "__main__":
    unittest.main(verbosity=2)
