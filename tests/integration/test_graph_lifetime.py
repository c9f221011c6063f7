"""A graph's life over HTTP: pictures, saving and restoring by name, reset while it is used, finalize."""
import os
import shutil
import subprocess
import sys
import threading
import unittest
import xml.etree.ElementTree as xml

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Daemon, wait_until  # noqa: E402
from graph_case import GraphTest, lstm_layer, placeholder, scope  # noqa: E402

X = placeholder("x", None, 5, 3)
SVG = "{http://www.w3.org/2000/svg}"


def variable(name, value, **fields):
    return {"op": "variable", "name": name, "initial_value": value, "as": name, **fields}


class Pictures(GraphTest):
    def setUp(self):
        super().setUp()
        shared = {"op": "get_variable", "name": "w", "shape": [3, 3], "as": "w"}
        self.build(placeholder("x", None, 3), scope("tower", shared, {"op": "matmul", "args": ["x", "w"], "as": "y"},
                                                    scope("deep", {"op": "matmul", "args": ["y", "w"], "name": "z"})))

    def test_json(self):
        graph = self.expect(200, "GET", "/graph")
        node = next(one for one in graph["nodes"] if one["name"] == "tower/deep/z")
        self.assertEqual(node, {"name": "tower/deep/z", "op": "MatMul", "scope": "tower/deep",
                                "inputs": ["tower/MatMul:0", "tower/w/read:0"],
                                "outputs": [{"dtype": "float32", "shape": [None, 3]}]})
        self.assertEqual(graph["variables"],
                         [{"name": "tower/w:0", "shape": [3, 3], "dtype": "float32", "trainable": True,
                           "initialized": False, "users": ["tower/MatMul", "tower/deep/z"]}])
        self.assertEqual(graph["collections"]["trainable_variables"], ["tower/w:0"])
        self.assertEqual(graph["handles"]["y"], "tower/MatMul:0")

    def test_dot(self):
        status, headers, text = self.daemon.request("GET", self.path + "/graph?format=dot")
        self.assertEqual((status, headers["Content-Type"].split(";")[0]), (200, "text/vnd.graphviz"))
        text = text.decode()
        self.assertEqual(text.count("shape=cylinder"), 1)
        variable_node = next(line.split()[0] for line in text.split("\n") if "shape=cylinder" in line)
        self.assertEqual(text.count(f"{variable_node} -> "), 2)
        self.assertLess(text.index("cluster_tower\""), text.index("cluster_tower/deep\""))
        self.assertNotIn("Assign", text)
        self.assertEqual(text.count("{"), text.count("}"))

    @unittest.skipUnless(shutil.which("dot"), "Graphviz is not installed")
    def test_svg(self):
        status, headers, text = self.daemon.request("GET", self.path + "/graph?format=svg")
        self.assertEqual((status, headers["Content-Type"]), (200, "image/svg+xml"))
        titles = [one.text for one in xml.fromstring(text).iter(SVG + "title")]
        self.assertIn("cluster_tower/deep", titles)

    def test_an_empty_graph(self):
        self.expect(200, "POST", "/graph/reset")
        self.assertEqual(self.daemon.request("GET", self.path + "/graph?format=dot")[0], 200)

    def test_of_names_that_need_quotes(self):
        self.build({"op": "placeholder", "dtype": "float32", "name": "a.b-c/d", "as": "q"})
        text = self.daemon.request("GET", self.path + "/graph?format=dot")[2]
        if shutil.which("dot"):
            subprocess.run(["dot", "-Tcanon"], input=text, stdout=subprocess.DEVNULL, check=True)


class NoGraphviz(GraphTest):
    @classmethod
    def start(cls):
        return Daemon(cls.models, environment={"PATH": "/nowhere"})

    def test_svg_without_graphviz(self):
        self.build(X)
        error = self.expect(501, "GET", "/graph?format=svg", error="unsupported")["error"]
        self.assertIn("graphviz", error["hint"])
        self.assertEqual(self.daemon.request("GET", self.path + "/graph?format=dot")[0], 200)


class Values(GraphTest):
    def test_names_of_a_replayed_graph(self):
        """save, then load: the same names, handles, collections and scopes; and what is built next is named alike."""
        self.build(X, scope("s", *lstm_layer("x", 4), reuse="auto", **{"as": "kept"}),
                   {"op": "adam", "as": "optimizer"})
        self.build({"op": "reduce_mean", "args": ["r.outputs"], "as": "loss"},
                   {"op": "minimize", "optimizer": "optimizer", "loss": "loss", "as": "train"})
        self.initialize()
        before = self.expect(200, "GET", "/graph")
        version = self.expect(200, "POST", "/save")
        self.assertEqual(version["serves"], False)
        self.assertEqual(self.expect(200, "POST", "/graph/reset", {"version": version["version"]})["generation"], 2)
        after = self.expect(200, "GET", "/graph")
        differ = {"generation": 2, "base_version": version["version"], "unsaved": False}
        self.assertEqual(after, {**before, **differ})
        self.build(scope("s", *lstm_layer("x", 4, "again"), reuse="auto"),
                   {"op": "minimize", "optimizer": "optimizer", "loss": "loss", "as": "train_again"})
        self.assertEqual(len(self.variables()), len(before["variables"]))

    def test_a_version_that_makes_no_text(self):
        """It is a good one: listed as ready with the reason why it does not serve; loaded, filled from, put back."""
        self.build({"op": "get_variable", "name": "w", "shape": [2], "initializer": {"constant": 3}, "as": "w"})
        self.initialize()
        saved = self.expect(200, "POST", "/save")
        self.assertEqual(saved["serves"], False)
        model = self.expect(200, "GET", "")
        self.assertEqual(model["status"], "ready")
        entry = model["versions"][0]
        self.assertEqual((entry["version"], entry["status"], entry["reason"]["code"]),
                         (saved["version"], "ready", "no_language_model"))
        self.assertEqual(model["model_version_status"][0]["status"]["error_code"], "OK")
        self.assertNotIn(self.path.split("/")[-1], self.daemon.json("GET", "/health/ready")[1]["refused"])
        for body in None, {"version": saved["version"]}:
            loaded = self.expect(200, "POST", "/load", body)
            self.assertEqual((loaded["model"], loaded["serves"]), (saved["model"], False))
        self.expect(200, "POST", "/restore", {"version": saved["version"]})
        self.expect(422, "POST", "/generate", {"prompt": ""}, error="no_language_model")
        self.build({"op": "get_variable", "name": "v", "shape": [1]})  # not saved
        type(self).daemon.stop()
        type(self).daemon = self.start()
        wait_until(lambda: self.expect(200, "GET", "")["versions"][0]["reason"], "the version was not looked at")
        graph = self.expect(200, "GET", "/graph")
        self.assertEqual(([variable["name"] for variable in graph["variables"]], graph["base_version"]),
                         (["w:0"], saved["version"]))
        self.assertEqual(self.expect(200, "POST", "/graph/run", {"fetches": ["w"]})["results"]["w"], [3, 3])

    def test_restore_with_a_mapping(self):
        self.build(scope("old", {"op": "get_variable", "name": "w", "shape": [2], "initializer": {"constant": 3}}))
        self.initialize()
        version = self.expect(200, "POST", "/save")["version"]
        self.expect(200, "POST", "/graph/reset")
        self.build(scope("new", {"op": "get_variable", "name": "w", "shape": [2]}))
        error = self.expect(422, "POST", "/restore", {"version": version})["error"]
        self.assertEqual(error["type"], "NotFoundError")
        self.assertRegex(error["message"], "^Restoring from checkpoint failed. This is most likely due to a Variable "
                         "name or other graph key that is missing from the checkpoint.(?s:.*)"
                         "Key new/w not found in checkpoint")
        self.expect(422, "GET", "/variables/new/w")
        self.expect(200, "POST", "/restore", {"version": version, "names": {"old": "new"}})
        self.assertEqual(self.expect(200, "GET", "/variables/new/w")["data"], [3, 3])

    def test_restore_of_other_shapes_and_dtypes(self):
        self.build(variable("v", [1.0, 2.0]), variable("u", [1.0]))
        self.initialize()
        version = self.expect(200, "POST", "/save")["version"]
        for name, value, message in (("v", [1.0], r"lhs shape= \[1\] rhs shape= \[2\]"),
                                     ("v", [1, 2], "tensor_name = v; expected dtype int32 does not equal original")):
            self.expect(200, "POST", "/graph/reset")
            self.build(variable("u", [5.0]), variable(name, value))
            self.initialize()
            error = self.expect(422, "POST", "/restore", {"version": version})["error"]
            self.assertEqual(error["type"], "InvalidArgumentError")
            self.assertRegex(error["message"], message)
            self.assertEqual(self.expect(200, "GET", "/variables/u")["data"], [5])

    def test_savers(self):
        self.build(variable("v", [1.0, 2.0]), variable("w", 5.0), {"op": "saver", "var_list": {"key": "v"}, "as": "s"},
                   {"op": "initializer", "var": "v", "as": "init_v"})
        self.run_graph("init_v")
        version = self.expect(200, "POST", "/save", {"saver": "s"})["version"]
        self.expect(200, "PUT", "/variables/v", "[7, 8]")
        self.expect(200, "POST", "/restore", {"saver": "s", "version": version})
        self.assertEqual(self.run_graph("v"), [[1, 2]])
        error = self.expect(404, "POST", "/restore", {"saver": "s", "version": "nowhere"})["error"]
        self.assertEqual(error["message"], "The passed save_path is not a valid checkpoint: nowhere")
        error = self.expect(400, "POST", "/restore", {"saver": "s", "version": None})["error"]
        self.assertEqual(error["message"], "Can't load save_path when it is None.")
        self.expect(404, "POST", "/restore", {"saver": "none", "version": version}, error="not_in_graph")
        self.expect(404, "POST", "/save", {"saver": "none"}, error="not_in_graph")

    def test_signatures(self):
        self.build(X, variable("w", 1.0), {"op": "signature", "name": "anything", "inputs": {"symbol": "x"},
                                           "outputs": {"logits": "x", "state": ["x:0", "w"]}})
        self.assertEqual(self.expect(200, "GET", "/graph")["signatures"],
                         {"anything": {"inputs": {"symbol": "x:0"},
                                       "outputs": {"logits": "x:0", "state": ["x:0", "w/read:0"]}}})
        error = self.refuse(404, {"op": "signature", "name": "train", "inputs": {"a": "no:0"}, "outputs": {}})
        self.assertEqual(error["param"], "/program/0/inputs/a")
        for inputs, place in (({"a": "x", "b": "x:0"}, "b"), ({"a": ["x", "x"]}, "a"), ({"a": ["x"], "b": "x"}, "b")):
            error = self.refuse(400, {"op": "signature", "name": "twice", "inputs": inputs, "outputs": {}})
            self.assertEqual(error["param"], "/program/0/inputs/" + place)


class Lifetime(GraphTest):
    def build_something_long(self):
        steps = [{"op": "random_uniform", "args": [[1500, 1500]], "as": "y"}]
        steps += [{"op": "matmul", "args": ["y", "y"], "as": "y"}] * 60
        self.build(*steps, {"op": "reduce_sum", "args": ["y"], "as": "sum"})

    def test_reset_while_running(self):
        """Without force it is refused; with it the run is cancelled and says so."""
        for attempt in range(20):
            self.build_something_long()
            ended = []
            thread = threading.Thread(target=lambda: ended.append(
                self.daemon.json("POST", self.path + "/graph/run", {"fetches": ["sum"]})))
            thread.start()
            status, reply = self.daemon.json("POST", self.path + "/graph/reset")
            while status == 200 and not ended:  # the run had not begun
                self.build_something_long()
                status, reply = self.daemon.json("POST", self.path + "/graph/reset")
            forced = self.daemon.json("POST", self.path + "/graph/reset", {"force": True})
            thread.join()
            if status == 409 and ended[0][0] != 200:
                break
        self.assertEqual(reply["error"]["code"], "graph_in_use")
        self.assertEqual(forced[0], 200)
        error = ended[0][1]["error"]
        self.assertEqual(error["type"], "CancelledError", attempt)
        self.assertIn("was cancelled: the graph of model", error["message"])
        self.assertEqual(self.expect(200, "GET", "/graph")["nodes"], [])

    def test_names_of_a_reset_graph(self):
        self.build(variable("v", 1.0))
        self.expect(200, "POST", "/graph/reset")
        error = self.run_graph("v:0", code=409, generation=1)
        self.assertEqual((error["type"], error["code"]), ("ValueError", "generation"))
        self.assertIn("Tensor v:0 is not an element of this graph (generation 1 was reset)", error["message"])
        self.build({"op": "constant", "value": 1})
        self.expect(404, "POST", "/graph/run", {"fetches": ["v:0"]})
        error = self.refuse(400, {"op": "identity", "args": ["v"]})
        self.assertIn("'v' is neither a result", error["message"])

    def test_old_versions_go(self):
        """Those that make no text are counted, too."""
        directory = os.path.join(self.daemon.models, os.path.basename(self.path))
        self.expect(200, "PATCH", "/settings", {"versions_kept": 2})
        self.build(variable("v", 1.0))
        self.initialize()
        for _ in range(4):
            self.expect(200, "POST", "/save")
        wait_until(lambda: sorted(filter(str.isdigit, os.listdir(directory))) == ["3", "4"],
                   lambda: f"kept: {os.listdir(directory)}")

    def test_handles_of_a_reset_graph(self):
        self.build({"op": "constant", "value": 1.0, "as": "t"},
                   {"op": "variable_scope", "name": "s", "as": "sc", "body": []},
                   {"op": "basic_lstm_cell", "num_units": 2, "as": "cell"})
        self.expect(200, "POST", "/graph/reset")
        uses = (("t", {"op": "identity", "args": ["t"]}),
                ("sc", {"op": "variable_scope", "scope": "sc", "body": []}),
                ("cell", {"op": "zero_state", "cell": "cell", "batch_size": 1}))
        for name, step in uses:
            self.assertIn(f"'{name}'", self.refuse(400, step)["message"])
        self.assertEqual(self.expect(200, "GET", "/graph")["nodes"], [])
        self.build({"op": "constant", "value": 2.0})
        self.expect(404, "POST", "/graph/run", {"fetches": ["t"]})

    def test_finalize(self):
        self.build(variable("v", 1.0), {"op": "global_variables_initializer", "as": "init"}, {"op": "finalize"})
        self.run_graph("init")
        error = self.refuse(409, {"op": "constant", "value": 1})
        self.assertEqual((error["type"], error["message"]),
                         ("RuntimeError", "Graph is finalized and cannot be modified."))
        self.refuse(409, {"op": "global_variables_initializer"})
        self.assertTrue(self.expect(200, "GET", "/graph")["finalized"])
        self.expect(200, "POST", "/graph/reset")
        self.build({"op": "constant", "value": 1})


if __name__ == "__main__":
    unittest.main()
