"""Hot reload under load: clients stream while better versions are copied in, one of them truncated."""
import hashlib
import json
import os
import re
import shutil
import threading
import time
import unittest

from harness import FLAVOUR, IS_SLOW, DaemonTest, train, wait_until

CLIENTS = 16
COPIES = 10
TRUNCATED = 6                  # of the copies, counted from 1
TOKENS = 400 if IS_SLOW else 120
RSS_GROWTH_MAX = 0.05
RSS_NOISE_BYTES = 512 << 10    # what two looks at an unchanged daemon differ by; a version leaked a swap is more
LOOKS = 4
IS_SANITIZED = FLAVOUR != "release"


class Client(threading.Thread):
    """Streams texts from the model `bard` until told to stop, and keeps what it saw."""

    def __init__(self, test):
        super().__init__(daemon=True)
        self.test = test
        self.replies = []      # (version current when it began, version that served)
        self.failures = []

    def run(self):
        while not self.test.is_over.is_set():
            before = self.test.current
            try:
                self.replies.append((before, self.stream()))
            except (OSError, AssertionError, ValueError, KeyError) as reason:
                self.failures.append(repr(reason))
                return

    def stream(self):
        """The version that served one whole stream."""
        events = self.test.daemon.events("/v1/completions", {"model": "bard", "prompt": "I ", "max_tokens": TOKENS,
                                                             "stream": True})
        if not events or events[-1] != "[DONE]":
            raise AssertionError(f"a stream ended with {events[-1:]}")
        chunks = [json.loads(event) for event in events[:-1]]
        models = {chunk["model"] for chunk in chunks}
        if len(models) != 1:
            raise AssertionError(f"one stream from {models}")
        text = "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
        if len(text) != TOKENS:
            raise AssertionError(f"{len(text)} characters of {TOKENS}")
        return int(models.pop().split("@")[1])


class HotReload(DaemonTest):
    MODELS = {"bard": {"units": 64, "layers": 2, "max_steps": 5}}
    is_over = None
    current = 1

    def version_status(self, number):
        _, reply = self.daemon.json("GET", "/v1/models/bard")
        return next((version for version in reply["versions"] if version["version"] == number), {"status": None})

    def copy_in(self, source, number):
        """Copies the files one after the other, as `cp -r` does, the manifest in its alphabetical place."""
        target = os.path.join(self.models, "bard", str(number))
        os.mkdir(target)
        for name in sorted(os.listdir(source)):
            shutil.copyfile(os.path.join(source, name), os.path.join(target, name))
        return target

    def copy_truncated(self, source, number):
        target = os.path.join(self.models, "bard", str(number))
        partial = os.path.join(self.folder, "partial")
        shutil.copytree(source, partial)
        weights = os.path.join(partial, "weights.safetensors")
        os.truncate(weights, os.path.getsize(weights) // 2)
        os.rename(partial, target)

    def serve_copies(self, source):
        """Copies all in, waiting for each to serve or be refused. The mean memory after the first few swaps and
        after the last few: a single look is off by more than a leaked version would show."""
        sizes = []
        for copy in range(1, COPIES + 1):
            number = 1 + copy
            if copy == TRUNCATED:
                self.copy_truncated(source, number)
                wait_until(lambda n=number: self.version_status(n)["status"] == "refused", "never refused")
                reason = self.version_status(number)["reason"]
                self.assertEqual(reason["file"], "weights.safetensors")
                self.assertIn("bytes", reason["message"])
                _, reply = self.daemon.json("GET", "/v1/models/bard")
                self.assertEqual(reply["version"], number - 1)
                continue
            self.copy_in(source, number)
            wait_until(lambda n=number: self.version_status(n)["status"] == "serving", "never served")
            self.current = number
            sizes.append(self.settled_rss())
        return sum(sizes[:LOOKS]) / LOOKS, sum(sizes[-LOOKS:]) / LOOKS

    def settled_rss(self):
        """Memory once the freed version is given back: the least of a second."""
        sizes = []
        for _ in range(10):
            sizes.append(self.daemon.rss_bytes())
            time.sleep(0.1)
        return min(sizes)

    def test_streams_go_on_while_versions_change(self):
        better = os.path.join(self.folder, "better")
        train(better, units=64, layers=2, max_steps=40)
        self.is_over = threading.Event()
        clients = [Client(self) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            wait_until(lambda: sum(len(client.replies) for client in clients) >= CLIENTS, "no replies")
            first, last = self.serve_copies(os.path.join(better, "1"))
            seen = [len(client.replies) for client in clients]
            wait_until(lambda: all(len(client.replies) > count + 1 or client.failures
                                   for client, count in zip(clients, seen)), "no replies after the last swap")
        finally:
            self.is_over.set()
            for client in clients:
                client.join()
        self.assertEqual([client.failures for client in clients if client.failures], [])
        replies = [reply for client in clients for reply in client.replies]
        for before, served in replies:
            self.assertGreaterEqual(served, before, "a reply begun after a swap came from the version before")
            self.assertNotEqual(served, 1 + TRUNCATED)
        self.assertIn(1 + COPIES, {served for _, served in replies})
        if not IS_SANITIZED:
            self.assertLess(last, first * (1 + RSS_GROWTH_MAX) + RSS_NOISE_BYTES,
                            f"resident memory grew from {first} to {last} bytes")

    def test_bad_versions_never_serve(self):
        """NaN weights, a wrong shape, a newer format: each is refused with its reason, and the old one serves on."""
        _, before = self.daemon.json("GET", "/v1/models/bard")
        source = os.path.join(self.models, "bard", str(before["version"]))
        for number, (change, code) in enumerate([(self.make_nan, "not_finite"), (self.make_other_shape, "wrong_shape"),
                                                 (self.make_newer, "newer_format")], 101):
            folder = os.path.join(self.folder, f"bad-{number}")
            shutil.copytree(source, folder)
            change(folder)
            os.rename(folder, os.path.join(self.models, "bard", str(number)))
            wait_until(lambda n=number: self.version_status(n)["status"] == "refused", "never refused")
            self.assertEqual(self.version_status(number)["reason"]["code"], code)
            _, after = self.daemon.json("GET", "/v1/models/bard")
            self.assertEqual(after["version"], before["version"])
            status, _ = self.daemon.json("POST", "/v1/completions", {"model": "bard", "prompt": "I ", "max_tokens": 3})
            self.assertEqual(status, 200)

    def rewrite_manifest(self, folder, change):
        path = os.path.join(folder, "manifest.json")
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        change(manifest)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(manifest, file)

    def make_nan(self, folder):
        with open(os.path.join(folder, "weights.safetensors"), "r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"\x00\x00\xc0\x7f")
        self.sign_weights(folder)

    def make_other_shape(self, folder):
        path = os.path.join(folder, "weights.safetensors")
        with open(path, "rb") as file:
            content = file.read()
        shape = re.search(rb'"shape":\s*\[(\d+),\s*(\d+)\]', content)
        turned = shape[0].replace(shape[1], b"@").replace(shape[2], shape[1]).replace(b"@", shape[2])
        self.assertEqual(sorted(turned), sorted(shape[0]))
        self.assertNotEqual(turned, shape[0])
        with open(path, "wb") as file:
            file.write(content.replace(shape[0], turned, 1))
        self.sign_weights(folder)

    def sign_weights(self, folder):
        with open(os.path.join(folder, "weights.safetensors"), "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        self.rewrite_manifest(folder, lambda m: m["files"]["weights.safetensors"].update(sha256=digest))

    def make_newer(self, folder):
        self.rewrite_manifest(folder, lambda m: m.update(format=99))


if __name__ == "__main__":
    unittest.main()
