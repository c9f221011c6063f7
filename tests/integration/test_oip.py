"""The Open Inference Protocol v2: metadata, health, inference in JSON and binary tensors, sequences, repository,
statistics. Binary requests are laid out as tritonclient lays them out: JSON, then the tensors' bytes in order."""
import json
import os
import struct
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from graph_case import ServedGraphTest, placeholder  # noqa: E402
from harness import wait_until  # noqa: E402

SHORT = True
# sum = x + w; the state counts up by x: next = state + x.
PROGRAM = [placeholder("x", None, 2), placeholder("s", None, 2), placeholder("n", None, dtype="int64"),
           placeholder("flag", None, dtype="bool"),
           {"op": "get_variable", "name": "w", "shape": [2], "initializer": {"constant": 10}, "as": "w"},
           {"op": "add", "args": ["x", "w"], "name": "sum", "as": "sum"},
           {"op": "add", "args": ["s", "x"], "name": "next", "as": "next"},
           {"op": "add", "args": ["n", "n"], "name": "twice", "as": "twice"},
           {"op": "signature", "name": "serving_default", "inputs": {"x": "x", "n": "n", "flag": "flag"},
            "outputs": {"sum": "sum", "twice": "twice", "flag": "flag"}},
           {"op": "signature", "name": "one", "inputs": {"x": "x"}, "outputs": {"sum": "sum"}},
           {"op": "signature", "name": "count", "inputs": {"x": "x", "state": "s"},
            "outputs": {"sum": "sum", "state": "next"}}]
X = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
N = {"name": "n", "shape": [3], "datatype": "INT64", "data": [1, -2, 2**40]}
FLAG = {"name": "flag", "shape": [2], "datatype": "BOOL", "data": [True, False]}


def tensor(name, datatype, shape, data):
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


class OipTest(ServedGraphTest):
    CONFIG = "log_requests = yes\n"

    PROGRAM = PROGRAM

    def infer(self, body, path="sums", code=200, headers=None):
        status, reply = self.daemon.json("POST", f"/v2/models/{path}/infer", body, headers)
        self.assertEqual(status, code, reply)
        if code != 200:
            self.assertEqual(list(reply), ["error"])
            return reply["error"]
        return reply

    def outputs(self, *arguments, **options):
        return {one["name"]: one["data"] for one in self.infer(*arguments, **options)["outputs"]}


class Binary:
    """A request's body with binary tensors, and a reply's outputs by name."""

    def __init__(self, inputs, **fields):
        raw = [one.pop("raw") for one in inputs]
        for one, content in zip(inputs, raw):
            one["parameters"] = {"binary_data_size": len(content)}
        self.head = json.dumps({"inputs": inputs, **fields}, separators=(",", ":")).encode()
        self.body = self.head + b"".join(raw)
        self.headers = {"Inference-Header-Content-Length": str(len(self.head))}

    @staticmethod
    def read(headers, content):
        length = int(headers["Inference-Header-Content-Length"])
        reply = json.loads(content[:length])
        tensors, at = {}, length
        for output in reply["outputs"]:
            size = output.get("parameters", {}).get("binary_data_size")
            if size is not None:
                tensors[output["name"]] = content[at:at + size]
                at += size
        if at != len(content):
            raise AssertionError(f"{len(content) - at} bytes of the reply belong to no output")
        return reply, tensors


class Server(OipTest):
    def test_metadata(self):
        reply = self.expect(200, "GET", "/v2")
        self.assertEqual(reply["name"], "lstmd")
        self.assertIn("binary_tensor_data", reply["extensions"])
        self.assertEqual(self.expect(200, "GET", "/v2/health/live"), {"live": True})
        wait_until(lambda: self.daemon.json("GET", "/v2/health/ready") == (200, {"ready": True}))
        self.assertEqual(self.expect(404, "GET", "/v2/trace/setting"), {"error": "there is no /v2/trace/setting"})
        self.assertIsInstance(self.expect(405, "POST", "/v2/models/sums")["error"], str)
        self.assertEqual(self.daemon.request("POST", "/v2/models/stats")[1]["Allow"], "GET")

    def test_model_metadata(self):
        self.assertEqual(self.expect(200, "GET", "/v2/models/sums"), {
            "name": "sums", "versions": ["1", "2"], "platform": "lstmd_native",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]},
                       {"name": "n", "datatype": "INT64", "shape": [-1]},
                       {"name": "flag", "datatype": "BOOL", "shape": [-1]}],
            "outputs": [{"name": "sum", "datatype": "FP32", "shape": [-1, 2]},
                        {"name": "twice", "datatype": "INT64", "shape": [-1]},
                        {"name": "flag", "datatype": "BOOL", "shape": [-1]}]})
        self.assertEqual(self.expect(200, "GET", "/v2/models/sums@1")["versions"], ["1", "2"])
        reply = self.expect(200, "GET", "/v2/models/bard/versions/1")
        self.assertEqual(reply["inputs"][0], {"name": "tokens", "datatype": "INT32", "shape": [-1, -1]})
        self.assertIn("'none'", self.expect(404, "GET", "/v2/models/none")["error"])
        self.expect(404, "GET", "/v2/models/sums/versions/7")
        self.expect(400, "GET", "/v2/models/sums/versions/x")

    def test_model_ready(self):
        for path in ("sums", "sums/versions/1", "bard", "bard/versions/1"):
            self.assertEqual(self.expect(200, "GET", f"/v2/models/{path}/ready"),
                             {"name": path.split("/")[0], "ready": True})
        self.expect(404, "GET", "/v2/models/none/ready")
        self.expect(404, "GET", "/v2/models/sums/versions/3/ready")

    def test_repository(self):
        index = self.expect(200, "POST", "/v2/repository/index", {})
        self.assertIn({"name": "sums", "version": "2", "state": "READY", "reason": ""}, index)
        self.assertIn({"name": "bard", "version": "1", "state": "READY", "reason": ""}, index)
        status, _, content = self.daemon.request("POST", "/v2/repository/models/bard/unload", "")
        self.assertEqual((status, content), (200, b""))
        index = self.expect(200, "POST", "/v2/repository/index", {})
        self.assertIn({"name": "bard", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}, index)
        ready = self.expect(200, "POST", "/v2/repository/index", {"ready": True})
        self.assertEqual({one["name"] for one in ready}, {"sums"})
        self.assertEqual(self.expect(400, "GET", "/v2/models/bard/ready"), {"name": "bard", "ready": False})
        self.infer({"inputs": [tensor("tokens", "INT32", [1, 1], [1])]}, "bard", 503)
        status, _, content = self.daemon.request("POST", "/v2/repository/models/bard/load", "{}")
        self.assertEqual((status, content), (200, b""))
        self.expect(200, "GET", "/v2/models/bard/ready")
        self.expect(404, "POST", "/v2/repository/models/none/load", {})
        error = self.expect(400, "POST", "/v2/repository/models/bard/load", {"parameters": {"config": "{}"}})["error"]
        self.assertIn("'config' is not supported", error)

    def test_statistics(self):
        def stats():
            found = self.expect(200, "GET", "/v2/models/sums/versions/1/stats")["model_stats"]
            self.assertEqual([(one["name"], one["version"]) for one in found], [("sums", "1")])
            return found[0]

        before = stats()
        for _ in range(3):
            self.infer({"inputs": [X, N, FLAG]}, "sums/versions/1")
        self.infer({"inputs": [X]}, "sums/versions/1", 400)
        after = stats()
        self.assertEqual(after["inference_count"] - before["inference_count"], 3)
        self.assertEqual(after["execution_count"], after["inference_count"])
        self.assertGreater(after["last_inference"], 1.7e12)
        parts, old = after["inference_stats"], before["inference_stats"]
        self.assertEqual(set(parts), {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output",
                                      "cache_hit", "cache_miss"})
        self.assertEqual(parts["success"]["count"] - old["success"]["count"], 3)
        self.assertEqual(parts["fail"]["count"] - old["fail"]["count"], 1)
        self.assertGreater(parts["success"]["ns"], parts["compute_infer"]["ns"])
        self.assertGreater(parts["compute_infer"]["ns"], 0)
        self.assertEqual(after["batch_stats"][0]["batch_size"], 1)
        everything = self.expect(200, "GET", "/v2/models/stats")["model_stats"]
        self.assertIn("bard", {one["name"] for one in everything})
        self.expect(404, "GET", "/v2/models/none/stats")

    def test_a_new_version_lets_the_old_graph_go(self):
        def served(name):
            stats = self.expect(200, "GET", f"/v2/models/{name}/stats")["model_stats"]
            return [(one["version"], one["inference_count"]) for one in stats]

        body = {"inputs": [], "parameters": {"signature_name": "s"}}
        steps = [{"op": "variable", "initial_value": 1.0, "name": "v", "as": "v"},
                 {"op": "signature", "name": "s", "inputs": {}, "outputs": {"v": "v"}},
                 {"op": "global_variables_initializer", "as": "init"}]
        self.expect(201, "PUT", "/v1/models/short", {})
        self.expect(200, "POST", "/v1/models/short/graph/build", {"program": steps})
        self.expect(200, "POST", "/v1/models/short/graph/run", {"targets": ["init"]})
        for version in ("1", "2", "3"):
            self.expect(200, "POST", "/v1/models/short/save", {})
            self.assertEqual(self.infer(body, "short")["model_version"], version)
            self.assertEqual(served("short"), [(version, 1)])
        self.assertEqual(self.infer(body, "short/versions/1")["model_version"], "1")
        self.assertEqual(served("short"), [("1", 1), ("3", 1)])
        self.assertEqual(self.infer(body, "short/versions/2")["model_version"], "2")
        self.assertEqual(served("short"), [("2", 1), ("3", 1)])
        self.expect(200, "POST", "/v1/models/short/unload", {})
        self.expect(503, "GET", "/v2/models/short/stats")
        self.expect(200, "POST", "/v1/models/short/load", {})
        self.assertEqual(served("short"), [])
        self.expect(200, "DELETE", "/v1/models/short")


class Logging(OipTest):
    def test_levels(self):
        whole = {"log_file": "", "log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0,
                 "log_format": "default"}
        self.assertEqual(self.expect(200, "GET", "/v2/logging"), whole)
        less = {**whole, "log_info": False}
        self.assertEqual(self.expect(200, "POST", "/v2/logging", {"log_info": False}), less)
        self.daemon.request("GET", "/v2", headers={"X-Request-Id": "unseen"})
        self.assertEqual(self.expect(200, "POST", "/v2/logging", {"log_verbose_level": 1, "log_info": True}),
                         {**whole, "log_verbose_level": 1})
        self.daemon.request("GET", "/v2", headers={"X-Request-Id": "seen"})
        self.daemon.wait_for_output("id=seen ")
        self.assertNotIn("id=unseen ", self.daemon.text())
        self.assertEqual(self.expect(200, "POST", "/v2/logging", {"log_verbose_level": 0}), whole)

    def test_refusals(self):
        for body, text in (({"log_error": False}, "always logged"), ({"log_warning": False}, "less urgent"),
                           ({"log_info": False, "log_verbose_level": 1}, "less urgent"),
                           ({"log_file": "/tmp/x"}, "log_file cannot be set"),
                           ({"log_format": "ISO8601"}, "log_format cannot be set"), ({"log_info": 1}, "log_info must")):
            self.assertIn(text, self.expect(400, "POST", "/v2/logging", body)["error"], body)


class Infer(OipTest):
    def test_json(self):
        reply = self.infer({"id": "q1", "inputs": [X, N, FLAG]})
        self.assertEqual(reply, {"model_name": "sums", "model_version": "2", "id": "q1", "outputs": [
            tensor("sum", "FP32", [2, 2], [101.0, 202.0, 103.0, 204.0]),
            tensor("twice", "INT64", [3], [2, -4, 2**41]), tensor("flag", "BOOL", [2], [True, False])]})
        self.assertNotIn("id", self.infer({"inputs": [X, N, FLAG]}))

    def test_nested_data_and_chosen_outputs(self):
        nested = {**X, "data": [[1, 2], [3, 4]]}
        body = {"inputs": [nested], "outputs": [{"name": "sum"}], "parameters": {"signature_name": "one"}}
        self.assertEqual(self.outputs(body), {"sum": [101.0, 202.0, 103.0, 204.0]})
        self.assertEqual(self.infer(body, "sums/versions/1")["model_version"], "1")
        self.assertEqual(self.outputs(body, "sums/versions/1"), {"sum": [11.0, 12.0, 13.0, 14.0]})

    def test_binary(self):
        binary = Binary([{"name": "x", "datatype": "FP32", "shape": [1, 2], "raw": struct.pack("<2f", 1.5, -2)},
                         {"name": "n", "datatype": "INT64", "shape": [2], "raw": struct.pack("<2q", 2**62, -3)},
                         {"name": "flag", "datatype": "BOOL", "shape": [3], "raw": b"\0\1\1"}],
                        id="b", parameters={"binary_data_output": True})
        status, headers, content = self.daemon.request("POST", "/v2/models/sums/infer", binary.body, binary.headers)
        self.assertEqual((status, headers["Content-Type"]), (200, "application/octet-stream"), content)
        reply, tensors = Binary.read(headers, content)
        self.assertEqual((reply["model_name"], reply["model_version"], reply["id"]), ("sums", "2", "b"))
        self.assertEqual([(one["name"], one["datatype"], one["shape"]) for one in reply["outputs"]],
                         [("sum", "FP32", [1, 2]), ("twice", "INT64", [2]), ("flag", "BOOL", [3])])
        self.assertEqual(struct.unpack("<2f", tensors["sum"]), (101.5, 198.0))
        self.assertEqual(struct.unpack("<2q", tensors["twice"]), (-2**63, -6))
        self.assertEqual(tensors["flag"], b"\0\1\1")

    def test_binary_and_json_mixed(self):
        x = {"name": "x", "datatype": "FP32", "shape": [1, 2], "raw": struct.pack("<2f", 1, 2)}
        binary = Binary([x], outputs=[{"name": "sum", "parameters": {"binary_data": True}}],
                        parameters={"signature_name": "one"})
        headers, content = self.daemon.request("POST", "/v2/models/sums/infer", binary.body, binary.headers)[1:]
        self.assertEqual(struct.unpack("<2f", Binary.read(headers, content)[1]["sum"]), (101.0, 202.0))
        body = {"inputs": [X], "outputs": [{"name": "sum", "parameters": {"binary_data": False}}],
                "parameters": {"signature_name": "one", "binary_data_output": True}}
        self.assertEqual(self.outputs(body), {"sum": [101.0, 202.0, 103.0, 204.0]})
        head = json.dumps(body)
        self.assertEqual(self.infer(head, headers={"Inference-Header-Content-Length": str(len(head))})["outputs"][0],
                         tensor("sum", "FP32", [2, 2], [101.0, 202.0, 103.0, 204.0]))

    def test_raw_body(self):
        raw = struct.pack("<3i", 1, 2, 3)
        status, headers, content = self.daemon.request("POST", "/v2/models/bard/infer", raw,
                                                       {"Inference-Header-Content-Length": "0"})
        self.assertEqual(status, 200, content)
        reply, tensors = Binary.read(headers, content)
        self.assertEqual(reply["outputs"][0]["shape"][:2], [1, 3])
        flat = self.outputs({"inputs": [tensor("tokens", "INT32", [1, 3], [1, 2, 3])]}, "bard")["logits"]
        self.assertEqual(tensors["logits"], struct.pack(f"<{len(flat)}f", *flat))
        headers = {"Inference-Header-Content-Length": "0"}
        self.assertIn("5 bytes were given, its shape (1, 1) of int32 takes 4",
                      self.infer(raw[:5], "bard", code=400, headers=headers))
        self.assertIn("3 inputs, which go by their names", self.infer(raw, code=400, headers=headers))

    def test_large_body(self):
        count = 40000
        body = {"parameters": {"signature_name": "one"}, "inputs": [tensor("x", "FP32", [count, 2], [1] * (2 * count))]}
        self.assertEqual(self.outputs(body)["sum"], [101.0, 201.0] * count)

    def test_bad_tensors(self):
        def x(**fields):
            return {"parameters": {"signature_name": "one"}, "inputs": [{**X, **fields}]}

        for body, text in (
                ({}, "inputs must be a list"), ({"inputs": {}}, "inputs must be a list"),
                ({"inputs": [1]}, "object with a name"), ({"inputs": [{"name": 1}]}, "object with a name"),
                ({"inputs": [X]}, "the input 'n' (int64, shape (?,)) is missing"),
                ({"inputs": [X, X]}, "the input 'x' is given twice"),
                ({"inputs": [{**X, "name": "y"}]}, "no input 'y'; there are: x, n, flag"),
                (x(datatype="FP64"), "the input 'x' has datatype FP32, but was given as 'FP64'"),
                (x(datatype="BYTES"), "was given as 'BYTES'"), (x(datatype=None), "was given as 'none'"),
                (x(shape=None), "the input 'x': shape must be a list"),
                (x(shape=[2, -2]), "the input 'x': dimension 1 of the shape is -2, below 0"),
                (x(shape=[2, 2.5]), "dimension 1 of the shape is no whole number"),
                (x(shape=[1] * 9), "at most 8 whole numbers"),
                (x(shape=[2**40, 2**40]), "has more than 67108864 elements"),
                (x(shape=[2**62, 4]), "has more than 67108864 elements"),
                (x(shape=[2, 3]), "the input 'x': its data has 4 elements, its shape (2, 3) 6"),
                (x(shape=[67108864]), "its data has 4 elements, its shape (67108864,) 67108864"),
                (x(shape=[4]), "the input 'x' has shape (?, 2), but was given shape (4,)"),
                (x(data=[1, 2, 3, "x"]), "the input 'x'"), (x(data=[1, 2, 3, None]), "element 3 is no float32"),
                (x(data=7), "data must be a list"), (x(data=None), "neither data nor binary_data_size"),
                (x(data=[[1, 2], [3]]), "ragged"), (x(data=[[1, 2, 3, 4]]), "its data has shape (1, 4), not (2, 2)"),
                (x(parameters={"binary_data_size": 16}), "both data and binary_data_size"),
                (x(parameters=1), "the input 'x': parameters must be an object"),
                (x(parameters={"shared_memory_region": "r"}), "shared_memory_region is not supported"),
                (x(data=None, parameters={"binary_data_size": 16}), "binary_data_size is 16, but the body has 0 bytes"),
                (x(data=None, parameters={"binary_data_size": -1}), "whole number of 0 or more"),
                ({"inputs": [X, {**N, "data": [1, 2, 1.5]}, FLAG]}, "the input 'n': element 2 is no int64"),
                ({"inputs": [X, {**N, "data": [1, 2, "NaN"]}, FLAG]}, "the input 'n': element 2 is no int64"),
                ({"inputs": [X, N, FLAG], "outputs": [{"name": "y"}]}, "no output 'y'; there are: sum, twice, flag"),
                ({"inputs": [X, N, FLAG], "outputs": [{"name": "sum"}] * 2}, "asked for twice"),
                ({"inputs": [X, N, FLAG], "outputs": [{"name": "sum"}] * 9}, "9 outputs are asked for"),
                ({"inputs": [X, N, FLAG], "outputs": {}}, "outputs must be a list"),
                ({"inputs": [X, N, FLAG], "outputs": [{"name": "sum", "parameters": {"classification": 3}}]},
                 "classification is not supported"),
                ({"inputs": [X, N, FLAG], "parameters": []}, "parameters must be an object"),
                ({"inputs": [X, N, FLAG], "parameters": {"binary_data_output": 1}}, "must be true or false"),
                ({"inputs": [X, N, FLAG], "parameters": {"signature_name": "no"}}, "there are: serving_default, one"),
                ({"inputs": [X, N, FLAG], "parameters": {"timeout": -1}}, "timeout must be an integer"),
                ({"inputs": [X, N, FLAG], "id": 1}, "id must be a string"),
                ("{", "not JSON"), ("[]", "not a JSON object")):
            self.assertIn(text, self.infer(body, code=400), body)
        self.assertIn("Inference-Header-Content-Length is 500, but the body has 2 bytes",
                      self.infer("{}", code=400, headers={"Inference-Header-Content-Length": "500"}))
        for length in ("-1", "x", "99999999999999999999"):
            self.infer("{}", code=400, headers={"Inference-Header-Content-Length": length})
        self.infer("{}", code=415, headers={"Content-Encoding": "gzip"})
        self.infer({"inputs": [X]}, "none", 404)
        self.infer({"inputs": [X]}, "sums/versions/9", 404)

    def test_bad_binary(self):
        def ask(raw, shape, tail=b"", **fields):
            binary = Binary([{"name": "x", "datatype": "FP32", "shape": shape, "raw": raw}],
                            parameters={"signature_name": "one"}, **fields)
            return self.infer(binary.body + tail, code=400, headers=binary.headers)

        self.assertIn("7 bytes were given, its shape (1, 2) of float32 takes 8", ask(b"1234567", [1, 2]))
        self.assertIn("8 bytes were given, its shape (8192, 8192) of float32 takes 268435456",
                      ask(b"12345678", [8192, 8192]))
        self.assertIn("3 bytes behind the JSON belong to no input", ask(b"12345678", [1, 2], b"abc"))

    def test_what_means_nothing_is_named(self):
        reply = self.infer({"inputs": [X], "parameters": {"signature_name": "one", "color": 1}, "model": "x"})
        self.assertEqual(reply["warnings"], ["unknown field 'model' was ignored", "unknown field 'color' was ignored"])


class Sequences(OipTest):
    names = iter(range(1, 1000))

    def step(self, sequence, *values, code=200, path="sums", **flags):
        parameters = {"signature_name": "count", "sequence_id": sequence,
                      **{"sequence_" + name: value for name, value in flags.items()}}
        body = {"inputs": [tensor("x", "FP32", [1, 2], list(values))], "parameters": parameters,
                "outputs": [{"name": "state"}]}
        return self.infer(body, path, code) if code != 200 else self.outputs(body, path)["state"]

    def test_a_state_is_carried(self):
        for one in (next(self.names), "story"):
            self.assertEqual(self.step(one, 1, 2, start=True), [1.0, 2.0])
            self.assertEqual(self.step(one, 10, 20), [11.0, 22.0])
            self.assertEqual(self.step(one, 100, 200, end=True), [111.0, 222.0])
            self.assertIn("must specify the START flag", self.step(one, 1, 2, code=400))

    def test_beginning_anew(self):
        one, other = next(self.names), next(self.names)
        self.step(one, 1, 1, start=True)
        self.step(other, 5, 5, start=True)
        self.assertEqual(self.step(one, 7, 7, start=True), [7.0, 7.0])
        self.assertEqual(self.step(other, 1, 1), [6.0, 6.0])
        self.assertEqual(self.step(one, 3, 3, start=True, end=True), [3.0, 3.0])
        self.step(one, 1, 1, code=400)

    def test_a_failed_request_changes_nothing(self):
        one = next(self.names)
        self.step(one, 1, 1, start=True)
        self.assertIn("its data has 3 elements", self.step(one, 1, 2, 3, code=400))
        self.assertEqual(self.step(one, 1, 1), [2.0, 2.0])
        other = next(self.names)
        self.step(other, 1, 2, 3, start=True, code=400)
        self.step(other, 1, 2, code=400)

    def test_a_sequence_stays_with_its_version(self):
        one = next(self.names)
        self.step(one, 1, 1, start=True, path="sums/versions/1")
        parameters = {"signature_name": "count", "sequence_id": one}
        body = {"inputs": [tensor("x", "FP32", [1, 2], [1, 1])], "parameters": parameters}
        self.assertEqual(self.infer(body)["model_version"], "1")
        self.assertIn("not of sums@2", self.step(one, 1, 1, path="sums/versions/2", code=400))

    def test_a_sequence_is_the_models_by_any_name(self):
        self.expect(201, "PUT", "/v1/models/sums/labels/old", {"version": 1})
        one = next(self.names)
        self.step(one, 1, 1, start=True, path="sums:old")
        self.assertEqual(self.step(one, 1, 1, path="sums:old"), [2.0, 2.0])
        self.assertEqual(self.step(one, 1, 1, path="sums/versions/01"), [3.0, 3.0])
        self.assertEqual(self.step(one, 1, 1, path="sums"), [4.0, 4.0])
        self.expect(200, "DELETE", "/v1/models/sums/labels/old")

    def test_a_signature_of_a_long_name(self):
        name = "s" * 100
        program = [placeholder("x", 2), placeholder("s", 2), {"op": "add", "args": ["s", "x"], "as": "next"},
                   {"op": "variable", "initial_value": 1.0, "name": "v"},
                   {"op": "signature", "name": name, "inputs": {"x": "x", "state": "s"}, "outputs": {"state": "next"}},
                   {"op": "global_variables_initializer", "as": "init"}]
        self.expect(201, "PUT", "/v1/models/long", {})
        self.expect(200, "POST", "/v1/models/long/graph/build", {"program": program})
        self.expect(200, "POST", "/v1/models/long/graph/run", {"targets": ["init"]})
        self.expect(200, "POST", "/v1/models/long/save", {})
        for start, state in ((True, [1.0, 2.0]), (False, [2.0, 4.0])):
            body = {"inputs": [tensor("x", "FP32", [2], [1, 2])],
                    "parameters": {"sequence_id": 1, "sequence_start": start}}
            self.assertEqual(self.outputs(body, "long"), {"state": state})
        self.expect(200, "DELETE", "/v1/models/long")

    def test_a_sequence_is_of_the_model_as_it_was(self):
        """Another model that is made under the same name has another graph, though its first version is 1, too."""
        for start, factor in ((True, 1.0), (False, 2.0)):
            program = [placeholder("x", 2), placeholder("s", 2), {"op": "add", "args": ["s", "x"], "as": "next"},
                       {"op": "variable", "initial_value": factor, "name": "v"},
                       {"op": "signature", "name": "step", "inputs": {"x": "x", "state": "s"},
                        "outputs": {"state": "next"}},
                       {"op": "global_variables_initializer", "as": "init"}]
            self.expect(201, "PUT", "/v1/models/anew", {})
            self.expect(200, "POST", "/v1/models/anew/graph/build", {"program": program})
            self.expect(200, "POST", "/v1/models/anew/graph/run", {"targets": ["init"]})
            self.expect(200, "POST", "/v1/models/anew/save", {})
            body = {"inputs": [tensor("x", "FP32", [2], [1, 2])],
                    "parameters": {"sequence_id": 1, "sequence_start": start}}
            if start:
                self.outputs(body, "anew")
                body["parameters"] = {"sequence_id": 1}
                self.assertEqual(self.outputs(body, "anew"), {"state": [2.0, 4.0]})
            else:
                self.assertIn("stays with anew@1", self.infer(body, "anew", code=400))
            self.expect(200, "DELETE", "/v1/models/anew")

    def test_a_given_state_counts(self):
        one = next(self.names)
        self.step(one, 1, 1, start=True)
        body = {"inputs": [tensor("x", "FP32", [1, 2], [1, 1]), tensor("state", "FP32", [1, 2], [50, 60])],
                "parameters": {"signature_name": "count", "sequence_id": one}, "outputs": [{"name": "sum"}]}
        self.assertEqual(list(self.outputs(body)), ["sum"])
        self.assertEqual(self.step(one, 1, 1), [52.0, 62.0])

    def test_refusals(self):
        body = {"inputs": [X], "parameters": {"signature_name": "one", "sequence_id": 9, "sequence_start": True}}
        self.assertIn("carries no state", self.infer(body, code=400))
        body["parameters"] = {"signature_name": "count", "sequence_start": True}
        self.assertIn("belong to a sequence_id", self.infer(body, code=400))
        for name in (-1, 1.5, "x" * 65, []):
            body["parameters"] = {"signature_name": "count", "sequence_id": name, "sequence_start": True}
            self.assertIn("sequence_id must be", self.infer(body, code=400))

    def test_requests_come_in_order(self):
        one = next(self.names)
        self.step(one, 0, 0, start=True)
        threads = [threading.Thread(target=self.step, args=(one, 1, 2)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.step(one, 0, 0), [20.0, 40.0])

    def test_a_language_model_goes_on(self):
        symbols = [1, 2, 3, 4, 5, 6]
        whole = self.outputs({"inputs": [tensor("tokens", "INT32", [1, 6], symbols)]}, "bard")["logits"]
        rows = [whole[i * len(whole) // 6:(i + 1) * len(whole) // 6] for i in range(6)]
        for at, symbol in enumerate(symbols):
            body = {"inputs": [tensor("tokens", "INT32", [1, 1], [symbol])], "outputs": [{"name": "logits"}],
                    "parameters": {"sequence_id": 7, "sequence_start": at == 0, "sequence_end": at == 5}}
            for one, other in zip(self.outputs(body, "bard")["logits"], rows[at]):
                self.assertAlmostEqual(one, other, places=5)


class Generate(OipTest):
    names = iter(range(5000, 6000))

    def generate(self, path="bard/generate", code=200, text="Call", **body):
        status, reply = self.daemon.json("POST", f"/v2/models/{path}", {"text_input": text, **body})
        self.assertEqual(status, code, reply)
        if code != 200:
            self.assertEqual(list(reply), ["error"])
            return reply["error"]
        return reply

    def stream(self, **body):
        lines = self.daemon.events("/v2/models/bard/generate_stream", {"text_input": "Call", **body})
        return [json.loads(line) for line in lines]

    def reference(self, prompt="Call", **fields):
        body = {"model": "bard", "prompt": prompt, "max_tokens": 20, **fields}
        return self.expect(200, "POST", "/v1/completions", body)

    def test_it_is_the_text_of_a_completion(self):
        text = self.reference(seed=7)["choices"][0]["text"]
        for body in ({"parameters": {"seed": 7}}, {"seed": 7}):
            self.assertEqual(self.generate(id="q", **body),
                             {"id": "q", "model_name": "bard", "model_version": "1", "text_output": text})
        self.assertEqual(self.generate("bard/versions/1/generate", parameters={"seed": 7})["text_output"], text)
        chunks = self.stream(id="q", parameters={"seed": 7})
        self.assertEqual("".join(chunk["text_output"] for chunk in chunks), text)
        for chunk in chunks:
            self.assertEqual({**chunk, "text_output": ""},
                             {"id": "q", "model_name": "bard", "model_version": "1", "text_output": ""})

    def test_details(self):
        given = self.reference(seed=3, logprobs=0)["choices"][0]["logprobs"]
        details = self.generate(parameters={"seed": 3, "details": True})["details"]
        self.assertEqual(details["finish_reason"], "length")
        self.assertEqual([one["text"] for one in details["logprobs"]], given["tokens"])
        self.assertEqual([one["logprob"] for one in details["logprobs"]], given["token_logprobs"])
        names = self.expect(200, "POST", "/tokenize", {"model": "bard", "prompt": "".join(given["tokens"])})["tokens"]
        self.assertEqual([one["id"] for one in details["logprobs"]], names)
        chunks = self.stream(parameters={"seed": 3, "details": True})
        self.assertEqual([one for chunk in chunks for one in chunk["details"]["logprobs"]], details["logprobs"])
        self.assertEqual([chunk["details"].get("finish_reason") for chunk in chunks][-1], "length")
        stopped = self.generate(parameters={"seed": 3, "details": True, "stop": given["tokens"][4]})
        self.assertEqual(stopped["details"]["finish_reason"], "stop_sequence")

    def test_sequences_are_sessions(self):
        whole = self.reference(seed=5, max_tokens=40)["choices"][0]["text"]
        one = next(self.names)
        first = self.generate(parameters={"seed": 5, "sequence_id": one, "sequence_start": True})
        self.expect(200, "GET", f"/v1/sessions/{one}")
        self.generate(text="", code=400, parameters={"sequence_id": one, "sequence_end": True, "temperature": 9})
        self.generate(text="\U0001f40b", code=400, parameters={"sequence_id": one, "sequence_end": True,
                                                               "unknown_symbols": "error"})
        self.expect(200, "GET", f"/v1/sessions/{one}")
        second = self.generate(text="", parameters={"sequence_id": one, "sequence_end": True})
        self.assertEqual(first["text_output"] + second["text_output"], whole)
        self.expect(404, "GET", f"/v1/sessions/{one}")
        self.generate(text="", code=404, parameters={"sequence_id": one})

    def test_refusals(self):
        for body, text in (({"text": None}, "text_input must be a string"), ({"id": 1}, "id must be a string"),
                           ({"parameters": 1}, "parameters must be an object"),
                           ({"parameters": {"n": 2}}, "n must be 1"), ({"best_of": 3}, "best_of must be 1"),
                           ({"parameters": {"details": 1}}, "details must be true or false"),
                           ({"parameters": {"temperature": 9}}, "temperature"),
                           ({"parameters": {"sequence_id": "a b"}}, "a b")):
            self.assertIn(text, self.generate(code=400, **body), body)
        self.generate("none/generate", code=404)
        self.generate("bard/versions/9/generate_stream", code=404)
        self.assertIn("cannot generate text", self.generate("sums/generate", code=400))
        reply = self.generate(parameters={"color": 1, "max_tokens": 1})
        self.assertEqual(reply["warnings"], ["unknown field 'color' was ignored"])


if __name__ == "__main__":
    unittest.main()
