"""logprobs and echo: OpenAI's four arrays, the same streamed or not, alone or among others; lm-eval's way to score."""
import json
import math
import os

from harness import DaemonTest, run

SHORT = True


class Logprobs(DaemonTest):
    MODELS = {"bard": {}}
    CONFIG = "default_model = bard\n"

    def complete(self, expected=200, **fields):
        body = {"prompt": "Call me", "max_tokens": 30, "seed": 4, **fields}
        status, reply = self.daemon.json("POST", "/v1/completions", body)
        self.assertEqual(status, expected, reply.get("error"))
        return reply["choices"][0] if expected == 200 else reply["error"]

    def stream(self, **fields):
        """The choice that a stream's chunks make up."""
        body = {"prompt": "Call me", "max_tokens": 30, "seed": 4, "stream": True, **fields}
        events = self.daemon.events("/v1/completions", body)
        whole = {"index": 0, "text": "", "logprobs": None, "finish_reason": None}
        for event in events[:-1]:
            choice = json.loads(event)["choices"][0]
            whole["text"] += choice["text"]
            whole["finish_reason"] = choice["finish_reason"]
            if whole["logprobs"] is None:
                whole["logprobs"] = choice["logprobs"]
            elif choice["logprobs"] is not None:
                for name, values in choice["logprobs"].items():
                    whole["logprobs"][name] += values
        return whole

    def test_four_arrays(self):
        choice = self.complete(logprobs=2)
        logprobs = choice["logprobs"]
        self.assertEqual(list(logprobs), ["tokens", "token_logprobs", "top_logprobs", "text_offset"])
        self.assertEqual("".join(logprobs["tokens"]), choice["text"])
        self.assertEqual(logprobs["text_offset"], list(range(30)))
        for token, logprob, top in zip(*list(logprobs.values())[:3]):
            self.assertLessEqual(logprob, 0)
            self.assertEqual(top[token], logprob)
            self.assertIn(len(top), (2, 3))
            likeliest = sorted(top.values(), reverse=True)
            self.assertEqual(list(top.values())[:2], likeliest[:2])
        self.assertEqual(self.complete()["logprobs"], None)
        self.assertEqual(self.complete()["text"], choice["text"])

    def test_numbers_of_others(self):
        chosen = self.complete(logprobs=0)["logprobs"]
        for count in range(6):
            logprobs = self.complete(logprobs=count)["logprobs"]
            self.assertEqual(logprobs["token_logprobs"], chosen["token_logprobs"])
            for token, top in zip(logprobs["tokens"], logprobs["top_logprobs"]):
                self.assertIn(len(top), (count, count + 1))
                self.assertIn(token, top)
        for wrong in (-1, 6, 1.5, "2", True):
            self.assertEqual(self.complete(400, logprobs=wrong)["param"], "logprobs")
        self.assertEqual(self.complete(400, echo=1)["param"], "echo")

    def test_they_are_the_models_own(self):
        """Whatever chose the symbols: a distribution over all of them, before every filter."""
        greedy = self.complete(logprobs=1, temperature=0)["logprobs"]
        for token, logprob, top in zip(*list(greedy.values())[:3]):
            self.assertEqual(top, {token: logprob})
        same = self.complete(logprobs=1, min_p=1, temperature=1.7, typical_p=0.9)["logprobs"]
        self.assertEqual(same, greedy)
        with open(os.path.join(self.models, "bard", "1", "vocab.json"), encoding="utf-8") as file:
            symbols = json.load(file)["symbols"]
        total = 0
        for number in range(len(symbols)):
            logprobs = self.complete(logprobs=0, max_tokens=1, logit_bias={str(number): 100})["logprobs"]
            self.assertEqual(logprobs["tokens"], [symbols[number]])
            total += math.exp(logprobs["token_logprobs"][0])
        self.assertAlmostEqual(total, 1, 5)

    def test_streamed_is_not_streamed(self):
        for fields in ({}, {"echo": True}, {"stop": ["e "], "max_tokens": 300}, {"stop": "t", "echo": True},
                       {"max_tokens": 400, "echo": True, "temperature": 2}, {"max_tokens": 0, "echo": True}):
            self.assertEqual(self.stream(logprobs=3, **fields), self.complete(logprobs=3, **fields), fields)

    def test_a_chunk_tells_its_own_text(self):
        """Symbols come with the text they wrote, neither before nor behind it; here each is one byte."""
        body = {"prompt": "Call me", "max_tokens": 2000, "seed": 4, "stream": True, "logprobs": 0, "flush_ms": 0}
        chunks = [json.loads(event)["choices"][0] for event in self.daemon.events("/v1/completions", body)[:-1]]
        self.assertGreater(len(chunks), 30)
        for chunk in chunks:
            tokens = [] if chunk["logprobs"] is None else chunk["logprobs"]["tokens"]
            self.assertEqual("".join(tokens), chunk["text"])

    def test_alone_or_among_others(self):
        alone = self.complete(logprobs=5, echo=True)
        body = {"prompt": ["Some years ago", "Call me", "Call"], "n": 4, "max_tokens": 30, "seed": 4, "logprobs": 5,
                "echo": True}
        status, reply = self.daemon.json("POST", "/v1/completions", body)
        self.assertEqual(status, 200, reply)
        self.assertEqual(reply["choices"][4], {**alone, "index": 4})

    def test_what_a_stop_string_cuts_is_left_out(self):
        text = self.complete(max_tokens=200)["text"]
        stop = text[40:43]
        choice = self.complete(max_tokens=200, stop=stop, logprobs=1)
        self.assertEqual(choice["finish_reason"], "stop")
        self.assertEqual(choice["text"], text[:text.index(stop)])
        self.assertEqual("".join(choice["logprobs"]["tokens"]), choice["text"])

    def test_echo(self):
        plain = self.complete()["text"]
        self.assertEqual(self.complete(echo=True)["text"], "Call me" + plain)
        self.assertEqual(self.complete(echo=True, max_tokens=0)["text"], "Call me")
        self.assertEqual(self.stream(echo=True)["text"], "Call me" + plain)
        self.assertEqual(self.complete(echo=True, stop="C")["text"][:7], "Call me")
        self.assertEqual(self.complete(echo=True, prompt="", max_tokens=0)["text"], "")
        query = "prompt=Call%20me&max_tokens=30&seed=4&echo=true"
        self.assertEqual(self.daemon.request("GET", f"/v1/models/bard/generate?{query}")[2].decode(), "Call me" + plain)
        long = "Call me Ishmael. Some years ago, " * 1000
        self.assertEqual(self.complete(echo=True, prompt=long, max_tokens=0)["text"], long)
        self.assertEqual(self.stream(echo=True, prompt=long, max_tokens=0)["text"], long)

    def test_scoring_as_lm_eval_does(self):
        """Echo, one symbol more, temperature 0; what it adds up to is what `lstmd score` says."""
        text = "Call me Ishmael. Some years ago"
        logprobs = self.complete(prompt=text, echo=True, logprobs=1, max_tokens=1, temperature=0)["logprobs"]
        self.assertEqual((logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]), (None, None))
        self.assertEqual("".join(logprobs["tokens"][:-1]), text)
        self.assertEqual(logprobs["text_offset"], list(range(len(text) + 1)))
        path = os.path.join(self.folder, "text")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        scored = run("score", os.path.join(self.models, "bard"), path, "--json")
        self.assertEqual(scored.returncode, 0, scored.stderr)
        nats = -sum(logprobs["token_logprobs"][1:-1]) / (len(text) - 1)
        self.assertIn("nats", scored.stdout)
        score = json.loads(scored.stdout)
        self.assertAlmostEqual(score["nats_per_symbol"], nats, 5)

    def test_bytes_that_are_no_characters(self):
        path = "/v1/models/bytes"
        made = {"language_model": {"layers": 1, "units": 8, "vocabulary": "bytes"}}
        self.assertEqual(self.daemon.json("PUT", path, made)[0], 201)
        self.assertEqual(self.daemon.json("POST", path + "/save", {})[0], 200)
        fields = {"model": "bytes", "prompt": "aé\n", "echo": True, "logprobs": 5}
        choice = self.complete(max_tokens=0, **fields)
        self.assertEqual(choice["logprobs"]["tokens"], ["a", "bytes:\\xc3", "bytes:\\xa9", "\n"])
        self.assertEqual(choice["logprobs"]["text_offset"], [0, 1, 1, 2])
        self.assertEqual(choice["text"], "aé\n")
        whole = self.complete(max_tokens=300, **fields)
        self.assertEqual(len(whole["logprobs"]["tokens"]), 304)
        self.assertEqual(self.stream(max_tokens=300, **fields), whole)

    def test_long_words_beside_short_ones(self):
        """Events far longer than the text they bring."""
        words = ["a"] + [character * 999 for character in "bcdefghi"]
        made = {"language_model": {"layers": 1, "units": 8, "vocabulary": {"kind": "words", "symbols": words}}}
        status, reply = self.daemon.json("PUT", "/v1/models/words", made)
        self.assertEqual(status, 201, reply)
        self.assertEqual(self.daemon.json("POST", "/v1/models/words/save", {})[0], 200)
        fields = {"model": "words", "prompt": "a", "echo": True, "max_tokens": 200, "logprobs": 5,
                  "logit_bias": {"0": 100}, "flush_ms": 1000}
        whole = self.complete(**fields)
        self.assertEqual(whole["text"], "a" + 200 * " a")
        self.assertEqual("".join(whole["logprobs"]["tokens"]), whole["text"])
        self.assertEqual(self.stream(**fields), whole)

    def test_limits(self):
        self.assertEqual(self.complete(400, logprobs=1, max_tokens=16385)["param"], "logprobs")
        self.assertEqual(self.complete(400, logprobs=1, max_tokens=130, n=127)["param"], "logprobs")
        self.assertEqual(self.complete(400, logprobs=1, max_tokens=16378, echo=True)["param"], "logprobs")
        self.assertEqual(len(self.complete(logprobs=1, max_tokens=16377, echo=True)["logprobs"]["tokens"]), 16384)
        status, reply = self.daemon.json("GET", "/v1/models/bard/generate?prompt=a&logprobs=1")
        self.assertEqual((status, reply["error"]["param"]), (400, "logprobs"))
