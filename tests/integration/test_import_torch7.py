"""Importing what Lua's Torch7 saved: char-rnn's and torch-rnn's checkpoints, made by torch7_files.py."""
import json
import os

import foreign_files as foreign
import torch7_files as torch7
from harness import run
from import_case import ComputedTest, ImportTest


class Torch7Models(ComputedTest):
    def test_torch_rnn(self):
        arrays = torch7.torch_rnn_arrays()
        want = torch7.torch_rnn_probabilities(arrays, self.TEXT)
        for name, content in (("plain", torch7.write(torch7.torch_rnn(arrays))),
                              ("cuda", torch7.write(torch7.torch_rnn(arrays, kind="Cuda"))),
                              ("swapped", torch7.write(torch7.torch_rnn(arrays, is_swapped=True))),
                              ("ascii", torch7.write(torch7.torch_rnn(arrays), is_ascii=True))):
            said = self.check("torch-rnn-" + name, want, foreign.write(self.folder_of(name), content))
            self.assertIn("gate order: i, f, o, g (torch-rnn keeps them so)", said)
            self.assertIn("forget bias: 0 (torch-rnn's LSTM has nothing but its stored biases)", said)

    def test_torch_rnn_without_gates(self):
        arrays = torch7.torch_rnn_arrays(13, 3, 1)
        path = foreign.write(self.folder_of("vanilla"), torch7.write(torch7.torch_rnn(arrays, 3, "nn.VanillaRNN")))
        self.check("vanilla", torch7.torch_rnn_probabilities(arrays, self.TEXT, 3, False), path)

    def test_char_rnn(self):
        arrays = torch7.char_rnn_arrays()
        no_bias = {name: array for name, array in arrays.items() if not name.startswith("h2h_") or "bias" not in name}
        for name, one in (("binary", arrays), ("ascii", arrays), ("no-bias", no_bias)):
            path = foreign.write(self.folder_of(name), torch7.write(torch7.char_rnn(one), name == "ascii"))
            said = self.check("char-rnn-" + name, torch7.char_rnn_probabilities(one, self.TEXT), path)
            self.assertIn("gate order: i, f, o, g (char-rnn keeps them so)", said)
            self.assertIn("input: one-hot", said)
        arrays = torch7.char_rnn_arrays(14, 1)
        path = foreign.write(self.folder_of("one"), torch7.write(torch7.char_rnn(arrays, 1, kind="Float")))
        self.check("char-rnn-one", torch7.char_rnn_probabilities(arrays, self.TEXT, 1), path)


class Torch7Files(ImportTest):
    def path(self, value, is_ascii=False):
        return foreign.write(os.path.join(self.folder, "file"), torch7.write(value, is_ascii))

    def test_inspect(self):
        arrays = torch7.torch_rnn_arrays()
        for is_ascii in (False, True):
            facts = json.loads(run("inspect", self.path(torch7.torch_rnn(arrays), is_ascii), "--json").stdout)
            self.assertEqual((facts["format"], facts.get("problem")), ("Torch7", None))
            self.assertEqual({tensor["name"]: tensor["shape"] for tensor in facts["tensors"]}, {
                "model.1.LookupTable.weight": [7, 3], "model.2.LSTM.weight": [8, 20], "model.2.LSTM.bias": [20],
                "model.4.LSTM.weight": [10, 20], "model.4.LSTM.bias": [20], "model.7.Linear.weight": [7, 5],
                "model.7.Linear.bias": [7]})
            self.assertEqual(facts["would_build"], {"op": "language_model", "cell": "lstm", "layers": 2, "units": 5,
                                                    "embedding": 3})
        facts = json.loads(run("inspect", self.path(torch7.char_rnn(torch7.char_rnn_arrays())), "--json").stdout)
        self.assertEqual([tensor["name"] for tensor in facts["tensors"]][:3],
                         ["protos.rnn.decoder.Linear.bias", "protos.rnn.decoder.Linear.weight",
                          "protos.rnn.h2h_1.Linear.bias"])
        self.assertEqual(facts["tensors"][0]["dtype"], "float64")
        self.assertNotIn("problem", facts)

    def test_symbols_are_bytes_where_they_are_no_text(self):
        symbols = [b"a", b"b", b"\n", b" ", b"\xc3", b"\xa9", b"c"]
        said = self.good(self.path(torch7.char_rnn(torch7.char_rnn_arrays(), symbols=symbols)))
        self.assertIn("vocabulary: 7 bytes (file, vocab; the matrices have as many)", said)

    def test_what_is_refused(self):
        arrays = torch7.char_rnn_arrays()
        self.bad("none of its graph's nn.Linear is named i2h_1", self.path(torch7.char_rnn(arrays, named=False)))
        self.bad("it has a module nn.BatchNormalization, which no model of char-rnn has",
                 self.path(torch7.char_rnn(arrays, more=["nn.BatchNormalization"])))
        self.bad("5 modules nn.Tanh, where char-rnn's LSTM of 2 layers has 4",
                 self.path(torch7.char_rnn(arrays, more=["nn.Tanh"])))
        arrays = torch7.torch_rnn_arrays()
        self.bad("it has a module nn.BatchNormalization, which no model of torch-rnn has",
                 self.path(torch7.torch_rnn(arrays, more=[torch7.Object("nn.BatchNormalization")])))
        self.bad("file, model.idx_to_token has 6 symbols, the matrices have 7",
                 self.path(torch7.torch_rnn(arrays, symbols=foreign.SYMBOLS[:6])))
        self.bad("none of its 0 tensors has the name", self.path({"nothing": 1}))
        self.bad("numbers lie in a torch.ClStorage",
                 self.path({"x": torch7.Object("torch.ClStorage")}))
        beyond = torch7.Tensor((3, 3), torch7.Storage("Float", [0.5] * 8))
        self.bad("tensor 'x': it ends beyond its storage of 8 elements", self.path({"x": beyond}))
        content = torch7.write({"x": torch7.Tensor((3, 3), torch7.Storage("Float", [0.5] * 9))})
        self.bad("are left", foreign.write(os.path.join(self.folder, "cut"), content[:-1]))
