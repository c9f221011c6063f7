"""Beam search over HTTP: the likeliest texts, their forced scores, and what does not go with it."""
import itertools
import re

from harness import DaemonTest


class BeamSearch(DaemonTest):
    MODELS = {"bard": {}, "tiny": {"corpus": "abcabacbba" * 200, "max_steps": 10}}

    def complete(self, **fields):
        return self.daemon.json("POST", "/v1/completions", {"model": "bard", "prompt": "Call me", **fields})

    def search(self, **fields):
        status, reply = self.complete(use_beam_search=True, logprobs=0, **fields)
        self.assertEqual(status, 200, reply)
        return reply["choices"]

    def forced(self, text, prompt="Call me", model="bard"):
        """A text's log-probabilities behind the prompt, as forced steps."""
        fields = {"model": model, "prompt": prompt + text, "echo": True, "logprobs": 0, "max_tokens": 0}
        return self.complete(**fields)[1]["choices"][0]["logprobs"]["token_logprobs"][len(prompt):]

    def refused(self, param, **fields):
        status, reply = self.complete(use_beam_search=True, **fields)
        self.assertEqual((status, reply["error"]["param"]), (400, param), reply)

    def test_scores_are_those_of_forced_steps(self):
        choices = self.search(n=5, best_of=8, max_tokens=12)
        scores = []
        for index, choice in enumerate(choices):
            logprobs = choice["logprobs"]["token_logprobs"]
            self.assertEqual(logprobs, self.forced(choice["text"]))
            self.assertEqual((choice["index"], choice["finish_reason"], len(choice["text"])), (index, "length", 12))
            scores.append(sum(logprobs))
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertEqual(len({choice["text"] for choice in choices}), 5)

    def test_with_room_for_all_it_is_exact(self):
        texts = ["".join(symbols) for symbols in itertools.product("abc", repeat=4)]
        scores = {text: sum(self.forced(text, "ab", "tiny")) for text in texts}
        best = sorted(texts, key=lambda text: -scores[text])
        choices = self.search(model="tiny", prompt="ab", n=9, best_of=27, max_tokens=4)
        self.assertEqual([choice["text"] for choice in choices], best[:9])

    def test_a_width_of_1_takes_the_likeliest(self):
        greedy = self.complete(temperature=0, max_tokens=30)[1]["choices"][0]["text"]
        self.assertEqual(self.search(max_tokens=30)[0]["text"], greedy)
        wide = self.search(max_tokens=30, best_of=16)[0]
        self.assertGreaterEqual(sum(wide["logprobs"]["token_logprobs"]), sum(self.forced(greedy)))

    def test_it_is_the_same_every_time(self):
        fields = {"n": 3, "best_of": 6, "max_tokens": 20}
        first = self.search(**fields)
        self.assertEqual(self.search(seed=77, **fields), first)
        several = self.search(**{**fields, "prompt": ["Some", "Call me", "the"]})
        self.assertEqual([choice["text"] for choice in several[3:6]], [choice["text"] for choice in first])
        body = {"prompt": "Call me", "use_beam_search": True, **fields}
        status, reply = self.daemon.json("POST", "/v1/models/bard/generate", body, {"Accept": "application/json"})
        self.assertEqual((status, [choice["text"] for choice in reply["choices"]]),
                         (200, [choice["text"] for choice in first]))
        echoed = self.complete(use_beam_search=True, echo=True, **fields)[1]["choices"]
        self.assertEqual([choice["text"] for choice in echoed], ["Call me" + choice["text"] for choice in first])

    def test_with_a_pattern(self):
        pattern = "(the|some|any)( (time|way)){1,2}[.,]"
        choices = self.search(pattern=pattern, n=4, best_of=40, max_tokens=30)
        for choice in choices:
            self.assertIsNotNone(re.fullmatch(pattern, choice["text"]))
            self.assertEqual(choice["finish_reason"], "stop")
            self.assertEqual(choice["logprobs"]["token_logprobs"], self.forced(choice["text"]))
        status, reply = self.complete(use_beam_search=True, pattern="some|any", n=3)
        self.assertEqual((status, reply["error"]["code"]), (422, "too_few_texts"), reply)

    def test_its_state_goes_on(self):
        state = self.complete(use_beam_search=True, best_of=4, max_tokens=8, return_state=True)[1]["choices"][0]
        whole = self.complete(prompt="Call me" + state["text"], temperature=0, max_tokens=10)[1]["choices"][0]["text"]
        rest = self.complete(prompt="", state=state["state"], temperature=0, max_tokens=10)[1]["choices"][0]["text"]
        self.assertEqual(rest, whole)
        found = self.search(prompt="", state=state["state"], best_of=4, max_tokens=8)[0]["logprobs"]["token_logprobs"]
        again = self.search(prompt="Call me" + state["text"], best_of=4, max_tokens=8)[0]["logprobs"]["token_logprobs"]
        self.assertEqual(found, again)

    def test_what_does_not_go_with_it(self):
        for fields in ({"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1}, {"typical_p": 0.5},
                       {"repetition_penalty": 1.2}, {"frequency_penalty": 1}, {"presence_penalty": 1},
                       {"logit_bias": {"e": 1}}, {"stop": "e"}, {"stream": True}, {"max_tokens": 0}):
            self.refused(next(iter(fields)), best_of=4, **fields)
        self.refused("best_of", n=3, best_of=2)
        self.refused("max_tokens", best_of=100, max_tokens=20000)
        self.refused("session", best_of=2, session="s", session_start=True)
        self.assertEqual(self.daemon.request("GET", "/v1/models/bard/generate?use_beam_search=true")[0], 400)
        chat = {"model": "bard", "messages": [{"role": "user", "content": "a"}], "use_beam_search": True}
        self.assertEqual(self.daemon.json("POST", "/v1/chat/completions", chat)[1]["error"]["param"], "messages")
        self.assertEqual(self.complete(use_beam_search=False, seed=1)[1]["choices"],
                         self.complete(seed=1)[1]["choices"])
        self.assertEqual(self.complete(use_beam_search=True, length_penalty=2)[1]["warnings"],
                         ["unknown field 'length_penalty' was ignored"])

    def test_a_models_defaults_of_sampling_are_not_for_it(self):
        fields = {"n": 2, "best_of": 4, "max_tokens": 12}
        found = self.search(**fields)
        defaults = {"temperature": 0.7, "top_k": 3, "repetition_penalty": 1.5, "logit_bias": {"e": -100}, "stop": "e"}
        self.expect(200, "PATCH", "/v1/models/bard/settings", {"generation": defaults})
        try:
            self.assertEqual(self.search(**fields), found)
            self.refused("temperature", temperature=0.7)
        finally:
            self.expect(200, "PATCH", "/v1/models/bard/settings", {"generation": None})
