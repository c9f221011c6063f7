"""Limits: of keys by requests, symbols and texts at a time, of each address; of the queue by symbols; its shares."""
import base64
import hashlib
import json
import struct

from harness import DaemonTest, Daemon, run, wait_until

SHORT = True
SHORT_TEXT = {"model": "bard", "prompt": "I ", "max_tokens": 1}
ENDLESS = {"model": "bard", "prompt": "I ", "max_tokens": 1000000, "stream": True}
# The slow ones fill so slowly that a test need not hurry.
LIMITS = {"requests": "requests_per_minute = 3\n", "symbols": "symbols_per_second = 0.001\n",
          "streams": "streams = 2\n", "shared": "requests_per_minute = 2\nper_address = no\n",
          "address": "requests_per_minute = 2\nper_address = yes\n", "free": "", "foreign": "requests_per_minute = 1\n"}


class KeysTest(DaemonTest):
    MODELS = {"bard": {}}
    SETTINGS = "trusted_proxies = 127.0.0.1 10.9.9.9\nqueue_symbols_max = 4000000\n"

    @classmethod
    def start(cls):
        cls.keys, keys = {}, f"{cls.folder}/keys"
        with open(keys, "w", encoding="utf-8") as file:
            for name, limits in LIMITS.items():
                done = run("key", name, "--scope", "admin")
                cls.keys[name] = done.stderr.strip()
                file.write(done.stdout + limits)
        config = f"{cls.folder}/lstmd.conf"
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"keys = {keys}\n{cls.SETTINGS}")
        return Daemon(cls.models, config=config)

    def headers(self, key, address=None):
        more = {"X-Forwarded-For": address} if address else {}
        return {"Authorization": f"Bearer {self.keys[key]}", **more}

    def ask(self, key, body=SHORT_TEXT, address=None):
        return self.daemon.json("POST", "/v1/completions", body, self.headers(key, address))

    def refused(self, code, key, body=SHORT_TEXT, path="/v1/completions"):
        status, headers, content = self.daemon.request("POST", path, body, self.headers(key))
        self.assertEqual(status, 429, content)
        self.assertIn(f'"{code}"'.encode(), content)
        self.assertGreaterEqual(int(headers["Retry-After"]), 1)
        return content.decode(), int(headers["Retry-After"])

    def running(self):
        return self.daemon.json("GET", "/v1/requests", headers=self.headers("free"))[1]["data"]

    def begin(self, key, count=1):
        """Streams that have begun and do not end."""
        streams = [self.daemon.open_stream("POST", "/v1/completions", ENDLESS, self.headers(key)) for _ in range(count)]
        for connection, reply in streams:
            self.addCleanup(connection.close)
            self.assertTrue(reply.readline().startswith(b"data: {"))
        return streams


class Limits(KeysTest):
    def test_requests_a_minute(self):
        for _ in range(3):
            self.assertEqual(self.ask("requests")[0], 200)
        content, seconds = self.refused("requests_per_minute", "requests")
        self.assertIn("key requests: 3 requests a minute; free in ", content)
        self.assertIn(f'"retry_after_seconds":{seconds}', content)
        self.assertIn('"type":"rate_limit_error"', content)
        self.assertTrue(1 <= seconds <= 20, seconds)
        self.assertEqual(self.ask("free")[0], 200)
        self.assertEqual(self.daemon.json("GET", "/health/live", headers=self.headers("requests"))[0], 200)

    def test_foreign_routes_say_when_too(self):
        self.daemon.json("GET", "/v2", headers=self.headers("foreign"))
        status, headers, content = self.daemon.request("GET", "/v2", headers=self.headers("foreign"))
        self.assertEqual(status, 429)
        self.assertRegex(content, rb'^{"error":"key foreign: 1 requests a minute')
        self.assertTrue(30 < int(headers["Retry-After"]) <= 60)

    def test_symbols_a_second(self):
        self.assertEqual(self.ask("symbols", {**SHORT_TEXT, "max_tokens": 40})[0], 200)     # is owed
        content, seconds = self.refused("symbols_per_second", "symbols")
        self.assertIn("key symbols: 0.001 symbols a second", content)
        self.assertEqual(seconds, 3600)
        self.refused("symbols_per_second", "symbols", {"text": "Call me"}, "/v1/models/bard/score")

    def test_texts_at_a_time(self):
        streams = self.begin("streams", 2)
        self.refused("streams", "streams")
        for more in ({"n": 3}, {"best_of": 3}, {"prompt": ["a", "b", "c"]}):      # texts count, not requests
            status, reply = self.ask("streams", {**SHORT_TEXT, **more})
            self.assertEqual((status, reply["error"]["code"]), (413, "streams"))
        self.assertEqual(self.ask("free")[0], 200)
        streams.pop()[0].close()
        wait_until(lambda: self.ask("streams")[0] == 200)
        for connection, _ in streams:
            connection.close()
        wait_until(lambda: not self.running())

    def test_addresses(self):
        for key, of_each in (("shared", False), ("address", True)):
            statuses = [self.ask(key, address=address)[0]
                        for address in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2",
                                        "9.9.9.9, 192.0.2.2, 10.9.9.9",     # as a second trusted proxy passes it on
                                        "192.0.2.9, 192.0.2.1")]            # what the client itself says does not count
            self.assertEqual(statuses, [200, 200, 429, 200, 200, 429] if of_each else [200, 200] + [429] * 4, key)

    def test_what_a_state_is_still_to_read_counts(self):
        reply = self.ask("free", {**SHORT_TEXT, "return_state": True})[1]
        state = bytearray(base64.b64decode(reply["choices"][0]["state"]))
        numbers, pending = struct.unpack_from("<2I", state, 88)
        at, more = 112 + numbers, (1 << 21) - pending
        symbol = state[at:at + 4]
        state[at:at] = symbol * more
        struct.pack_into("<I", state, 20, len(state))
        struct.pack_into("<I", state, 92, 1 << 21)
        state[8:16] = hashlib.sha256(state[16:]).digest()[:8]
        body = {"model": "bard", "prompt": "", "max_tokens": 1, "n": 2, "state": base64.b64encode(state).decode()}
        status, reply = self.ask("free", body)
        self.assertEqual((status, reply["error"].get("code")), (413, "too_many_symbols"), reply)

    def test_addresses_in_several_lines(self):
        """A proxy that adds a line of its own says more than the line that the client has sent."""
        body = json.dumps(SHORT_TEXT).encode()
        statuses = []
        for number in range(3):
            with self.daemon.raw() as connection:
                connection.sendall(
                    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                    b"Authorization: Bearer %s\r\nX-Forwarded-For: 198.51.100.%d\r\nContent-Length: %d\r\n"
                    b"x-forwarded-for: 192.0.2.77\r\n\r\n" % (self.keys["address"].encode(), number, len(body)) + body)
                with connection.makefile("rb") as reply:
                    statuses.append(int(reply.read().split()[1]))
        self.assertEqual(statuses, [200, 200, 429])

    def test_the_queue_by_symbols(self):
        streams = self.begin("free", 3)
        content, _ = self.refused("queue_full", "free", ENDLESS)
        self.assertRegex(content, r"texts of 30000\d\d symbols .* over the maximum, 4000000")
        self.assertEqual(self.ask("free")[0], 200)                          # what is small still goes in
        for connection, _ in streams:
            connection.close()
        wait_until(lambda: not self.running())
        connection, reply = self.daemon.open_stream("POST", "/v1/completions", ENDLESS, self.headers("free"))
        self.assertEqual(reply.status, 200)                                 # all was given back
        connection.close()
        status, reply = self.ask("free", {**ENDLESS, "n": 5})               # more than there ever is
        self.assertEqual((status, reply["error"]["code"]), (413, "too_many_symbols"))
        wait_until(lambda: b'outcome="refused",key="free"}' in self.daemon.request("GET", "/metrics")[2])


class Shares(KeysTest):
    """Of a queue with nine places a key gets eight, or seven beside one of another key."""
    SETTINGS = "generations_max = 9\n"
    HELD, FULL = "8 texts are being made", "9 generations are waiting or running"

    def test_no_key_takes_the_whole_queue(self):
        greedy = self.begin("free", 8)
        content, _ = self.refused("queue_share", "free", ENDLESS)
        self.assertIn("key free: " + self.HELD, content)
        self.begin("shared")                                # there is room for others
        content, _ = self.refused("queue_full", "foreign", ENDLESS)
        self.assertIn(self.FULL, content)
        for connection, _ in greedy:
            connection.close()
        wait_until(lambda: len(self.running()) == 1)
        self.begin("free", 7)
        self.refused("queue_share", "free", ENDLESS)


class SharesOfSymbols(Shares):
    """The same with room for the symbols of nine."""
    SETTINGS = "queue_symbols_max = 9100000\n"
    HELD, FULL = "80000", "texts of 90000"
