"""More clients than there is room for: who is let in gets the whole text, the others are told so, once each, and what
the metrics count is what the clients saw."""
import collections
import json
import re

import crowd
from harness import IS_SLOW, DaemonTest, wait_until

SHORT = True
ROOM, CLIENTS = 64, 256
TEXTS = 20 if IS_SLOW else 3            # that each client wants
SEEDS, SYMBOLS = 16, 60
PATIENCE_SECONDS = 0.02                 # before a client asks again; lstmd asks for more


class Crowd(DaemonTest):
    MODELS = {"bard": {"units": 64, "layers": 2}}
    CONFIG = f"generations_max = {ROOM}\nlog_requests = no\n"

    def setUp(self):
        self.texts = {(seed, n): self.choices(seed, n) for seed in range(SEEDS) for n in (1, 2)}
        self.asked = collections.Counter()      # by client: how often, and for which seed it is next
        self.had = collections.Counter()        # by client: whole texts
        self.refused = 0

    def body(self, seed, n, **more):
        return {"model": "bard", "prompt": "Call me", "max_tokens": SYMBOLS, "seed": seed, "n": n, **more}

    def choices(self, seed, n):
        reply = self.expect(200, "POST", "/v1/completions", self.body(seed, n))
        return [choice["text"] for choice in reply["choices"]]

    def wanted(self, index):
        """Its seed, how many texts, and whether they are streamed."""
        return (index + self.had[index]) % SEEDS, 1 + (index % 8 == 7), index % 2 == 0

    def next_request(self, index):
        if self.had[index] == TEXTS:
            return None
        seed, n, is_streamed = self.wanted(index)
        self.asked[index] += 1
        return crowd.post("/v1/completions", json.dumps(self.body(seed, n, stream=is_streamed)),
                          f"X-Request-Id: c{index}-{self.asked[index]}\r\n")

    def read(self, reply, n, is_streamed):
        """The texts, and why each ended."""
        if not is_streamed:
            choices = json.loads(reply.body)["choices"]
            return [choice["text"] for choice in choices], [choice["finish_reason"] for choice in choices]
        events = [line[6:] for line in reply.body.decode().split("\n") if line.startswith("data: ")]
        self.assertEqual(events.count("[DONE]"), 1)
        self.assertEqual(events.pop(), "[DONE]")
        texts, reasons = [""] * n, []
        for event in events:
            for choice in json.loads(event)["choices"]:
                texts[choice["index"]] += choice["text"]
                reasons += [choice["finish_reason"]] if choice["finish_reason"] else []
        return texts, reasons

    def on_reply(self, index, reply):
        seed, n, is_streamed = self.wanted(index)
        self.assertEqual(reply.headers["x-request-id"], f"c{index}-{self.asked[index]}")
        if reply.status == 429:
            self.assertGreaterEqual(int(reply.headers["retry-after"]), 1)
            self.assertEqual(json.loads(reply.body)["error"]["code"], "queue_full")
            self.refused += 1
            return PATIENCE_SECONDS
        self.assertEqual(reply.status, 200, reply.body)
        self.assertEqual(self.read(reply, n, is_streamed), (self.texts[seed, n], ["length"] * n))
        self.had[index] += 1
        return 0

    def outcomes(self):
        content = self.daemon.request("GET", "/metrics")[2].decode()
        return collections.Counter({name: int(count) for name, count in re.findall(
            r'^lstmd_requests_total\{model="bard",outcome="(\w+)",key=""\} (\d+)$', content, re.M)})

    def ask_all(self, clients):
        before = self.outcomes()
        crowd.run(self.daemon.port, clients, self.next_request, self.on_reply)
        wait_until(lambda: self.expect(200, "GET", "/v1/requests")["data"] == [])
        return self.outcomes() - before

    def test_who_has_no_room_is_told(self):
        outcomes = self.ask_all(CLIENTS)
        self.assertEqual(set(self.had.values()), {TEXTS})
        self.assertGreater(self.refused, 0)
        self.assertEqual(outcomes, {"length": CLIENTS * TEXTS, "refused": self.refused})

    def test_who_has_room_is_never_refused(self):
        """A place is free again by the time that its client has the text."""
        self.wanted = lambda index: (index % SEEDS, 1, index % 2 == 0)
        outcomes = self.ask_all(ROOM)
        self.assertEqual((self.refused, outcomes), (0, {"length": ROOM * TEXTS}))

    def test_more_texts_than_there_is_ever_room_for(self):
        """Coming again would not help."""
        self.expect(413, "POST", "/v1/completions", self.body(1, ROOM + 1), error="too_many_texts")
        self.choices(1, ROOM)
