"""What must be true of lstmd on a booted system. Runs in there, as root; tests/systemd/test_boot.py brings it there."""
import contextlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
import unittest

DEMO = "/usr/share/lstmd/demo/moby"
MODELS = "/var/lib/lstmd/models"
TIMEOUT_SECONDS = 60


def systemctl(*arguments):
    subprocess.run(["systemctl", *arguments], check=True, stdin=subprocess.DEVNULL)


def show(key):
    """One property of the service."""
    return subprocess.run(["systemctl", "show", "--value", "-p", key, "lstmd.service"], check=True,
                          stdout=subprocess.PIPE, text=True).stdout.strip()


def request(method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, path, json.dumps(body) if isinstance(body, dict) else body)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def wait_until(is_true, what):
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not is_true():
        if time.monotonic() > deadline:
            journal = subprocess.run(["journalctl", "-u", "lstmd", "-n", "30", "--no-pager"], check=False,
                                     stdout=subprocess.PIPE, text=True).stdout
            raise AssertionError(f"{what} never came true\n{journal}")
        time.sleep(0.05)


class Inside(unittest.TestCase):
    def setUp(self):
        systemctl("reset-failed")       # we start and stop it more often than StartLimitBurst= lets anybody
        systemctl("start", "lstmd.socket", "lstmd.service")

    def status_of_process(self):
        with open(f"/proc/{show('MainPID')}/status", encoding="ascii") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)

    def test_it_started_with_the_system_and_is_ready(self):
        self.assertEqual(show("ActiveState"), "active")
        self.assertNotEqual(show("StatusText"), "")
        self.assertEqual(request("GET", "/health/ready")[0], 200)

    def test_the_demo_model_types_prose(self):
        status, text = request("GET", "/v1/models/moby/generate?prompt=Call%20me&max_tokens=100&seed=1")
        self.assertEqual(status, 200)
        self.assertGreaterEqual(len(text), 100)

    def test_it_runs_confined_as_its_own_user(self):
        status = self.status_of_process()
        self.assertNotEqual(status["Uid"].split()[0], "0")
        self.assertEqual(int(status["CapEff"], 16), 0)
        self.assertEqual(status["NoNewPrivs"], "1")
        self.assertEqual(status["Seccomp"], "2")

    def test_its_loop_goes_before_what_computes(self):
        self.assertEqual(show("LimitNICE"), "30")       # 20 − nice
        process = int(show("MainPID"))
        with open(f"/proc/{process}/limits", encoding="ascii") as file:
            limit = re.search(r"^Max nice priority +(\d+)", file.read(), re.MULTILINE).group(1)
        nices = {}
        for task in os.listdir(f"/proc/{process}/task"):
            with contextlib.suppress(ProcessLookupError):   # ended meanwhile
                nices[task] = os.getpriority(os.PRIO_PROCESS, int(task))
        is_permitted = int(limit) >= 30     # a container may not let systemd raise it
        self.assertEqual(nices.pop(str(process)), -10 if is_permitted else 0)
        self.assertGreaterEqual(min(nices.values()), 0)

    def test_a_copied_model_is_served(self):
        shutil.copytree(DEMO, f"{MODELS}/copied", dirs_exist_ok=True)
        subprocess.run(["chown", "-R", "lstmd:lstmd", f"{MODELS}/copied"], check=True)
        wait_until(lambda: request("GET", "/v1/models/copied/generate?max_tokens=5")[0] == 200, "the copied model")

    def test_it_trains_within_its_confinement(self):
        text = "Call me Ishmael. Some years ago, never mind how long precisely. " * 200
        self.assertIn(request("PUT", "/v1/models/small", {"language_model": {"layers": 1, "units": 16}})[0], (200, 201))
        status, reply = request("POST", "/v1/models/small/train",
                                {"corpus": {"text": text}, "max_steps": 20, "batch": 4, "sequence_length": 16})
        self.assertEqual(status, 202, reply)
        wait_until(lambda: request("GET", "/v1/models/small/generate?max_tokens=5")[0] == 200, "the trained model")

    def test_it_imports_within_its_confinement(self):
        body = io.BytesIO()
        with tarfile.open(fileobj=body, mode="w") as tar:
            for name in ("weights.safetensors", "vocab.json"):
                tar.add(f"{DEMO}/1/{name}", name)
        status, reply = request("PUT", "/v1/models/imported", body.getvalue())
        self.assertIn(status, (200, 201), reply)
        self.assertEqual(request("GET", "/v1/models/imported/generate?max_tokens=5")[0], 200)

    def test_reload_keeps_the_process(self):
        before = show("MainPID")
        systemctl("reload", "lstmd.service")
        wait_until(lambda: show("ActiveState") == "active", "the end of the reload")
        self.assertEqual(show("MainPID"), before)
        self.assertEqual(request("GET", "/health/live")[0], 200)

    def test_a_connection_starts_it(self):
        systemctl("stop", "lstmd.service")
        self.assertEqual(request("GET", "/health/live")[0], 200)
        wait_until(lambda: show("ActiveState") == "active", "the start")

    def test_a_restart_refuses_nobody(self):
        failures, is_over = [], threading.Event()

        def ask():
            while not is_over.is_set():
                try:
                    if request("GET", "/health/live")[0] not in (200, 503):
                        failures.append("status")
                except ConnectionRefusedError as error:
                    failures.append(repr(error))
                except (OSError, http.client.HTTPException):
                    pass                        # accepted by the one that ends: the client may ask again
        asking = threading.Thread(target=ask)
        asking.start()
        try:
            for _ in range(3):
                systemctl("reset-failed")
                systemctl("restart", "lstmd.service")
        finally:
            is_over.set()
            asking.join()
        self.assertEqual(failures, [])

    def test_stop_is_clean(self):
        systemctl("stop", "lstmd.service")
        self.assertEqual((show("Result"), show("ExecMainStatus")), ("success", "0"))

    def test_stop_lets_a_stream_end(self):
        with socket.create_connection(("127.0.0.1", 8080), timeout=TIMEOUT_SECONDS) as stream:
            stream.sendall(b"GET /v1/models/moby/generate?max_tokens=3000&seed=2 HTTP/1.1\r\nHost: localhost\r\n"
                           b"Connection: close\r\n\r\n")
            reply = http.client.HTTPResponse(stream)
            reply.begin()
            first = reply.read(1)
            systemctl("--no-block", "stop", "lstmd.service")
            self.assertGreaterEqual(len(first + reply.read()), 3000)
        wait_until(lambda: show("ActiveState") == "inactive", "the stop")
        self.assertEqual(show("Result"), "success")

    def test_the_watchdog_restarts_one_that_hangs(self):
        os.makedirs("/run/systemd/system/lstmd.service.d", exist_ok=True)
        with open("/run/systemd/system/lstmd.service.d/watchdog.conf", "w", encoding="ascii") as file:
            file.write("[Service]\nWatchdogSec=2\n")
        systemctl("daemon-reload")
        systemctl("restart", "lstmd.service")
        before = show("MainPID")
        os.kill(int(before), signal.SIGSTOP)
        wait_until(lambda: show("MainPID") not in (before, "0") and show("ActiveState") == "active", "the restart")
        self.assertEqual(request("GET", "/health/live")[0], 200)

    def test_the_journal_is_written_to(self):
        journal = subprocess.run(["journalctl", "-u", "lstmd", "--no-pager", "-o", "cat"], check=True,
                                 stdout=subprocess.PIPE, text=True).stdout
        self.assertIn("lstmd", journal)


if __name__ == "__main__":
    unittest.main()
