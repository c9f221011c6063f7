"""Random interleavings of requests on a few sessions. All sessions are the same text, so what each request got, and
where the session stood before, says whether anything was lost or told twice: in TEST_SEED's order, which is printed."""
import concurrent.futures
import json
import random

from harness import SEED, Daemon, DaemonTest, wait_until

SHORT = True
PROMPT = "Call me"
BEGIN = {"prompt": PROMPT, "seed": 4, "session_start": True}
LONG = 400                      # symbols of a request that may be told to end before
TEXT_SYMBOLS = 60000
NAMES = ("ann", "bob", "cecil")
ROUNDS = 12


class Interleavings(DaemonTest):
    MODELS = {"bard": {"units": 64}}

    @classmethod
    def start(cls):
        return Daemon(cls.models)

    def post(self, name, **fields):
        """Its reply: where the session stood, the text, and why it ended."""
        reply = self.expect(200, "POST", "/v1/completions", {"prompt": "", "session": name, **fields})
        return self.look(reply["usage"], reply["choices"][0]["text"], reply["choices"][0]["finish_reason"])

    def look(self, usage, text, reason):
        details = usage.get("prompt_tokens_details", {"restored_tokens": 0, "replayed_tokens": 0})
        before = details["restored_tokens"] + details["replayed_tokens"] + usage["prompt_tokens"]
        return before - len(PROMPT), text, reason

    def whole(self, name, chance):
        return self.post(name, max_tokens=chance.randrange(30))

    def streamed(self, name, chance):
        events = self.daemon.events("/v1/completions", {
            "prompt": "", "session": name, "stream": True, "max_tokens": chance.randrange(1, 30),
            "stream_options": {"include_usage": True}, "flush_ms": 0})
        self.assertEqual(events.pop(), "[DONE]")
        *chunks, last = [json.loads(event) for event in events]
        text = "".join(chunk["choices"][0]["text"] for chunk in chunks)
        return self.look(last["usage"], text, chunks[-1]["choices"][0]["finish_reason"])

    def late(self, name, chance):
        return self.post(name, max_tokens=LONG, deadline_ms=chance.randrange(1, 12))

    def cancelled(self, name, chance):
        own = f"{name}-{chance.random()}"
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            body = {"prompt": "", "session": name, "max_tokens": LONG}
            reply = pool.submit(self.daemon.json, "POST", "/v1/completions", body, {"X-Request-Id": own})
            while not reply.done() and self.daemon.json("DELETE", f"/v1/requests/{own}")[0] != 200:
                pass
        status, reply = reply.result()
        self.assertEqual(status, 200, reply)
        return self.look(reply["usage"], reply["choices"][0]["text"], reply["choices"][0]["finish_reason"])

    def left(self, name, chance):
        """A client that leaves: at once, or with something of a stream read. Nobody knows what it was sent."""
        connection = self.daemon.connect()
        body = {"prompt": "", "session": name, "max_tokens": LONG, "stream": chance.random() < 0.7}
        connection.request("POST", "/v1/completions", json.dumps(body))
        if body["stream"] and chance.random() < 0.7:
            connection.getresponse().readline()
        connection.close()

    def symbols(self, name):
        wait_until(lambda: not self.expect(200, "GET", f"/v1/sessions/{name}")["busy"], f"{name} is stuck")
        return self.expect(200, "GET", f"/v1/sessions/{name}")["symbols"] - len(PROMPT)

    def check(self, name, replies):
        """What requests of one session got follows each other, without a gap where nobody left."""
        at = self.stands[name]
        after = self.symbols(name)
        for begin, text, _ in sorted(reply for reply in replies if reply is not None and reply[1] != ""):
            self.assertGreaterEqual(begin, at, f"{name}: told twice")
            self.assertTrue(begin == at or None in replies, f"{name}: {begin - at} symbols lost at {at}")
            self.assertEqual(text, self.text[begin:begin + len(text)], f"{name} at {begin}")
            at = begin + len(text)
        self.assertTrue(at == after or (at < after and None in replies), f"{name} stands at {after}, was told to {at}")
        self.stands[name] = after

    def begin(self, name):
        self.assertEqual(self.post(name, max_tokens=3, **BEGIN)[:2], (0, self.text[:3]))
        self.stands[name] = 3

    def change(self, chance):
        """What happens between requests."""
        name, other = chance.sample(NAMES, 2)
        what = chance.choice(("fork", "delete", "restart", "begin"))
        if what == "fork":
            self.expect(200, "PUT", f"/v1/sessions/{name}", {"fork": other})
            self.stands[name] = self.stands[other]
        elif what == "restart":
            self.assertEqual(self.daemon.stop(), 0)
            type(self).daemon = self.start()
        elif what == "delete":
            self.expect(200, "DELETE", f"/v1/sessions/{name}")
            self.expect(404, "POST", "/v1/completions", {"prompt": "", "session": name}, error="session_not_found")
        if what in ("delete", "begin"):
            self.begin(name)
        self.assertEqual({name: self.symbols(name) for name in NAMES}, self.stands)

    def test_nothing_is_lost(self):
        print(f"# TEST_SEED={SEED}", flush=True)
        chance = random.Random(SEED)
        kinds = (self.whole, self.whole, self.streamed, self.late, self.cancelled, self.left)
        self.text = self.expect(200, "POST", "/v1/completions", {
            "prompt": PROMPT, "seed": 4, "max_tokens": TEXT_SYMBOLS})["choices"][0]["text"]
        self.stands = {}
        for name in NAMES:
            self.begin(name)
        for _ in range(ROUNDS):
            with concurrent.futures.ThreadPoolExecutor(32) as pool:
                calls = [(name, pool.submit(chance.choice(kinds), name, random.Random(chance.random())))
                         for name in NAMES for _ in range(chance.randrange(1, 8))]
            for name in NAMES:
                self.check(name, [call.result() for owner, call in calls if owner == name])
            self.change(chance)
        self.assertEqual(self.expect(200, "GET", "/v1/requests")["data"], [])
