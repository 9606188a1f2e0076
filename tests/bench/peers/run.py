#!/usr/bin/env python3
"""Others beside reeve in one run, as far as they are installed:

    tests/bench/peers/run.py --build build/release [--only NAME,NAME] [--runs 1]

Function tasks, stored before they are confirmed (64 bytes, 64 at a time; brokers.py):
  redis_streams   XADD alone with appendfsync always (redis-benchmark): no worker, no result, so
                  more than Redis could do of the whole
  redis_streams_ram   the same without persistence
  redis_queue     tasks added, taken, acknowledged with a result each, and the results read
  redis_script_ram    64 at a time added, taken and acknowledged by a script in the server, without
                  persistence: no client, as class_a
  beanstalkd gearman nats_jetstream rabbitmq bullmq
Process tasks, two at a time (/bin/true):
  xargs  parallel  task_spooler  slurm
and class_a, class_b, class_b_process of this machine at this moment. One JSON object a line.

    apt-get install redis-server beanstalkd task-spooler parallel gearman-job-server nats-server
        rabbitmq-server python3-pika slurmctld slurmd slurm-client munge
    npm install bullmq ioredis        # and NODE_PATH=.../node_modules
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]
import brokers  # noqa: E402
import quick  # noqa: E402
import slurm  # noqa: E402

TASKS = 1000


def redis(durable):
    with brokers.redis_server(durable) as port:
        out = subprocess.run(["redis-benchmark", "-p", str(port), "-n", "200000", "-P", "64",
                              "-c", "8", "-q", "XADD", "s", "*", "d", "x" * 64],
                             capture_output=True, text=True, check=True).stdout
        return float(re.findall(r"([0-9.]+) requests per second", out)[-1])


# ARGV: what a task carries.
REDIS_SCRIPT = """
for i = 1, 64 do redis.call('XADD', 's', 'MAXLEN', '~', 1000, '*', 'd', ARGV[1]) end
local taken = redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', 64, 'STREAMS', 's', '>')
local ids = {}
for i, entry in ipairs(taken[1][2]) do ids[i] = entry[1] end
return redis.call('XACK', 's', 'g', unpack(ids))
"""


def redis_script():
    with brokers.redis_server(False) as port:
        subprocess.run(["redis-cli", "-p", str(port), "XGROUP", "CREATE", "s", "g", "$",
                        "MKSTREAM"], check=True, capture_output=True)
        out = subprocess.run(["redis-benchmark", "-p", str(port), "-n", "5000", "-c", "8", "-q",
                              "EVAL", REDIS_SCRIPT, "0", "x" * 64],
                             capture_output=True, text=True, check=True).stdout
        return 64 * float(re.findall(r"([0-9.]+) requests per second", out)[-1])


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


def class_b(build):
    with quick.Cell(build, "-c", "2") as cell:
        return cell.stream("--seconds", "3")["class_b"]


def tool(name):
    return lambda: shutil.which(name) is not None


# name, is it here, measure
PEERS = (("redis_streams", tool("redis-server"), lambda: redis(True)),
         ("redis_streams_ram", tool("redis-server"), lambda: redis(False)),
         ("redis_queue", tool("redis-server"), brokers.redis_queue),
         ("redis_script_ram", tool("redis-server"), redis_script),
         ("beanstalkd", tool("beanstalkd"), brokers.beanstalkd),
         ("gearman", tool("gearmand"), brokers.gearman),
         ("nats_jetstream", tool("nats-server"), brokers.nats_jetstream),
         ("rabbitmq", brokers.has_pika, brokers.rabbitmq),
         ("bullmq", brokers.has_bullmq, brokers.bullmq),
         ("xargs", tool("xargs"), xargs), ("parallel", tool("parallel"), parallel),
         ("task_spooler", tool("tsp"), task_spooler), ("slurm", slurm.available, slurm.slurm))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--only", default="", help="names, with commas between")
    parser.add_argument("--runs", type=int, default=1, help="medians of so many")
    options = parser.parse_args()
    here = [("class_b_process", lambda: quick.process_rate(options.build)),
            ("class_b", lambda: class_b(options.build)),
            ("class_a", lambda: quick.class_a(options.build))]
    for name, is_here, measure in PEERS:
        if is_here():
            here.append((name, measure))
        else:
            print("peers: no %s here" % name, file=sys.stderr)
    wanted = options.only.split(",") if options.only else [name for name, _ in here]
    unknown = set(wanted) - {name for name, _ in here}
    if unknown:
        parser.error("not here: %s" % ", ".join(sorted(unknown)))
    seen = {name: [] for name in wanted}
    for _ in range(options.runs):  # in turns, so that what the machine does meets all alike
        for name, measure in here:
            if name in seen:
                seen[name].append(measure())
    for name, values in seen.items():
        print(json.dumps({"name": name, "value": round(statistics.median(values), 1),
                          "unit": "tasks/s"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
