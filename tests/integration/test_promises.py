"""What users of other servers suffered from, each as one test against the whole daemon: memory that never comes back
after reloads, half-copied versions, texts that depend on their neighbours, generations that go on for nobody, broken
characters, health that waits behind computation, a rollback that is forgotten. Others of the kind: many callers of one
graph and variables that are built twice (test_graph_sharing), bad versions (test_hot_reload, test_gate), states behind
a restart (test_sessions)."""
import concurrent.futures
import json
import os
import random
import re
import shutil
import statistics
import threading
import time
import unittest

from harness import FLAVOUR, IS_SLOW, SEED, DaemonTest, train, wait_until

IS_SANITIZED = FLAVOUR != "release"
RELOADS = 1000 if IS_SLOW and not IS_SANITIZED else 100
WARM_RELOADS = 20              # until allocator and plans have what they keep
RSS_GROWTH_MAX = 0.02
RSS_NOISE_BYTES = 512 << 10    # what two looks at an unchanged daemon differ by
LEAVERS = 300                  # more than the 256 of a step: some wait
TEXTS = 400 if IS_SLOW else 60
PROBES = 400
HEALTH_MS = 5


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Reloads(DaemonTest):
    MODELS = {"bard": {"units": 64, "layers": 2, "max_steps": 5}, "press": {"max_steps": 5}}

    def ask(self):
        began = time.monotonic()
        status, reply = self.daemon.json("POST", "/v1/completions", {"model": "bard", "prompt": "I ", "max_tokens": 50})
        self.assertEqual((status, len(reply["choices"][0]["text"])), (200, 50), reply)
        return time.monotonic() - began

    def ask_until(self, is_over, seconds):
        while not is_over.is_set():
            seconds.append(self.ask())

    def test_memory_and_requests_over_many_reloads(self):
        train(os.path.join(self.folder, "other"), units=64, layers=2, max_steps=8)
        shutil.copytree(os.path.join(self.folder, "other", "1"), os.path.join(self.models, "bard", "2"))
        wait_until(lambda: self.expect(200, "GET", "/v1/models/bard").get("version") == 2, "version 2 never served")
        idle = [self.ask() for _ in range(PROBES)]
        is_over, busy, sizes = threading.Event(), [], []
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            callers = [pool.submit(self.ask_until, is_over, busy) for _ in range(2)]
            try:
                for count in range(RELOADS):
                    version = 1 + count % 2
                    self.daemon.json("PUT", "/v1/models/bard/labels/current", {"version": version})
                    reply = self.expect(200, "POST", "/v1/models/bard/load", {})
                    self.assertEqual(reply["model"], f"bard@{version}")
                    if count >= WARM_RELOADS:
                        sizes.append(self.daemon.rss_bytes())
            finally:
                is_over.set()
            for caller in callers:
                caller.result()                  # raises what a request of it failed with
        self.assertGreater(len(busy), RELOADS // 10)
        loaded = {one["version"]: one["loaded"] for one in self.expect(200, "GET", "/v1/models/bard")["versions"]}
        self.assertEqual(loaded, {1: False, 2: True})          # each load was one, and let the other version go
        if IS_SANITIZED:
            return
        quarter = len(sizes) // 4
        first, last = statistics.median(sizes[:quarter]), statistics.median(sizes[-quarter:])
        self.assertLess(last, first * (1 + RSS_GROWTH_MAX) + RSS_NOISE_BYTES, f"memory grew from {first} to {last}")
        # Two callers share two CPUs with each other and the loads, on a machine that may be busy with more.
        self.assertLess(statistics.median(busy), 0.02 + 4 * statistics.median(idle))

    def test_a_publisher_that_dies_at_any_byte(self):
        """A version whose files were written in any order up to any byte does not serve; the whole one does."""
        source = os.path.join(self.folder, "source")
        train(source, max_steps=9)
        source = os.path.join(source, "1")
        contents = {}
        for name in os.listdir(source):
            with open(os.path.join(source, name), "rb") as file:
                contents[name] = file.read()
        total = sum(map(len, contents.values())) - 1          # the manifest says all without its last end of line
        rng = random.Random(SEED)
        target = os.path.join(self.models, "press", "77")
        borders = [0, 1, total - 1]
        for _ in range(TEXTS):
            names = sorted(contents)
            rng.shuffle(names)
            written = rng.choice(borders + [rng.randrange(total)] * 9)
            self.publish(target, contents, names, written)
            status, reply = self.daemon.json("POST", "/v1/models/press/load", {})
            self.assertIn(status, (200, 422), reply)
            reply = self.expect(200, "POST", "/v1/completions", {"model": "press", "prompt": "I ", "max_tokens": 1})
            self.assertEqual(reply["model"], "press@1", f"{written} of {total} bytes of {names}")
            shutil.rmtree(target)
        self.publish(target, contents, sorted(contents), total + 1)
        self.assertEqual(self.expect(200, "POST", "/v1/models/press/load", {})["model"], "press@77")

    @staticmethod
    def publish(target, contents, names, left):
        os.mkdir(target)
        for name in names:
            if left > 0:
                with open(os.path.join(target, name), "wb") as file:
                    file.write(contents[name][:left])
            left -= len(contents[name])


class Rollback(DaemonTest):
    MODELS = {"bard": {"max_steps": 5}}

    def add_version(self, number):
        kept = os.path.join(self.folder, f"kept-{number}")
        train(kept, max_steps=5 + number)
        os.rename(os.path.join(kept, "1"), os.path.join(self.models, "bard", str(number)))
        self.expect(200, "POST", "/v1/models/bard/load", {})

    def serving(self):
        return self.expect(200, "POST", "/v1/completions", {"model": "bard", "prompt": "I ", "max_tokens": 1})["model"]

    def test_it_survives_restarts_and_new_versions(self):
        self.add_version(2)
        self.assertEqual(self.serving(), "bard@2")
        self.expect(201, "PUT", "/v1/models/bard/labels/current", {"version": 1})
        wait_until(lambda: self.serving() == "bard@1", "it was not rolled back")
        for _ in range(2):
            self.stop_daemon()
            type(self).daemon = self.start()
            self.assertEqual(self.serving(), "bard@1")
        self.add_version(3)
        self.assertEqual(self.serving(), "bard@1")
        self.expect(200, "DELETE", "/v1/models/bard/labels/current")
        wait_until(lambda: self.serving() == "bard@3", "the newest does not serve again")


class Texts(DaemonTest):
    MODELS = {"bard": {}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        made = {"language_model": {"layers": 1, "units": 8, "vocabulary": "bytes"}}
        for method, path, body in (("PUT", "/v1/models/noise", made), ("POST", "/v1/models/noise/save", {})):
            status, reply = cls.daemon.json(method, path, body)
            if status >= 300:
                raise AssertionError(reply)

    def streamed(self, body):
        chunks = [json.loads(event) for event in self.daemon.events("/v1/completions", {**body, "stream": True})[:-1]]
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        return "".join(choice["text"] for choice in choices), choices[-1]["finish_reason"]

    def plain(self, body):
        choice = self.expect(200, "POST", "/v1/completions", body)["choices"][0]
        return choice["text"], choice["finish_reason"]

    def test_a_seed_is_a_text_alone_and_among_others(self):
        bodies = [{"model": "bard", "prompt": "Call me", "max_tokens": 150, "seed": seed} for seed in range(32)]
        alone = [self.plain(body) for body in bodies]
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            together = [pool.submit(door, body) for body in bodies for door in (self.plain, self.streamed)]
            for number, future in enumerate(together):
                self.assertEqual(future.result(), alone[number // 2])
        self.assertGreater(len({text for text, _ in alone}), 30)

    def test_noise_is_the_same_text_streamed_or_not(self):
        """A model that makes random bytes, with stop strings out of its own texts; json.loads refuses bad UTF-8."""
        rng = random.Random(SEED)
        stopped = 0
        for seed in range(TEXTS):
            body = {"model": "noise", "prompt": "a", "max_tokens": rng.randrange(1, 400), "seed": seed,
                    "temperature": rng.choice((0.3, 1, 2)), "flush_ms": rng.choice((0, 20))}
            whole, _ = self.plain(body)
            if whole and rng.random() < 0.8:
                begin = rng.randrange(len(whole))
                stop = whole[begin:begin + rng.randrange(1, 4)]
                body["stop"] = [stop.replace("\0", "\ufffd"), "\ufffd\ufffd\ufffd\ufffd"]  # of strings, none has U+0000
            text, finish = self.plain(body)
            self.assertEqual(self.streamed(body), (text, finish))
            ends = [whole.find(stop) for stop in body.get("stop", ()) if stop in whole]
            self.assertEqual(text, whole[:min(ends)] if ends else whole, body)
            self.assertEqual(finish == "stop", bool(ends))
            stopped += finish == "stop"
        self.assertGreater(stopped, TEXTS // 4)


class Nobody(DaemonTest):
    MODELS = {"bard": {}}
    CONFIG = "connections_max = 2000\n"

    def metrics(self):
        _, _, content = self.daemon.request("GET", "/metrics")
        lines = re.findall(r"^(\w+(?:\{[^}]*\})?) (\S+)$", content.decode(), re.M)
        return {name: float(value) for name, value in lines}

    def generations(self):
        values = self.metrics()
        return [values[f'lstmd_generations{{state="{state}"}}'] for state in ("running", "waiting")]

    def cancelled(self):
        return self.metrics().get('lstmd_requests_total{model="bard",outcome="cancelled",key=""}', 0)

    def test_whoever_leaves_is_not_worked_for(self):
        """Also those that had not begun: nothing runs, nothing waits, and all are counted once."""
        body = json.dumps({"model": "bard", "prompt": "a", "max_tokens": 100000, "stream": True}).encode()
        wait_until(lambda: self.generations() == [0, 0], "somebody is still there")
        before, leavers = self.cancelled(), []
        for _ in range(LEAVERS):
            leavers.append(self.daemon.raw())
            leavers[-1].sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                                % len(body) + body)
        wait_until(lambda: sum(self.generations()) == LEAVERS, "they did not all come")
        for leaver in leavers:
            leaver.close()
        wait_until(lambda: self.generations() == [0, 0], lambda: f"left over: {self.generations()}")
        wait_until(lambda: self.cancelled() == before + LEAVERS, lambda: f"{self.cancelled()} cancelled, not {LEAVERS}")
        self.assertEqual(self.expect(200, "GET", "/v1/requests")["data"], [])
        made = self.metrics()['lstmd_symbols_total{kind="made"}']
        self.expect(200, "POST", "/v1/completions", {"model": "bard", "prompt": "a", "max_tokens": 7})
        self.assertEqual(self.metrics()['lstmd_symbols_total{kind="made"}'], made + 7)

    @unittest.skipIf(IS_SANITIZED, "a sanitizer's speed is not the daemon's")
    def test_health_does_not_wait_behind_computation(self):
        """A training and 64 texts on all CPUs; this test, too, has to wait for one of them."""
        self.expect(201, "PUT", "/v1/models/pupil", {"language_model": {"layers": 2, "units": 128}})
        self.expect(202, "POST", "/v1/models/pupil/train", {"corpus": {"text": "to be or not to be, " * 2000},
                                                            "max_seconds": 60, "publish": "never"})
        body = {"model": "bard", "prompt": "a", "max_tokens": 1000000, "stream": True}
        streams = [self.daemon.open_stream("POST", "/v1/completions", body)[0] for _ in range(64)]
        connection = self.daemon.connect()
        try:
            wait_until(lambda: self.expect(200, "GET", "/v1/models/pupil/train").get("step", 0) > 0, "no step")
            took = []
            for _ in range(PROBES):
                began = time.monotonic()
                connection.request("GET", "/health/live")
                self.assertEqual(json.loads(connection.getresponse().read()), {"status": "live"})
                took.append((time.monotonic() - began) * 1000)
        finally:
            for stream in [*streams, connection]:
                stream.close()
            self.daemon.json("DELETE", "/v1/models/pupil/train")
        self.assertLess(statistics.median(took), HEALTH_MS, f"99th percentile {percentile(took, 0.99):.1f} ms")


if __name__ == "__main__":
    unittest.main()
