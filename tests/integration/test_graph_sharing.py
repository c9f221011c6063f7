"""What people run into with variable scopes and recurrent cells, each as a build program over HTTP."""
import json
import os
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from graph_case import GraphTest, lstm_layer, placeholder, scope  # noqa: E402

X = placeholder("x", None, 5, 3)
KERNEL = "rnn/basic_lstm_cell/kernel"


class Sharing(GraphTest):
    def test_two_cells_in_a_loop(self):
        """for i in range(2): cell = BasicLSTMCell(4); dynamic_rnn(cell, x)"""
        error = self.refuse(409, X, *lstm_layer("x", 4), *lstm_layer("x", 4))
        self.assertEqual((error["type"], error["code"], error["variable"], error["step"]),
                         ("ValueError", "variable_exists", KERNEL, "/program/4"))
        self.assertEqual(error["message"], f"Variable {KERNEL} already exists, disallowed. Did you mean to set "
                         "reuse=True or reuse=tf.AUTO_REUSE in VarScope? Originally defined at:\n\n"
                         "  program 1, /program/2 (dynamic_rnn)")
        self.assertEqual((error["origin"]["program"], error["origin"]["step"]), (1, "/program/2"))
        self.assertIn("\"reuse\":\"auto\"", error["hint"])

    def test_the_second_one_in_a_later_program(self):
        self.build(X, *lstm_layer("x", 4))
        error = self.refuse(409, *lstm_layer("x", 4))
        self.assertEqual((error["step"], error["origin"]["program"], error["origin"]["step"]),
                         ("/program/1", 1, "/program/2"))
        self.assertTrue(error["origin"]["request_id"])

    def test_auto_reuse_makes_one_kernel_and_one_bias(self):
        reply = self.build(X, scope("my_lstm", *lstm_layer("x", 4, "a"), reuse="auto"),
                           scope("my_lstm", *lstm_layer("x", 4, "b"), reuse="auto"))
        self.assertEqual([one["name"] for one in reply["variables"]],
                         [f"my_lstm/{KERNEL}:0", "my_lstm/rnn/basic_lstm_cell/bias:0"])
        self.assertEqual(len(self.variables()), 2)
        self.initialize()
        a, b = self.run_graph("a.outputs", "b.outputs", feeds={"x:0": [[[0.1, 0.2, 0.3]] * 5] * 2})
        self.assertEqual(a, b)
        self.assertTrue(any(number != 0 for number in a[0][0]))
        later = self.build(scope("my_lstm", *lstm_layer("x", 4, "c"), reuse="auto"))
        self.assertEqual({one["built"] for one in later["variables"]}, {"reused"})

    def test_reuse_the_second_time(self):
        self.build(X, scope("s", *lstm_layer("x", 4, "a")), scope("s", *lstm_layer("x", 4, "b"), reuse=True))
        self.assertEqual(len(self.variables()), 2)

    def test_reuse_of_nothing(self):
        error = self.refuse(422, X, scope("s", *lstm_layer("x", 4), reuse=True))
        self.assertEqual(error["message"], f"Variable s/{KERNEL} does not exist, or was not created with "
                         "tf.get_variable(). Did you mean to set reuse=tf.AUTO_REUSE in VarScope?")

    def test_two_layers_of_different_width_without_scopes(self):
        """The names are the same; the shapes are never compared."""
        error = self.refuse(409, X, *lstm_layer("x", 4), *lstm_layer("r.outputs", 8, "r2"))
        self.assertEqual((error["code"], error["variable"]), ("variable_exists", KERNEL))

    def test_two_widths_under_auto_reuse(self):
        error = self.refuse(409, X, scope("s", *lstm_layer("x", 4), reuse="auto"),
                            scope("s", *lstm_layer("r.outputs", 8, "r2"), reuse="auto"))
        self.assertEqual(error["message"], f"Trying to share variable s/{KERNEL}, but specified shape (12, 32) and "
                         "found shape (7, 16).")
        self.assertEqual(error["code"], "variable_shape")

    def test_layers_in_scopes_of_their_own(self):
        self.build(X, scope("layer1", *lstm_layer("x", 4)), scope("layer2", *lstm_layer("r.outputs", 8, "r2")))
        self.assertEqual({name: one["shape"] for name, one in self.variables().items() if "kernel" in name},
                         {f"layer1/{KERNEL}:0": [7, 16], f"layer2/{KERNEL}:0": [12, 32]})

    def test_bidirectional_in_a_scope(self):
        cells = [{"op": "basic_lstm_cell", "num_units": 4, "as": name} for name in ("fw", "bw")]
        reply = self.build(X, *cells, scope("layer", {"op": "bidirectional_dynamic_rnn", "cell_fw": "fw",
                                                      "cell_bw": "bw", "inputs": "x", "dtype": "float32", "as": "r"}))
        prefix = "layer/bidirectional_rnn"
        self.assertEqual(list(self.variables()),
                         [f"{prefix}/{way}/basic_lstm_cell/{what}:0" for way in ("fw", "bw")
                          for what in ("kernel", "bias")])
        self.assertEqual(reply["results"]["r"]["names"], ["output_fw", "output_bw", "state_fw", "state_bw"])
        self.initialize()
        forward, backward = self.run_graph("r.output_fw", "r.output_bw", feeds={"x:0": [[[0.5, 0, 1]] * 5]})
        self.assertEqual((len(forward[0]), len(backward[0][0])), (5, 4))

    def test_variable_versus_get_variable_under_reuse(self):
        """tf.Variable knows no reuse: two variables, and a warning; get_variable shares one."""
        made = {"op": "variable", "initial_value": 0.0, "name": "my_var"}
        shared = {"op": "get_variable", "name": "shared", "shape": []}
        first = self.build(scope("my_scope", made, shared))
        self.assertEqual(first["warnings"], [])
        second = self.build(scope("my_scope", made, shared, reuse="auto"))
        self.assertEqual([(one["name"], one["built"]) for one in second["variables"]],
                         [("my_scope_1/my_var:0", "created"), ("my_scope/shared:0", "reused")])
        self.assertEqual(second["warnings"][0]["step"], "/program/0/body/0")
        self.assertIn("my_scope_1/my_var", second["warnings"][0]["message"])
        error = self.refuse(422, scope("my_scope", {"op": "get_variable", "name": "my_var", "shape": []}, reuse=True))
        self.assertIn("does not exist, or was not created with tf.get_variable()", error["message"])

    def test_one_cell_twice_in_a_stack(self):
        cell = {"op": "basic_lstm_cell", "num_units": 3, "as": "c"}
        reply = self.build(X, cell, {"op": "multi_rnn_cell", "cells": ["c", "c"], "as": "m"},
                           {"op": "dynamic_rnn", "cell": "m", "inputs": "x", "dtype": "float32"})
        self.assertEqual([one["message"] for one in reply["warnings"]],
                         ["At least two cells provided to MultiRNNCell are the same object and will share weights."])
        self.assertEqual(len(self.variables()), 2)

    def test_a_built_cell_keeps_its_variables(self):
        self.build(X, *lstm_layer("x", 4))
        reply = self.build(scope("elsewhere", {"op": "dynamic_rnn", "cell": "r_cell", "inputs": "x",
                                               "dtype": "float32", "as": "again"}))
        self.assertEqual(reply["variables"], [])
        self.assertEqual(len(self.variables()), 2)

    def test_a_train_and_a_predict_model_in_one_process(self):
        """One graph a model: the same names twice, without a reset in between."""
        other = f"/v1/models/g{next(self.names)}"
        self.daemon.json("PUT", other, {})
        program = {"program": [X, *lstm_layer("x", 4)]}
        for path in (self.path, other):
            status, reply = self.daemon.json("POST", path + "/graph/build", program)
            self.assertEqual((status, [one["built"] for one in reply["variables"]]), (200, ["created"] * 2))
        model = {"op": "language_model", "units": 4, "layers": 1, "vocabulary": "bytes"}
        third = f"/v1/models/g{next(self.names)}"
        self.daemon.json("PUT", third, {})
        for heads, built in ((["train"], "created"), (["predict"], "reused")):
            status, reply = self.daemon.json("POST", third + "/graph/build", {"program": [{**model, "heads": heads}]})
            self.assertEqual((status, {one["built"] for one in reply["variables"]}), (200, {built}))

    def test_many_callers_of_a_model_loaded_once(self):
        """64 callers in parallel see one graph: the same numbers, nothing built."""
        self.build(X, *lstm_layer("x", 4))
        self.initialize()
        before = self.expect(200, "GET", "/graph")
        body = {"feeds": {"x:0": [[[0.1, 0.2, 0.3]] * 5]}, "fetches": ["r.outputs"]}
        replies = []

        def call():
            for _ in range(3):
                replies.append(json.dumps(self.daemon.json("POST", self.path + "/graph/run", body)))

        threads = [threading.Thread(target=call) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        good = [reply for reply in replies if reply.startswith("[200")]
        self.assertEqual(len(replies), 64 * 3)
        self.assertEqual(len(set(good)), 1)
        self.assertTrue(all(reply.startswith("[429") for reply in replies if reply not in good))
        self.assertEqual(self.expect(200, "GET", "/graph"), before)


if __name__ == "__main__":
    unittest.main()
