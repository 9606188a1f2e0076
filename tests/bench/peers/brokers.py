"""Durable queues as peers of class_b: 64 bytes a task, 64 at a time, each stored before it is
confirmed, taken by one consumer and acknowledged. Clients are Python over the broker's own
protocol: what they cost is part of the figure, as reeve's client is of its own.
"""

import contextlib
import itertools
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

BATCH = 64
BODY = b"x" * 64
SECONDS = 3
HERE = os.path.dirname(os.path.abspath(__file__))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until_listening(port, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=20)
        except OSError:
            time.sleep(0.05)
    raise SystemExit("nobody listens on port %d" % port)


def rate(batch):
    """Tasks/s of a function that moves a batch through the queue, over some seconds."""
    begun = time.monotonic()
    done = 0
    while time.monotonic() - begun < SECONDS:
        batch()
        done += BATCH
    return done / (time.monotonic() - begun)


@contextlib.contextmanager
def server(words, **more):
    """A peer's server in a folder of its own, ended and removed afterwards: (folder, process)."""
    top = tempfile.mkdtemp(prefix="reeve-peer-")
    words = [word.replace("@TOP", top) for word in words]
    more["env"] = dict(os.environ, **{name: value.replace("@TOP", top)
                                      for name, value in more.pop("env", {}).items()})
    process = subprocess.Popen(words, cwd=top, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, **more)
    try:
        yield top, process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(top, ignore_errors=True)


@contextlib.contextmanager
def redis_server(durable):
    port = free_port()
    with server(["redis-server", "--port", str(port), "--dir", "@TOP", "--save", "", "--bind",
                 "127.0.0.1", "--appendonly", "yes" if durable else "no", "--appendfsync",
                 "always"]):
        until_listening(port).close()
        yield port


def redis_queue():
    """Streams with a consumer group, flushed before each answer (appendfsync always); as in class_b
    each task has a result, kept and read by who sent the task."""
    def command(*words):
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)

    def add(stream):
        return command(b"XADD", stream, b"MAXLEN", b"~", b"1000", b"*", b"d", BODY) * BATCH

    def added(lines):
        return [lines.readline() and lines.readline()[:-2] for _ in range(BATCH)]

    def skip_entries(lines):
        for _ in range(5 + BATCH * 8):  # the stream's name; of each entry id, field and value
            lines.readline()

    tasks, results = add(b"s"), add(b"r")
    take = command(b"XREADGROUP", b"GROUP", b"g", b"c", b"COUNT", b"%d" % BATCH, b"STREAMS", b"s",
                   b">")
    with redis_server(True) as port:
        producer, consumer = until_listening(port), until_listening(port)
        answers, taken = producer.makefile("rb"), consumer.makefile("rb")
        producer.sendall(command(b"XGROUP", b"CREATE", b"s", b"g", b"$", b"MKSTREAM"))
        answers.readline()
        seen = b"0"

        def batch():
            nonlocal seen
            producer.sendall(tasks)
            ids = added(answers)
            consumer.sendall(take)
            skip_entries(taken)
            consumer.sendall(command(b"XACK", b"s", b"g", *ids) + results)
            if taken.readline() != b":%d\r\n" % BATCH:
                raise SystemExit("redis did not acknowledge all of a batch")
            last = added(taken)[-1]
            producer.sendall(command(b"XREAD", b"COUNT", b"%d" % BATCH, b"STREAMS", b"r", seen))
            skip_entries(answers)
            seen = last
        return rate(batch)


def beanstalkd():
    port = free_port()
    with server(["beanstalkd", "-l", "127.0.0.1", "-p", str(port), "-b", "@TOP", "-f0"]):
        peer = until_listening(port)
        lines = peer.makefile("rb")

        def batch():
            peer.sendall(b"put 1 0 60 64\r\n%s\r\n" % BODY * BATCH)
            for _ in range(BATCH):
                lines.readline()
            peer.sendall(b"reserve\r\n" * BATCH)
            ids = []
            for _ in range(BATCH):
                ids.append(lines.readline().split()[1])
                lines.readline()
            peer.sendall(b"".join(b"delete %s\r\n" % one for one in ids))
            for _ in range(BATCH):
                lines.readline()
        return rate(batch)


def gearman():
    """Background jobs, which is what gearmand keeps in its store (SQLite)."""
    submit_bg, can_do, grab, complete = 18, 1, 9, 13
    job_created, job_assign = 8, 11

    def packet(kind, *fields):
        data = b"\0".join(fields)
        return b"\0REQ" + struct.pack(">II", kind, len(data)) + data

    def answer(stream):
        _, kind, size = struct.unpack(">4sII", stream.read(12))
        return kind, stream.read(size)

    port = free_port()
    with server(["gearmand", "-L", "127.0.0.1", "-p", str(port), "-q", "libsqlite3",
                 "--libsqlite3-db", "@TOP/queue.db", "-l", "stderr"]):
        client, worker = until_listening(port), until_listening(port)
        answers, jobs = client.makefile("rb"), worker.makefile("rb")
        worker.sendall(packet(can_do, b"echo"))
        ids = itertools.count()

        def batch():
            client.sendall(b"".join(packet(submit_bg, b"echo", b"%d" % next(ids), BODY)
                                    for _ in range(BATCH)))
            for _ in range(BATCH):
                if answer(answers)[0] != job_created:
                    raise SystemExit("gearmand refused a job")
            for _ in range(BATCH):
                worker.sendall(packet(grab))
                kind, data = answer(jobs)
                if kind != job_assign:
                    raise SystemExit("gearmand has lost a job")
                handle, _, body = data.split(b"\0", 2)
                worker.sendall(packet(complete, handle, body))
        return rate(batch)


class Nats:
    """As much of the NATS protocol as a work queue needs."""

    def __init__(self, port):
        self.socket = until_listening(port)
        self.stream = self.socket.makefile("rb")
        self.stream.readline()  # INFO
        self.socket.sendall(b'CONNECT {"verbose":false}\r\nSUB in.> 1\r\n')

    def message(self):
        """The next one: (where to answer, bytes)."""
        while True:
            words = self.stream.readline().split()
            if words[0] == b"PING":
                self.socket.sendall(b"PONG\r\n")
            elif words[0] == b"MSG":
                body = self.stream.read(int(words[-1]) + 2)[:-2]
                return words[3] if len(words) == 5 else b"", body

    def call(self, subject, **fields):
        body = json.dumps(fields).encode()
        self.socket.sendall(b"PUB %s in.call %d\r\n%s\r\n" % (subject.encode(), len(body), body))
        answer = json.loads(self.message()[1])
        if "error" in answer:
            raise SystemExit("nats: %s" % answer["error"])


def nats_jetstream():
    """A JetStream work queue on disk. The server flushes every two minutes, not per message."""
    port = free_port()
    with server(["nats-server", "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", "@TOP"]):
        nats = Nats(port)
        nats.call("$JS.API.STREAM.CREATE.T", name="T", subjects=["t"], retention="workqueue",
                  storage="file")
        nats.call("$JS.API.CONSUMER.DURABLE.CREATE.T.C", stream_name="T",
                  config={"durable_name": "C", "ack_policy": "explicit", "max_ack_pending": 4096})
        want = b'{"batch":%d}' % BATCH

        def batch():
            nats.socket.sendall(b"PUB t in.ack 64\r\n%s\r\n" % BODY * BATCH)
            for _ in range(BATCH):
                nats.message()
            nats.socket.sendall(b"PUB $JS.API.CONSUMER.MSG.NEXT.T.C in.next %d\r\n%s\r\n" %
                                (len(want), want))
            acks = [nats.message()[0] for _ in range(BATCH)]
            nats.socket.sendall(b"".join(b"PUB %s 4\r\n+ACK\r\n" % one for one in acks))
        return rate(batch)


def rabbitmq():
    port = free_port()
    env = {"RABBITMQ_NODENAME": "reeve-peer-%d@localhost" % os.getpid(), "HOME": "@TOP",
           "RABBITMQ_MNESIA_BASE": "@TOP", "RABBITMQ_LOG_BASE": "@TOP",
           "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_NODE_PORT": str(port),
           "RABBITMQ_DIST_PORT": str(free_port()), "ERL_EPMD_PORT": str(free_port()),
           "RABBITMQ_ENABLED_PLUGINS_FILE": "@TOP/none", "RABBITMQ_PID_FILE": "@TOP/pid"}
    # Not the wrapper in the PATH, which becomes another user.
    with server(["/usr/lib/rabbitmq/bin/rabbitmq-server"], env=env):
        until_listening(port, 60).close()
        # pika belongs to the system's Python.
        done = subprocess.run(["/usr/bin/python3", HERE + "/rabbitmq_client.py", str(port),
                               str(SECONDS)], capture_output=True, text=True, timeout=120,
                              check=False)
        subprocess.run(["epmd", "-port", env["ERL_EPMD_PORT"], "-kill"], capture_output=True,
                       check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr.strip().splitlines()[-1])
    return float(done.stdout)


def bullmq(count=4096):
    with redis_server(True) as port:
        done = subprocess.run(["node", HERE + "/bullmq.js", str(port), str(count)],
                              capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise SystemExit("bullmq: " + (done.stderr.strip().splitlines() or ["no output"])[-1])
    return float(done.stdout)


def has_bullmq():
    return shutil.which("node") is not None and subprocess.run(
        ["node", "-e", "require('bullmq')"], capture_output=True, check=False).returncode == 0


def has_pika():
    return os.path.exists("/usr/lib/rabbitmq/bin/rabbitmq-server") and subprocess.run(
        ["/usr/bin/python3", "-c", "import pika"], capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    print(globals()[sys.argv[1]]())
