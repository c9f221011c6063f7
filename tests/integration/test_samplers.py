"""The sampling fields of a text request: what each does, its bounds, and that every door gives the same text."""
import json
import os
from urllib.parse import quote

from harness import DaemonTest, run

EVERYTHING = {"temperature": 0.9, "top_k": 30, "top_p": 0.97, "min_p": 0.01, "typical_p": 0.98,
              "repetition_penalty": 1.2, "repetition_window": 20, "frequency_penalty": 0.1, "presence_penalty": -0.2,
              "min_tokens": 25, "stop": ["e", "t"], "priority": 1}


class Samplers(DaemonTest):
    MODELS = {"bard": {}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with open(os.path.join(cls.models, "bard", "1", "vocab.json"), encoding="utf-8") as file:
            cls.symbols = json.load(file)["symbols"]

    def complete(self, **fields):
        body = {"prompt": "Call me", "max_tokens": 60, "seed": 4, **fields}
        status, reply = self.daemon.json("POST", "/v1/completions", body)
        self.assertEqual(status, 200, reply)
        return reply["choices"][0]

    def text(self, **fields):
        return self.complete(**fields)["text"]

    def stream(self, **fields):
        body = {"prompt": "Call me", "max_tokens": 60, "seed": 4, "stream": True, **fields}
        events = self.daemon.events("/v1/completions", body)
        return "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1])

    def symbol(self, character):
        return str(self.symbols.index(character))

    def test_neutral_values_change_nothing(self):
        plain = self.text()
        self.assertEqual(self.text(min_p=0, typical_p=1, repetition_penalty=1, repetition_window=9, frequency_penalty=0,
                                   presence_penalty=0.0, logit_bias={}, min_tokens=60, priority=0), plain)
        self.assertEqual(self.text(priority=1), plain)
        self.assertEqual(self.text(priority=-1), plain)

    def test_min_p_of_1_is_the_likeliest(self):
        likeliest = self.text(temperature=0)
        self.assertEqual(self.text(min_p=1), likeliest)
        self.assertEqual(self.text(min_p=1, temperature=2), likeliest)
        self.assertNotEqual(self.text(min_p=0.02), likeliest)

    def test_typical_p(self):
        texts = [self.text(typical_p=share) for share in (0.05, 0.5, 1)]
        self.assertEqual(len(set(texts)), 3)
        self.assertEqual(self.text(typical_p=0), texts[2])

    def test_penalties_bring_variety(self):
        kinds = len(set(self.text(temperature=0)))
        for fields in ({"repetition_penalty": 50}, {"frequency_penalty": 2}, {"presence_penalty": 2}):
            self.assertGreater(len(set(self.text(temperature=0, **fields))), kinds, fields)
        self.assertEqual(self.text(temperature=0, repetition_penalty=50, repetition_window=0), self.text(temperature=0))
        windows = {self.text(temperature=0, repetition_penalty=50, repetition_window=window) for window in (1, 4, 60)}
        self.assertEqual(len(windows), 3)
        self.assertEqual(len(set(self.text(temperature=0, frequency_penalty=-2)[-20:])), 1)

    def test_logit_bias(self):
        e, space = self.symbol("e"), self.symbol(" ")
        self.assertEqual(self.text(logit_bias={e: 100}), 60 * "e")
        self.assertNotIn(" ", self.text(logit_bias={space: -100}))
        self.assertEqual(self.text(logit_bias={"e": 100}), 60 * "e")
        self.assertEqual(self.text(logit_bias={" ": False}), self.text(logit_bias={space: False}))
        self.assertNotIn(" ", self.text(logit_bias={space: False}, temperature=2, max_tokens=500))
        only = {str(number): False for number, symbol in enumerate(self.symbols) if symbol not in "xyz"}
        self.assertLessEqual(set(self.text(logit_bias=only, temperature=2)), set("xyz"))
        query = "prompt=a&max_tokens=5&logit_bias=" + quote(json.dumps({e: 100}))
        status, _, content = self.daemon.request("GET", f"/v1/models/bard/generate?{query}")
        self.assertEqual((status, content), (200, b"eeeee"))

    def test_min_tokens(self):
        stop = self.text()[5]
        self.assertLessEqual(len(self.text(stop=stop)), 5)
        choice = self.complete(stop=stop, min_tokens=20)
        self.assertEqual(choice["text"], self.text()[:20] + self.text()[20:].split(stop)[0])
        self.assertEqual(self.complete(stop=stop, min_tokens=60)["finish_reason"], "length")

    def test_every_door_gives_one_text(self):
        bias = {self.symbol("a"): 2.5, self.symbol(" "): False}
        text = self.text(**EVERYTHING, logit_bias=bias)
        self.assertEqual(self.stream(**EVERYTHING, logit_bias=bias), text)
        several = {"prompt": ["Some", "Call me"], "n": 2}
        status, reply = self.daemon.json("POST", "/v1/completions", {"max_tokens": 60, "seed": 4, "logit_bias": bias,
                                                                    **EVERYTHING, **several})
        self.assertEqual((status, reply["choices"][2]["text"]), (200, text))
        fields = {"prompt": "Call me", "max_tokens": 60, "seed": 4, "logit_bias": json.dumps(bias), **EVERYTHING}
        pairs = [(name, value) for name, value in fields.items() if name != "stop"]
        pairs += [("stop", stop) for stop in EVERYTHING["stop"]]
        query = "&".join(f"{name}={quote(str(value))}" for name, value in pairs)
        self.assertEqual(self.daemon.request("GET", f"/v1/models/bard/generate?{query}")[2].decode(), text)

    def test_settings_give_the_defaults(self):
        path = "/v1/models/bard/settings"
        defaults = {"min_p": 1, "logit_bias": {self.symbol("e"): 100}, "repetition_penalty": 1.5, "priority": 1}
        self.assertEqual(self.daemon.json("PATCH", path, {"generation": defaults})[0], 200)
        try:
            self.assertEqual(self.text(), 60 * "e")
            self.assertNotEqual(self.text(logit_bias={}), 60 * "e")
            status, reply = self.daemon.json("PATCH", path, {"generation": {"min_p": 2}})
            self.assertEqual((status, reply["error"]["param"]), (400, "/generation/min_p"), reply)
        finally:
            self.assertEqual(self.daemon.json("PATCH", path, {"generation": None})[0], 200)

    def test_bounds_and_types(self):
        size = str(len(self.symbols))
        wrong = {"min_p": (-0.1, 1.1, "x", True), "typical_p": (-1, 2, []), "repetition_penalty": (0, -1, 101, "1"),
                 "repetition_window": (-1, 4097, 1.5), "frequency_penalty": (-2.1, 2.1, {}),
                 "presence_penalty": (-2.1, 2.1, False), "min_tokens": (-1, 1.5, 2000000), "priority": (-2, 2, "high"),
                 "logit_bias": (5, [], {"€": 1}, {"-1": 1}, {"01": 1}, {"": 1}, {"1": 101}, {"1": "1"}, {"1": True},
                                {"1": None}, {size: 1}, {"99999999999999999999": 1},
                                {str(number): 1 for number in range(1025)},
                                {str(number): False for number in range(len(self.symbols))})}
        for name, values in wrong.items():
            for value in values:
                status, reply = self.daemon.json("POST", "/v1/completions", {"prompt": "a", name: value})
                self.assertEqual((status, reply["error"]["param"]), (400, name), (name, value, reply))
                self.assertIn(name, reply["error"]["message"])

    def test_sample_takes_the_same(self):
        model = os.path.join(self.models, "bard")
        plain = run("sample", model, "--prompt", "Call me", "--length", "60", "--seed", "4", "--temperature", "0.9",
                    "--min-p", "0.01", "--typical-p", "0.9", "--repetition-penalty", "1.3", "--repetition-window", "9",
                    "--frequency-penalty", "0.2", "--presence-penalty=-0.1")
        self.assertEqual((plain.returncode, plain.stderr), (0, ""))
        self.assertEqual(plain.stdout, "Call me" + self.text(
            temperature=0.9, min_p=0.01, typical_p=0.9, repetition_penalty=1.3, repetition_window=9,
            frequency_penalty=0.2, presence_penalty=-0.1) + "\n")
        wrong = run("sample", model, "--min-p", "2")
        self.assertNotEqual(wrong.returncode, 0)
        self.assertIn("min_p is 2, not 0 to 1", wrong.stderr)
