"""What the tests of graphs over HTTP share: an empty model for each test, and steps."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import DaemonTest  # noqa: E402


def placeholder(name, *shape, dtype="float32"):
    return {"op": "placeholder", "dtype": dtype, "shape": list(shape), "name": name, "as": name}


def scope(name, *body, **fields):
    return {"op": "variable_scope", "name": name, **fields, "body": list(body)}


def lstm_layer(inputs, units, name="r"):
    """BasicLSTMCell and dynamic_rnn, as people write them."""
    return [{"op": "basic_lstm_cell", "num_units": units, "as": name + "_cell"},
            {"op": "dynamic_rnn", "cell": name + "_cell", "inputs": inputs, "dtype": "float32", "as": name}]


class ServedGraphTest(DaemonTest):
    """Beside a text model, `sums`: what PROGRAM builds, as version 1 with its variable w as initialised, and as version
    2 with 100 and 200 in it."""

    MODELS = {"bard": {}}
    PROGRAM = ()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.make_sums()

    @classmethod
    def make_sums(cls):
        cls.call("PUT", "", {})
        cls.call("POST", "/graph/build", {"program": [*cls.PROGRAM, {"op": "global_variables_initializer",
                                                                     "as": "init"}]})
        cls.call("POST", "/graph/run", {"targets": ["init"]})
        cls.call("POST", "/save", {})
        cls.call("PUT", "/variables/w", [100, 200])
        cls.call("POST", "/save", {})

    @classmethod
    def call(cls, method, path, body):
        status, reply = cls.daemon.json(method, "/v1/models/sums" + path, body)
        if status not in (200, 201):
            raise AssertionError(reply)


class GraphTest(DaemonTest):
    names = iter(range(1000))

    def setUp(self):
        self.path = f"/v1/models/g{next(self.names)}"
        self.expect(201, "PUT", "", {})

    def expect(self, code, method, path, body=None, error=None):
        return super().expect(code, method, self.path + path, body, error=error)

    def build(self, *steps, code=200, **fields):
        return self.expect(code, "POST", "/graph/build", {"program": list(steps), **fields})

    def refuse(self, code, *steps, **fields):
        """The error of a program; the graph must stay as it was, byte for byte."""
        before = self.daemon.request("GET", self.path + "/graph")[2]
        error = self.build(*steps, code=code, **fields)["error"]
        self.assertEqual(self.daemon.request("GET", self.path + "/graph")[2], before)
        return error

    def run_graph(self, *fetches, code=200, feeds=None, **fields):
        reply = self.expect(code, "POST", "/graph/run", {"fetches": list(fetches), "feeds": feeds or {}, **fields})
        return reply["error"] if code != 200 else [reply["results"][name] for name in fetches]

    def initialize(self):
        self.build({"op": "global_variables_initializer", "as": "init"})
        self.run_graph("init")

    def variables(self):
        return {one["name"]: one for one in self.expect(200, "GET", "/graph")["variables"]}
