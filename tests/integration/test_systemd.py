"""The daemon under a service manager: readiness, reload, watchdog and stop by sd_notify, and passed sockets."""
import http.client
import os
import signal
import socket
import sys
import time
import unittest

from harness import Daemon, DaemonTest, TIMEOUT_SECONDS

SHORT = True
# Becomes the daemon the way systemd starts it: the sockets from descriptor 3 on, and its own pid in LISTEN_PID.
AS_SERVICE = """
import fcntl, os, sys
end = sys.argv.index("--")
kept = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:end]]
for index, number in enumerate(kept):
    os.dup2(number, 3 + index, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(kept)))
os.execv(sys.argv[end + 1], sys.argv[end + 1:])
"""


class Notified(DaemonTest):
    """A daemon whose notify socket is ours."""

    MODELS = {"bard": {}}
    EXTRA = {}

    @classmethod
    def start(cls):
        cls.notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        cls.addClassCleanup(cls.notifications.close)
        address = os.path.join(cls.folder, "notify")
        cls.notifications.bind(address)
        cls.notifications.settimeout(TIMEOUT_SECONDS)
        cls.seen = []
        return Daemon(cls.models, environment={"NOTIFY_SOCKET": address, **cls.EXTRA})

    @classmethod
    def next_with(cls, key):
        """The assignments of the next notification that has `key`; what came is kept in `seen`."""
        while True:
            message = cls.notifications.recv(8192).decode()
            fields = dict(line.split("=", 1) for line in message.strip().split("\n"))
            cls.seen.append(fields)
            if key in fields:
                return fields

    @classmethod
    def first_with(cls, key):
        """As next_with, but one that was seen before also counts."""
        return next((fields for fields in cls.seen if key in fields), None) or cls.next_with(key)


class NotifyProtocol(Notified):
    EXTRA = {"WATCHDOG_USEC": "400000"}

    def test_ready_is_said_once_models_serve(self):
        self.assertEqual(self.first_with("READY")["READY"], "1")
        self.assertEqual(self.daemon.request("GET", "/health/ready")[0], 200)

    def test_status_says_what_it_does(self):
        self.assertRegex(self.first_with("STATUS")["STATUS"], r"\w")

    def test_watchdog_is_petted_again_and_again(self):
        for _ in range(3):
            self.assertEqual(self.next_with("WATCHDOG")["WATCHDOG"], "1")

    def test_reload_is_announced_with_its_time_and_ends_ready(self):
        self.first_with("READY")
        before_us = time.monotonic_ns() // 1000
        self.daemon.signal(signal.SIGHUP)
        fields = self.next_with("RELOADING")
        self.assertEqual(fields["RELOADING"], "1")
        self.assertGreaterEqual(int(fields["MONOTONIC_USEC"]), before_us)
        self.assertLessEqual(int(fields["MONOTONIC_USEC"]), time.monotonic_ns() // 1000)
        self.assertEqual(self.next_with("READY")["READY"], "1")
        self.assertEqual(self.daemon.request("GET", "/health/live")[0], 200)


class NotifyOfTheEnd(Notified):
    def test_stop_is_announced_and_ends_with_0(self):
        self.daemon.signal(signal.SIGTERM)
        self.assertEqual(self.next_with("STOPPING")["STOPPING"], "1")
        self.assertEqual(self.daemon.wait(), 0)


class PassedSockets(DaemonTest):
    """Sockets that the service manager opened: LISTEN_FDS and LISTEN_PID, from descriptor 3 on."""

    MODELS = {"bard": {}}

    @classmethod
    def start(cls):
        tcp = socket.create_server(("127.0.0.1", 0), backlog=16)
        unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        cls.unix_path = os.path.join(cls.folder, "lstmd.sock")
        unix.bind(cls.unix_path)
        unix.listen(16)
        cls.addClassCleanup(tcp.close)
        cls.addClassCleanup(unix.close)
        cls.port = tcp.getsockname()[1]
        # Connected and sent before there is a daemon: the kernel keeps it waiting, nobody is refused.
        cls.early = socket.create_connection(("127.0.0.1", cls.port), timeout=TIMEOUT_SECONDS)
        cls.addClassCleanup(cls.early.close)
        cls.early.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        cls.passed = [tcp.fileno(), unix.fileno()]
        return cls.start_with_sockets()

    @classmethod
    def start_with_sockets(cls):
        daemon = Daemon(cls.models, listen=None, pass_fds=cls.passed, wait=False,
                        launcher=[sys.executable, "-c", AS_SERVICE, *map(str, cls.passed), "--"])
        daemon.port = cls.port
        return daemon

    def get(self, connection, path):
        """Status and body of one request over a connected socket."""
        request = http.client.HTTPConnection("localhost")
        request.sock = connection
        request.request("GET", path, headers={"Connection": "close"})
        reply = request.getresponse()
        return reply.status, reply.read()

    def test_who_connected_before_the_start_is_answered(self):
        reply = http.client.HTTPResponse(self.early)
        reply.begin()
        self.assertEqual(reply.status, 200)

    def test_the_passed_tcp_socket_is_used(self):
        self.daemon.wait_until_ready()
        status, reply = self.daemon.json("GET", "/v1/models")
        self.assertEqual((status, [model["id"] for model in reply["data"]]), (200, ["bard"]))

    def test_the_passed_unix_socket_is_used(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            connection.connect(self.unix_path)
            self.assertEqual(self.get(connection, "/health/live")[0], 200)

    def test_nothing_else_is_listened_on(self):
        self.daemon.wait_until_ready()
        with open(f"/proc/{self.daemon.process.pid}/net/tcp", encoding="ascii") as file:
            listening = {line.split()[9] for line in list(file)[1:] if line.split()[3] == "0A"}
        own = set()
        for descriptor in os.listdir(f"/proc/{self.daemon.process.pid}/fd"):
            try:
                target = os.readlink(f"/proc/{self.daemon.process.pid}/fd/{descriptor}")
            except FileNotFoundError:
                continue
            if target.startswith("socket:["):
                own.add(target[8:-1])
        self.assertEqual(len(listening & own), 1)

    def test_who_connects_during_a_restart_waits_for_the_next(self):
        self.assertEqual(self.daemon.stop(), 0)
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_SECONDS) as waiting:
            type(self).daemon = self.start_with_sockets()
            self.assertEqual(self.get(waiting, "/health/live")[0], 200)


if __name__ == "__main__":
    unittest.main()
