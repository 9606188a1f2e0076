#!/usr/bin/env python3
"""A warm runner in Python: imports once, then answers tasks by frames (binary safe).

    reeve up --runner 'python3 scripts/demo/functions/serve.py'
    reeve submit --wait --function upper --data 'hello'
    reeve result @

What a handler prints goes to the task's log: `reeve logs @`. An exception fails the task; a crash
fails it, too, and the next task meets a fresh process.
"""
import json
import struct
import sys
import time
import traceback


def upper(data):
    return data.upper()


def fail(data):
    raise ValueError(data.decode())


def pause(data):
    print("sleeping", data.decode(), file=sys.stderr)
    time.sleep(float(data))
    return b""


HANDLERS = {"upper": upper, "fail": fail, "pause": pause}


def serve(source, sink):
    sink.write(b"reeve-frames\n")
    sink.flush()
    while True:
        prefix = source.read(4)
        if len(prefix) < 4:
            return
        head, _, data = source.read(struct.unpack(">I", prefix)[0]).partition(b"\n")
        reply, result = {"code": 0}, b""
        try:
            result = HANDLERS[json.loads(head)["function"]](data)
        except Exception as problem:  # told to whoever submitted the task
            traceback.print_exc()
            reply = {"code": 1, "error": "%s: %s" % (type(problem).__name__, problem)}
        body = json.dumps(reply).encode() + b"\n" + result
        sink.write(struct.pack(">I", len(body)) + body)
        sink.flush()


if __name__ == "__main__":
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # print() in a handler must not break the protocol
    serve(sys.stdin.buffer, out)
