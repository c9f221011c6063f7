"""TF Serving's REST API: predict by rows and columns, status, metadata, versions and labels, and its errors."""
import os
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from graph_case import ServedGraphTest, placeholder  # noqa: E402
from harness import SMALL  # noqa: E402

SHORT = True
# sum = a + b, twice = a * 2 row by row; total is no row at all.
PROGRAM = [placeholder("a", None, 2), placeholder("n", None, dtype="int32"), placeholder("flag", None, dtype="bool"),
           {"op": "get_variable", "name": "w", "shape": [2], "initializer": {"constant": 10}, "as": "w"},
           {"op": "add", "args": ["a", "w"], "name": "sum", "as": "sum"},
           {"op": "add", "args": ["n", "n"], "name": "twice", "as": "twice"},
           {"op": "reduce_sum", "args": ["a"], "name": "total", "as": "total"},
           {"op": "assign", "var": "w", "value": [1.0, 2.0], "as": "set"},
           {"op": "signature", "name": "serving_default", "inputs": {"a": "a", "n": "n"},
            "outputs": {"sum": "sum", "twice": "twice"}},
           {"op": "signature", "name": "one", "inputs": {"a": "a"}, "outputs": {"sum": "sum"}},
           {"op": "signature", "name": "total", "inputs": {"a": "a"}, "outputs": {"sum": "sum", "total": "total"}},
           {"op": "signature", "name": "flags", "inputs": {"flag": "flag"}, "outputs": {"flag": "flag"}},
           {"op": "signature", "name": "write", "inputs": {}, "outputs": {"set": "set"}}]


class TfServing(ServedGraphTest):
    PROGRAM = PROGRAM

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.call("PUT", "/labels/old", {"version": 1})

    def predict(self, body, path="sums", code=200):
        reply = self.expect(code, "POST", f"/v1/models/{path}:predict", body)
        if code != 200:
            self.assertEqual(list(reply), ["error"])
            self.assertIsInstance(reply["error"], str)
            return reply["error"]
        return reply

    def test_rows(self):
        rows = [{"a": [1, 2], "n": 3}, {"a": [4, 5], "n": 6}]
        self.assertEqual(self.predict({"instances": rows}),
                         {"predictions": [{"sum": [101.0, 202.0], "twice": 6}, {"sum": [104.0, 205.0], "twice": 12}]})
        self.assertEqual(self.predict({"signature_name": "one", "instances": [[1, 2], [3, 4]]}),
                         {"predictions": [[101.0, 202.0], [103.0, 204.0]]})
        self.assertEqual(self.predict({"signature_name": "one", "instances": [{"a": [1, 2]}]}),
                         {"predictions": [[101.0, 202.0]]})

    def test_columns(self):
        self.assertEqual(self.predict({"inputs": {"a": [[1, 2]], "n": [3, 4, 5]}}),
                         {"outputs": {"sum": [[101.0, 202.0]], "twice": [6, 8, 10]}})
        self.assertEqual(self.predict({"signature_name": "one", "inputs": [[1, 2]]}), {"outputs": [[101.0, 202.0]]})
        self.assertEqual(self.predict({"signature_name": "total", "inputs": {"a": [[1, 2]]}}),
                         {"outputs": {"sum": [[101.0, 202.0]], "total": 3.0}})
        self.assertEqual(self.predict({"signature_name": "flags", "inputs": [True, False]}),
                         {"outputs": [True, False]})

    def test_versions_and_labels(self):
        body = {"signature_name": "one", "instances": [[0, 0]]}
        for path, sums in (("sums", [100.0, 200.0]), ("sums/versions/1", [10.0, 10.0]),
                           ("sums/versions/2", [100.0, 200.0]), ("sums/labels/old", [10.0, 10.0]),
                           ("sums/labels/current", [100.0, 200.0])):
            self.assertEqual(self.predict(body, path), {"predictions": [sums]})
        self.assertIn("Servable not found", self.predict(body, "sums/versions/9", 404))
        self.assertIn("Servable not found", self.predict(body, "sums/labels/new", 404))
        self.assertIn("Servable not found", self.predict(body, "none", 404))
        self.assertIn("version 'x'", self.predict(body, "sums/versions/x", 400))

    def test_what_serves_does_not_move(self):
        body = {"signature_name": "one", "instances": [[0, 0]]}
        self.call("PUT", "/variables/w", [7, 7])
        self.assertEqual(self.predict(body), {"predictions": [[100.0, 200.0]]})
        self.assertIn("cannot be changed", self.predict({"signature_name": "write", "inputs": {}}, code=400))

    def test_a_language_model(self):
        reply = self.predict({"inputs": {"tokens": [[1, 2, 3]]}}, "bard")["outputs"]
        self.assertEqual(set(reply), {"logits", "probabilities", "state.0", "state.1"})
        self.assertAlmostEqual(sum(reply["probabilities"][0][2]), 1, places=5)
        first = self.predict({"instances": [[1, 2]]}, "bard")["predictions"][0]
        states = {name: [first[name]] for name in ("state.0", "state.1")}
        rest = self.predict({"inputs": {"tokens": [[3]], **states}}, "bard")["outputs"]
        for one, other in zip(rest["logits"][0][0], reply["logits"][0][2]):
            self.assertAlmostEqual(one, other, places=5)
        self.assertEqual(len(reply["state.0"][0]), SMALL["units"])

    def test_parallel_calls_equal_serial_ones(self):
        bodies = [{"instances": [[i % 7, 1, 2, i % 5]]} for i in range(64)]
        serial = [self.predict(body, "bard") for body in bodies]
        parallel = [None] * len(bodies)

        def ask(index):
            parallel[index] = self.predict(bodies[index], "bard")

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(bodies))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(parallel, serial)

    def test_bad_requests(self):
        row = {"a": [1, 2], "n": 3}
        for body, text in (
                ({}, "neither"),
                ({"instances": [row], "inputs": {}}, "both"),
                ({"instances": []}, "at least one"),
                ({"instances": {"a": 1}}, "must be a list"),
                ({"instances": [row, {"a": [1, 2]}]}, "element: 1 of 'instances'"),
                ({"instances": [row, {"a": [1, 2], "m": 3}]}, "It has no 'n'"),
                ({"instances": [row, [1, 2]]}, "element: 1 of 'instances'"),
                ({"instances": [[1, 2]]}, "2 inputs, which go by their names: a, n"),
                ({"instances": [{**row, "x": 1}]}, "no input 'x'"),
                ({"instances": [{"a": [1, 2]}]}, "the input 'n' (int32, shape (?,)) is missing"),
                ({"instances": [row, {"a": [1, 2, 3], "n": 3}]}, "ragged"),
                ({"instances": [{"a": [1, 2, 3], "n": 3}]}, "'a' has shape (?, 2), but was given shape (1, 3)"),
                ({"instances": [{"a": [1, "x"], "n": 3}]}, "the input 'a'"),
                ({"instances": [{"a": [1, True], "n": 3}]}, "element 1 is no float32"),
                ({"instances": [{"a": [1, 2], "n": 1.5}]}, "the input 'n': element 0 is no int32"),
                ({"instances": [{"a": [1, 2], "n": "NaN"}]}, "the input 'n': element 0 is no int32"),
                ({"instances": [{"a": [1, 2], "n": 2**31}]}, "2147483648, no int32"),
                ({"instances": [{"a": {"b64": "AAAA"}, "n": 3}]}, "b64"),
                ({"inputs": {"a": {"b64": "AAAA"}, "n": 3}}, "the input 'a': {\"b64\"}"),
                ({"inputs": {"a": [[1, 2]], "n": 3}}, "but was given shape ()"),
                ({"signature_name": "none", "instances": [row]}, "there are: serving_default, one, total"),
                ({"signature_name": 1, "instances": [row]}, "signature_name must be a string"),
                ({"signature_name": "total", "instances": [[1, 2]]}, "Tensor name: total"),
                ('{"instances":[{"a":[NaN,1],"n":3}]}', "near 'NaN'"),
                ("[1]", "not a JSON object"), ("", "neither"), ("{", "not JSON")):
            self.assertIn(text, self.predict(body, code=400), body)
        deep = "[" * 9 + "1" + "]" * 9
        self.assertIn("deeper than 8", self.predict('{"signature_name":"one","inputs":' + deep + "}", code=400))

    def test_unknown_fields_are_named(self):
        reply = self.predict({"signature_name": "one", "instances": [[1, 2]], "output_filter": []})
        self.assertEqual(reply["warnings"], ["unknown field 'output_filter' was ignored"])
        many = {f"f{index}": 0 for index in range(99)}
        reply = self.predict({"signature_name": "one", "instances": [[1, 2]], "ä" * 33: 0, **many})
        self.assertEqual(reply["warnings"][0], "an unknown field with a long name was ignored")
        self.assertEqual(reply["warnings"][1], "unknown field 'f0' was ignored")
        self.assertEqual(reply["warnings"][16:], ["84 more unknown fields were ignored"])

    def test_special_numbers(self):
        body = {"signature_name": "one", "instances": [["NaN", "-Infinity"]]}
        self.assertEqual(self.predict(body), {"predictions": [["NaN", "-Infinity"]]})

    def test_verbs(self):
        for verb in ("classify", "regress"):
            error = self.expect(400, "POST", f"/v1/models/sums:{verb}", {})["error"]
            self.assertIn(f":{verb} takes tf.Example", error)
        self.assertIn("Malformed request", self.expect(400, "POST", "/v1/models/sums:explain", {})["error"])
        self.assertIn("Malformed request", self.expect(400, "POST", "/v1/models/sums", {})["error"])

    def test_metrics(self):
        status, headers, content = self.daemon.request("GET", "/monitoring/prometheus/metrics")
        self.assertEqual((status, headers["Content-Type"].split(";")[0]), (200, "text/plain"))
        self.assertIn(b"lstmd_build_info{", content)

    def test_status(self):
        good = {"error_code": "OK", "error_message": ""}
        own = self.expect(200, "GET", "/v1/models/sums")["model_version_status"]
        self.assertEqual([one["version"] for one in own], ["2", "1"])
        for path, version in (("versions/2", "2"), ("versions/1", "1"), ("labels/old", "1")):
            self.assertEqual(self.expect(200, "GET", "/v1/models/sums/" + path),
                             {"model_version_status": [{"version": version, "state": "AVAILABLE", "status": good}]})
        for path in ("sums/versions/3", "none/versions/1", "sums/labels/none"):
            self.assertIn("Servable not found", self.expect(404, "GET", "/v1/models/" + path)["error"])

    def test_metadata(self):
        reply = self.expect(200, "GET", "/v1/models/sums/versions/1/metadata")
        self.assertEqual(reply["model_spec"], {"name": "sums", "signature_name": "", "version": "1"})
        signatures = reply["metadata"]["signature_def"]["signature_def"]
        self.assertEqual(set(signatures), {"serving_default", "one", "total", "flags", "write"})
        self.assertEqual(signatures["one"], {
            "inputs": {"a": {"dtype": "DT_FLOAT", "name": "a:0", "tensor_shape": {
                "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}], "unknown_rank": False}}},
            "outputs": {"sum": {"dtype": "DT_FLOAT", "name": "sum:0", "tensor_shape": {
                "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}], "unknown_rank": False}}},
            "method_name": "tensorflow/serving/predict"})
        self.assertEqual(self.expect(200, "GET", "/v1/models/sums/metadata")["model_spec"]["version"], "2")
        for path in ("sums/labels/old", "sums:old", "sums@1"):
            self.assertEqual(self.expect(200, "GET", f"/v1/models/{path}/metadata")["model_spec"]["version"], "1")
        for path in ("sums:none", "sums/labels/old:predict", "sums/versions/1:predict"):
            status = self.daemon.request("GET", f"/v1/models/{path}/metadata")[0]
            self.assertIn(status, (400, 404), path)

    def test_unloaded(self):
        self.assertEqual(self.expect(200, "POST", "/v1/models/bard/unload", {})["unloaded"], True)
        self.assertIn("unloaded", self.predict({"instances": [[1]]}, "bard", 503))
        self.expect(200, "POST", "/v1/models/bard/load", {})
        self.predict({"instances": [[1]]}, "bard")

    def test_deleted_and_made_anew(self):
        self.expect(201, "PUT", "/v1/models/short", {})
        body = {"signature_name": "s", "inputs": {}}
        for value in (1.0, 2.0):
            variable = {"op": "variable", "initial_value": value, "name": "v", "as": "v"}
            signature = {"op": "signature", "name": "s", "inputs": {}, "outputs": {"v": "v"}}
            program = {"program": [variable, signature, {"op": "global_variables_initializer", "as": "init"}]}
            self.expect(200, "POST", "/v1/models/short/graph/build", program)
            self.expect(200, "POST", "/v1/models/short/graph/run", {"targets": ["init"]})
            self.assertEqual(self.expect(200, "POST", "/v1/models/short/save", {})["version"], 1)
            self.assertEqual(self.predict(body, "short"), {"outputs": value})
            self.expect(200, "DELETE", "/v1/models/short")
            self.predict(body, "short", 404)
            self.expect(201, "PUT", "/v1/models/short", {})


if __name__ == "__main__":
    unittest.main()
