"""Bad and excessive programs: the exact place of what is wrong, and a graph that stays as it was."""
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from graph_case import GraphTest, lstm_layer, placeholder, scope  # noqa: E402

X = placeholder("x", None, 5, 3)
V = {"op": "variable", "initial_value": [1.0, 2.0], "name": "v", "as": "v"}
CELL = {"op": "cell", "num_units": 2, "input": "i", "states": ["s"], "output": "y", "next_states": ["y"], "as": "own",
        "body": [{"op": "identity", "args": ["i"], "as": "y"}]}

# (program, what its error says) by HTTP status.
BAD = {
    400: [
        ([7], "/program/0/op", "a step is an object with \"op\""),
        ([{"op": "no_such_step"}], "/program/0", "no step"),
        ([{"op": "nn." * 50 + "relu", "args": [1]}], "/program/0", "no step"),
        ([{"op": "relu", "args": ["v", 1, 2]}, V], "/program/0/args/0", "neither a result"),
        ([V, {"op": "relu", "args": ["v"], "colour": 1}], "/program/1/colour", "unexpected keyword"),
        ([V, {"op": "relu", "args": "v"}], "/program/1/args", "list of arguments"),
        ([V, {"op": "add", "args": ["v", [1, [2]]]}], "/program/1/args/1", "element 1"),
        ([V, {"op": "add", "args": ["v", {"dtype": "float32", "shape": [2], "data": [1]}]}], "/program/1/args/1",
         "1 elements"),
        ([V, {"op": "concat", "values": ["v", None], "axis": 0}], "/program/1/values/1", ""),
        ([V, {"op": "add", "args": ["v.c", 1]}], "/program/1/args/0", "neither"),
        ([{"op": "variable_scope", "body": []}], "/program/0", "name_or_scope is required"),
        ([scope(7)], "/program/0/name", "must be a string or VariableScope"),
        ([{"op": "variable_scope", "name": "s"}], "/program/0/body", "list of steps"),
        ([scope("s", scope("t", {"op": "get_variable"}))], "/program/0/body/0/body/0/name", "must be given"),
        ([scope("s", V, as_="s")], "/program/0/as_", "unknown field"),
        ([V, {"op": "get_variable", "name": "w", "shape": [2], "initializer": {"nope": 1}}], "/program/1/initializer",
         "no initializer"),
        ([V, {"op": "get_variable", "name": "w", "shape": [-1]}], "/program/1/shape", "Dimension -1 must be >= 0"),
        ([V, {"op": "get_variable", "name": "w", "shape": [2], "dtype": "float33"}], "/program/1/dtype", "float64"),
        ([V, {"op": "get_variable", "name": "w w", "shape": [2]}], "/program/1", "not a valid scope name"),
        ([V, {"op": "get_collection", "key": "variables", "scope_prefix": "(a{1,999}){1,999}"}],
         "/program/1/scope_prefix", "repetition counts"),
        ([V, {"op": "get_collection", "key": "variables", "scope_prefix": "(a"}], "/program/1/scope_prefix",
         "no regular expression"),
        ([X, *lstm_layer("x", 0)], "/program/1/num_units", "from 1 to"),
        ([X, {"op": "dynamic_rnn", "cell": "x", "inputs": "x", "dtype": "float32"}], "/program/1/cell",
         "is not an RNNCell"),
        ([{**CELL, "states": []}], "/program/0/states", "1 name"),
        ([V, {"op": "assign", "var": "v", "value": "nothing"}], "/program/1/value", "neither"),
        ([V, {"op": "minimize", "optimizer": "v", "loss": "v"}], "/program/1/optimizer", "must name an optimizer"),
        ([V, {"op": "gradients", "ys": ["v"]}], "/program/1/xs", "must be given"),
        ([{"op": "sequential", "layers": [{"type": "lstm", "units": 2}, {"type": "dense", "units": "2"}]}],
         "/program/0/layers/1/units", "whole number"),
        ([{"op": "constant", "value": 1, "as": "a.b"}], "/program/0/as", "without"),
        ([{"op": "language_model", "units": 0, "vocabulary": "bytes"}], "/program/0/units",
         "/program/0/units: must be"),
        ([{"op": "language_model", "vocabulary": {"kind": "letters"}}], "/program/0/vocabulary/kind", "characters"),
        ([{"op": "constant", "value": 1, "as": ["a", "b"]}], "/program/0/as", "2 names"),
        ([{"op": "finalize", "as": "f"}], "/program/0/as", "no result"),
    ],
    404: [([{"op": "relu", "args": ["x:0"]}], "/program/0/args/0", "The name 'x:0' refers to a Tensor which does not "
           "exist. The operation, 'x', does not exist in the graph.")],
    422: [
        ([V, {"op": "matmul", "args": ["v", "v"]}], "/program/1", "rank 2"),
        ([{"op": "get_variable", "name": "w", "shape": [None, 3]}], "/program/0", "initializer passed is not valid"),
    ],
}


class Limits(GraphTest):
    CONFIG = "program_bytes_max = 200K\nrun_seconds_max = 1\n"

    def test_bad_programs(self):
        for code, cases in BAD.items():
            for program, place, message in cases:
                with self.subTest(program=json.dumps(program)[:100]):
                    error = self.refuse(code, *program)
                    self.assertEqual(error["param"], place)
                    self.assertIn(message, error["message"])

    def test_places_in_deep_lists(self):
        error = self.refuse(400, V, {"op": "stack", "args": [["v", ["w"]]]})
        self.assertEqual(error["param"], "/program/1/args/0/1")

    def test_program_bytes(self):
        self.expect(413, "POST", "/graph/build", {"program": [{"op": "constant", "value": [0] * 200000}]})
        self.assertEqual(self.expect(200, "GET", "/graph")["nodes"], [])

    def test_steps(self):
        error = self.refuse(413, *[{"op": "no_op"}] * 10001)
        self.assertEqual((error["param"], error["message"]), ("/program/10000", "a program has at most 10000 steps"))

    def test_steps_of_cells_called_by_cells(self):
        """Each calls the one before ten times: 10^6 steps, were they not counted."""
        cells = [CELL]
        for name, before in zip("bcdefg", ["own", *"bcdefg"]):
            call = {"op": "call_cell", "cell": before, "input": "i", "state": "s", "as": "q"}
            cells.append({**CELL, "body": [call] * 10 + CELL["body"], "as": name})
        start = [{"op": "zeros", "args": [[1, 2]], "as": "z"},
                 {"op": "call_cell", "cell": "g", "input": "z", "state": "z"}]
        self.assertIn("at most 10000 steps", self.refuse(413, *cells, *start)["message"])

    def test_a_cell_that_calls_itself(self):
        call = {"op": "call_cell", "cell": "own", "input": "i", "state": "s"}
        start = [{"op": "zeros", "args": [[1, 2]], "as": "z"},
                 {"op": "call_cell", "cell": "own", "input": "z", "state": "z"}]
        error = self.refuse(413, {**CELL, "body": [call] + CELL["body"]}, *start)
        self.assertIn("nest deeper", error["message"])

    def test_nesting(self):
        program = {"op": "no_op"}
        for _ in range(70):
            program = scope("s", program)
        self.assertIn("nest deeper than 64", self.refuse(413, program)["message"])

    def test_nesting_of_json(self):
        for text in ('{"program":' + "[" * 10000 + "]" * 10000 + "}",
                     '{"program":[{"op":"constant","value":' + "[" * 10000 + "]" * 10000 + "}]}"):
            self.expect(400, "POST", "/graph/build", text, error="bad_json")
        text = '{"program":[{"op":"constant","value":' + "[" * 1000 + "]" * 1000 + "}]}"
        error = self.expect(400, "POST", "/graph/build", text)["error"]
        self.assertEqual((error["param"], error["step"]), ("/program/0/value", "/program/0"))

    def test_nodes(self):
        body = [{"op": "identity", "args": ["i"], "as": "y"}] * 90
        cell = {**CELL, "body": body}
        rnn = {"op": "static_rnn", "cell": "own", "inputs": ["z"] * 100, "dtype": "float32"}
        zeros = {"op": "zeros", "args": [[1, 2]], "as": "z"}
        for _ in range(40):
            status, reply = self.daemon.json("POST", self.path + "/graph/build", {"program": [zeros, cell, rnn]})
            if status != 200:
                break
        self.assertEqual((status, reply["error"]["type"]), (413, "ResourceExhaustedError"))
        self.assertIn("200000 nodes", reply["error"]["message"])
        self.expect(200, "POST", "/graph/reset")

    def test_elements(self):
        """10^12 elements: refused before any memory is taken."""
        before = self.daemon.rss_bytes()
        big = [1000000, 1000000]
        for steps in ([{"op": "get_variable", "name": "w", "shape": big}],
                      [{"op": "constant", "value": 0, "shape": big}],
                      [{"op": "zeros", "args": [big]}],
                      [{"op": "fill", "args": [big, 0.5]}],
                      [{"op": "random_uniform", "args": [big]}],
                      [{"op": "placeholder", "dtype": "float32", "shape": big}],
                      [{"op": "range", "args": [10 ** 12]}],
                      [V, {"op": "tile", "args": ["v", [10 ** 12]]}],
                      [V, {"op": "one_hot", "args": [[1], 10 ** 9]}, {"op": "one_hot", "args": [[1] * 10, 10 ** 9]}]):
            with self.subTest(steps=steps):
                before_graph = self.expect(200, "GET", "/graph")
                status, reply = self.daemon.json("POST", self.path + "/graph/build", {"program": steps})
                self.assertIn(status, (400, 413, 422), reply)
                self.assertTrue(reply["error"]["param"].startswith(f"/program/{len(steps) - 1}"), reply)
                self.assertEqual(self.expect(200, "GET", "/graph"), before_graph)
        self.assertLess(self.daemon.rss_bytes(), before + (64 << 20))

    def test_elements_known_only_in_a_run(self):
        self.build(placeholder("n", dtype="int32"), {"op": "zeros", "args": [["n", "n"]], "as": "zeros"},
                   {"op": "reduce_sum", "args": ["zeros"], "as": "sum"})
        before = self.daemon.rss_bytes()
        error = self.run_graph("sum", feeds={"n:0": 1000000}, code=413)
        self.assertEqual(error["type"], "ResourceExhaustedError")
        self.assertLess(self.daemon.rss_bytes(), before + (64 << 20))
        self.assertEqual(self.run_graph("sum", feeds={"n:0": 10}), [0])

    def test_run_time(self):
        steps = [{"op": "random_uniform", "args": [[1500, 1500]], "as": "y"}]
        steps += [{"op": "matmul", "args": ["y", "y"], "as": "y"}] * 1000
        self.build(*steps, {"op": "reduce_sum", "args": ["y"], "as": "sum"})
        error = self.run_graph("sum", code=422)
        self.assertEqual((error["type"], error["code"]), ("DeadlineExceededError", "run_too_long"))
        self.assertIn("longer than 1 seconds", error["message"])


if __name__ == "__main__":
    unittest.main()
