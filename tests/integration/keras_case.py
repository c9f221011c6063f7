"""What the tests of importing Keras models share: a model's success and its refusals, and what it predicts."""
import json
import os

import foreign_files as foreign
import keras_files as keras
from harness import DaemonTest, run

TEXT = [0, 3, 2, 4, 1, 1, 3]


class KerasTest(DaemonTest):
    def setUp(self):
        super().setUp()
        self.count = 0
        self.vocabulary = foreign.write(os.path.join(self.folder, "vocabulary"), json.dumps(keras.SYMBOLS))

    def source(self, name):
        folder = os.path.join(self.folder, "sources", self.id())
        os.makedirs(folder, exist_ok=True)
        return os.path.join(folder, name)

    def imported(self, source, *arguments):
        """The name of the model that it becomes, and what was said."""
        self.count += 1
        name = f"{self.id().rsplit('.', 1)[-1]}-{self.count}".replace("_", "-")
        given = ("--vocabulary", self.vocabulary) if self.vocabulary else ()
        done = run("import", source, "--out", os.path.join(self.models, name), *given, *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.expect(200, "POST", f"/v1/models/{name}/load", {})
        return name, done.stdout

    def refused(self, message, source, *arguments):
        done = run("import", source, "--out", os.path.join(self.models, "refused"), "--vocabulary", self.vocabulary,
                   *arguments)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(message, done.stderr)

    def assert_predicts(self, name, prompt, want):
        """By the graph's own run where the prompt is a window, and by a completion."""
        reply = self.expect(200, "POST", "/v1/completions",
                            {"model": name, "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 5})
        made = reply["choices"][0]["logprobs"]["top_logprobs"][0]
        self.assertEqual(set(made), set(keras.SYMBOLS))
        for symbol, logprob in made.items():
            self.assertAlmostEqual(2.718281828459045 ** logprob, want[keras.SYMBOLS.index(symbol)], delta=2e-6)

    def greedy(self, name, prompt, count):
        reply = self.expect(200, "POST", "/v1/completions",
                            {"model": name, "prompt": prompt, "max_tokens": count, "temperature": 0, "logprobs": 1})
        return [keras.SYMBOLS.index(token) for token in reply["choices"][0]["logprobs"]["tokens"]]

    def check_windowed(self, layers, source, padding=None, *arguments):
        name, said = self.imported(source, *arguments)
        self.assertIn(f"generation: windowed, {keras.WINDOW} symbols", said)
        for length in (1, keras.WINDOW, len(TEXT)):
            window = keras.window_of(TEXT[:length], padding)
            self.assert_predicts(name, TEXT[:length], keras.probabilities(layers, window))
        text = list(TEXT)
        for symbol in self.greedy(name, TEXT, 8):
            want = keras.probabilities(layers, keras.window_of(text, padding))
            self.assertEqual(symbol, want.index(max(want)))
            text.append(symbol)
        reply = self.expect(200, "POST", f"/v1/models/{name}/graph/run",
                            {"feeds": {"predict/inputs:0": [TEXT[-keras.WINDOW:]]},
                             "fetches": ["predict/probabilities:0"]})
        last = reply["results"]["predict/probabilities:0"][0][-1]
        want = keras.probabilities(layers, TEXT[-keras.WINDOW:])
        self.assertLess(max(abs(a - b) for a, b in zip(last, want, strict=True)), 1e-6)
        return said
