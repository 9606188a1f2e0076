"""The stream of events: BEHAVIOURS.md row 115 (live; replay then live without gap or repeat)."""
import json
import os
import subprocess
import threading
import unittest

from reeve_env import NOT_FOUND, OK, REFUSED, UNREACHABLE, USAGE, OwnCellCase, until
from test_json import SHAPES, problems


class Listener:
    """`reeve events` in the background; its lines as they come."""

    def __init__(self, env, *words):
        self.child = env.popen("events", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
        self.events = []
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        for line in self.child.stdout:
            self.events.append(json.loads(line))

    def stop(self):
        self.child.terminate()
        self.thread.join(20)
        self.child.wait(20)
        return self.events

    def kinds(self, job):
        return [e["kind"] for e in list(self.events) if e["task"] and e["task"]["job"] == job
                and e["task"]["element"] is not None]


STORY = ["TASK_SUBMITTED", "ASSIGNED", "STARTED", "FINISHED"]


class Events(OwnCellCase):
    def whole(self, events):
        """No gap, no repeat, every field as documented."""
        self.assertEqual([e["index"] for e in events],
                         list(range(events[0]["index"], events[0]["index"] + len(events))))
        for event in events:
            self.assertEqual(problems(SHAPES["reeve.event.v1"], event), [], event)

    def test_live(self):
        """Row 115: a listener hears what happens from now on, as it happens."""
        env = self.env
        before = env.submit("--", "true")
        env.wait(before)
        until(lambda: "FINISHED" in env.cli("events", "--from", "0", "--no-follow").out, "it")
        listener = Listener(env)
        until(lambda: listener.child.poll() is None and env.cli("ls").code == OK, "the listener")
        jobs = []
        def heard():
            jobs.append(env.submit("--", "true"))
            return listener.events
        until(heard, "the first event", pause=0.2)
        for job in jobs:
            env.wait(job)
        until(lambda: listener.kinds(jobs[-1]) == STORY, "the last job's story")
        self.assertEqual(listener.kinds(before), [], "a listener of the live heard the past")
        self.whole(listener.stop())

    def test_replay_then_live(self):
        """Row 115: from the beginning, on into what comes, through a restart of the PLM."""
        env = self.env
        done = env.submit("--array", "1-700", "-c", "0.1", "--", "true")
        env.wait(done)
        listeners = [Listener(env, "--from", "0"), Listener(env, "--from", "0", str(done))]
        live = env.submit("--array", "1-20", "-c", "0.1", "--", "true")
        env.kill("plm")
        env.until_up()
        last = env.submit("--", "true")
        env.wait(live, last)
        until(lambda: listeners[0].kinds(last) == STORY, "the last job's story")
        events = listeners[0].stop()
        self.assertEqual(events[0]["kind"], "LOG_OPENED")
        self.assertEqual(events[0]["index"], 0)
        self.whole(events)
        for job, elements in ((done, range(1, 701)), (live, range(1, 21)), (last, [0])):
            ended = sorted(e["task"]["element"] for e in events if e["kind"] == "FINISHED"
                           and e["task"]["job"] == job)
            self.assertEqual(ended, list(elements))
        # A listener of one job hears that job alone, and all of it.
        want = [e["index"] for e in events if e["task"] and e["task"]["job"] == done]
        until(lambda: len(listeners[1].events) >= len(want), "all of the one job")
        self.assertEqual([e["index"] for e in listeners[1].stop()], want)
        # What was heard live is what the log says afterwards.
        again = [json.loads(line) for line in
                 env.cli("events", "--from", "0", "--no-follow").out.splitlines()]
        self.assertEqual(again[:len(events)], events)

    def test_places_and_ends(self):
        """Row 115: from a place in the middle, so many; wrong places and no cell are refused."""
        env = self.env
        env.wait(env.submit("--array", "1-300", "-c", "0.1", "--", "true"))
        def count():
            return len(env.cli("events", "--from", "0", "--no-follow").out.splitlines())
        until(lambda: count() > 1200, "them all published")
        some = [json.loads(line)["index"] for line in
                env.cli("events", "--from", "250", "-n", "600").out.splitlines()]
        self.assertEqual(some, list(range(250, 850)))
        self.one_line(env.cli("events", "--from", "99999999", code=REFUSED), "from", "only")
        self.one_line(env.cli("events", "1.5", "--from", "0", code=USAGE), "job")
        self.one_line(env.cli("events", "--from", "x", code=USAGE), "--from")
        for words in (("--no-follow",), ("--from", "0"), ()):
            self.one_line(env.cli("events", "99", *words, code=NOT_FOUND), "job 99", "reeve ls")
        env.down()
        self.one_line(env.cli("events", code=UNREACHABLE), "reeve up")

    def test_slow_listener_hinders_nobody(self):
        """Row 115: who does not read is waited for by nobody and misses nothing."""
        env = self.env
        read, write_end = os.pipe()
        child = env.popen("events", "--from", "0", stdout=write_end)
        os.close(write_end)
        job = env.submit("--array", "1-1500", "-c", "0.1", "--", "true")
        env.wait(job)
        until(lambda: len(env.cli("events", "--from", "0", "--no-follow", job).out.splitlines())
              >= 6000, "all published")
        finished = set()
        with os.fdopen(read) as lines:
            for line in lines:
                event = json.loads(line)
                if event["kind"] == "FINISHED":
                    finished.add(event["task"]["element"])
                if len(finished) == 1500:
                    break
            child.terminate()
            child.wait(20)


if __name__ == "__main__":
    unittest.main(verbosity=2)
