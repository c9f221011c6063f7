"""Random requests to every route, however they are sent: none crashes the daemon, none is its fault, every one is
answered once and in order, and at the end nothing has leaked."""
import collections
import json
import random
import socket
import struct
import threading
import time

from graph_case import ServedGraphTest
from harness import FLAVOUR, IS_SLOW, SEED, wait_until
from random_requests import Generator
from test_oip import PROGRAM

SHORT = True
LONG = True
COUNT = 2000 if not IS_SLOW else 100000 if FLAVOUR == "asan" else 20000
ROUND = 500                     # requests, after which the models are as they were
CLIENTS = 8
REPLY_SECONDS_MAX = 60
STREAM_SECONDS_MAX = 1.5        # then its reader leaves
LAST_SECONDS_MAX, LAST_BYTES_MAX = 0.05, 1 << 20     # of what comes for a request that was not sent to its end
# What is not now, but may be later; 500 is never right.
UNAVAILABLE = {"model_unloaded", "model_loading", "no_version", "deadline"}


def refuse_constant(name):
    raise AssertionError(f"{name} is no JSON")


class Client(threading.Thread):
    """Sends its share of a round on connections that stay open as long as they may."""

    def __init__(self, port, description, seed, count):
        super().__init__()
        self.port = port
        self.chance = random.Random(seed)
        self.generator = Generator(description, self.chance)
        self.name_of_all = seed.replace("/", "-")
        self.left = count
        self.made = 0
        self.connection = None
        self.content = b""
        self.sent = b""
        self.found = collections.Counter()      # replies by status
        self.failure = None

    def run(self):
        try:
            while self.left > 0:
                self.chance.choices((self.ask, self.ask_slowly, self.ask_in_a_row, self.leave, self.end_early,
                                     self.break_framing), (60, 6, 12, 10, 6, 6))[0]()
        except (AssertionError, OSError, ValueError, LookupError, TypeError) as error:
            self.failure = f"{type(error).__name__}: {str(error)[:3000]}\nafter {self.sent[:3000]!r}"
        self.close()

    # ---- Connections

    def close(self):
        if self.connection is not None:
            self.connection.close()
        self.connection, self.content = None, b""

    def send(self, *parts):
        """In parts with pauses between them. What the daemon makes of it is seen when its reply is read."""
        self.sent = b"".join(parts)
        if self.connection is None:
            self.connection = socket.create_connection(("127.0.0.1", self.port), timeout=REPLY_SECONDS_MAX)
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for part in parts:
                self.connection.sendall(part)
                if len(parts) > 1:
                    time.sleep(self.chance.choice((0, 0.001, 0.01)))
        except ConnectionError:
            pass

    def receive(self):
        part = self.connection.recv(1 << 18)
        if part == b"":
            raise ConnectionError("the daemon closed the connection")
        self.content += part

    def take(self, length):
        while len(self.content) < length:
            self.receive()
        taken, self.content = self.content[:length], self.content[length:]
        return taken

    def take_line(self):
        while b"\r\n" not in self.content:
            self.receive()
        line, _, self.content = self.content.partition(b"\r\n")
        return line

    def read_chunks(self):
        parts, give_up = [], time.monotonic() + STREAM_SECONDS_MAX
        while (length := int(self.take_line(), 16)) > 0:
            parts.append(self.take(length + 2)[:-2])
            if time.monotonic() > give_up:
                self.close()
                return None
        self.take(2)
        return b"".join(parts)

    def read_reply(self, method):
        """(status, headers, body); the body is None when its reader has left. Closes the connection if it says so."""
        status = int(self.take_line().split()[1])
        headers = {}
        while line := self.take_line():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = b""
        if method != "HEAD" and status not in (204, 304):
            chunked = headers.get("transfer-encoding") == "chunked"
            body = self.read_chunks() if chunked else self.take(int(headers["content-length"]))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, headers, body

    # ---- Replies

    def check(self, request, status, headers, body):
        kind = headers.get("content-type", "")
        is_json = body and kind.startswith("application/json")
        told = json.loads(body, parse_constant=refuse_constant) if is_json else None
        error = told.get("error") if isinstance(told, dict) and status >= 400 else None
        code = error.get("code") if isinstance(error, dict) else None
        self.found[status] += 1
        assert 200 <= status < 500 or status == 503 and "retry-after" in headers, (status, headers, body)
        assert headers.get("x-request-id") == request.name, (request.name, headers)
        if status == 503:
            assert code is None or code in UNAVAILABLE, (status, body)
        if status >= 400 and request.method != "HEAD" and body is not None and (told is None or "ready" not in told):
            assert isinstance(error, str) or error["message"] and error["type"], body

    def make(self, most=1):
        count = min(self.left, self.chance.randint(1, most))
        self.left -= count
        self.made += count
        return [self.generator.request(f"{self.name_of_all}-{self.made - at}") for at in range(count)]

    # ---- Ways to ask

    def encoded(self, request):
        return request.chunked(self.chance) if self.chance.random() < 0.2 and request.body else request.plain()

    def ask(self):
        request = self.make()[0]
        self.ask_for([request], [self.encoded(request)])

    def ask_for(self, requests, parts):
        """All of them are answered, unless a reply before says that it is the last."""
        self.send(*parts)
        for request in requests:
            self.check(request, *self.read_reply(request.method))
            if self.connection is None:
                return

    def ask_slowly(self):
        request = self.make()[0]
        content = self.encoded(request)
        cuts = sorted(self.chance.sample(range(1, len(content)), min(3, len(content) - 1)))
        self.ask_for([request], [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)])])

    def ask_in_a_row(self):
        requests = self.make(5)
        self.ask_for(requests, [b"".join(request.plain() for request in requests)])

    def leave(self):
        """Without reading, perhaps in the middle of the request, perhaps with a reset."""
        content = self.encoded(self.make()[0])
        self.send(content[:self.chance.choice((len(content), self.chance.randrange(len(content))))])
        if self.chance.random() < 0.5:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def read_to_the_end(self):
        """Sends no more. Whatever comes soon is no fault of the daemon's."""
        self.connection.settimeout(LAST_SECONDS_MAX)
        try:
            self.connection.shutdown(socket.SHUT_WR)
            while len(self.content) < LAST_BYTES_MAX:
                self.receive()
        except OSError:                         # closed, or silent
            pass
        status = int(self.content.split()[1]) if self.content.startswith(b"HTTP/1.") else 0
        assert status < 500 or status in (501, 503, 505), self.content[:2000]
        self.close()

    def end_early(self):
        """In the middle of a request."""
        self.close()
        content = self.encoded(self.make()[0])
        self.send(content[:self.chance.randrange(1, len(content))])
        self.read_to_the_end()

    def break_framing(self):
        request = self.make()[0]
        self.close()
        size = len(request.body)
        content = self.chance.choice((
            request.head(b"Content-Length: %d" % size, b"Content-Length: %d" % (size + 1)) + request.body,
            request.head(b"Content-Length: -1") + request.body,
            request.head(b"Content-Length: " + b"9" * 25) + request.body,
            request.head(b"Transfer-Encoding: chunked") + b"zz\r\n" + request.body + b"\r\n0\r\n\r\n",
            request.head(b"Transfer-Encoding: chunked") + b"ffffffffffffffff\r\n" + request.body,
            request.head(b"Transfer-Encoding: chunked", b"Content-Length: 3") + b"0\r\n\r\n",
            request.head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
            request.plain().replace(b"HTTP/1.1", self.chance.choice((b"HTTP/9.9", b"HTTP/1", b"", b"SIP/2.0")), 1),
            request.plain().replace(b"\r\n", self.chance.choice((b"\n", b"\r", b"\r\r\n", b"\0\r\n"))),
            request.head(b"no colon", b" folded: 1") + request.body,
            request.head(*[b"A: " + b"b" * 500] * 100) + request.body,
            self.chance.randbytes(self.chance.randrange(1, 300)) + b"\r\n\r\n"))
        self.send(content)
        self.read_to_the_end()


class RandomRequests(ServedGraphTest):
    """Of three models: `bard` makes text, so does `poet`, to which more happens, and `sums` adds."""
    MODELS = {"bard": {}}
    PROGRAM = PROGRAM
    CONFIG = ("default_model = bard\nlog_requests = no\nlog_level = error\nrequest_seconds_max = 1\n"
              "run_seconds_max = 2\nimport_seconds_max = 10\nconnection_timeout_seconds = 10\n"
              "body_bytes_max = 1M\nimport_bytes_max = 1M\ncorpora_bytes_max = 1M\n")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.exported = cls.daemon.request("GET", "/v1/models/bard/export?to=tar")[2]

    def remove(self, model):
        self.daemon.request("DELETE", f"/v1/models/{model}/train")
        return self.daemon.request("DELETE", f"/v1/models/{model}?force=true")[0] in (200, 404)

    def make(self, model, content):
        return self.daemon.request("PUT", f"/v1/models/{model}", content)[0] == 201

    def restore(self):
        """All models as at the beginning, whatever became of them."""
        self.expect(200, "GET", "/health/live")
        for entry in self.expect(200, "GET", "/v1/models")["data"]:
            wait_until(lambda name=entry["id"]: self.remove(name), f"{entry['id']} cannot be removed")
        for made in (("bard", self.exported), ("poet", self.exported), ("mine", "{}")):
            wait_until(lambda call=made: self.make(*call), f"{made[0]} cannot be made again")
        self.make_sums()
        self.expect(201, "PUT", "/v1/models/bard/labels/stable", {"version": 1})
        self.expect(201, "PUT", "/v1/models/sums/labels/stable", {"version": 2})
        self.expect(200, "POST", "/v1/completions", {"model": "bard", "prompt": "Call me", "max_tokens": 3})

    def test_all_routes(self):
        print(f"# seed {SEED}, {COUNT} requests", flush=True)
        description = self.expect(200, "GET", "/openapi.json")
        found = collections.Counter()
        began = time.monotonic()
        for number in range(COUNT // ROUND):
            self.restore()
            clients = [Client(self.daemon.port, description, f"{SEED}/{number}/{index}", (ROUND + index) // CLIENTS)
                       for index in range(CLIENTS)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
                found += client.found
            failures = [client.failure for client in clients if client.failure]
            self.assertFalse(failures, f"round {number} of seed {SEED}:\n" + "\n".join(failures))
        self.restore()
        print(f"# replies by status, in {time.monotonic() - began:.0f} s: {dict(sorted(found.items()))}", flush=True)
        self.assertGreater(found[200], COUNT // 10)
