"""The signature "generate": graphs of ordinary steps make text; what they say is what runs of the graph say, symbol by
symbol, whoever their neighbours are."""
import json
import math
import os
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from graph_case import GraphTest, placeholder  # noqa: E402
from harness import run  # noqa: E402

SYMBOLS = list("abcdefghij\n")
COUNT = len(SYMBOLS)
VOCABULARY = {"symbols": SYMBOLS}


def call(op, *args, **fields):
    return {"op": op, "args": list(args), **fields}


def variable(name, *shape, value=None):
    step = {"op": "get_variable", "name": name, "shape": list(shape), "as": name}
    return step if value is None else {**step, "initializer": {"constant": value}}


def signature(inputs, outputs, vocabulary=VOCABULARY, **fields):
    step = {"op": "signature", "name": "generate", "inputs": inputs, "outputs": outputs, **fields}
    return step if vocabulary is None else {**step, "vocabulary": vocabulary}


def spread(*shape, scale=2.0):
    """Weights that are no two alike."""
    count = math.prod(shape)
    flat = [scale * (((7919 * i + 104729) % 1009) / 504.5 - 1) for i in range(count)]
    for size in reversed(shape[1:]):
        flat = [flat[at:at + size] for at in range(0, len(flat), size)]
    return flat


class Signature(GraphTest):
    def set_variables(self, scale=2.0):
        """Gives every variable a value of its own."""
        for name, one in self.variables().items():
            self.expect(200, "PUT", f"/variables/{name[:-2]}", spread(*one["shape"], scale=scale))

    def save(self, serves=True):
        saved = self.expect(200, "POST", "/save")
        self.assertEqual(saved.get("serves", True), serves, saved)
        return saved["version"]

    def model_name(self):
        return self.path.split("/")[-1]

    def entry(self):
        return self.expect(200, "GET", "")

    def complete(self, prompt="abc", **fields):
        body = {"model": self.model_name(), "prompt": prompt, "max_tokens": 30, "seed": 5, **fields}
        status, reply = self.daemon.json("POST", "/v1/completions", body)
        self.assertEqual(status, 200, reply)
        return reply["choices"][0]

    def step_by_step(self, prompt, count, symbol, states, logits, next_states, zeros=(), one_hot=False):
        """The greedy text and the log-probabilities of all its symbols, by runs of the live graph."""
        values, text, logprobs = zeros, "", []
        for at in range(len(prompt) + count - 1):
            index = SYMBOLS.index((prompt + text)[at])
            fed = [[[float(i == index) for i in range(COUNT)]]] if one_hot else [[index]]
            reply = self.run_graph(logits, *next_states, feeds={symbol: fed, **dict(zip(states, values))})
            scores, values = reply[0], reply[1:]
            while isinstance(scores[0], list):
                scores = scores[0]
            total = math.log(sum(math.exp(score) for score in scores))
            logprobs.append([score - total for score in scores])
            if at + 1 >= len(prompt):
                text += SYMBOLS[scores.index(max(scores))]
        return text, logprobs

    def check_against_runs(self, *names, **fields):
        text, logprobs = self.step_by_step("abc", 30, *names, **fields)
        choice = self.complete(temperature=0, logprobs=5)
        self.assertEqual(choice["text"], text)
        for made, top, wanted in zip(choice["logprobs"]["token_logprobs"], choice["logprobs"]["top_logprobs"],
                                     logprobs[2:]):
            self.assertAlmostEqual(made, max(wanted), delta=1e-4)
            for symbol, logprob in top.items():
                self.assertAlmostEqual(logprob, wanted[SYMBOLS.index(symbol)], delta=1e-4)
        return text


LSTM = [placeholder("x", 1, None, dtype="int32"),
        call("one_hot", "x", COUNT, **{"as": "hot"}),
        {"op": "basic_lstm_cell", "num_units": 12, "as": "cell"},
        placeholder("c0", None, 12), placeholder("h0", None, 12),
        {"op": "dynamic_rnn", "cell": "cell", "inputs": "hot", "initial_state": ["c0", "h0"], "as": "r"},
        variable("w", 12, COUNT), variable("b", COUNT),
        call("reshape", "r.outputs", [-1, 12], **{"as": "flat"}),
        call("matmul", "flat", "w", **{"as": "product"}),
        call("bias_add", "product", "b", name="logits", **{"as": "logits"})]
ENDS = {"symbol": "x", "state": ["c0", "h0"]}, {"logits": "logits", "state": ["r.state.c", "r.state.h"]}


def peephole_steps():
    """A cell that no packed kernel has: peepholes, and a ReLU above."""
    return [placeholder("x", 1, None, dtype="int32"),
            call("one_hot", "x", COUNT, **{"as": "hot"}),
            {"op": "lstm_cell", "num_units": 9, "use_peepholes": True, "as": "cell"},
            {"op": "dynamic_rnn", "cell": "cell", "inputs": "hot", "dtype": "float32", "as": "r"},
            variable("w", 9, COUNT),
            call("reshape", "r.outputs", [-1, 9], **{"as": "flat"}),
            call("relu", "flat", **{"as": "bent"}),
            call("matmul", "bent", "w", name="logits", **{"as": "logits"})]


class OrdinaryGraphs(Signature):
    def build_peepholes(self):
        steps = peephole_steps()
        steps[3] = {**steps[3], "initial_state": ["c0", "h0"]}
        self.build(*steps[:3], placeholder("c0", 1, 9), placeholder("h0", 1, 9), *steps[3:], signature(*ENDS))
        self.set_variables()

    def test_what_runs_say(self):
        self.build_peepholes()
        self.save()
        text = self.check_against_runs("x:0", ["c0:0", "h0:0"], "logits:0", ["r.state.c", "r.state.h"],
                                       zeros=[[[0] * 9]] * 2)
        self.assertGreater(len(set(text)), 1, text)

    def test_one_text_whatever_the_neighbours(self):
        self.build_peepholes()
        self.save()
        alone = {seed: self.complete(seed=seed, logprobs=3, max_tokens=80) for seed in range(12)}
        self.assertGreater(len({choice["text"] for choice in alone.values()}), 6)
        together = {}

        def ask(seed):
            together[seed] = self.complete(seed=seed, logprobs=3, max_tokens=80)

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in alone]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(together, alone)

    def test_one_text_whether_or_not_a_prompt_is_scored(self):
        """Where nobody reads a prompt's scores, only next states are computed; some of what is random is in them."""
        steps = peephole_steps()
        steps[3] = {**steps[3], "initial_state": ["c0", "h0"]}
        noisy = call("dropout", "r.state.h", keep_prob=0.8, name="noisy", **{"as": "noisy"})
        ends = signature({"symbol": "x", "state": ["c0", "h0"]},
                         {"logits": "logits", "state": ["r.state.c", "noisy"]})
        self.build(*steps[:3], placeholder("c0", 1, 9), placeholder("h0", 1, 9), *steps[3:], noisy, ends)
        self.set_variables()
        self.save()
        prompt = "abcdefghij" * 3
        for seed in range(6):
            plain = self.complete(prompt, seed=seed, logprobs=3)
            scored = self.complete(prompt, seed=seed, logprobs=3, echo=True)
            self.assertEqual(scored["text"], prompt + plain["text"])
            for name in ("tokens", "token_logprobs", "top_logprobs"):
                self.assertEqual(scored["logprobs"][name][len(prompt):], plain["logprobs"][name], name)

    def test_streamed_sampled_and_stopped(self):
        self.build_peepholes()
        self.save()
        whole = self.complete(max_tokens=60)["text"]
        body = {"model": self.model_name(), "prompt": "abc", "max_tokens": 60, "seed": 5, "stream": True}
        events = [json.loads(one) for one in self.daemon.events("/v1/completions", body) if one != "[DONE]"]
        self.assertEqual("".join(event["choices"][0]["text"] for event in events), whole)
        stop = whole[20:22]
        stopped = self.complete(max_tokens=60, stop=stop)
        self.assertEqual((stopped["text"], stopped["finish_reason"]), (whole[:whole.index(stop)], "stop"))
        self.assertNotEqual(self.complete(max_tokens=60, top_k=2)["text"], "")
        echoed = self.complete(echo=True, logprobs=1, max_tokens=1, temperature=0)
        self.assertEqual(echoed["logprobs"]["token_logprobs"][0], None)
        self.assertEqual(echoed["text"][:3], "abc")

    def test_the_commands(self):
        self.build_peepholes()
        self.save()
        path = os.path.join(self.models, self.model_name())
        text = self.complete(max_tokens=40, seed=3)["text"]
        sampled = run("sample", path, "--prompt", "abc", "--length", 40, "--seed", 3)
        self.assertEqual((sampled.returncode, sampled.stderr), (0, ""))
        self.assertEqual(sampled.stdout.rstrip("\n"), ("abc" + text).rstrip("\n"))
        text = os.path.join(self.folder, "text.txt")
        with open(text, "w", encoding="utf-8") as file:
            file.write("abcabcjihgf\n" * 4)
        scored = run("score", path, text, "--json")
        self.assertEqual(scored.returncode, 0, scored.stderr)
        self.assertGreater(json.loads(scored.stdout)["bits_per_character"], 0)
        self.assertIn("kernels: graph", run("inspect", path).stdout)
        self.assertRegex(run("inspect", path).stdout, r"slow_path: '.*' \(op: 'Relu'\)")

    def test_a_narrow_precision_is_refused(self):
        self.build_peepholes()
        version = self.save()
        error = self.expect(422, "PATCH", "/settings", {"precision": "int8"}, error="precision_refused")["error"]
        self.assertIn("int8", error["message"])
        self.assertEqual((self.entry()["version"], self.entry()["precision"]), (version, "fp32"))

    def test_replayed_after_a_restart(self):
        self.build_peepholes()
        self.save()
        before = self.complete()
        type(self).daemon.stop()
        type(self).daemon = self.start()
        self.assertEqual(self.complete(), before)


def embedded(cells, units, *above):
    """x → embedding → cells over time, their first states zeros → `above`, with w and b."""
    return [placeholder("x", 1, None, dtype="int32"), variable("e", COUNT, 6),
            call("embedding_lookup", "e", "x", **{"as": "in"}), *cells,
            {"op": "dynamic_rnn", "cell": "cell", "inputs": "in", "dtype": "float32", "as": "r"},
            *output("r.outputs", units), *above]


def output(below, units):
    return [variable("w", units, COUNT), variable("b", COUNT),
            call("reshape", below, [-1, units], **{"as": "flat"}), call("matmul", "flat", "w", **{"as": "product"}),
            call("bias_add", "product", "b", name="logits", **{"as": "logits"})]


def fed_states(*shapes):
    return [placeholder(f"s{i}", *shape) for i, shape in enumerate(shapes)]


class FastPath(Signature):
    """Stacks of cells are packed, however they are written down, and say what runs of the graph say."""

    def check_packed(self, *names, scale=2.0, **fields):
        self.set_variables(scale)
        self.save()
        entry = self.entry()
        self.assertEqual(entry["slow_path"], None)
        self.assertNotEqual(entry["kernels"], "graph")
        self.check_against_runs(*names, **fields)

    def build_and_check(self, steps, shapes, next_states, **fields):
        states = [f"s{i}" for i in range(len(shapes))]
        self.build(*fed_states(*shapes), *steps, signature({"symbol": "x", "state": states},
                                                           {"logits": "logits", "state": next_states}))
        self.check_packed("x:0", [state + ":0" for state in states], "logits:0", next_states,
                          zeros=[[[0.0] * shape[1]] for shape in shapes], **fields)

    def test_lstm_over_time(self):
        steps = [*LSTM[:3], {**LSTM[5], "initial_state": ["s0", "s1"]}, *LSTM[6:]]
        self.build_and_check(steps, [(1, 12)] * 2, ["r.state.c", "r.state.h"])

    def test_stack_of_gru_over_time(self):
        cells = [{"op": "gru_cell", "num_units": 7, "as": "a"}, {"op": "gru_cell", "num_units": 9, "as": "b2"},
                 {"op": "multi_rnn_cell", "cells": ["a", "b2"], "as": "cell"}]
        steps = embedded(cells, 9)
        steps[6] = {**steps[6], "initial_state": ["s0", "s1"]}
        self.build_and_check(steps, [(None, 7), (None, 9)], ["r.state.0", "r.state.1"])

    def test_lstm_cell_for_one_step(self):
        steps = [placeholder("x", 1, 1, dtype="int64"), variable("e", COUNT, 6),
                 call("reshape", "x", [1], **{"as": "x1"}), call("embedding_lookup", "e", "x1", **{"as": "in"}),
                 {"op": "lstm_cell", "num_units": 10, "forget_bias": 0.5, "as": "cell"},
                 {"op": "static_rnn", "cell": "cell", "inputs": ["in"], "initial_state": ["s0", "s1"], "as": "r"},
                 *output("r.outputs.0", 10)]
        self.build_and_check(steps, [(1, 10)] * 2, ["r.state.c", "r.state.h"])

    def test_rnn_with_a_dropout_that_is_off(self):
        cells = [{"op": "basic_rnn_cell", "num_units": 8, "as": "bare"},
                 call("placeholder_with_default", 1.0, [], name="keep", **{"as": "keep"}),
                 {"op": "dropout_wrapper", "cell": "bare", "output_keep_prob": "keep", "as": "cell"}]
        steps = embedded(cells, 8)
        steps[6] = {**steps[6], "initial_state": "s0"}
        self.build_and_check(steps, [(1, 8)], ["r.state"])

    def test_tied_output_and_probabilities(self):
        self.build(*fed_states((1, 6)), placeholder("x", 1, dtype="int32"), variable("e", COUNT, 6),
                   call("embedding_lookup", "e", "x", **{"as": "in"}),
                   {"op": "basic_rnn_cell", "num_units": 6, "as": "cell"},
                   {"op": "static_rnn", "cell": "cell", "inputs": ["in"], "initial_state": "s0", "as": "r"},
                   call("matmul", "r.outputs.0", "e", transpose_b=True, name="logits", **{"as": "logits"}),
                   call("softmax", "logits", **{"as": "p"}),
                   signature({"symbol": "x", "state": "s0"}, {"probabilities": "p", "state": "r.state"}))
        self.set_variables()
        self.save()
        self.assertEqual(self.entry()["slow_path"], None)

    def test_projections(self):
        """LSTM cells whose h is projected, one on another; a projection to one column is not worth folding."""
        cells = [{"op": "lstm_cell", "num_units": 8, "num_proj": 5, "as": "a"},
                 {"op": "lstm_cell", "num_units": 7, "num_proj": 6, "as": "b2"},
                 {"op": "multi_rnn_cell", "cells": ["a", "b2"], "as": "cell"}]
        steps = embedded(cells, 6)
        next(step for step in steps if step["op"] == "dynamic_rnn")["initial_state"] = [["s0", "s1"], ["s2", "s3"]]
        self.build_and_check(steps, [(1, 8), (1, 5), (1, 7), (1, 6)],
                             ["r.state.0.c", "r.state.0.h", "r.state.1.c", "r.state.1.h"], scale=0.7)
        self.setUp()
        narrow = [{"op": "lstm_cell", "num_units": 40, "num_proj": 1, "as": "cell"}]
        steps = embedded(narrow, 1)
        next(step for step in steps if step["op"] == "dynamic_rnn")["initial_state"] = ["s0", "s1"]
        self.check_slow("projects to so few", *fed_states((1, 40), (1, 1)), *steps,
                        signature({"symbol": "x", "state": ["s0", "s1"]},
                                  {"logits": "logits", "state": ["r.state.c", "r.state.h"]}))

    def test_a_residual_connection_around_a_projection(self):
        """Is a sum of the cell's input and output, and the log does not deny it."""
        steps = embedded([{"op": "lstm_cell", "num_units": 8, "num_proj": 6, "as": "cell"},
                          {"op": "residual_wrapper", "cell": "cell", "as": "cell"}], 6)
        next(step for step in steps if step["op"] == "dynamic_rnn")["initial_state"] = ["s0", "s1"]
        self.check_slow(r"adds the input of a cell to its projected output, .* projections are folded",
                        *fed_states((1, 8), (1, 6)), *steps,
                        signature({"symbol": "x", "state": ["s0", "s1"]},
                                  {"logits": "logits", "state": ["r.state.c", "r.state.h"]}))

    def test_residual_connections(self):
        """Around the second layer, around both, and before a dropout that is off."""
        for around in (("b2",), ("a", "b2")):
            with self.subTest(around=around):
                self.setUp()
                cells = [{"op": "basic_lstm_cell", "num_units": 6, "as": "a"},
                         {"op": "gru_cell", "num_units": 6, "as": "b2"},
                         *[{"op": "residual_wrapper", "cell": name, "as": name} for name in around],
                         {"op": "dropout_wrapper", "cell": "b2", "output_keep_prob": 1.0, "as": "b2"},
                         {"op": "multi_rnn_cell", "cells": ["a", "b2"], "as": "cell"}]
                steps = embedded(cells, 6)
                loop = next(step for step in steps if step["op"] == "dynamic_rnn")
                loop["initial_state"] = [["s0", "s1"], "s2"]
                self.build_and_check(steps, [(1, 6)] * 3, ["r.state.0.c", "r.state.0.h", "r.state.1"])

    def test_a_language_model_says_the_same_bytes(self):
        """The very weights of a language_model, under other names and gates by themselves: the same bytes."""
        for cell, embedding, residual in (("lstm", None, False), ("gru", 5, False), ("rnn", 5, False),
                                          ("lstm", 5, True), ("gru", None, True)):
            with self.subTest(cell=cell, residual=residual):
                self.setUp()
                self.build({"op": "language_model", "cell": cell, "layers": 2, "units": 9, "embedding": embedding,
                            "residual": residual, "vocabulary": VOCABULARY})
                self.set_variables()
                self.save()
                wanted = [self.complete(seed=seed, max_tokens=200, logprobs=2) for seed in range(3)]
                states = [f"predict/{{}}_state/{layer}{part}:0" for layer in (0, 1)
                          for part in (("/c", "/h") if cell == "lstm" else ("",))]
                self.build(signature({"symbol": "predict/inputs:0", "state": [one.format("initial") for one in states]},
                                     {"probabilities": "predict/probabilities:0",
                                      "state": [one.format("final") for one in states]}, vocabulary=None))
                self.save()
                self.assertEqual(self.entry()["slow_path"], None)
                self.assertEqual([self.complete(seed=seed, max_tokens=200, logprobs=2) for seed in range(3)], wanted)
                self.expect(200, "PATCH", "/settings", {"precision": "int8"})
                self.assertIn("int8" if "avx512" not in self.entry()["kernels"] else "vnni", self.entry()["kernels"])

    def test_keras_layers(self):
        for layer in ({"type": "lstm", "recurrent_activation": "sigmoid"},
                      {"type": "gru", "recurrent_activation": "sigmoid", "reset_after": False},
                      {"type": "simple_rnn"}):
            with self.subTest(layer=layer["type"]):
                self.setUp()
                states = 2 if layer["type"] == "lstm" else 1
                self.build(*fed_states(*[(1, 8)] * states), placeholder("x", 1, None, dtype="int32"),
                           {"op": "layer", "type": "embedding", "input_dim": COUNT, "output_dim": 4, "as": "embedding"},
                           {"op": "call_layer", "layer": "embedding", "input": "x", "as": "in"},
                           {"op": "layer", **layer, "units": 8, "return_sequences": True, "return_state": True,
                            "as": "layer"},
                           {"op": "call_layer", "layer": "layer", "input": "in",
                            "initial_state": [f"s{i}" for i in range(states)], "as": "r"},
                           {"op": "layer", "type": "dense", "units": COUNT, "as": "dense"},
                           {"op": "call_layer", "layer": "dense", "input": "r.0", "as": "logits"},
                           signature({"symbol": "x", "state": [f"s{i}" for i in range(states)]},
                                     {"logits": "logits", "state": [f"r.{1 + i}" for i in range(states)]}))
                self.check_packed("x:0", [f"s{i}:0" for i in range(states)], "logits",
                                  [f"r.{1 + i}" for i in range(states)], zeros=[[[0.0] * 8]] * states)

    def check_slow(self, reason, *steps):
        """Runs on the slow path, and says why everywhere."""
        self.build(*steps)
        self.set_variables()
        self.save()
        self.assertRegex(self.entry()["slow_path"], reason)
        self.daemon.wait_for_output(f"slow_path.*model={self.model_name()}")
        self.complete()
        inspected = run("inspect", os.path.join(self.models, self.model_name()), "--json")
        self.assertRegex(json.loads(inspected.stdout)["slow_path"], reason)

    def test_what_is_no_such_stack(self):
        bent = [*LSTM[:-2], call("relu", "flat", name="bend", **{"as": "bent"}),
                call("matmul", "bent", "w", name="logits", **{"as": "logits"}), signature(*ENDS)]
        self.check_slow(r"^'bend' \(op: 'Relu'\) is not the output of an LSTM, GRU or RNN cell", *bent)

    def test_what_looks_like_one(self):
        """A relu among the gates; two layers that share one state; a state that nothing reads."""
        cells = [{"op": "basic_lstm_cell", "num_units": 12, "activation": "relu", "as": "cell"}]
        self.check_slow(r"\(op: 'Mul'\) is no h of an LSTM", *LSTM[:2], *cells, *LSTM[3:], signature(*ENDS))
        self.setUp()
        self.check_slow("is read in part", *fed_states((1, 8), (1, 5)), placeholder("x", 1, dtype="int32"),
                        call("one_hot", "x", COUNT, **{"as": "in"}),
                        {"op": "basic_rnn_cell", "num_units": 8, "as": "a"},
                        {"op": "basic_rnn_cell", "num_units": 5, "as": "b2"},
                        {"op": "static_rnn", "cell": "a", "inputs": ["in"], "initial_state": "s0", "as": "r"},
                        call("slice", "r.outputs.0", [0, 0], [1, 6], **{"as": "some"}),
                        {"op": "static_rnn", "cell": "b2", "inputs": ["some"], "initial_state": "s1", "as": "q",
                         "scope": "above"},
                        *output("q.outputs.0", 5),
                        signature({"symbol": "x", "state": ["s0", "s1"]},
                                  {"logits": "logits", "state": ["r.state", "q.state"]}))
        self.setUp()
        self.check_slow("does not read all of the signature's states", *LSTM, placeholder("more", 1, 2),
                        signature({"symbol": "x", "state": ["c0", "h0", "more"]},
                                  {"logits": "logits", "state": ["r.state.c", "r.state.h", "more"]}))
        self.setUp()
        self.check_slow("is no next state", *LSTM, signature({"symbol": "x", "state": ["c0", "h0"]},
                                                             {"logits": "logits", "state": ["c0", "r.state.h"]}))


class Ends(Signature):
    """What a signature may name."""

    def test_probabilities_of_a_model_without_state(self):
        """The next symbol depends on the last one alone; symbols are one-hot vectors."""
        self.build(placeholder("x", None, None, COUNT), variable("w", COUNT, COUNT),
                   call("reshape", "x", [-1, COUNT], **{"as": "flat"}),
                   call("matmul", "flat", "w", name="logits", **{"as": "logits"}),
                   call("softmax", "logits", name="p", **{"as": "p"}),
                   signature({"symbol": "x"}, {"probabilities": "p"}))
        self.set_variables()
        self.save()
        self.check_against_runs("x:0", [], "logits:0", [], one_hot=True)

    def test_states_of_any_kind(self):
        """A counter of whole numbers, what was fed the step before last, and a first state that was learned."""
        self.build(placeholder("x", 1, 1, dtype="int64"), placeholder("n", dtype="int32"),
                   placeholder("before", 1, 1, dtype="int64"),
                   variable("first", 1, COUNT, value=0.5), call("identity", "first", name="s", **{"as": "s"}),
                   call("add", "n", 1, name="n1", **{"as": "n1"}),
                   variable("w", COUNT, COUNT),
                   call("one_hot", "x", COUNT, **{"as": "hot"}), call("one_hot", "before", COUNT, **{"as": "hot2"}),
                   call("reshape", "hot", [1, COUNT], **{"as": "flat"}),
                   call("reshape", "hot2", [1, COUNT], **{"as": "flat2"}),
                   call("add", "flat", "flat2", **{"as": "both"}),
                   call("matmul", "both", "w", **{"as": "product"}),
                   call("cast", "n", dtype="float32", **{"as": "turn"}),
                   call("sin", "turn", **{"as": "wave"}),
                   call("multiply", "s", 0.9, **{"as": "faded"}),
                   call("add", "faded", "flat", name="s1", **{"as": "s1"}),
                   call("multiply", "s1", "wave", **{"as": "waved"}),
                   call("add", "product", "waved", name="logits", **{"as": "logits"}),
                   signature({"symbol": "x", "state": ["n", "before", "s"]},
                             {"logits": "logits", "state": ["n1", "x", "s1"]}))
        self.initialize()
        self.expect(200, "PUT", "/variables/w", spread(COUNT, COUNT))
        self.save()
        text, values = "abc", [0, [[0]], [[0.5] * COUNT]]
        made = ""
        for at in range(33):
            reply = self.run_graph("logits:0", "n1:0", "x:0", "s1:0",
                                   feeds=dict(zip(["x:0", "n:0", "before:0", "s:0"],
                                                  [[[SYMBOLS.index((text + made)[at])]], *values])))
            values = reply[1:]
            if at >= 2:
                made += SYMBOLS[reply[0][0].index(max(reply[0][0]))]
        self.assertEqual(self.complete(temperature=0, max_tokens=31)["text"], made)

    def test_random_ops_follow_the_seed(self):
        self.build(placeholder("x", 1, dtype="int32"), call("one_hot", "x", COUNT, **{"as": "hot"}),
                   variable("w", COUNT, COUNT), call("matmul", "hot", "w", **{"as": "product"}),
                   call("dropout", "product", keep_prob=0.5, name="drop", **{"as": "logits"}),
                   signature({"symbol": "x"}, {"logits": "logits"}))
        self.set_variables()
        self.save()
        texts = [self.complete(temperature=0, seed=seed)["text"] for seed in (1, 1, 2, 3)]
        self.assertEqual(texts[0], texts[1])
        self.assertEqual(len(set(texts)), 3)

    def test_a_later_one_counts(self):
        """Also beside a language_model, whose vocabulary it shares."""
        self.build({"op": "language_model", "layers": 1, "units": 8, "vocabulary": VOCABULARY})
        self.build(placeholder("x", 1, dtype="int32"), variable("bias", COUNT, value=0.0),
                   call("one_hot", "x", COUNT, **{"as": "hot"}), call("add", "hot", "bias", **{"as": "same"}),
                   signature({"symbol": "x"}, {"logits": "same"}, vocabulary=None))
        self.initialize()
        self.save()
        self.assertEqual(self.complete("d", temperature=0, max_tokens=5)["text"], "ddddd")


class Refusals(Signature):
    def refuse_ends(self, inputs, outputs, message, *steps, **fields):
        error = self.refuse(422, placeholder("x", 1, dtype="int32"), placeholder("f", 1, 3), placeholder("u", 1, 4),
                            *steps, signature(inputs, outputs, **fields))
        self.assertEqual(error["code"], "cannot_generate", error)
        self.assertRegex(error["message"], message)

    def test_while_building(self):
        self.refuse_ends({}, {"logits": "f"}, "needs inputs.symbol")
        self.refuse_ends({"symbol": "x"}, {}, "needs outputs.logits or outputs.probabilities")
        self.refuse_ends({"symbol": "x", "mood": "f"}, {"logits": "f"}, "inputs has no 'mood'")
        self.refuse_ends({"symbol": "x"}, {"logit": "f"}, "outputs has no 'logit'")
        self.refuse_ends({"symbol": ["x", "x"]}, {"logits": "f"}, "inputs.symbol has 2 tensors, at most 1")
        self.refuse_ends({"symbol": "x"}, {"logits": "x"}, "'x:0' is int32, not float32")
        self.refuse_ends({"symbol": "x", "state": "f"}, {"logits": "f"}, "inputs.state has 1 tensors, outputs.state 0")
        self.refuse_ends({"symbol": "x", "state": "f"}, {"logits": "f", "state": "u"}, "'u:0' does not fit 'f:0'")
        self.refuse_ends({"symbol": "x", "state": "f"}, {"logits": "f", "state": "x"}, "'f:0' is float32, but .* int32")
        twice = ["f", "f"]
        self.refuse_ends({"symbol": "x", "state": twice}, {"logits": "f", "state": twice}, "names 'f:0' twice")
        self.refuse_ends({"symbol": "x"}, {"logits": "f"}, "vocabulary of 11 symbols for 3 scores")
        self.refuse_ends({"symbol": "f"}, {"logits": "u"}, "'f:0' has 3 columns, but there are 4 scores")
        self.refuse_ends({"symbol": "wide"}, {"logits": "f"}, r"'wide:0' has shape \(2, \?\)",
                         placeholder("wide", 2, None, dtype="int32"))
        error = self.refuse(400, placeholder("x", 1, dtype="int32"),
                            {"op": "signature", "name": "other", "inputs": {"x": "x"}, "outputs": {"x": "x"},
                             "vocabulary": VOCABULARY})
        self.assertEqual(error["param"], "/program/1/vocabulary")
        self.build({"op": "language_model", "layers": 1, "units": 8, "vocabulary": "bytes"})
        self.assertEqual(self.refuse(409, *LSTM, signature(*ENDS))["code"], "vocabulary_exists")

    def check_useless(self, message):
        """The version is a good one that makes no text, and says why."""
        version = self.save(serves=False)
        entry = self.entry()["versions"][0]
        self.assertEqual((entry["version"], entry["status"], entry["reason"]["code"]),
                         (version, "ready", "cannot_generate"))
        self.assertRegex(entry["reason"]["message"], message)
        self.expect(422, "POST", "/generate", {"prompt": "a"}, error="cannot_generate")

    def test_a_placeholder_that_nobody_feeds(self):
        self.build(*LSTM[:-1], placeholder("keep", dtype="float32"), call("multiply", "product", "keep", name="logits",
                                                                        **{"as": "logits"}), signature(*ENDS))
        self.initialize()
        self.check_useless("You must feed a value for placeholder tensor 'keep'")

    def test_no_vocabulary(self):
        self.build(*LSTM, signature(*ENDS, vocabulary=None))
        self.initialize()
        self.check_useless("has no vocabulary")

    def test_a_step_that_writes(self):
        self.build(*LSTM[:-1], variable("count", COUNT, value=0.0),
                   {"op": "assign_add", "var": "count", "value": [1.0] * COUNT, "as": "counted"},
                   call("add", "product", "counted", name="logits", **{"as": "logits"}), signature(*ENDS))
        self.initialize()
        self.check_useless("a step changes variables")

    def test_scores_of_another_number(self):
        self.build(placeholder("x", 1, None, dtype="int32"), placeholder("n", dtype="int32"),
                   call("cast", "x", dtype="float32", **{"as": "flat"}), variable("v", 1, value=1.0),
                   call("multiply", "flat", "v", **{"as": "logits"}),
                   signature({"symbol": "x"}, {"logits": "logits"}))
        self.initialize()
        self.check_useless("'Mul.*' has shape .*, but there are 11 symbols")


if __name__ == "__main__":
    unittest.main()
