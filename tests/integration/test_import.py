"""Importing models of other frameworks: the command, what it says, and what the daemon then computes.

Real models with what they must compute lie beside the repository on some machines (../shared/models); elsewhere their
tests are skipped.
"""
import json
import os
import shutil
import tempfile
import unittest

from harness import ROOT, DaemonTest, run

SHORT = True

REAL_MODELS = os.path.join(ROOT, "..", "shared", "models")
# Each by its golden file's name, with the arguments that it needs.
REAL = {
    "tf1-gita": [],
    "tf1-python-code": [],
    "tf1-onehot-poetheart": [],
    "tf1-v1format-korean-bytes": [],
}


def golden(name):
    with open(os.path.join(REAL_MODELS, "golden", name + ".json"), encoding="utf-8") as file:
        return json.load(file)


class ImportTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lstmd-import-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.model = os.path.join(self.folder, "models", "moby")

    def good(self, *arguments):
        done = run("import", *arguments, "--out", self.model)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return done.stdout

    def bad(self, message, *arguments, status=1):
        done = run("import", *arguments, "--out", self.model)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assertRegex(done.stderr, r"\Alstmd import: [^\n]*\n\Z")
        self.assertIn(message, done.stderr)
        self.assertFalse(os.path.exists(self.model))


class Refusals(ImportTest):
    def test_arguments(self):
        done = run("import", self.folder)
        self.assertEqual((done.returncode, done.stderr), (2, "lstmd import: --out MODELS/NAME is missing\n"))
        self.bad("must be KEY=VALUE", self.folder, "--set", "cell", status=2)
        self.bad("'cell' is nothing that can be set: activation, embedding", self.folder, "--set", "cell=lstm")

    def test_sources(self):
        nowhere = os.path.join(self.folder, "nowhere")
        self.bad("nowhere: no such file, folder or checkpoint prefix", nowhere)
        self.bad("no files in this folder", self.folder)
        with open(os.path.join(self.folder, "text"), "w", encoding="ascii") as file:
            file.write("nothing that anybody knows")
        self.bad("none of 1 files is of a format that is read here", self.folder)
        os.symlink("/etc/hostname", os.path.join(self.folder, "link"))
        self.bad("none of 1 files is of a format", self.folder)
        self.bad("no such file", os.path.join(self.folder, "link"))


@unittest.skipUnless(os.path.isdir(REAL_MODELS), "the real models are not on this machine")
class RealModels(DaemonTest):
    """Probabilities after the prime within 1e-5 and all 200 greedy symbols, through the daemon."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.imported = {}
        for name, arguments in REAL.items():
            source = os.path.join(REAL_MODELS, golden(name)["model_dir"])
            cls.imported[name] = run("import", source, "--out", os.path.join(cls.models, name), *arguments)
        cls.daemon.json("POST", "/v1/reload")

    def check(self, name):
        self.assertEqual(self.imported[name].returncode, 0, self.imported[name].stderr)
        want = golden(name)
        self.expect(200, "POST", f"/v1/models/{name}/load", {})
        reply = self.expect(200, "POST", f"/v1/models/{name}/graph/run",
                            {"feeds": {"predict/inputs:0": [want["prime_ids"]]},
                             "fetches": ["predict/probabilities:0"]})
        last = reply["results"]["predict/probabilities:0"][0][-1]
        self.assertEqual(len(last), len(want["next_probs"]))
        self.assertLess(max(abs(a - b) for a, b in zip(last, want["next_probs"])), 1e-5)
        reply = self.expect(200, "POST", "/v1/completions",
                            {"model": name, "prompt": want["prime_ids"], "max_tokens": 200, "temperature": 0,
                             "logprobs": 5})
        logprobs = reply["choices"][0]["logprobs"]
        symbols = [want["vocabulary"][i] for i in want["greedy_ids"]]
        if isinstance(symbols[0], int):
            symbols = [chr(byte) if byte < 128 else f"bytes:\\x{byte:02x}" for byte in symbols]
        self.assertEqual(logprobs["tokens"], symbols)
        self.assertEqual(reply["choices"][0]["text"], want["greedy_text"].rstrip("\ufffd"))


def add_real_tests():
    for name in REAL:
        setattr(RealModels, "test_" + name.replace("-", "_"), lambda self, name=name: self.check(name))


add_real_tests()
