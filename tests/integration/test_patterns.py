"""Text that matches a pattern: always, for every kind of symbols and way of sampling; and what is refused."""
import json
import random
import re
from urllib.parse import quote

from harness import CORPUS, SEED, DaemonTest

UNICODE = "Ça va? Où est le café, près de la Volga — Волга, 川? ὁ λόγος 😀.\n" * 60


def random_pattern(chance, depth=1):
    """An expression that Python reads as lstmd does, over what the models know. Nothing without a bound is in a group:
    Python tries all ways to match, which would be too many."""
    atoms = ["a", "e", "th", " ", r"\w", r"\s", r"\d?", ".", "[a-f]", "[^a-e]", r"[\w,.]", "é", "[а-я]",
             r"[^\x00-\x7f]", r"\.", "I|s"]
    bounded = ["?", "{2}", "{1,3}", "{0,2}", "", "", ""]
    repeats = ["*", "+", "*?", *bounded] if depth else bounded
    text = ""
    for _ in range(chance.randint(1, 4)):
        if depth and chance.random() < 0.3:
            opened = chance.choice(["(", "(?:"])
            group = f"{opened}{random_pattern(chance, depth - 1)}|{random_pattern(chance, depth - 1)})"
            text += group + chance.choice(bounded)
        else:
            atom = chance.choice(atoms)
            atom = f"({atom})" if len(atom) > 1 and atom[0] not in "[\\" else atom
            text += (f"(?:{atom})" if atom.endswith("?") else atom) + chance.choice(repeats)
    return text


class Patterns(DaemonTest):
    MODELS = {"bard": {}, "bytes": {"vocabulary": "bytes", "corpus": CORPUS + UNICODE},
              "words": {"vocabulary": "words"}, "world": {"corpus": UNICODE}}

    def complete(self, **fields):
        return self.daemon.json("POST", "/v1/completions", {"model": "bard", "prompt": "Call me", **fields})

    def choices(self, **fields):
        status, reply = self.complete(**fields)
        self.assertEqual(status, 200, reply)
        for choice in reply["choices"]:
            self.assertIsNotNone(re.fullmatch(fields["pattern"], choice["text"], re.ASCII), (fields, choice))
            self.assertIn(choice["finish_reason"], ("stop", "length"))
        return reply["choices"]

    def text(self, **fields):
        return self.choices(**fields)[0]["text"]

    def refused(self, code, param, part, **fields):
        status, reply = self.complete(**fields)
        error = reply["error"]
        self.assertEqual((status, error["code"], error["param"]), (400, code, param), (fields, reply))
        self.assertIn(part, error["message"])

    def test_random_patterns_are_always_matched(self):
        print(f"# TEST_SEED={SEED}")
        chance = random.Random(SEED)
        made = 0
        while made < 300:
            fields = {"model": chance.choice(list(self.MODELS)), "pattern": random_pattern(chance),
                      "prompt": chance.choice(["a", "me", "the ", "\n"]), "max_tokens": chance.randint(8, 60),
                      "temperature": chance.choice([0, 0.7, 1, 2]), "top_k": chance.choice([0, 3]),
                      "top_p": chance.choice([1, 0.8]), "repetition_penalty": chance.choice([1, 1.3]),
                      "seed": chance.randint(0, 1000), "n": chance.choice([1, 1, 3]), "unknown_symbols": "replace"}
            status, reply = self.complete(**fields)
            if status == 400:
                self.assertIn(reply["error"]["param"], ("pattern", "max_tokens"), (fields, reply))
                self.assertTrue(reply["error"]["code"].startswith("pattern_") or "shortest" in
                                reply["error"]["message"], reply)
                continue
            self.assertEqual(status, 200, (fields, reply))
            for choice in reply["choices"]:
                self.assertIsNotNone(re.fullmatch(fields["pattern"], choice["text"], re.ASCII), (fields, choice))
                self.assertIn(choice["finish_reason"], ("stop", "length"))
            made += 1

    def test_what_it_is_for(self):
        year = self.choices(pattern=r"(19|20)\d\d", logit_bias={}, model="bytes", n=4, seed=3)
        self.assertEqual({choice["finish_reason"] for choice in year}, {"stop"})
        self.assertEqual(self.text(pattern="Ishmael|Queequeg", temperature=0), "Ishmael")
        self.assertEqual(self.choices(pattern="[a-z]+", max_tokens=7)[0]["finish_reason"], "length")
        self.assertEqual(len(self.text(pattern="[a-z]+", max_tokens=7)), 7)
        self.assertEqual(self.text(pattern="(never|mind){2}", max_tokens=8), "mindmind")
        self.assertEqual(self.text(pattern="^a(lot)?$", max_tokens=3), "a")
        self.assertEqual(self.choices(pattern="()")[0]["finish_reason"], "stop")
        self.assertEqual(self.text(pattern="()"), "")
        self.assertEqual(len(self.text(pattern="[é川😀]{3}", model="bytes", max_tokens=9, seed=2)), 3)

    def test_words(self):
        self.assertIn(self.text(model="words", pattern=" (never|mind)"), (" never", " mind"))
        self.assertEqual(self.text(model="words", prompt="Call me\n", pattern="never mind"), "never mind")
        self.refused("pattern_without_match", "pattern", "has a space before it", model="words", pattern="never")
        fields = {"model": "words", "pattern": "( [a-zA-Z,.]+)*", "max_tokens": 200, "n": 8, "seed": 1}
        ends = {choice["finish_reason"] for choice in self.choices(**fields)}
        self.assertIn("stop", ends)                                              # by an "<eos>", which is not written

    def test_logit_bias_and_stop(self):
        self.assertEqual(self.text(pattern="a|e", logit_bias={"a": False}), "e")
        self.refused("pattern_without_match", "pattern", "no text of the model's", pattern="a", logit_bias={"a": False})
        status, reply = self.complete(pattern="a|e", logit_bias={"99999": False})
        self.assertEqual((status, reply["error"]["param"]), (400, "logit_bias"), reply)
        choice = self.complete(pattern="a{3}e{5}", stop="ae")[1]["choices"][0]
        self.assertEqual((choice["text"], choice["finish_reason"]), ("aa", "stop"))

    def test_every_door_gives_one_text(self):
        fields = {"pattern": "[A-Z]?[a-z]+( [a-z]+){2,5}[.,]", "max_tokens": 60, "seed": 8, "logprobs": 1}
        choice = self.choices(**fields)[0]
        events = self.daemon.events("/v1/completions", {"model": "bard", "prompt": "Call me", "stream": True, **fields})
        chunks = [json.loads(event)["choices"][0] for event in events[:-1]]
        self.assertEqual("".join(chunk["text"] for chunk in chunks), choice["text"])
        self.assertEqual(chunks[-1]["finish_reason"], choice["finish_reason"])
        query = f"prompt=Call%20me&max_tokens=60&seed=8&pattern={quote(fields['pattern'])}"
        status, _, content = self.daemon.request("GET", f"/v1/models/bard/generate?{query}")
        self.assertEqual((status, content.decode()), (200, choice["text"]))
        several = self.choices(**{**fields, "prompt": ["me", "Call me"], "n": 3})
        self.assertEqual(several[3]["text"], choice["text"])
        best = self.choices(**{**fields, "best_of": 3})[0]
        self.assertIn(best["text"], [other["text"] for other in several[3:]])
        echoed = self.complete(**{**fields, "echo": True})[1]["choices"][0]
        self.assertEqual(echoed["text"], "Call me" + choice["text"])

    def test_logprobs_are_the_models_own(self):
        choice = self.choices(pattern="www", logprobs=1, max_tokens=3)[0]
        forced = self.complete(prompt="Call mewww", echo=True, logprobs=1, max_tokens=0)[1]["choices"][0]
        self.assertEqual(choice["logprobs"]["token_logprobs"], forced["logprobs"]["token_logprobs"][-3:])

    def test_a_session_goes_on_behind_a_match(self):
        for pattern in ("[a-z]{4}", "[a-z]+ [a-z]+", "()", "[a-z]{2} *"):
            fields = {"pattern": pattern, "seed": 5, "max_tokens": 20}
            first = self.text(session="s", session_start=True, **fields)
            rest = self.complete(prompt="", session="s", max_tokens=20)[1]["choices"][0]["text"]
            choice = self.choices(return_state=True, **fields)[0]
            self.assertEqual(choice["text"], first)
            again = self.complete(prompt="", state=choice["state"], max_tokens=20)[1]["choices"][0]["text"]
            self.assertEqual(again, rest)
            next_text = self.text(prompt="", state=choice["state"], pattern="[A-Z]{3}")      # it begins anew
            self.assertEqual(len(next_text), 3)
        self.assertEqual(self.daemon.json("DELETE", "/v1/sessions/s")[0], 200)

    def test_a_state_inside_of_a_character(self):
        fields = {"model": "bytes", "max_tokens": 1, "logit_bias": {str(0xC3): 100}, "return_state": True}
        state = self.complete(**fields)[1]["choices"][0]["state"]
        self.refused("invalid", "pattern", "inside of a character", model="bytes", prompt="", state=state, pattern="a")
        self.assertEqual(self.text(model="bytes", prompt="b", state=state, pattern="a"), "a")

    def test_refusals(self):
        self.refused("pattern_unsupported", "pattern", "a look-ahead at character 2", pattern="ab(?=c)")
        self.refused("pattern_unsupported", "pattern", "a backreference", pattern="(a)\\1")
        self.refused("pattern_malformed", "pattern", "a group that does not end at character 0", pattern="(a")
        self.refused("pattern_too_large", "pattern", "more than 4096 bytes", pattern="a" * 4097)
        self.refused("pattern_too_large", "pattern", "more than 4096 states", pattern="[ab]*a[ab]{13}")
        self.refused("pattern_without_match", "pattern", "no text of the model's", pattern="川+")
        self.refused("invalid", "max_tokens", "the shortest text that matches the pattern has 5 symbols",
                     pattern="(the){2}|never", max_tokens=4)
        self.refused("invalid", "pattern", "must be a string", pattern=["a"])
        self.assertEqual(self.complete(pattern="", seed=1)[1]["choices"], self.complete(seed=1)[1]["choices"])
        self.assertEqual(self.complete(pattern=None, seed=1)[1]["choices"], self.complete(seed=1)[1]["choices"])

    def test_chats_take_it(self):
        body = {"model": "bard", "messages": [{"role": "user", "content": "Call me"}], "pattern": "[a-z]{3,9}"}
        status, reply = self.daemon.json("POST", "/v1/chat/completions", body)
        self.assertEqual(status, 200, reply)
        self.assertRegex(reply["choices"][0]["message"]["content"], r"\A[a-z]{3,9}\Z")
