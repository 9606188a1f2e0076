#!/usr/bin/env python3
"""Writes the demo: real input files and the job file over them, and says what must come out.

    make_jobs.py DIR [--files N] [--memory-limits yes|no]

makes DIR/in/*.txt, DIR/prog.c and DIR/jobs.json, and DIR/expected.json with, per job_id, the
outcome and (where there is output) the file and its SHA-256. Everything follows from a fixed seed,
and what is expected is computed here in Python, not by the programs the jobs run.
"""

import argparse
import collections
import hashlib
import json
import pathlib
import random

WORDS = ("alder birch cedar elm fir hazel larch linden maple oak pine poplar rowan spruce willow "
         "yew river stone meadow harbour lantern copper violet thunder winter orchard").split()

PROGRAM = r"""#include <stdio.h>

/* Counts how often each byte occurs on standard input: 256 numbers, one a line. */
int main(void) {
    unsigned long counts[256] = {0};
    int byte;
    while ((byte = getchar()) != EOF) counts[byte]++;
    for (int i = 0; i < 256; ++i) printf("%lu\n", counts[i]);
    return 0;
}
"""

HOG = "x = bytearray(512 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\nprint(len(x))"


class Demo:
    def __init__(self, root, files, memory_limits):
        self.root = pathlib.Path(root).resolve()
        self.files = files
        self.memory_limits = memory_limits
        self.random = random.Random(20261122)
        self.jobs = []
        self.expected = {}

    def add(self, kind, job_id, command, *, cpu=1, memory="64M", priority=0, outcome="succeeded",
            output=None, content=None, **rest):
        job = {"job_id": job_id, "command": command,
               "resources": {"cpu": cpu, "memory": memory, "gpu": 0}, "priority": priority}
        if output:
            job["output"] = str(self.root / "out" / output)
        job.update(rest)
        self.jobs.append(job)
        expected = {"kind": kind, "outcome": outcome}
        if output and content is not None:
            expected["output"] = job["output"]
            expected["sha256"] = hashlib.sha256(content).hexdigest()
        self.expected[job_id] = expected

    def make_inputs(self):
        (self.root / "in").mkdir(parents=True, exist_ok=True)
        (self.root / "out").mkdir(exist_ok=True)
        (self.root / "prog.c").write_text(PROGRAM)
        self.inputs = []
        for i in range(self.files):
            lines = [" ".join(self.random.choices(WORDS, k=self.random.randint(3, 12)))
                     for _ in range(self.random.randint(400, 1600))]
            path = self.root / "in" / f"{i:03}.txt"
            path.write_text("\n".join(lines) + "\n")
            self.inputs.append((i, path, path.read_bytes()))

    def per_file(self):
        locale = {"LC_ALL": "C"}
        for i, path, content in self.inputs:
            digest = hashlib.sha256(content).hexdigest()
            self.add("hash", f"hash-{i:03}", ["sha256sum", str(path)], cpu=0.5,
                     priority=10, output=f"hash-{i:03}", content=f"{digest}  {path}\n".encode())
            lines = sorted(content.splitlines(keepends=True))
            self.add("sort", f"sort-{i:03}", ["sort", str(path)], priority=i % 5, env=locale,
                     output=f"sort-{i:03}", content=b"".join(lines))
            self.add("count", f"count-{i:03}", ["wc", "-w"], cpu=0.25, memory="32M", priority=-5,
                     input=str(path), output=f"count-{i:03}",
                     content=f"{len(content.split())}\n".encode())
            self.add("compress", f"compress-{i:03}", ["gzip", "-9", "-n", "-c", str(path)],
                     output=f"{i:03}.gz")
            self.add("unpack", f"unpack-{i:03}",
                     ["gzip", "-d", "-c", str(self.root / "out" / f"{i:03}.gz")],
                     after=[f"compress-{i:03}"], output=f"unpack-{i:03}", content=content)

    def compile_and_run(self):
        program = str(self.root / "out" / "prog")
        self.add("compile", "compile", ["cc", "-O2", "-o", program, str(self.root / "prog.c")],
                 memory="512M", priority=100, output="compile.log", content=b"")
        for i, path, content in self.inputs[:12]:
            counts = collections.Counter(content)
            # Through a shell: the program is not there yet when the job is submitted.
            self.add("run", f"bytes-{i:03}", ["/bin/sh", "-c", 'exec "$0"', program],
                     input=str(path), after=["compile"], output=f"bytes-{i:03}",
                     content="".join(f"{counts[b]}\n" for b in range(256)).encode())

    def joins(self):
        out = self.root / "out"
        total = sum(len(content.split()) for _, _, content in self.inputs)
        self.add("join", "join-count", f"cat {out}/count-* | awk '{{n += $1}} END {{print n}}'",
                 shell=True, after=[f"count-{i:03}" for i, _, _ in self.inputs],
                 output="join-count", content=f"{total}\n".encode())
        digests = sorted(hashlib.sha256(content).hexdigest() for _, _, content in self.inputs)
        self.add("join", "join-hash", f"cut -c1-64 {out}/hash-* | LC_ALL=C sort", shell=True,
                 after=[f"hash-{i:03}" for i, _, _ in self.inputs], output="join-hash",
                 content="".join(f"{digest}\n" for digest in digests).encode())
        merged = sorted(line for _, _, content in self.inputs
                        for line in content.splitlines(keepends=True))
        self.add("join", "join-sort", f"LC_ALL=C sort -m {out}/sort-*", shell=True,
                 after=[f"sort-{i:03}" for i, _, _ in self.inputs], output="join-sort",
                 content=b"".join(merged))
        report = (f"{total}\n".encode() + hashlib.sha256(b"".join(merged)).hexdigest().encode() +
                  b"  -\n")
        self.add("join", "report", f"cat {out}/join-count; sha256sum < {out}/join-sort",
                 shell=True, after=["join-count", "join-sort", "join-hash"], priority=50,
                 output="report", content=report)

    def bad_ends(self):
        for i, status in enumerate((1, 3, 77)):
            self.add("fails", f"fails-{i}", ["/bin/sh", "-c", f"echo to stderr >&2; exit {status}"],
                     outcome="failed", output=f"fails-{i}", content=b"to stderr\n")
        self.add("fails", "killed", ["/bin/sh", "-c", "kill -SEGV $$"], outcome="failed",
                 output="killed")
        self.add("fails", "times-out", ["sleep", "300"], outcome="timed-out", time_limit="1s",
                 grace="500ms", output="times-out", content=b"")
        self.add("fails", "eats-memory", ["python3", "-c", HOG], memory="96M",
                 outcome="out-of-memory" if self.memory_limits else "succeeded",
                 output="eats-memory")
        self.add("depends", "never-runs", ["true"], after=["fails-0"], outcome="cancelled")
        self.add("depends", "cleans-up", ["echo", "cleaned"], after=["afternotok:fails-0"],
                 output="cleans-up", content=b"cleaned\n")
        self.add("depends", "either-way", ["echo", "done"], after=["afterany:times-out"],
                 output="either-way", content=b"done\n")
        self.add("retry", "third-time", "test -e $F.2 && exit 0; test -e $F.1 && touch $F.2; "
                 "touch $F.1; exit 1", shell=True, retries=3,
                 env={"F": str(self.root / "out" / "third-time")}, output="third-time.log",
                 content=b"")

    def array(self):
        self.add("array", "array", ["/bin/sh", "-c", "echo $((REEVE_TASK_ID * REEVE_TASK_ID))"],
                 array="0-39%8", cpu=0.5, memory="32M", output="array-%a")
        self.expected["array"]["elements"] = {
            str(self.root / "out" / f"array-{i}"):
                hashlib.sha256(f"{i * i}\n".encode()).hexdigest() for i in range(40)}

    def write(self):
        self.make_inputs()
        self.per_file()
        self.compile_and_run()
        self.joins()
        self.bad_ends()
        self.array()
        # Dependencies may name what comes later in the file; the order is mixed on purpose.
        self.random.shuffle(self.jobs)
        (self.root / "jobs.json").write_text(json.dumps(self.jobs, indent=1) + "\n")
        (self.root / "expected.json").write_text(json.dumps(self.expected, indent=1) + "\n")


def make(root, files=60, memory_limits=True):
    """The number of jobs written."""
    demo = Demo(root, files, memory_limits)
    demo.write()
    return len(demo.jobs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="writes the demo's files and jobs")
    parser.add_argument("directory")
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--memory-limits", choices=("yes", "no"), default="yes")
    words = parser.parse_args()
    print(make(words.directory, words.files, words.memory_limits == "yes"), "jobs")
