"""Exporting models: what lstmd trained says the same in ONNX Runtime, and is read back as it was.

ONNX Runtime comes by npm into the build folder, once; ONNXRUNTIME names another place of the module onnxruntime-node.
"""
import hashlib
import json
import math
import os
import random
import struct
import subprocess
import tarfile

import foreign_files as foreign
import npm
from harness import ROOT, Daemon, DaemonTest, run

RUNTIME = "onnxruntime-node@1.30.0"
FOLDER = os.path.join(ROOT, "build", "npm")
RUNNER = os.path.join(ROOT, "tests", "integration", "onnx_run.js")
# Weights far from zero, so that the probabilities differ.
COMMON = {"max_steps": 10, "initial_range": 0.4}
TRAINED = {
    "lstm": {**COMMON, "layers": 2, "units": 128},
    "gru": {**COMMON, "cell": "gru", "layers": 2, "units": 24, "embedding": 10},
    "rnn": {**COMMON, "cell": "rnn", "units": 24},
    "tied": {**COMMON, "layers": 3, "units": 24, "embedding": 24, "tie": True, "residual": True, "forget_bias": 0.5},
    "bytes": {**COMMON, "vocabulary": "bytes"},
    "words": {**COMMON, "vocabulary": "words", "embedding": 8},
}

SYMBOLS = list("abcdefghi")
# A graph that is no language_model, with a projection.
GRAPH = [
    {"op": "placeholder", "args": ["int32"], "shape": [1, None], "as": "x"},
    {"op": "one_hot", "args": ["x", 9], "as": "hot"},
    {"op": "lstm_cell", "num_units": 8, "num_proj": 6, "as": "cell"},
    {"op": "placeholder", "args": ["float32"], "shape": [None, 8], "as": "c"},
    {"op": "placeholder", "args": ["float32"], "shape": [None, 6], "as": "h"},
    {"op": "dynamic_rnn", "cell": "cell", "inputs": "hot", "initial_state": ["c", "h"], "as": "r"},
    {"op": "get_variable", "name": "w", "shape": [6, 9], "as": "w"},
    {"op": "reshape", "args": ["r.outputs", [-1, 6]], "as": "flat"},
    {"op": "matmul", "args": ["flat", "w"], "as": "logits"},
    {"op": "signature", "name": "generate", "inputs": {"symbol": "x", "state": ["c", "h"]},
     "outputs": {"logits": "logits", "state": ["r.state.c", "r.state.h"]}, "vocabulary": {"symbols": SYMBOLS}},
]


def install():
    """Where the module onnxruntime-node lies; a reason instead where it cannot be had."""
    given = os.environ.get("ONNXRUNTIME")
    if given:
        return given, None
    return npm.install(FOLDER, RUNTIME)


class ExportTest(DaemonTest):
    def export(self, name, to):
        path = os.path.join(self.folder, f"{name}.{to}")
        done = run("export", os.path.join(self.models, name), "--to", to, "--out", path, "--json")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(json.loads(done.stdout), {"model": name + "@1", "to": to, "out": path,
                                                   "bytes": os.path.getsize(path)})
        return path

    def symbols(self, name):
        size = self.expect(200, "GET", f"/v1/models/{name}")["vocabulary"]["size"]
        rng = random.Random(name)
        return [rng.randrange(size) for _ in range(30)]

    def probabilities(self, name, symbols):
        """What the daemon's graph says behind the last one."""
        self.expect(200, "POST", f"/v1/models/{name}/load", {})
        reply = self.expect(200, "POST", f"/v1/models/{name}/graph/run",
                            {"feeds": {"predict/inputs:0": [symbols]}, "fetches": ["predict/probabilities:0"]})
        return reply["results"]["predict/probabilities:0"][0][-1]

    def assert_close(self, got, want, difference):
        self.assertEqual(len(got), len(want))
        self.assertGreater(max(want), 2 * min(want))
        self.assertLess(max(abs(a - b) for a, b in zip(got, want)), difference)


class Runtime(ExportTest):
    MODELS = TRAINED

    def run_in_onnx_runtime(self, *requests):
        module, reason = install()
        if module is None:
            self.skipTest(reason)
        done = subprocess.run(["node", RUNNER], input=json.dumps(requests), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env={**os.environ, "ONNXRUNTIME": module}, text=True,
                              timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_language_models_say_the_same(self):
        requests = [{"path": self.export(name, "onnx"), "symbols": self.symbols(name)} for name in TRAINED]
        for name, request, result in zip(TRAINED, requests, self.run_in_onnx_runtime(*requests), strict=True):
            with self.subTest(name):
                want = self.probabilities(name, request["symbols"])
                self.assert_close(result["sequence"], want, 1e-5)
                self.assert_close(result["steps"], want, 1e-5)

    def test_graphs_say_the_same(self):
        self.expect(201, "PUT", "/v1/models/graph", {})
        self.expect(200, "POST", "/v1/models/graph/graph/build", {"program": GRAPH})
        rng = random.Random(4)
        for name, shape in (("rnn/lstm_cell/kernel", [15, 32]), ("rnn/lstm_cell/bias", [32]),
                            ("rnn/lstm_cell/projection/kernel", [8, 6]), ("w", [6, 9])):
            self.expect(200, "PUT", f"/v1/models/graph/variables/{name}",
                        {"dtype": "float32", "shape": shape,
                         "data": [rng.uniform(-1, 1) for _ in range(math.prod(shape))]})
        self.expect(200, "POST", "/v1/models/graph/save", {})
        path = self.export("graph", "onnx")
        symbols = self.symbols("graph")
        reply = self.expect(200, "POST", "/v1/completions", {"model": "graph", "prompt": symbols, "max_tokens": 1,
                                                             "temperature": 0, "logprobs": 5})
        top = reply["choices"][0]["logprobs"]["top_logprobs"][0]
        [result] = self.run_in_onnx_runtime({"path": path, "symbols": symbols})
        said = dict(zip(SYMBOLS, result["sequence"]))
        self.assert_close([said[symbol] for symbol in top], [math.exp(logprob) for logprob in top.values()], 1e-5)
        self.assert_close(result["steps"], result["sequence"], 1e-5)


class RoundTrip(ExportTest):
    MODELS = TRAINED

    def check(self, name, to):
        path = self.export(name, to)
        back = f"{name}-{to}"
        done = run("import", path, "--out", os.path.join(self.models, back))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        symbols = self.symbols(name)
        self.assert_close(self.probabilities(back, symbols), self.probabilities(name, symbols), 1e-6)
        entries = [self.expect(200, "GET", f"/v1/models/{one}") for one in (back, name)]
        self.assertEqual(entries[0]["vocabulary"], entries[1]["vocabulary"])

    def test_onnx(self):
        for name in TRAINED:
            with self.subTest(name):
                self.check(name, "onnx")

    def test_safetensors(self):
        for name in ("lstm", "gru", "rnn", "bytes", "words"):
            with self.subTest(name):
                self.check(name, "safetensors")


class Versions(ExportTest):
    """A version goes out as a tar and comes in again as it was, manifest and all."""
    MODELS = {"gru": TRAINED["gru"]}

    def files(self):
        folder = os.path.join(self.models, "gru", "1")
        contents = {}
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), "rb") as file:
                contents[name] = file.read()
        return contents

    def check_same(self, name):
        for path, content in self.files().items():
            with open(os.path.join(self.models, name, "1", path), "rb") as file:
                self.assertEqual(file.read(), content, path)
        self.expect(200, "POST", f"/v1/models/{name}/load", {})
        texts = [self.expect(200, "POST", "/v1/completions", {"model": one, "prompt": "the ", "seed": 3})["choices"]
                 for one in ("gru", name)]
        self.assertEqual(texts[0][0]["text"], texts[1][0]["text"])

    def test_http(self):
        tar = self.daemon.request("GET", "/v1/models/gru/export?to=tar")[2]
        reply = self.expect(201, "PUT", "/v1/models/copy", tar)
        self.assertEqual((reply["model"], reply["format"]), ("copy@1", "lstmd version"))
        self.expect(200, "PUT", "/v1/models/copy", tar)
        self.check_same("copy")
        for name, folder, more in (("packed", "gru/", {}), ("deep", "models/gru/", {}),
                                   ("beside", "gru/1/", {"gru/labels.json": b"{}", "notes/x.txt": b"x"})):
            files = {folder + path: content for path, content in self.files().items()}
            reply = self.expect(201, "PUT", "/v1/models/" + name, foreign.archive({**files, **more}, "tar.gz"))
            self.assertEqual(reply["format"], "lstmd version")
            self.check_same(name)
        two = {f"{folder}/{path}": content for path, content in self.files().items() for folder in "ab"}
        self.expect(422, "PUT", "/v1/models/two", foreign.archive(two), error="ambiguous")

    def test_to_another_daemon(self):
        models = os.path.join(self.folder, "elsewhere")
        os.mkdir(models)
        tar = self.daemon.request("GET", "/v1/models/gru/export?to=tar")[2]
        body = {"model": "gru", "prompt": "the ", "seed": 3, "max_tokens": 40}
        other = Daemon(models)
        try:
            self.assertEqual(other.json("PUT", "/v1/models/gru", tar)[0], 201)
            self.assertEqual(other.json("POST", "/v1/completions", body)[1]["choices"],
                             self.expect(200, "POST", "/v1/completions", body)["choices"])
            self.assertEqual(other.request("GET", "/v1/models/gru/export?to=tar")[2], tar)
        finally:
            self.assertEqual(other.stop(), 0)

    def test_command(self):
        for source in (self.export("gru", "tar"), os.path.join(self.models, "gru", "1")):
            name = "from-" + os.path.basename(source)
            done = run("import", source, "--out", os.path.join(self.models, name))
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.check_same(name)

    def test_damage(self):
        good = self.files()
        weights, manifest = good["weights.safetensors"], json.loads(good["manifest.json"])

        def with_manifest(**fields):
            return {**good, "manifest.json": json.dumps({**manifest, **fields}).encode()}

        def with_weights(content):
            listed = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            return {**with_manifest(files={**manifest["files"], "weights.safetensors": listed}),
                    "weights.safetensors": content}

        for said, files in (
                ("weights.safetensors: SHA-256", {**good, "weights.safetensors": weights[:-1] + b"\x55"}),
                ("weights.safetensors: %d bytes, the manifest says" % (len(weights) - 1),
                 {**good, "weights.safetensors": weights[:-1]}),
                ("vocab.json: missing", {name: good[name] for name in good if name != "vocab.json"}),
                ("manifest.json: format 99", with_manifest(format=99)),
                ("manifest.json: it lists a file under a name", with_manifest(files={"../x": {}})),
                ("weights.safetensors: ", with_weights(weights[:-4])),
                ("weights.safetensors: ", with_weights(weights[:-4] + b"\x00\x00\xc0\x7f")),
                ("the path '../graph.json' in it leads elsewhere", {"../graph.json": b"", **good})):
            reply = self.daemon.json("PUT", "/v1/models/damaged", foreign.archive(files))
            self.assertEqual(reply[0], 422, reply)
            self.assertIn(said, reply[1]["error"]["message"])
            self.assertFalse(os.path.exists(os.path.join(self.models, "damaged")))
        self.assertEqual([name for name in os.listdir(self.models) if name.startswith(".")], [])
        cut = self.daemon.request("GET", "/v1/models/gru/export?to=tar")[2][:5000]
        self.expect(415, "PUT", "/v1/models/damaged", cut, error="bad_archive")

    def test_settings_make_it_foreign(self):
        tar = self.daemon.request("GET", "/v1/models/gru/export?to=tar")[2]
        reply = self.daemon.json("PUT", "/v1/models/foreign?file=weights.safetensors", tar)
        self.assertNotEqual(reply[1].get("format"), "lstmd version")


class Files(ExportTest):
    MODELS = {"gru": TRAINED["gru"]}

    def test_http(self):
        for to in ("onnx", "safetensors", "tar"):
            status, headers, content = self.daemon.request("GET", f"/v1/models/gru@1/export?to={to}")
            with open(self.export("gru", to), "rb") as file:
                self.assertEqual((status, content), (200, file.read()))
            self.assertEqual(headers["Content-Disposition"], f'attachment; filename="gru@1.{to}"')
            kind = "x-tar" if to == "tar" else "octet-stream"
            self.assertEqual(headers["Content-Type"], f"application/{kind}")
        self.expect(400, "GET", "/v1/models/gru/export")
        self.expect(400, "GET", "/v1/models/gru/export?to=hdf5")
        self.expect(400, "GET", "/v1/models/gru/export?to=onnx&as=file", error="unknown_field")
        self.expect(404, "GET", "/v1/models/ahab/export?to=onnx", error="model_not_found")

    def test_safetensors_explain_themselves(self):
        with open(self.export("gru", "safetensors"), "rb") as file:
            content = file.read()
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8:8 + length])
        said = header.pop("__metadata__")
        folder = os.path.join(self.models, "gru", "1")
        with open(os.path.join(folder, "vocab.json"), encoding="utf-8") as file:
            self.assertEqual(json.loads(said["vocabulary"]), json.load(file))
        with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
            self.assertEqual(json.loads(said["architecture"]), json.load(file)["architecture"])
        with open(os.path.join(folder, "weights.safetensors"), "rb") as file:
            weights = file.read()
        begin = 8 + struct.unpack("<Q", weights[:8])[0]
        self.assertEqual((said["model"], content[8 + length:]), ("gru@1", weights[begin:]))
        self.assertEqual(header, json.loads(weights[8:begin]))

    def test_tar_is_a_version(self):
        path = self.export("gru", "tar")
        folder = os.path.join(self.models, "gru", "1")
        with tarfile.open(path) as tar:
            entries = tar.getmembers()
            self.assertEqual([entry.name for entry in entries], sorted(os.listdir(folder)))
            for entry in entries:
                self.assertEqual((entry.isreg(), entry.mtime, entry.uid, entry.gid, entry.mode),
                                 (True, 0, 0, 0, 0o644))
                with open(os.path.join(folder, entry.name), "rb") as file:
                    self.assertEqual(tar.extractfile(entry).read(), file.read())
            there = os.path.join(self.models, "unpacked", "7")
            tar.extractall(there, filter="data")
        self.expect(200, "POST", "/v1/models/unpacked/load", {})
        texts = [self.expect(200, "POST", "/v1/completions", {"model": name, "prompt": "the ", "seed": 3})["choices"]
                 for name in ("gru", "unpacked")]
        self.assertEqual(texts[0][0]["text"], texts[1][0]["text"])
        again = run("export", os.path.join(self.models, "unpacked"), "--to", "tar", "--out", path + ".again")
        self.assertEqual((again.returncode, again.stderr), (0, ""))
        with open(path, "rb") as one, open(path + ".again", "rb") as other:
            self.assertEqual(one.read(), other.read())

    def test_arguments(self):
        model, out = os.path.join(self.models, "gru"), os.path.join(self.folder, "out")
        for words, message in (([model, "--to", "onnx"], "--out is missing"),
                               ([model, "--out", out], "--to is missing"),
                               ([model, "--to", "tflite", "--out", out], "'tflite' is no format that is written")):
            done = run("export", *words)
            self.assertEqual(done.returncode, 2)
            self.assertIn(message, done.stderr)
        for words, message in (([model + "@7", "--to", "onnx", "--out", out], "gru/7"),
                               ([model, "--to", "onnx", "--out", os.path.join(out, "no", "where")], "/out/no/")):
            done = run("export", *words)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, r"\Alstmd export: [^\n]*\n\Z")
            self.assertIn(message, done.stderr)
        self.assertFalse(os.path.exists(out))
