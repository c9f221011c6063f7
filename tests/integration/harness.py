"""What the tests of the daemon share: start the real binary, talk to it, and stop it.

    class Completions(DaemonTest):
        MODELS = {"bard": {}}                        # trained for a moment by lstmd itself, names and options
        def test_x(self):
            status, reply = self.daemon.json("POST", "/v1/completions", {"model": "bard", "prompt": "To"})

The binary is $LSTMD (tests/run sets it for each flavour). Every class has a daemon, models directory and port of its
own; a test never waits for a time but for an event, up to TIMEOUT_SECONDS.
"""
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LSTMD = os.environ.get("LSTMD", os.path.join(ROOT, "build", "lstmd"))
FLAVOUR = os.environ.get("LSTMD_FLAVOUR", "release")
IS_SLOW = os.environ.get("SLOW") == "1"
SEED = int(os.environ.get("TEST_SEED", "1"))
TIMEOUT_SECONDS = 120           # only a daemon that hangs takes as long, whatever the sanitizer
SANITIZER_REPORT = re.compile(r"(ERROR|WARNING): \w*Sanitizer|runtime error:|CHECK\(.*\) failed")
CORPUS = ("Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and "
          "nothing particular to interest me on shore, I thought I would sail about a little and see the watery part "
          "of the world. It is a way I have of driving off the spleen and regulating the circulation.\n") * 40
# What train() is told where a test does not say otherwise.
SMALL = {"layers": 1, "units": 16, "batch": 4, "sequence_length": 16, "max_steps": 30, "seed": 1}


class Daemon:
    """One `lstmd serve`, its output, and calls to it."""

    def __init__(self, models, *arguments, config=None, environment=None, pass_fds=(), wait=True, listen="127.0.0.1:0",
                 launcher=()):
        command = [*launcher, LSTMD, "serve", "--models", models]
        command += ["--listen", listen] if listen else []
        command += ["--config", config] if config else []
        self.models = models
        self.output = []
        self.changed = threading.Condition()
        self.process = subprocess.Popen([*command, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})},
                                        pass_fds=pass_fds)
        self.reader = threading.Thread(target=self.read_output, daemon=True)
        self.reader.start()
        self.port = None
        if wait and listen == "127.0.0.1:0":
            self.port = int(self.wait_for_output(r"127\.0\.0\.1:([1-9]\d*)").group(1))
            self.wait_until_ready()

    def read_output(self):
        for line in self.process.stdout:
            with self.changed:
                self.output.append(line.decode(errors="replace").rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def text(self):
        with self.changed:
            return "\n".join(self.output)

    def wait_for_output(self, pattern, start=0):
        """The match of the first line from `start` on that has `pattern`. Fails when the daemon ends without it."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        with self.changed:
            while True:
                for line in self.output[start:]:
                    found = re.search(pattern, line)
                    if found:
                        return found
                if not self.reader.is_alive() and self.process.poll() is not None:
                    raise AssertionError(f"lstmd ended with {self.process.returncode} without '{pattern}':\n"
                                         + "\n".join(self.output))
                if not self.changed.wait(min(0.5, max(0.0, deadline - time.monotonic()))) \
                        and time.monotonic() > deadline:
                    raise AssertionError(f"no '{pattern}' in:\n" + "\n".join(self.output))

    def wait_until_ready(self):
        wait_until(lambda: self.request("GET", "/health/ready")[0] == 200, f"not ready:\n{self.text()}")

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)

    def request(self, method, path, body=None, headers=None):
        """(status, headers, bytes) of one request on a connection of its own."""
        connection = self.connect()
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            connection.request(method, path, body.encode() if isinstance(body, str) else body, headers or {})
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()

    def json(self, method, path, body=None, headers=None):
        """(status, reply as JSON, None when empty)."""
        status, _, content = self.request(method, path, body, headers)
        return status, json.loads(content) if content else None

    def open_stream(self, method, path, body=None, headers=None):
        """The connection and its reply, whose body is still to be read. Close the connection."""
        connection = self.connect()
        connection.request(method, path, json.dumps(body) if body is not None else None, headers or {})
        return connection, connection.getresponse()

    def events(self, path, body, headers=None):
        """Every server-sent event's data of one request, to the end of the reply."""
        connection, reply = self.open_stream("POST", path, body, headers)
        try:
            return [line[6:] for line in reply.read().decode().split("\n") if line.startswith("data: ")]
        finally:
            connection.close()

    def raw(self):
        """A bare TCP connection, for requests that no library would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_SECONDS)

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1)) * 1024

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            user, system = file.read().rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self):
        """Its exit status. Kills what does not end."""
        try:
            status = self.process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"lstmd does not end:\n{self.text()}") from None
        self.reader.join()
        report = SANITIZER_REPORT.search(self.text())
        if report:
            raise AssertionError(self.text())
        return status

    def stop(self):
        """Asks it to end; its exit status."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        """For clean-up: whatever state it is in."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()


class DaemonTest(unittest.TestCase):
    """A class of tests with one daemon. MODELS are trained first; CONFIG is the text of its configuration."""

    MODELS = {}
    ARGUMENTS = ()
    CONFIG = None
    daemon = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="lstmd-test-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.models = os.path.join(cls.folder, "models")
        os.mkdir(cls.models)
        for name, options in cls.MODELS.items():
            train(os.path.join(cls.models, name), **options)
        cls.daemon = cls.start()
        cls.addClassCleanup(cls.stop_daemon)

    @classmethod
    def start(cls):
        config = None
        if cls.CONFIG is not None:
            config = os.path.join(cls.folder, "lstmd.conf")
            with open(config, "w", encoding="utf-8") as file:
                file.write(cls.CONFIG)
        return Daemon(cls.models, *cls.ARGUMENTS, config=config)

    @classmethod
    def stop_daemon(cls):
        status = cls.daemon.stop()
        if status != 0:
            raise AssertionError(f"lstmd ended with {status}:\n{cls.daemon.text()}")

    def expect(self, code, *call, error=None):
        """The reply to a call as Daemon.json takes it, which must have that status, and perhaps that error code."""
        status, reply = self.daemon.json(*call)
        self.assertEqual(status, code, reply)
        if error is not None:
            self.assertEqual(reply["error"]["code"], error, reply)
        return reply


def run(*arguments, **options):
    """One lstmd command to its end: subprocess.CompletedProcess with text."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True,
               "timeout": TIMEOUT_SECONDS, "check": False, **options}
    return subprocess.run([LSTMD, *map(str, arguments)], **options)


def train(model, corpus=CORPUS, **options):
    """A small model made by `lstmd train` in the directory `model`; `max_steps=10` is --max-steps 10, `tie=True` is
    --tie. The same call again copies the first result."""
    options = {**SMALL, **options}
    key = hashlib.sha256(repr((LSTMD, os.stat(LSTMD).st_mtime_ns, corpus, sorted(options.items()))).encode())
    kept = os.path.join(os.path.dirname(LSTMD), "tests", "models", key.hexdigest()[:16])
    if not os.path.isdir(kept):
        os.makedirs(os.path.dirname(kept), exist_ok=True)
        with tempfile.TemporaryDirectory(dir=os.path.dirname(kept)) as folder:
            text = os.path.join(folder, "corpus.txt")
            with open(text, "w", encoding="utf-8") as file:
                file.write(corpus)
            words = []
            for name, value in options.items():
                words += ["--" + name.replace("_", "-"), *([] if value is True else [value])]
            done = run("train", text, "--out", os.path.join(folder, "model"), *words)
            if done.returncode != 0:
                raise AssertionError(f"training failed:\n{done.stdout}{done.stderr}")
            try:
                os.rename(os.path.join(folder, "model"), kept)
            except OSError:                     # another test was faster
                pass
    shutil.copytree(kept, model, dirs_exist_ok=True)


def wait_until(is_true, message="it never came true"):
    """Waits for a condition that no event announces. The longer it takes, the more seldom it is looked at."""
    began = time.monotonic()
    while not is_true():
        waited = time.monotonic() - began
        if waited > TIMEOUT_SECONDS:
            raise AssertionError(message() if callable(message) else message)
        time.sleep(min(0.1, 0.01 + waited / 20))


if __name__ == "__main__":
    sys.exit("this is a library: run tests/tap.py with a test file")
