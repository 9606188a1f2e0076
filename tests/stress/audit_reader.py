"""Reads the entries of an audit log from its tiles, independently of the product's own code."""

import os
import struct
from collections import namedtuple

Entry = namedtuple("Entry", "index kind attempt seq task worker peer time prev cause code detail")

SUBMITTED, ASSIGNED, STARTED, PREEMPTED, RESUMED, FINISHED, FAILED, CANCELLED = range(1, 9)
REQUEUED, HELD, RELEASED, UPDATED = 10, 11, 12, 13
WORKER_JOINED, WORKER_DEAD, WORKER_LEFT = 16, 17, 18
NONE = 2**64 - 1


def tree_size(directory):
    with open(os.path.join(directory, "checkpoint"), encoding="utf-8") as checkpoint:
        return int(checkpoint.read().split("\n")[1])


def tile_path(number):
    parts = ["%03d" % (number % 1000)]
    number //= 1000
    while number:
        parts.insert(0, "x%03d" % (number % 1000))
        number //= 1000
    return "/".join(parts)


def read_entries(directory):
    size = tree_size(directory)
    for tile in range((size + 255) // 256):
        width = min(256, size - tile * 256)
        base = os.path.join(directory, "tile", "entries", tile_path(tile))
        path = base if os.path.exists(base) else "%s.p/%d" % (base, width)
        with open(path, "rb") as bundle:
            data = bundle.read()
        at = 0
        for offset in range(width):
            (length,) = struct.unpack_from(">H", data, at)
            yield parse(tile * 256 + offset, data[at + 2:at + 2 + length])
            at += 2 + length


def parse(index, raw):
    magic, kind, flags, attempt, seq = struct.unpack_from(">4sBBHQ", raw, 0)
    assert magic == b"RVE1" and flags == 0, "entry %d is no audit entry" % index
    task = struct.unpack_from(">QQ", raw, 16)
    worker = struct.unpack_from(">QQ", raw, 32)
    peer = struct.unpack_from(">QQ", raw, 48)
    time, prev, cause, code, reserved, length = struct.unpack_from(">QQQiHH", raw, 64)
    assert reserved == 0 and len(raw) == 96 + length, "entry %d has a wrong length" % index
    return Entry(index, kind, attempt, seq, task, worker, peer, time, prev, cause, code, raw[96:])


def check_rules(entries):
    """The audit rules (docs/formats/audit.md); returns (problems, last state per task)."""
    problems, chains, state = [], {}, {}
    attempt, holder, dead = {}, {}, {}

    def bad(entry, why):
        problems.append("entry %d (kind %d, task %s): %s"
                        % (entry.index, entry.kind, entry.task, why))

    lawful = {
        None: {SUBMITTED: "queued"},
        "queued": {ASSIGNED: "assigned", HELD: "held", UPDATED: "queued", CANCELLED: "done"},
        "held": {RELEASED: "queued", UPDATED: "held", CANCELLED: "done"},
        "assigned": {STARTED: "running", FAILED: "failed", PREEMPTED: "preempted",
                     REQUEUED: "queued", CANCELLED: "done"},
        "running": {FINISHED: "done", FAILED: "failed", PREEMPTED: "preempted",
                    REQUEUED: "queued", CANCELLED: "done"},
        "preempted": {RESUMED: "running", REQUEUED: "queued", CANCELLED: "done"},
        "failed": {REQUEUED: "queued", CANCELLED: "done"},
        "done": {},
    }
    for entry in entries:
        kind = entry.kind
        if kind < 16:
            subject = ("task",) + entry.task
        elif kind < 32:
            subject = ("worker",) + entry.worker
        else:
            subject = ("cell",)
        seq, prev = chains.get(subject, (0, NONE))
        if entry.seq != seq or entry.prev != prev:
            bad(entry, "chain broken: seq %d prev %d, due %d %d"
                % (entry.seq, entry.prev, seq, prev))
        chains[subject] = (entry.seq + 1, entry.index)
        if entry.cause != NONE and entry.cause >= entry.index:
            bad(entry, "its cause lies in the future")
        if kind == WORKER_JOINED:
            dead.pop(entry.worker, None)
        elif kind == WORKER_DEAD:
            dead[entry.worker] = entry.index
        if kind >= 16:
            continue
        task = entry.task
        following = lawful[state.get(task)].get(kind)
        if following is None:
            bad(entry, "not lawful in state %s" % state.get(task))
            continue
        if kind == ASSIGNED:
            if entry.attempt != attempt.get(task, 0) + 1:
                bad(entry, "attempt %d after %d" % (entry.attempt, attempt.get(task, 0)))
            if entry.worker in dead:
                bad(entry, "assigned to a dead worker")
            attempt[task], holder[task] = entry.attempt, entry.worker
        elif kind in (STARTED, FINISHED, FAILED, PREEMPTED, RESUMED):
            if entry.worker != holder.get(task) or entry.attempt != attempt.get(task):
                bad(entry, "not from the holder")
            if entry.worker in dead:
                bad(entry, "from a worker declared dead")
        elif kind == REQUEUED and state[task] in ("assigned", "running", "preempted"):
            if entry.peer != holder.get(task):
                bad(entry, "peer is not the holder")
            if entry.peer in dead and entry.cause != dead[entry.peer]:
                bad(entry, "taken from a dead worker without citing its death")
        state[task] = following
    return problems, state
