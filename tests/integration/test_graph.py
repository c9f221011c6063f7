"""/v1/models/{m}/graph and /variables: built, run and reset over HTTP, with TensorFlow's errors."""
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from graph_case import GraphTest  # noqa: E402

STEP = {"op": "get_variable", "name": "w", "shape": [2, 2]}
MODEL = {"op": "language_model", "units": 8, "layers": 1, "vocabulary": "bytes"}


class Graph(GraphTest):
    def test_numbers_are_as_short_as_they_were_written(self):
        shown = {"short": ([0.7, 0.009], b"[0.7,0.009]"),
                 "long": ([0.1 + 0.2, 0.7], b"[0.30000000000000004,0.69999999999999996]")}
        for name, (numbers, text) in shown.items():
            self.build({"op": "constant", "value": numbers, "dtype": "float64", "name": name})
            body = {"fetches": [name + ":0"], "feeds": {}}
            self.assertIn(text, self.daemon.request("POST", self.path + "/graph/run", body)[2])

    def test_run_the_predict_head(self):
        self.build(MODEL)
        self.initialize()
        reply = self.expect(200, "POST", "/graph/run", {"feeds": {"predict/inputs:0": [[65]]}, "generation": 1,
                                                        "fetches": ["predict/probabilities:0"], "encoding": "flat"})
        probabilities = reply["results"]["predict/probabilities:0"]
        self.assertEqual(len(probabilities["data"]), 256)
        self.assertAlmostEqual(sum(probabilities["data"]), 1, places=4)

    def test_scopes(self):
        scope = {"op": "variable_scope", "name": "s", "body": [STEP]}
        self.assertEqual(self.build(scope)["variables"][0]["name"].removesuffix(":0"), "s/w")
        error = self.build(scope, code=409)["error"]
        self.assertEqual((error["variable"], error["step"]), ("s/w", "/program/0/body/0"))
        self.assertEqual(self.build({**scope, "reuse": "auto"})["variables"][0]["built"], "reused")

    def test_same_language_model_shares(self):
        self.build(MODEL)
        self.assertEqual({v["built"] for v in self.build(MODEL)["variables"]}, {"reused"})
        self.build({**MODEL, "units": 9}, code=409)

    def test_unknown_step(self):
        error = self.expect(400, "POST", "/graph/build", {"program": [STEP, {"op": "no_such_step"}]},
                            error="unsupported")["error"]
        self.assertEqual((error["param"], error["step"]), ("/program/1", "/program/1"))

    def test_guard(self):
        self.build(STEP)
        error = self.expect(409, "POST", "/graph/build", {"program": [STEP]}, error="variable_exists")["error"]
        self.assertEqual(error["type"], "ValueError")
        self.assertIn("Variable w already exists, disallowed.", error["message"])
        self.assertEqual((error["variable"], error["step"]), ("w", "/program/0"))
        self.assertEqual((error["origin"]["program"], error["origin"]["step"]), (1, "/program/0"))
        self.assertIn("reuse", error["hint"])
        self.assertEqual(self.build(STEP, reuse=True)["variables"][0]["built"], "reused")

    def test_reuse_of_what_is_missing(self):
        error = self.build(STEP, reuse=True, code=422)["error"]
        self.assertIn("does not exist, or was not created", error["message"])

    def test_failed_build_changes_nothing(self):
        before = self.expect(200, "GET", "/graph")
        self.build(STEP, {"op": "no_such_op"}, code=400)
        self.assertEqual(self.expect(200, "GET", "/graph"), before)

    def test_bad_bodies(self):
        self.build(STEP)
        for path in ("/graph/build", "/graph/run", "/graph/reset"):
            self.expect(400, "POST", path, "{", error="bad_json")
            self.expect(400, "POST", path, {"unknown": 1})
        self.expect(400, "POST", "/graph/run", {})
        self.expect(400, "POST", "/graph/reset", {"force": 1})
        self.expect(400, "POST", "/graph/reset", {"version": -1})
        self.expect(413, "POST", "/graph/reset", " " * 70000 + "{}")

    def test_run_refusals(self):
        self.build(MODEL, STEP)
        self.expect(404, "POST", "/graph/run", {"fetches": ["nothing:0"]})
        self.expect(404, "POST", "/graph/run", {"targets": ["nothing"]}, error="not_in_graph")
        self.expect(422, "POST", "/graph/run", {"fetches": ["predict/inputs:0"]})
        self.expect(422, "POST", "/graph/run", {"fetches": ["w:0"]})

    def test_reset(self):
        self.build(STEP)
        self.assertEqual(self.expect(200, "POST", "/graph/reset")["generation"], 2)
        self.assertEqual(self.expect(200, "GET", "/variables"), {"variables": []})
        error = self.expect(409, "POST", "/graph/run", {"fetches": ["w:0"], "generation": 1})["error"]
        self.assertIn("Tensor w:0 is not an element of this graph (generation 1 was reset)", error["message"])
        self.build(STEP)
        self.expect(200, "POST", "/graph/reset", {"force": True})
        self.expect(404, "POST", "/graph/reset", {"version": 7}, error="version_not_found")

    def test_reset_to_a_version(self):
        self.build(MODEL)
        self.initialize()
        self.assertEqual(self.expect(200, "POST", "/save")["version"], 1)
        before = self.expect(200, "GET", "/variables/softmax/w")
        self.expect(200, "POST", "/graph/reset")
        self.assertEqual(self.expect(200, "POST", "/graph/reset", {"version": 1})["generation"], 3)
        self.assertEqual(self.expect(200, "GET", "/variables/softmax/w"), before)

    def test_variables(self):
        self.build(STEP)
        self.assertEqual(self.expect(200, "GET", "/variables")["variables"],
                         [{"name": "w:0", "shape": [2, 2], "dtype": "float32", "trainable": True,
                           "initialized": False}])
        self.expect(422, "GET", "/variables/w")
        self.expect(200, "POST", "/graph/run", {"targets": ["w/Assign"]})
        value = self.expect(200, "GET", "/variables/w")
        self.assertEqual((value["dtype"], value["shape"], len(value["data"])), ("float32", [2, 2], 4))
        self.assertEqual(self.expect(200, "GET", "/variables/w:0"), value)
        self.assertIn("base64", self.expect(200, "GET", "/variables/w?encoding=base64"))
        self.expect(400, "GET", "/variables/w?encoding=hex")
        self.expect(400, "GET", "/variables/w?form=flat", error="unknown_field")
        self.expect(404, "GET", "/variables/w/Assign", error="variable_not_found")
        self.expect(200, "PUT", "/variables/w", [[1, 2], [3, 4]])
        self.assertEqual(self.expect(200, "GET", "/variables/w")["data"], [1, 2, 3, 4])
        self.expect(200, "PUT", "/variables/w:0", {"dtype": "float32", "shape": [2, 2], "data": [5, 6, 7, 8]})
        self.assertEqual(self.expect(200, "GET", "/variables/w?encoding=nested"), [[5, 6], [7, 8]])
        error = self.expect(422, "PUT", "/variables/w", [1, 2])["error"]
        self.assertEqual((error["type"], error["message"]), ("ValueError", "Cannot feed value of shape (2,) for Tensor "
                                                             "'w:0', which has shape '(2, 2)'"))
        self.expect(400, "PUT", "/variables/w", [["a", 2], [3, 4]])
        self.expect(400, "PUT", "/variables/w", "[1", error="bad_json")
        self.expect(404, "PUT", "/variables/v", "1", error="variable_not_found")

    def test_pictures(self):
        self.expect(400, "GET", "/graph?format=gif")
        self.expect(400, "GET", "/graph?colour=red", error="unknown_field")
        self.expect(200, "GET", "/graph?format=json")


if __name__ == "__main__":
    unittest.main()
