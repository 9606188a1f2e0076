"""reeve::Client through a program that uses it, with the PLM killed under it, and installed."""
import os
import subprocess
import tempfile
import time
import unittest

from reeve_env import ROOT, OwnCellCase, write

PROBE = os.environ["REEVE_CLIENT_PROBE"]
BUILD = os.environ["REEVE_BUILD"]


class Client(OwnCellCase):
    cell = {"workers": 1, "cpus": 2}

    def probe(self, *words, code=0):
        ran = subprocess.run([PROBE, self.env.state, *map(str, words)], capture_output=True,
                             text=True, timeout=120, check=False)
        self.assertEqual(ran.returncode, code, ran.stdout + ran.stderr)
        return ran.stdout

    def test_results_in_order(self):
        self.assertEqual(self.probe("echo", 50, 20), "right 1000 wrong 0 open 0\n")

    def test_a_refusal_is_one_jobs_alone(self):
        lines = self.probe("refused").splitlines()
        self.assertIn("task.function", lines[0])
        self.assertEqual(lines[1], "fine")

    def test_programs(self):
        self.assertEqual(self.probe("process").splitlines(),
                         ["from a program", "succeeded", "cancelled"])

    def test_several_at_once(self):
        """All or none; the same key gives the same job."""
        refused, queued = self.probe("several").splitlines()
        self.assertIn("task.argv", refused)
        self.assertEqual(queued, "2 once in order")
        self.assertEqual(len(self.env.job_ids()), 2)

    def test_text_that_is_not_utf8(self):
        """Refused by its field, before anything is sent."""
        queue, submit, cancel = self.probe("text").splitlines()
        self.assertRegex(queue, "the command holds bytes that are not UTF-8")
        self.assertEqual(submit, queue)
        self.assertRegex(cancel, "reason is not UTF-8")
        self.assertEqual(self.env.job_ids(), [])

    def test_no_cell(self):
        self.env.cli("down")
        self.assertIn("reeve up", self.probe("refused", code=1))

    def test_the_plm_dies_under_it(self):
        """Nothing is lost, nothing is told twice, nothing is queued twice."""
        probe = subprocess.Popen([PROBE, self.env.state, "echo", "300", "40"],
                                 stdout=subprocess.PIPE, text=True)
        for _ in range(3):
            time.sleep(0.15)
            self.env.kill("plm")
            self.env.until_up()
        out, _ = probe.communicate(timeout=120)
        self.assertEqual(out, "right 12000 wrong 0 open 0\n")
        self.assertEqual(len(self.env.cli("ls", "-a", "--parsable", "--limit", "1000")
                             .out.split()), 300)


class Installed(unittest.TestCase):
    def test_a_program_of_somebody_else(self):
        """cmake --install gives a package that find_package() finds and links."""
        with tempfile.TemporaryDirectory(prefix="reeve-install-") as top:
            subprocess.run(["cmake", "--install", BUILD, "--prefix", top + "/usr"], check=True,
                           capture_output=True)
            write(top + "/src/CMakeLists.txt",
                  "cmake_minimum_required(VERSION 3.22)\nproject(user CXX)\n"
                  "set(CMAKE_CXX_STANDARD 20)\nfind_package(reeve REQUIRED)\n"
                  "add_executable(user user.cc)\ntarget_link_libraries(user reeve::client)\n")
            write(top + "/src/user.cc",
                  "#include <client.h>\nint main() {\n"
                  "    return reeve::Client::connect(\"/nowhere/at/all\") ? 1 : 0;\n}\n")
            subprocess.run(["cmake", "-S", top + "/src", "-B", top + "/build",
                            "-DCMAKE_PREFIX_PATH=" + top + "/usr"], check=True,
                           capture_output=True)
            subprocess.run(["cmake", "--build", top + "/build"], check=True, capture_output=True)
            subprocess.run([top + "/build/user"], check=True)
            subprocess.run([top + "/usr/bin/reeve", "--version"], check=True, capture_output=True)
            dump = subprocess.run([top + "/usr/bin/shm-dump", "--help"], check=True,
                                  capture_output=True, text=True)
            self.assertIn("reeve shm dump", dump.stdout)
            self.assertTrue(os.access(top + "/usr/bin/reeve-up", os.X_OK))


if __name__ == "__main__":
    unittest.main()
