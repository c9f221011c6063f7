"""Very many streams at once: all of them progress, in little memory, and the rest of the daemon stays awake."""
import contextlib
import resource
import select
import socket
import time
import unittest

from harness import FLAVOUR, DaemonTest, wait_until

SHORT = True
IS_SANITIZED = FLAVOUR != "release"
STREAMS = 250 if IS_SANITIZED else 1000
STREAM_BYTES_MAX = 64 << 10    # resident memory of a stream, above idle
PIECE = 200                    # bytes each stream must have made beyond its head
SECONDS_MAX = 120              # then the test gives up


def allow_descriptors(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    return max(soft, min(count, hard)) >= count


class Streams(DaemonTest):
    MODELS = {"bard": {"units": 128, "layers": 2, "max_steps": 3}}
    CONFIG = (f"connections_max = {STREAMS + 10}\ngenerations_max = {STREAMS}\nlog_requests = no\n"
              f"queue_symbols_max = {STREAMS * 1001000}\n")

    def open_stream(self, seed):
        connection = socket.create_connection(("127.0.0.1", self.daemon.port), timeout=SECONDS_MAX)
        connection.sendall(f"GET /v1/models/bard/generate?prompt=I&max_tokens=1000000&seed={seed} HTTP/1.1\r\n"
                           "Host: localhost\r\n\r\n".encode())
        connection.setblocking(False)
        return connection

    def read_until_all_have(self, byte_count, streams, poller, received):
        """Reads whatever comes until each stream has that many bytes."""
        give_up = time.monotonic() + SECONDS_MAX
        while min(received.values()) < byte_count:
            starving = sum(count < byte_count for count in received.values())
            self.assertLess(time.monotonic(), give_up, f"{starving} streams starve")
            for descriptor, _ in poller.poll(1):
                with contextlib.suppress(BlockingIOError):
                    text = streams[descriptor].recv(1 << 16)
                    self.assertTrue(text, "a stream ended")
                    if received[descriptor] == 0:
                        self.assertTrue(text.startswith(b"HTTP/1.1 200 "), text[:200])
                    received[descriptor] += len(text)

    def test_all_progress_in_little_memory(self):
        if not allow_descriptors(STREAMS + 100):
            self.skipTest(f"this user may not open {STREAMS} connections")
        idle_bytes = self.daemon.rss_bytes()
        poller = select.epoll()
        streams = {}
        with contextlib.ExitStack() as stack:
            stack.enter_context(poller)
            for seed in range(STREAMS):
                connection = stack.enter_context(self.open_stream(seed))
                streams[connection.fileno()] = connection
                poller.register(connection.fileno(), select.EPOLLIN)
            received = dict.fromkeys(streams, 0)
            self.read_until_all_have(1, streams, poller, received)
            at_start = max(received.values())
            self.read_until_all_have(at_start + PIECE, streams, poller, received)
            self.assertEqual(self.daemon.request("GET", "/health/live")[0], 200)
            status, reply = self.daemon.json("POST", "/v1/completions", {"prompt": "I ", "max_tokens": 1})
            self.assertEqual((status, reply["error"]["code"]), (429, "queue_full"))
            if not IS_SANITIZED:
                self.assertLess((self.daemon.rss_bytes() - idle_bytes) / STREAMS, STREAM_BYTES_MAX)
        wait_until(lambda: self.daemon.json("POST", "/v1/completions", {"prompt": "I ", "max_tokens": 1})[0] == 200,
                   "the places of streams whose clients left stay taken")


if __name__ == "__main__":
    unittest.main()
