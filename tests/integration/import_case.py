"""What the tests of importing share: the command's success and its refusals, and small models against plain Python."""
import json
import os
import shutil
import tempfile
import unittest

import foreign_files as foreign
from harness import DaemonTest, run


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


class ComputedTest(DaemonTest):
    """Small models give the probabilities that plain Python computes."""

    TEXT = [0, 3, 5, 1, 1, 6, 2, 4]

    def bring(self, name, source, *arguments):
        """Imports it, so that the daemon serves it; what the command said."""
        done = run("import", source, "--out", os.path.join(self.models, name), *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.expect(200, "POST", f"/v1/models/{name}/load", {})
        return done.stdout

    def fetch(self, name, tensor, texts):
        reply = self.expect(200, "POST", f"/v1/models/{name}/graph/run",
                            {"feeds": {"predict/inputs:0": texts}, "fetches": [tensor]})
        return reply["results"][tensor]

    def check(self, name, want, source, *arguments):
        said = self.bring(name, source, *arguments)
        last = self.fetch(name, "predict/probabilities:0", [self.TEXT])[0][-1]
        self.assertLess(max(abs(a - b) for a, b in zip(last, want, strict=True)), 1e-6)
        reply = self.expect(200, "POST", "/v1/completions",
                            {"model": name, "prompt": self.TEXT, "max_tokens": 1, "logprobs": 5})
        made = reply["choices"][0]["logprobs"]
        self.assertLess(abs(2.718281828459045 ** made["token_logprobs"][0]
                            - want[foreign.SYMBOLS.index(made["tokens"][0])]), 1e-5)
        return said

    def folder_of(self, name):
        return os.path.join(self.folder, "sources", name)

    def vocabulary(self, content=None):
        return foreign.write(os.path.join(self.folder, "vocabulary"), content or json.dumps(foreign.SYMBOLS))
