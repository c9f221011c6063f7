"""lstmd serve: starting, refusing to start, reloading, draining, ending."""
import fcntl
import http.client
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from harness import CORPUS, LSTMD, TIMEOUT_SECONDS, Daemon, DaemonTest, run, train, wait_until

SHORT = True


class Starting(unittest.TestCase):
    """What keeps it from starting: one clear line, exit status 1, nothing else."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lstmd-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def refusal(self, *arguments, expected=1):
        done = run("serve", "--models", self.folder, *arguments)
        self.assertEqual(done.returncode, expected, done.stderr)
        lines = [line for line in done.stderr.splitlines() if line.startswith("lstmd serve: ")]
        self.assertEqual(len(lines), 1, done.stderr)
        return lines[0]

    def write(self, text):
        path = os.path.join(self.folder, "lstmd.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def test_addresses(self):
        taken = socket.socket()
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        self.assertIn("in use", self.refusal("--listen", f"127.0.0.1:{taken.getsockname()[1]}"))
        taken.close()
        self.assertIn("loopback", self.refusal("--listen", "0.0.0.0:0"))
        self.assertIn("loopback", self.refusal("--listen", "[::]:0"))
        self.assertIn("expected ADDRESS:PORT", self.refusal("--listen", "8080"))
        self.assertIn("expected ADDRESS:PORT", self.refusal("--listen", "::1:80"))
        self.assertIn("/nowhere/lstmd.sock", self.refusal("--listen", "/nowhere/lstmd.sock"))
        self.assertIn("at most", self.refusal("--listen", "/" + "x" * 200))

    def test_models_directory(self):
        self.assertIn("/nowhere", self.refusal("--models", "/nowhere"))
        self.assertIn("not a directory", self.refusal("--models", LSTMD))

    def test_configuration(self):
        path = self.write("# first\nmodles = x\n")
        self.assertIn(f"{path}:2: unknown setting 'modles'", self.refusal("--config", path))
        self.assertIn("/nowhere.conf", self.refusal("--config", "/nowhere.conf"))
        self.assertIn("unknown option --frobnicate", self.refusal("--frobnicate", expected=2))
        self.assertIn("one argument too many", self.refusal("more", expected=2))

    def test_check(self):
        train(os.path.join(self.folder, "bard"))
        done = run("serve", "--models", self.folder, "--check")
        self.assertEqual((done.returncode, done.stdout.splitlines()[0].split(",")[0]), (0, "bard@1: good"))
        weights = os.path.join(self.folder, "bard", "1", "weights.safetensors")
        os.truncate(weights, os.path.getsize(weights) - 1)
        done = run("serve", "--models", self.folder, "--check")
        self.assertEqual(done.returncode, 1)
        self.assertIn("weights.safetensors", done.stdout)
        self.assertIn("1 of 1 versions are bad", done.stderr)


    @unittest.skipUnless(platform.machine() == "x86_64", "the core types of OpenBLAS tried here are those of x86-64")
    def test_core_type_of_openblas_is_told_and_the_operators(self):
        environment = {"OPENBLAS_CORETYPE": "Nehalem"}  # every x86-64 CPU that is left has its instructions
        daemon = Daemon(self.folder, environment=environment)
        try:
            daemon.wait_for_output(r" ready kernels=\S+ blas=Nehalem cpus=\d+")
        finally:
            daemon.stop()

    def test_openblas_that_cannot_be_loaded(self):
        path = os.path.join(self.folder, "libopenblas.so.0")
        with open(path, "wb"):
            pass
        done = run("--version", env={**os.environ, "LD_LIBRARY_PATH": self.folder})
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(done.stderr, f"lstmd: OpenBLAS cannot be loaded: {path}: file too short\n")


class Unread(unittest.TestCase):
    """A log that nobody reads keeps nobody waiting."""

    def test_requests_are_answered(self):
        folder = tempfile.mkdtemp(prefix="lstmd-test-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        log, errors = os.pipe()
        fcntl.fcntl(errors, fcntl.F_SETPIPE_SZ, 4096)
        process = subprocess.Popen([LSTMD, "serve", "--models", folder, "--listen", "127.0.0.1:0"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        os.close(errors)
        try:
            port = int(process.stdout.readline().decode().rsplit(":", 1)[1])
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)

            def ask():
                connection.request("GET", "/v1/models")
                self.assertEqual(connection.getresponse().read()[:1], b"{")

            for _ in range(300):
                ask()
            text = os.read(log, 1 << 16)
            while b" log_lines_lost count=" not in text:
                ask()
                text += os.read(log, 1 << 16)
        finally:
            connection.close()
            process.terminate()
            process.wait(TIMEOUT_SECONDS)
            process.stdout.close()
            os.close(log)


class Ending(unittest.TestCase):
    """SIGTERM: what runs is finished, what is new is refused, and the exit status is 0."""

    def start(self, config=""):
        folder = tempfile.mkdtemp(prefix="lstmd-test-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        train(os.path.join(folder, "models", "bard"))
        path = os.path.join(folder, "lstmd.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(config)
        daemon = Daemon(os.path.join(folder, "models"), config=path)
        self.addCleanup(daemon.kill)
        return daemon

    def stream(self, daemon, tokens):
        connection, reply = daemon.open_stream("POST", "/v1/completions", {"prompt": "I ", "max_tokens": tokens,
                                                                           "stream": True})
        self.assertEqual(reply.status, 200)
        return connection, reply

    def last_reason(self, reply):
        events = reply.read().decode().split("\n\n")
        self.assertEqual(events[-2], "data: [DONE]")
        return json.loads(events[-3][6:])["choices"][0]["finish_reason"]

    def test_what_runs_is_finished(self):
        daemon = self.start()
        kept = daemon.connect()
        kept.request("GET", "/health/live")
        kept.getresponse().read()
        connection, reply = self.stream(daemon, 100000)
        daemon.signal(signal.SIGTERM)
        daemon.wait_for_output("draining")
        with self.assertRaises(ConnectionRefusedError):
            daemon.connect().connect()
        kept.request("POST", "/v1/completions", json.dumps({"prompt": "I "}))
        refused = kept.getresponse()
        error = json.loads(refused.read())["error"]
        self.assertEqual((refused.status, error["code"]), (503, "draining"))
        self.assertTrue(refused.headers["Retry-After"])
        self.assertEqual(self.last_reason(reply), "length")
        connection.close()
        self.assertEqual(daemon.wait(), 0)

    def test_what_runs_too_long_is_cancelled(self):
        daemon = self.start("drain_seconds = 0\n")
        connection, reply = self.stream(daemon, 1000000)
        daemon.signal(signal.SIGTERM)
        self.assertEqual(self.last_reason(reply), "cancelled")
        connection.close()
        self.assertEqual(daemon.wait(), 0)

    def test_clients_that_do_not_read_do_not_keep_it(self):
        daemon = self.start("drain_seconds = 0\n")
        lazy = [self.stream(daemon, 1000000) for _ in range(5)]
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        for connection, _ in lazy:
            connection.close()

    def test_second_signal_ends_at_once(self):
        daemon = self.start("drain_seconds = 3600\n")
        connection, _ = self.stream(daemon, 1000000)
        daemon.signal(signal.SIGTERM)
        daemon.wait_for_output("draining")
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 1)
        connection.close()

    def test_who_waits_for_a_training_to_stop_is_gone_before_it(self):
        """The training ends with its step, when there is nobody left to tell."""
        daemon = self.start("drain_seconds = 0\n")
        path = "/v1/models/slow"
        self.assertEqual(daemon.json("PUT", path, {"language_model": {"layers": 2, "units": 512}})[0], 201)
        job = {"corpus": {"text": CORPUS * 20}, "max_steps": 1 << 40, "batch": 32, "sequence_length": 64,
               "validation_fraction": 0}
        self.assertEqual(daemon.json("POST", path + "/train", job)[0], 202)
        with daemon.raw() as connection:
            connection.sendall(f"DELETE {path}/train HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            wait_until(lambda: daemon.json("GET", path + "/train")[1]["state"] != "running")
            daemon.signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(), 0)

    def test_reloads_do_not_cut_the_end_short(self):
        """Whenever SIGHUP comes behind SIGTERM, sessions are written."""
        daemon = self.start()
        for i in range(200):
            body = {"prompt": "I ", "max_tokens": 1, "session": f"s{i}", "session_start": True}
            self.assertEqual(daemon.json("POST", "/v1/completions", body)[0], 200)
        daemon.signal(signal.SIGTERM)
        while daemon.process.poll() is None:
            daemon.signal(signal.SIGHUP)
        self.assertEqual(daemon.wait(), 0)
        again = Daemon(daemon.models)
        self.addCleanup(again.kill)
        self.assertEqual(again.json("GET", "/v1/sessions")[1]["total"], 200)

    def test_reloads_without_end_leave_it_serving(self):
        """However fast SIGHUP comes, requests are answered between two reloads."""
        daemon = self.start()
        is_over = threading.Event()

        def reload():
            while not is_over.is_set():
                daemon.signal(signal.SIGHUP)
        sender = threading.Thread(target=reload)
        sender.start()
        try:
            for _ in range(20):
                self.assertEqual(daemon.json("GET", "/health/live")[0], 200)
        finally:
            is_over.set()
            sender.join()

    def test_idle_daemon_uses_no_cpu(self):
        daemon = self.start("linger_us = 1000\n")
        self.assertEqual(daemon.json("PUT", "/v1/models/empty", {})[0], 201)
        self.assertEqual(daemon.json("POST", "/v1/models/empty/graph/build", {"program": []})[0], 200)
        self.assertEqual(daemon.request("GET", "/v1/models/bard/generate?prompt=I&max_tokens=20")[0], 200)
        time.sleep(0.5)
        before = daemon.cpu_seconds()
        time.sleep(1)          # a loop that never sleeps uses all of it, whatever else the machine does
        self.assertLess(daemon.cpu_seconds() - before, 0.1)

    def test_idle_daemon_ends_by_interrupt(self):
        daemon = self.start()
        daemon.signal(signal.SIGINT)
        self.assertEqual(daemon.wait(), 0)


class Reloading(DaemonTest):
    MODELS = {"bard": {}}
    CONFIG = "choices_max = 2\n"

    def write(self, text):
        with open(os.path.join(self.folder, "lstmd.conf"), "w", encoding="utf-8") as file:
            file.write(text)

    def status(self, n):
        return self.daemon.json("POST", "/v1/completions", {"prompt": "I ", "n": n, "max_tokens": 1})[0]

    def test_configuration_is_read_again(self):
        self.assertEqual(self.status(3), 400)
        self.write("choices_max = 4\nrun_threads = 9\n")
        start = len(self.daemon.output)
        self.daemon.signal(signal.SIGHUP)
        self.daemon.wait_for_output(r'configuration_read need_restart=1 message="run_threads"', start)
        self.assertEqual(self.status(3), 200)
        self.write("choices_max = 1\nfrobnicate = 1\n")
        status, reply = self.daemon.json("POST", "/v1/reload")
        self.assertEqual((status, reply["error"]["code"]), (422, "bad_configuration"))
        self.assertIn("lstmd.conf:2: unknown setting 'frobnicate'", reply["error"]["message"])
        self.assertEqual(self.status(3), 200)
        self.write("choices_max = 2\n")
        self.assertEqual(self.daemon.json("POST", "/v1/reload")[0], 200)
        self.assertEqual(self.status(3), 400)


class Systemd(DaemonTest):
    """A socket passed by the service manager, and what it is told."""

    MODELS = {"bard": {}}
    config = None

    @classmethod
    def start(cls):
        cls.passed = socket.create_server(("127.0.0.1", 0))
        cls.addClassCleanup(cls.passed.close)
        cls.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        cls.addClassCleanup(cls.told.close)
        cls.told.bind(os.path.join(cls.folder, "notify"))
        cls.told.settimeout(60)
        descriptor = cls.passed.fileno()
        launcher = ["sh", "-c", f'exec 3<&{descriptor}; LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$@"', "sh"]
        environment = {"LISTEN_FDS": "1", "NOTIFY_SOCKET": os.path.join(cls.folder, "notify"),
                       "WATCHDOG_USEC": "2000000"}
        daemon = Daemon(cls.models, listen=None, launcher=launcher, environment=environment, pass_fds=(descriptor,),
                        config=cls.config)
        daemon.port = cls.passed.getsockname()[1]
        return daemon

    @classmethod
    def wait_until_told(cls, *words):
        while True:
            message = cls.told.recv(4096).decode()
            if all(word in message for word in words):
                return message

    def test_life(self):
        self.wait_until_told("READY=1", "STATUS=serving")
        self.assertEqual(self.daemon.json("GET", "/health/ready")[0], 200)
        self.wait_until_told("WATCHDOG=1")
        self.daemon.signal(signal.SIGHUP)
        self.wait_until_told("RELOADING=1", "MONOTONIC_USEC=")
        self.wait_until_told("READY=1")
        self.daemon.signal(signal.SIGTERM)
        self.wait_until_told("STOPPING=1")
        self.assertEqual(self.daemon.wait(), 0)


class SystemdWaits(Systemd):
    """The first load takes minutes: a text of 16 KB goes through a large model."""

    MODELS = {"gated": {"units": 1024, "layers": 2, "max_steps": 1}}

    @classmethod
    def start(cls):
        with open(os.path.join(cls.models, "gated", "settings.json"), "w", encoding="utf-8") as file:
            json.dump({"gate": {"text": "a" * 16384}}, file)
        cls.config = os.path.join(cls.folder, "lstmd.conf")
        with open(cls.config, "w", encoding="utf-8") as file:
            file.write("choices_max = 4\n")
        return super().start()

    def test_life(self):
        """A reload before the first scan has ended is no sign of life."""
        self.wait_until_told("WATCHDOG=1")
        self.daemon.signal(signal.SIGHUP)
        self.daemon.wait_for_output("configuration_read")
        self.daemon.signal(signal.SIGTERM)
        told = [self.told.recv(4096).decode()]
        while "STOPPING=1" not in told[-1]:
            told.append(self.told.recv(4096).decode())
        self.assertEqual([message for message in told if "READY=1" in message or "RELOADING=1" in message], [])
        self.assertEqual(self.daemon.wait(), 0)


class Demo(DaemonTest):
    """--demo: models that are served from where they are, a line to try and a first sentence."""

    @classmethod
    def start(cls):
        train(os.path.join(cls.folder, "demo", "moby"))
        return Daemon(cls.models, "--demo", os.path.join(cls.folder, "demo"))

    def test_line_and_sentence(self):
        self.daemon.wait_for_output(rf"curl -N 'http://127.0.0.1:{self.daemon.port}/v1/models/moby/generate\?prompt=")
        self.daemon.wait_for_output("^  Call me")
        wait_until(lambda: self.daemon.request("GET", "/v1/models/moby/generate?prompt=Call%20me")[0] == 200)
        self.assertEqual(os.listdir(self.models), [])


class UnreadableDemo(DaemonTest):
    """--demo of a directory that is not there, or is none: a word about it, and the other models."""
    MODELS = {"own": {}}

    @classmethod
    def start(cls):
        return Daemon(cls.models, "--demo", os.path.join(cls.folder, "gone"))

    def test_missing(self):
        self.daemon.wait_for_output("info +no_demo .*demo directory '.*/gone': No such file or directory")
        wait_until(lambda: self.daemon.request("GET", "/v1/models/own/generate?prompt=Call")[0] == 200)

    def test_no_directory(self):
        other = Daemon(self.models, "--demo", __file__)
        self.addCleanup(other.stop)
        other.wait_for_output("warning no_demo .*demo directory '.*': Not a directory")
