#!/usr/bin/env python3
"""Others beside reeve in one run, as far as they are installed: `peers.py --build build/release`.

Function tasks, durable (64 bytes, batches of 64):
  redis_streams      XADD alone with appendfsync always (redis-benchmark, 64 at a time): no worker,
                     no result, so more than Redis could do of the whole
  redis_streams_ram  the same without persistence
  beanstalkd         put, reserve, delete on one connection, binlog flushed each time
Process tasks, two at a time (/bin/true):
  xargs  parallel  task_spooler
and class_b, class_b_process of this machine at this moment. One JSON object a line, then a table.
apt-get install redis-server beanstalkd task-spooler parallel
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import quick  # noqa: E402

TASKS = 1000


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until_listening(port):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except OSError:
            time.sleep(0.05)
    raise SystemExit("nobody listens on port %d" % port)


def redis(durable):
    with tempfile.TemporaryDirectory() as top:
        port = free_port()
        words = ["redis-server", "--port", str(port), "--dir", top, "--save", "",
                 "--bind", "127.0.0.1", "--appendonly", "yes" if durable else "no",
                 "--appendfsync", "always"]
        server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        try:
            until_listening(port).close()
            out = subprocess.run(["redis-benchmark", "-p", str(port), "-n", "200000", "-P", "64",
                                  "-c", "8", "-q", "XADD", "s", "*", "d", "x" * 64],
                                 capture_output=True, text=True, check=True).stdout
            return float(re.findall(r"([0-9.]+) requests per second", out)[-1])
        finally:
            server.terminate()
            server.wait()


def beanstalkd():
    with tempfile.TemporaryDirectory() as top:
        port = free_port()
        server = subprocess.Popen(["beanstalkd", "-l", "127.0.0.1", "-p", str(port), "-b", top,
                                   "-f0"])
        try:
            peer = until_listening(port)
            lines = peer.makefile("rb")
            body, count = b"x" * 64, 2000
            begun = time.monotonic()
            for _ in range(0, count, 64):
                peer.sendall(b"put 1 0 60 64\r\n%s\r\n" % body * 64)
                for _ in range(64):
                    lines.readline()
                peer.sendall(b"reserve\r\n" * 64)
                ids = []
                for _ in range(64):
                    ids.append(lines.readline().split()[1])
                    lines.readline()
                peer.sendall(b"".join(b"delete %s\r\n" % one for one in ids))
                for _ in range(64):
                    lines.readline()
            return count / (time.monotonic() - begun)
        finally:
            server.terminate()
            server.wait()


def timed(words, **more):
    begun = time.monotonic()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, **more)
    return TASKS / (time.monotonic() - begun)


def xargs():
    return timed(["xargs", "-P2", "-n1", "/bin/true"],
                 input=b"\n".join(b"%d" % i for i in range(TASKS)))


def parallel():
    return timed(["parallel", "-j2", "/bin/true", ":::"] + [str(i) for i in range(TASKS)],
                 stderr=subprocess.DEVNULL)


def task_spooler():
    with tempfile.TemporaryDirectory() as top:
        env = dict(os.environ, TS_SOCKET=top + "/socket", TMPDIR=top, TS_MAXFINISHED="10",
                   TS_SAVELIST=top + "/list", TS_SLOTS="2")
        tool = "tsp" if shutil.which("tsp") else "ts"
        begun = time.monotonic()
        for _ in range(TASKS):
            subprocess.run([tool, "-n", "/bin/true"], env=env, check=True,
                           stdout=subprocess.DEVNULL)
        subprocess.run([tool, "-w"], env=env, check=False, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - begun
        subprocess.run([tool, "-K"], env=env, check=False)
        return TASKS / seconds


PEERS = (("redis_streams", "redis-server", lambda: redis(True)),
         ("redis_streams_ram", "redis-server", lambda: redis(False)),
         ("beanstalkd", "beanstalkd", beanstalkd), ("xargs", "xargs", xargs),
         ("parallel", "parallel", parallel), ("task_spooler", "tsp", task_spooler))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build/release")
    options = parser.parse_args()
    rows = [("class_b_process", quick.process_rate(options.build))]
    with quick.Cell(options.build, "-c", "2") as cell:
        rows.append(("class_b", cell.stream("--seconds", "3")["class_b"]))
    rows.append(("class_a", quick.class_a(options.build)))
    for name, tool, measure in PEERS:
        if shutil.which(tool):
            rows.append((name, measure()))
        else:
            print("peers: no %s here" % tool, file=sys.stderr)
    for name, value in rows:
        print(json.dumps({"name": name, "value": round(value, 1), "unit": "tasks/s"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
