"""Scores: POST /v1/models/{m}/score, the same numbers as echo with logprobs and as `lstmd score`; candidates ranked."""
import json
import math
import os
import random

from harness import CORPUS, SEED, DaemonTest, run

SHORT = True


def add_up(logprobs):
    """In their order and nothing else: Python's own sum() has been exact since 3.12."""
    total = 0.0
    for logprob in logprobs:
        total += logprob
    return total


class Score(DaemonTest):
    MODELS = {"bard": {}, "keats": {"layers": 2, "units": 24}}

    def score(self, text, model="bard", **fields):
        return self.expect(200, "POST", f"/v1/models/{model}/score", {"text": text, **fields})

    def refuse(self, body, param, status=400):
        reply = self.expect(status, "POST", "/v1/models/bard/score", body)
        self.assertEqual(reply["error"]["param"], param, reply)
        return reply["error"]["message"]

    def echo(self, model, text):
        reply = self.expect(200, "POST", "/v1/completions", {
            "model": model, "prompt": text, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0})
        return reply["choices"][0]["logprobs"]

    def command(self, model, text):
        path = os.path.join(self.folder, "text.txt")
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        done = run("score", os.path.join(self.models, model), path, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_three_ways_give_the_same_bits(self):
        print(f"# TEST_SEED={SEED}")
        chance = random.Random(SEED)
        texts = ["Ca", CORPUS[:3000], CORPUS * 2]
        texts += ["".join(chance.choice(CORPUS) for _ in range(chance.randrange(2, 300))) for _ in range(5)]
        for number, text in enumerate(texts):
            model = "keats" if number % 2 else "bard"
            reply = self.score(text, model)
            command = self.command(model, text)
            self.assertEqual((reply["model"], reply["symbols"]), (f"{model}@1", len(text) - 1))
            for field in ("symbols", "nats", "nats_per_symbol", "bits_per_character", "perplexity"):
                self.assertEqual(reply[field], command[field], (field, text[:50]))
            self.assertEqual(-add_up(reply["token_logprobs"][1:]), reply["nats"])
            if len(text) < 16000:                       # as many as logprobs may be of
                logprobs = self.echo(model, text)
                self.assertEqual(logprobs["tokens"][:-1], reply["tokens"])
                self.assertEqual(logprobs["token_logprobs"][:-1], reply["token_logprobs"])
                self.assertEqual(-add_up(logprobs["token_logprobs"][1:-1]), reply["nats"])

    def test_numbers_agree_with_each_other(self):
        reply = self.score("Call me Ishmael.")
        self.assertEqual("".join(reply["tokens"]), "Call me Ishmael.")
        self.assertIsNone(reply["token_logprobs"][0])
        self.assertAlmostEqual(reply["nats_per_symbol"], reply["nats"] / 15, 12)
        self.assertAlmostEqual(reply["bits_per_character"], reply["nats_per_symbol"] / math.log(2), 12)
        self.assertAlmostEqual(reply["perplexity"], math.exp(reply["nats_per_symbol"]), 12)
        self.assertNotIn("candidates", reply)

    def test_candidates(self):
        """Each one's log-probability is what the text with it has more than the text alone; the likeliest is first."""
        text, candidates = "Call me ", ["rrrr", "Ishmael", "I", "Ishmael", "some years ago", "."]
        reply = self.score(text, candidates=candidates)
        alone = self.score(text)
        self.assertEqual({name: reply[name] for name in alone}, alone)
        ranked = reply["candidates"]
        self.assertEqual(sorted(entry["index"] for entry in ranked), list(range(len(candidates))))
        self.assertEqual([entry["logprob"] for entry in ranked],
                         sorted((entry["logprob"] for entry in ranked), reverse=True))
        for entry in ranked:
            self.assertEqual((entry["text"], entry["symbols"]), (candidates[entry["index"]], len(entry["text"])))
            whole = self.score(text + entry["text"])["token_logprobs"]
            self.assertEqual(entry["logprob"], add_up(whole[len(text):]))
        places = [entry["index"] for entry in ranked]
        self.assertLess(places.index(1), places.index(3))                   # equal ones as they were given
        single = self.score("C", candidates=["a", "b"])
        self.assertEqual((single["symbols"], single["nats_per_symbol"], single["perplexity"]), (0, None, None))

    def test_probabilities_of_all_symbols_add_up_to_one(self):
        with open(os.path.join(self.models, "bard", "1", "vocab.json"), encoding="utf-8") as file:
            symbols = json.load(file)["symbols"]
        reply = self.score("Call me", candidates=symbols)
        self.assertAlmostEqual(sum(math.exp(entry["logprob"]) for entry in reply["candidates"]), 1, 5)
        greedy = self.expect(200, "POST", "/v1/completions",
                             {"model": "bard", "prompt": "Call me", "max_tokens": 1, "temperature": 0})
        self.assertEqual(reply["candidates"][0]["text"], greedy["choices"][0]["text"])

    def test_refusals(self):
        self.assertIn("at least 2", self.refuse({"text": "C"}, "/text"))
        self.refuse({}, "/text")
        self.refuse({"text": ""}, "/text")
        self.refuse({"text": 7}, "/text")
        self.refuse({"text": "Ca", "colour": 1}, "/colour")
        for candidates in ([], "abc", [1], ["a", ""], {"a": 1}):
            self.refuse({"text": "Ca", "candidates": candidates}, "/candidates")
        self.assertIn("U+00E9", self.refuse({"text": "Cé"}, "/text"))
        self.assertIn("U+00E9", self.refuse({"text": "Ca", "candidates": ["a", "é"]}, "/candidates/1"))
        self.assertEqual(self.score("Cé", unknown_symbols="replace")["symbols"], 1)
        self.assertIn("takes 1 to 131072", self.refuse({"text": "a" * 131073}, "/text"))
        self.assertIn("takes 1 to 65536", self.refuse({"text": "a" * 65536, "candidates": ["b"]}, "/candidates/0"))
        self.assertIn("texts, at most 128", self.refuse({"text": "a", "candidates": ["b"] * 128}, "n"))
        reply = self.expect(503, "POST", "/v1/models/keats/score", {"text": "a" * 131072, "deadline_ms": 1})
        self.assertEqual(reply["error"]["code"], "deadline")
        self.expect(404, "POST", "/v1/models/nobody/score", {"text": "Ca"}, error="model_not_found")


class OtherVocabularies(DaemonTest):
    MODELS = {kind: {"vocabulary": kind, "units": 8, "batch": 2, "sequence_length": 8, "max_steps": 5}
              for kind in ("words", "bytes")}

    def test_words(self):
        score = self.expect(200, "POST", "/v1/models/words/score",
                            {"text": "Call me\nCall", "candidates": ["me", "Ishmael."]})
        self.assertEqual((score["tokens"], score["symbols"]), (["Call", " me", "\n", "Call"], 3))
        self.assertEqual({entry["symbols"] for entry in score["candidates"]}, {1})

    def test_bytes(self):
        score = self.expect(200, "POST", "/v1/models/bytes/score", {"text": "Cé", "candidates": ["é", "e"]})
        self.assertEqual(score["tokens"], ["C", "bytes:\\xc3", "bytes:\\xa9"])
        self.assertAlmostEqual(score["bits_per_character"], score["nats"] / math.log(2), 12)     # of one character
        self.assertEqual({entry["text"]: entry["symbols"] for entry in score["candidates"]}, {"é": 2, "e": 1})
