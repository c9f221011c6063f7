"""Importing models of other frameworks: the command, what it says, and what the daemon then computes.

Real models with what they must compute lie beside the repository on some machines (../shared/models); elsewhere their
tests are skipped. The own files here are made by foreign_files.py.
"""
import json
import math
import os
import pickle
import shutil
import struct
import tempfile
import unittest

import foreign_files as foreign
from harness import ROOT, DaemonTest, run
from import_case import ComputedTest, ImportTest

REAL_MODELS = os.path.join(ROOT, "..", "shared", "models")
# Each by its golden file's name, with the arguments that it needs: a vocabulary that is repaired, or golden's own.
REAL = {
    "tf1-gita": [],
    "tf1-python-code": [],
    "tf1-onehot-poetheart": [],
    "tf1-v1format-korean-bytes": [],
    "ml5-bolano": [],
    "ml5-shakespeare": ["--vocabulary", "repaired"],
    "pytorch-anna": [],
    "keras-h5-nietzsche": ["--vocabulary", "golden"],
    "keras-v3-shakespeare": [],
    "tfjs-nietzsche": [],
    "keras-textgenrnn": [],
}


def golden(name):
    with open(os.path.join(REAL_MODELS, "golden", name + ".json"), encoding="utf-8") as file:
        return json.load(file)


class Refusals(ImportTest):
    def test_files_that_say_the_wrong_thing(self):
        folder = foreign.ml5(os.path.join(self.folder, "ml5"), foreign.tensorflow_model(), {"a": 0, "b": 1})
        self.bad("no vocabulary lies in or beside it: give the file of its 7 symbols with --vocabulary", folder)
        six = foreign.write(os.path.join(self.folder, "six"), json.dumps(foreign.SYMBOLS[:6]))
        self.bad("six has 6 symbols, the matrices have 7", folder, "--vocabulary", six)
        text = foreign.write(os.path.join(self.folder, "text"), "abc")
        self.bad("text: neither JSON nor a pickle", folder, "--vocabulary", text)
        os.remove(os.path.join(folder, "rnnlm_softmax_b"))
        self.bad("is in the file rnnlm_softmax_b, which is not beside it", folder)
        foreign.write(os.path.join(folder, "rnnlm_softmax_b"), b"1234")
        self.bad("'rnnlm/softmax_b': 4 bytes do not hold float32 of shape (7,)", folder)

    def test_cells_that_are_not_built(self):
        for name, reason in (("rnn/bidirectional_rnn/bw/lstm_cell/kernel", "a bidirectional recurrence"),
                             ("rnn/BiRNN_BW/BasicLSTMCell/Linear/Matrix", "a bidirectional recurrence"),
                             ("rnn/lstm_cell/w_f_diag", "an LSTM with peepholes"),
                             ("rnn/lstm_cell/projection/kernel", "an LSTM with a projection"),
                             ("rnn/layer_norm_basic_lstm_cell/kernel", "layer normalisation"),
                             ("lstm.weight_ih_l0_reverse", "a bidirectional layer"),
                             ("dense/kernel", "none of its 1 tensors has the name of a recurrent layer")):
            path = foreign.write(os.path.join(self.folder, "file"), foreign.safetensors({name: ((2, 4), [0.5] * 8)}))
            self.bad(reason, path)

    def test_tensors_that_are_left_over(self):
        tensors = foreign.torch_model()
        tensors["norm.weight"] = ((5,), [1.0] * 5)
        tensors["copy.weight"] = tensors["fc.weight"]
        path = foreign.write(os.path.join(self.folder, "norm"), foreign.torch_zip(tensors, {"tokens": foreign.SYMBOLS}))
        self.bad("norm.weight of shape (5,) belongs to no recurrent layer, and is neither embedding nor output "
                 "(fc.weight): the model does more than is understood", path)
        self.bad("rest=used: it can only be ignored", path, "--set", "rest=used")
        self.good(path, "--set", "rest=ignored")

    def test_objects_of_tensorflow_2(self):
        weights, _ = foreign.keras_objects([("lstm", 4)], ["embedding", "lstm/cell", "dense"])
        tensors = {path + "/.ATTRIBUTES/VARIABLE_VALUE": array for path, array in weights.items()}
        path = foreign.tensorflow_checkpoint(os.path.join(self.folder, "ckpt"), tensors)
        self.bad("ckpt.index: weights alone do not tell the activation of its gates: say --set "
                 "recurrent_activation=sigmoid or hard_sigmoid\n", path)
        numbered = {f"variables/{at}/.ATTRIBUTES/VARIABLE_VALUE": array for at, array in enumerate(weights.values())}
        path = foreign.tensorflow_checkpoint(os.path.join(self.folder, "ckpt"), numbered)
        self.bad("ckpt.index: variables of a SavedModel, which are numbered", path)
        named = {"variables/" + name: array for name, array in tensors.items()}
        path = foreign.tensorflow_checkpoint(os.path.join(self.folder, "ckpt"), named)
        self.bad("weights alone do not tell the activation of its gates", path)
        many = {f"layer-{at}/kernel/.ATTRIBUTES/VARIABLE_VALUE": ((2,), [0.5] * 2) for at in range(19000)}
        path = foreign.tensorflow_checkpoint(os.path.join(self.folder, "ckpt"), {**tensors, **many})
        self.bad("ckpt.index: more than 128 layers", path)

    def test_layers_whose_names_tell_no_order(self):
        for names, sizes, is_told in ((("lower", "higher"), (3, 3), False), (("gru", "gru_1"), (3, 3), True),
                                      (("a", "b"), (5, 6), True)):
            cells = [("lstm", sizes[0]), ("gru", sizes[1])]
            weights, _ = foreign.keras_objects(cells, ["net/embedding", *(f"net/{name}/cell" for name in names),
                                                       "net/dense"])
            tensors = {name + "/.ATTRIBUTES/VARIABLE_VALUE": array for name, array in weights.items()}
            path = foreign.tensorflow_checkpoint(os.path.join(self.folder, "ckpt"), tensors)
            with self.subTest(names):
                told = "weights alone do not tell the activation of its gates"
                self.bad(told if is_told else "weights alone do not tell the order of its layers: say --set "
                         "layers=A,B,… with all of embedding,higher,lower,dense as they stand", path)
                if not is_told:
                    self.bad(told, path, "--set", "layers=embedding,lower,higher,dense")

    def test_layers_in_an_order_that_nothing_tells(self):
        symbols = {"symbols": json.dumps(foreign.SYMBOLS)}
        for cells, places, reason in (
                ([("lstm", 3), ("gru", 3)], ("a.lstm", "b.gru"), "layers a.lstm.l0 and b.gru.l0 fit either way round"),
                ([("gru", 5), ("lstm", 3), ("lstm", 3)], ("a", "b", "c"), "layers a.l0 and c.l0 fit either"),
                ([("lstm", 5), ("lstm", 3)], ("a", "b"), None),
                ([("lstm", 3), ("gru", 3)], ("a", "a1"), None)):
            tensors = foreign.renamed_layers(foreign.torch_stack(cells), places)
            path = foreign.write(os.path.join(self.folder, "layers"), foreign.safetensors(tensors, symbols))
            with self.subTest(places):
                if reason:
                    self.bad(reason, path)
                else:
                    self.good(path)
                    shutil.rmtree(self.model)

    def test_a_vocabulary_that_lacks_the_last_symbol(self):
        folder = foreign.ml5(os.path.join(self.folder, "ml5"), foreign.tensorflow_model(),
                             {symbol: number for number, symbol in enumerate(foreign.SYMBOLS[:-1])})
        self.bad("vocab.json has 6 symbols, the matrices have 7 (rnnlm/softmax_w): give the right one with "
                 "--vocabulary, or say --set unknown=last", folder)
        self.bad("unknown=first: it can only be last", folder, "--set", "unknown=first")
        self.assertIn("unknown: <unk> (the last symbol: it was set)", self.good(folder, "--set", "unknown=last"))
        with open(os.path.join(self.model, "1", "vocab.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["symbols"], [*foreign.SYMBOLS[:-1], "<unk>"])

    def test_sets_number_no_symbols(self):
        path = foreign.write(os.path.join(self.folder, "set", "model.pt"), foreign.torch_zip(foreign.torch_model()))
        numbers = {symbol: number for number, symbol in enumerate(foreign.SYMBOLS)}
        beside = os.path.join(self.folder, "set", "chars.pkl")
        for protocol in range(6):
            for kind in (set, frozenset):
                foreign.write(beside, pickle.dumps(kind(foreign.SYMBOLS), protocol=protocol))
                for arguments in ((path,), (path, "--vocabulary", beside)):
                    self.bad("chars.pkl: it is a Python set, which gives its symbols no numbers", *arguments)
            foreign.write(beside, pickle.dumps((set(foreign.SYMBOLS), numbers), protocol=protocol))
            for arguments in ((path,), (path, "--vocabulary", beside)):
                self.good(*arguments)
                with open(os.path.join(self.model, "1", "vocab.json"), encoding="utf-8") as file:
                    self.assertEqual(json.load(file)["symbols"], foreign.SYMBOLS)
                shutil.rmtree(self.model)

    def test_files_that_are_too_large_to_be_searched(self):
        path = foreign.write(os.path.join(self.folder, "large", "model.pt"), foreign.torch_zip(foreign.torch_model()))
        beside = foreign.write(os.path.join(self.folder, "large", "masks.pkl"),
                               pickle.dumps([at % 3 == 0 for at in range(3000000)]))
        self.bad("no vocabulary lies in or beside it (masks.pkl is too large to be searched to its end): give the "
                 "file of its 7 symbols", path)
        self.bad("masks.pkl: the pickle at byte ", path, "--vocabulary", beside)

    def test_ambiguous_ends_are_asked_for(self):
        tensors = foreign.torch_model()
        tensors["fd.weight"], tensors["fd.bias"] = tensors["fc.weight"], tensors["fc.bias"]
        tensors["fc.weight"], tensors["fc.bias"] = [((7, 5), [0.0] * 35), ((7,), [0.0] * 7)]
        tensors["fa.weight"] = tensors.pop("fc.weight")
        tensors["fa.bias"] = tensors.pop("fc.bias")
        path = foreign.write(os.path.join(self.folder, "two"), foreign.torch_zip(tensors, {"tokens": foreign.SYMBOLS}))
        self.bad("2 choices of embedding, output matrix and bias fit equally well", path)
        self.good(path, "--set", "output=fd.weight")

    def test_comparing_ends_is_bounded(self):
        """Matrices that lie over one another in the file: each is another place, and all hold zeros."""
        symbols, width, many = 999, 1000, 60
        offsets = {"lstm.weight_ih_l0": (4 * width, width), "lstm.weight_hh_l0": (4 * width, width)}
        for at in range(many):
            offsets[f"w{at}"] = (symbols, width)
        header = {name: {"dtype": "F32", "shape": shape, "data_offsets": [4 * at, 4 * (at + shape[0] * shape[1])]}
                  for at, (name, shape) in enumerate(offsets.items())}
        text = json.dumps(header).encode()
        path = foreign.write(os.path.join(self.folder, "zeros"), len(text).to_bytes(8, "little") + text)
        os.truncate(path, 8 + len(text) + 4 * (4 * width * width + many))
        self.bad("too many tensors could be embedding, output matrix and bias: say --set output=NAME", path)

    def test_arguments(self):
        done = run("import", self.folder)
        self.assertEqual((done.returncode, done.stderr), (2, "lstmd import: --out MODELS/NAME is missing\n"))
        self.bad("must be KEY=VALUE", self.folder, "--set", "cell", status=2)
        self.bad("'cell' is nothing that can be set: activation, embedding", self.folder, "--set", "cell=lstm")

    def test_settings_without_effect(self):
        path = foreign.write(os.path.join(self.folder, "lstm"),
                             foreign.torch_zip(foreign.torch_model(), {"tokens": foreign.SYMBOLS}))
        for setting in ("activation=relu", "window=40", "recurrent_activation=sigmoid"):
            self.bad(f"{setting} was set, and nothing of this model asks for it", path, "--set", setting)
        self.good(path, "--set", "forget_bias=0", "--set", "rest=ignored", "--set", "window=none")

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


class Archives(ImportTest):
    def refused(self, message, content):
        self.bad(message, foreign.write(os.path.join(self.folder, "upload"), content))

    def test_what_is_refused(self):
        self.refused("upload: the path '../x' in it leads elsewhere", foreign.archive({"../x": b"1"}, "zip"))
        self.refused("upload: no files are in it", foreign.archive({".x": b"1"}))
        self.refused("upload: none of 1 files is of a format", foreign.archive({"x": b"1"}))
        self.refused("upload: no archive that can be read: ", foreign.archive({"x": b"1" * 999}, "tar.gz")[:-9])
        self.refused("upload: unpacks to more than 1073741824 bytes", foreign.huge_tar(1 << 31))
        two = {f"{name}/{path}": content for name in "ab"
               for path, content in foreign.files_below(foreign.ml5(os.path.join(self.folder, "ml5"),
                                                                    foreign.tensorflow_model())).items()}
        self.refused("upload holds several models, a/manifest.json and b/manifest.json", foreign.archive(two))


class Inspect(ImportTest):
    def test_what_it_would_build(self):
        source = foreign.ml5(os.path.join(self.folder, "ml5"), foreign.tensorflow_model())
        done = run("inspect", source, "--json")
        facts = json.loads(done.stdout)
        self.assertEqual((done.returncode, facts["format"], len(facts["tensors"])), (0, "ml5 folder", 7))
        self.assertEqual(facts["would_build"], {"op": "language_model", "cell": "lstm", "layers": 2, "units": 5,
                                                "embedding": 5})
        self.assertNotIn("problem", facts)
        text = run("inspect", source).stdout
        self.assertIn("rnnlm/softmax_w: dtype float32, shape [5, 7]", text)
        self.assertIn("\n  gate order: i, j, f, o (TensorFlow keeps them so)\n", text)
        self.assertEqual(os.listdir(self.folder), ["ml5"])

    def test_what_stands_in_the_way(self):
        path = foreign.write(os.path.join(self.folder, "rnn"), foreign.safetensors(
            {"rnn.weight_ih_l0": ((4, 3), [0.5] * 12), "rnn.weight_hh_l0": ((4, 4), [0.5] * 16)}))
        facts = json.loads(run("inspect", path, "--json").stdout)
        self.assertIn("rnn.l0 is a plain RNN, and its file does not say with which nonlinearity", facts["problem"])
        self.assertEqual([finding["what"] for finding in facts["understood"]], ["cell", "layers", "units"])
        self.assertEqual(len(facts["tensors"]), 2)


class OwnModels(ComputedTest):
    def test_ml5(self):
        for name, parts in (("new", ("kernel", "bias")), ("old", ("weights", "biases"))):
            tensors = foreign.tensorflow_model(1, 2, *parts)
            said = self.check("ml5-" + name, foreign.tensorflow_probabilities(tensors, self.TEXT, 2, *parts),
                              foreign.ml5(self.folder_of(name), tensors))
            self.assertIn("vocabulary: 7 characters (vocab.json", said)

    def test_safetensors(self):
        tensors = foreign.tensorflow_model(3)
        want = foreign.tensorflow_probabilities(tensors, self.TEXT)
        path = foreign.write(self.folder_of("safetensors"), foreign.safetensors(tensors))
        self.check("safetensors", want, path, "--vocabulary", self.vocabulary())
        symbols = {"symbols": json.dumps({str(number): symbol for number, symbol in enumerate(foreign.SYMBOLS)})}
        path = foreign.write(self.folder_of("with-symbols"), foreign.safetensors(tensors, symbols))
        self.check("safetensors-symbols", want, path)
        tensors = foreign.tensorflow_model(5, 6)
        path = foreign.write(self.folder_of("alone/six-layers"), foreign.safetensors(tensors, symbols))
        self.check("six-layers", foreign.tensorflow_probabilities(tensors, self.TEXT, 6), path)

    def test_torch(self):
        tensors = foreign.torch_model()
        want = foreign.torch_probabilities(tensors, self.TEXT)
        more = {"n_hidden": foreign.UNITS, "tokens": tuple(foreign.SYMBOLS)}
        for name, content in (("zip", foreign.torch_zip(tensors, more)),
                              ("legacy", foreign.torch_legacy(tensors, more)),
                              ("swapped", foreign.torch_zip(tensors, more, ["lstm.weight_hh_l1", "fc.weight"]))):
            said = self.check("torch-" + name, want, foreign.write(self.folder_of(name), content))
            self.assertIn("gate order: i, f, g, o", said)
        path = foreign.write(self.folder_of("state_dict"), foreign.torch_zip(tensors))
        self.check("torch-state-dict", want, path, "--vocabulary", self.vocabulary())

    def test_torch_layers_that_no_language_model_has(self):
        for name, cells, pattern, *arguments in (
                ("gru", [("gru", 5), ("gru", 5)], "rnn.{1}_l{0}"),
                ("sizes", [("lstm", 6), ("lstm", 6), ("lstm", 3)], "rnns.{}.{}_l0"),
                ("mixed", [("rnn", 4), ("gru", 6), ("lstm", 5)], "rnns.{}.{}", "--set", "activation=relu"),
                ("relu", [("rnn", 4)], "rnns.{}.{}", "--set", "activation=relu")):
            tensors = foreign.torch_stack(cells, name=pattern)
            want = foreign.torch_stack_probabilities(tensors, cells, self.TEXT, pattern)
            content = foreign.torch_zip(tensors, {"tokens": foreign.SYMBOLS})
            path = foreign.write(self.folder_of("stack-" + name), content)
            with self.subTest(name):
                self.assertIn("program: a graph of its own", self.check("stack-" + name, want, path, *arguments))

    def test_layers_whose_names_are_not_numbered(self):
        """PyTorch's files keep the order of definition; numbers in names go first."""
        cells = [("lstm", 3), ("gru", 3), ("lstm", 3)]
        stack = foreign.torch_stack(cells)
        want = foreign.torch_stack_probabilities(stack, cells, self.TEXT)
        for name, places, is_told in (("attributes", ("lstm", "gru", "head"), False),
                                      ("wrapped", ("rnnmodule", "gru", "module"), False),
                                      ("numbered", ("lstm", "lstm_1", "lstm_2"), True),
                                      ("both", ("rnns.0.lstm", "rnns.1.gru", "rnns.10.lstm"), True)):
            tensors = foreign.renamed_layers(stack, places)
            if is_told:
                tensors = dict(reversed(tensors.items()))
            content = foreign.torch_zip(tensors, {"tokens": foreign.SYMBOLS})
            with self.subTest(name):
                said = self.check("order-" + name, want, foreign.write(self.folder_of("order-" + name), content))
                self.assertEqual(f"order: the file's ({places[0]}.l0 stands first in it, " not in said, is_told)

    def test_torch_script(self):
        tensors = foreign.torch_model()
        path = foreign.write(self.folder_of("script"), foreign.torch_zip(tensors, is_script=True))
        self.check("torch-script", foreign.torch_probabilities(tensors, self.TEXT), path, "--vocabulary",
                   self.vocabulary())

    def test_weight_dropping(self):
        """AWD-LSTM's names; fastai's keep what a dropout left of the weights, and the output's copy, beside."""
        tensors = foreign.torch_model(6)
        want = foreign.torch_probabilities(tensors, self.TEXT)
        for name in ("awd", "fastai"):
            dropped = foreign.weight_dropped(tensors, name == "fastai")
            path = foreign.write(self.folder_of(name), foreign.torch_zip(dropped))
            self.check("dropped-" + name, want, path, "--vocabulary", self.vocabulary())

    def test_objects_of_tensorflow_2(self):
        """tf.train.Checkpoint and save_weights, as TensorFlow's tutorials save."""
        said = ["--set", "window=none", "--set", "recurrent_activation=sigmoid"]
        for name, cells, paths in (
                ("numbered", [("gru", 5), ("lstm", 4)], ["layer_with_weights-0", "layer_with_weights-1/cell",
                                                         "layer_with_weights-2/cell", "layer_with_weights-10"]),
                ("attributes", [("gru", 5)], ["model/embedding", "model/a_gru/cell", "model/a_dense"])):
            weights, stack = foreign.keras_objects(cells, paths)
            tensors = {path + "/.ATTRIBUTES/VARIABLE_VALUE": array for path, array in weights.items()}
            tensors["save_counter/.ATTRIBUTES/VARIABLE_VALUE"] = (), [1.0]
            first = paths[0] + "/embeddings"
            tensors[first + "/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE"] = weights[first]
            path = foreign.tensorflow_checkpoint(self.folder_of(name + "/ckpt"), tensors)
            want = foreign.torch_stack_probabilities(stack, cells, self.TEXT)
            with self.subTest(name):
                self.check("objects-" + name, want, path, "--vocabulary", self.vocabulary(), *said)

    def test_cudnn_compatible_cells_add_nothing(self):
        """Whatever lies beside them, and beside other cells."""
        for name, cells in (("all", "cell_"), ("second", "cell_1")):
            tensors = foreign.tensorflow_model(8)
            renamed = {name.replace("basic", "cudnn_compatible") if cells in name else name: content
                       for name, content in tensors.items()}
            for tensor, (shape, numbers) in tensors.items():
                if cells in tensor and tensor.endswith("/bias"):  # the computation adds 1
                    tensors[tensor] = shape, [x - (at // foreign.UNITS == 2) for at, x in enumerate(numbers)]
            folder = foreign.ml5(self.folder_of("cudnn-" + name), renamed)
            for beside in ("a-config.json", "options.json"):
                foreign.write(os.path.join(folder, beside), json.dumps(
                    {"forget_bias": 1, **{f"{at}": "option" for at in range(300)}}))
            said = self.check("cudnn-" + name, foreign.tensorflow_probabilities(tensors, self.TEXT), folder)
            self.assertIn("forget bias: 0 (", said.replace("0 (rnnlm/multi_rnn_cell/cell_1/", "0 ("))

    def test_only_a_graph_says_the_forget_bias(self):
        """Beside PyTorch's file "forget_bias" is how a bias was initialised, or a word of a vocabulary."""
        tensors = foreign.torch_model(9)
        want = foreign.torch_probabilities(tensors, self.TEXT)
        for name, value in (("number", 1), ("text", "yes")):
            path = foreign.write(self.folder_of(f"options-{name}/model.pt"),
                                 foreign.torch_zip(tensors, {"tokens": foreign.SYMBOLS}))
            foreign.write(self.folder_of(f"options-{name}/config.json"), json.dumps({"forget_bias": value}))
            said = self.check("options-" + name, want, path)
            self.assertIn("forget bias: 0 (PyTorch's LSTM has nothing but its stored biases)", said)

    def test_the_forget_bias_of_layers_of_several_sizes(self):
        cells = [("lstm", 6), ("lstm", 3)]
        tensors = foreign.torch_stack(cells)
        path = foreign.write(self.folder_of("sizes-forget"), foreign.torch_zip(tensors, {"tokens": foreign.SYMBOLS}))
        for layer, (_, units) in enumerate(cells):
            name = f"rnns.{layer}.bias_ih_l0"
            tensors[name] = tensors[name][0], [x + 0.5 * (at // units == 1) for at, x in enumerate(tensors[name][1])]
        self.check("sizes-forget", foreign.torch_stack_probabilities(tensors, cells, self.TEXT), path, "--set",
                   "forget_bias=0.5")

    def test_a_graph_that_is_too_large_is_said(self):
        tensors = foreign.tensorflow_model(10)
        path = foreign.tensorflow_checkpoint(self.folder_of("huge-graph/model"), tensors)
        foreign.write(self.folder_of("huge-graph/model.meta"), b"")
        os.truncate(self.folder_of("huge-graph/model.meta"), 9 << 30)
        done = run("import", path, "--out", os.path.join(self.models, "huge-graph"), "--vocabulary", self.vocabulary())
        self.assertIn("model.meta: with its 9663676416 bytes more than 8192 MiB are to be read, so that it does not "
                      "tell what its cells do; if nothing unusual, say --set graph=ignored", done.stderr)
        said = self.check("huge-graph", foreign.tensorflow_probabilities(tensors, self.TEXT), path, "--vocabulary",
                          self.vocabulary(), "--set", "graph=ignored", "--set", "forget_bias=1")
        self.assertEqual(said.count("graph: ignored (it was set; model.meta: with its 9663676416 bytes"), 1)

    def test_block_cells_say_their_forget_bias(self):
        """As in TensorFlow's tutorial of language models."""
        tensors = foreign.tensorflow_model(13)
        path = foreign.tensorflow_checkpoint(self.folder_of("block/model"), {
            name.replace("cell_1/basic_lstm_cell", "cell_1/lstm_fused_cell"): content
            for name, content in tensors.items()})

        def float_bits(number):
            return struct.unpack("<I", struct.pack("<f", number))

        def write_graph(cell_clip):
            attributes = [(5, foreign.message((1, key), (2, foreign.message((4, float_bits(number))))))
                          for key, number in ((b"forget_bias", 0), (b"cell_clip", cell_clip))]
            graph = [(1, foreign.message((1, b"Train/" + op), (2, op), (3, b"x"), *attributes))
                     for op in (b"LSTMBlockCell", b"BlockLSTM")]
            foreign.write(path.replace(".index", ".meta"), foreign.message((2, foreign.message(*graph))))

        write_graph(50)
        done = run("import", path, "--out", os.path.join(self.models, "clipped"), "--vocabulary", self.vocabulary())
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("in the graph beside the checkpoint Train/LSTMBlockCell limits a cell's state (cell_clip), which "
                      "is not built here; if the model does without, say --set graph=ignored", done.stderr)
        done = run("import", path, "--out", os.path.join(self.models, "clipped"), "--vocabulary", self.vocabulary(),
                   "--set", "graph=ignored")
        self.assertIn("graph: ignored (it was set; Train/LSTMBlockCell limits a cell's state", done.stdout)
        write_graph(-1)
        for tensor, (shape, numbers) in tensors.items():
            if tensor.endswith("cell/bias"):  # the computation adds 1
                tensors[tensor] = shape, [x - (at // foreign.UNITS == 2) for at, x in enumerate(numbers)]
        said = self.check("block", foreign.tensorflow_probabilities(tensors, self.TEXT), path, "--vocabulary",
                          self.vocabulary())
        self.assertIn("forget bias: 0 (its files say so)", said)

    def test_optimisers_of_any_name(self):
        """What stands below a variable's name and has its shape is an optimiser's; other things may be ignored."""
        tensors = foreign.tensorflow_model(14)
        want = foreign.tensorflow_probabilities(tensors, self.TEXT)
        slots = {f"{name}/{slot}": content for name, content in tensors.items()
                 for slot in ("adam_opt", "adam_opt_1", "RMSProp_2")}
        path = foreign.tensorflow_checkpoint(self.folder_of("slots/model"), {**tensors, **slots})
        self.check("slots", want, path, "--vocabulary", self.vocabulary())
        rows = {name + "/row": ((content[0][0],), [0.5] * content[0][0])
                for name, content in tensors.items() if name.endswith("kernel")}
        path = foreign.tensorflow_checkpoint(self.folder_of("rows/model"), {**tensors, **rows})
        model = os.path.join(self.models, "rows")
        done = run("import", path, "--out", model, "--vocabulary", self.vocabulary())
        self.assertIn("cell_0/basic_lstm_cell/kernel/row belongs to a cell with weights of its own, which is not built "
                      "here; if nothing depends on it, say --set rest=ignored", done.stderr)
        self.check("rows", want, path, "--vocabulary", self.vocabulary(), "--set", "rest=ignored")

    def test_tied_weights_that_are_kept_once(self):
        """torch's save_model of safetensors writes which name is another's; elsewhere it can be said."""
        tensors = foreign.torch_stack([("lstm", 3)])
        del tensors["decoder.weight"]
        want = foreign.torch_stack_probabilities({**tensors, "decoder.weight": tensors["encoder.weight"]},
                                                 [("lstm", 3)], self.TEXT)
        tied = {"decoder.weight": "encoder.weight", "format": "pt"}
        path = foreign.write(self.folder_of("tied"), foreign.safetensors(tensors, tied))
        said = self.check("tied", want, path, "--vocabulary", self.vocabulary())
        self.assertIn("output: decoder.weight ((7, 3)", said)
        path = foreign.write(self.folder_of("once"), foreign.safetensors(tensors))
        done = run("import", path, "--out", os.path.join(self.models, "once"), "--vocabulary", self.vocabulary())
        self.assertIn("encoder.weight could be embedding or output, and nothing is there for the other: if it is both, "
                      "say --set output=encoder.weight --set embedding=encoder.weight", done.stderr)
        self.check("once", want, path, "--vocabulary", self.vocabulary(), "--set", "output=encoder.weight", "--set",
                   "embedding=encoder.weight")

    def test_a_version_below_a_model(self):
        folder = foreign.ml5(self.folder_of("above"), foreign.tensorflow_model())
        self.assertEqual(run("import", folder, "--out", folder).returncode, 0)
        done = run("import", folder, "--out", os.path.join(self.models, "above"))
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("holds several models, 1/weights.safetensors and manifest.json among them: say --set file=NAME",
                      done.stderr)
        said = self.bring("above", folder, "--set", "file=manifest.json", "--set", "vocabulary=vocab.json")
        self.assertIn("format: ml5 folder (manifest.json)", said)
        alone = self.folder_of("alone-below")
        os.makedirs(alone)
        os.rename(os.path.join(folder, "1"), os.path.join(os.fsencode(alone), b"\xff"))
        self.assertIn("format: lstmd version (\ufffd/manifest.json)", self.bring("below", alone))

    def test_archives(self):
        tensors = foreign.tensorflow_model(5)
        want = foreign.tensorflow_probabilities(tensors, self.TEXT)
        files = foreign.files_below(foreign.ml5(self.folder_of("packed"), tensors))
        files = {"사랑/" + path: content for path, content in files.items()}
        files["사랑/.DS_Store"] = b"nothing"
        files["사랑/other.json"] = json.dumps(foreign.SYMBOLS[::-1]).encode()
        for kind in ("tar", "tar.gz", "tar.xz", "tar.bz2", "zip"):
            path = foreign.write(self.folder_of("packed." + kind), foreign.archive(files, kind))
            said = self.check("packed-" + kind, want, path, "--set", "vocabulary=vocab.json")
            self.assertIn("format: ml5 folder (manifest.json)", said)

    def test_pickled_vocabularies(self):
        tensors = foreign.tensorflow_model(4)
        want = foreign.tensorflow_probabilities(tensors, self.TEXT)
        numbers = {symbol: number for number, symbol in enumerate(foreign.SYMBOLS)}
        for protocol in range(6):
            folder = foreign.ml5(self.folder_of(f"pickle-{protocol}"), tensors, ["x"])
            pair = (tuple(foreign.SYMBOLS), numbers) if protocol % 2 else dict(enumerate(foreign.SYMBOLS))
            foreign.write(os.path.join(folder, "chars_vocab.pkl"), pickle.dumps(pair, protocol=protocol))
            self.check(f"pickle-{protocol}", want, folder)

    def test_other_files_beside_a_model(self):
        """Training data, texts long enough to be vocabularies and JSON that is met often, do not use the memory up."""
        tensors = foreign.tensorflow_model(11)
        folder = foreign.ml5(self.folder_of("with-data"), tensors)
        text = "it was the best of times, it was the worst of times; " * 9
        foreign.write(os.path.join(folder, "train.json"), json.dumps({"texts": [[text]] * 30000}))
        foreign.write(os.path.join(folder, "train.pkl"), pickle.dumps([[json.dumps({"text": text * 2000})]] * 400))
        self.check("with-data", foreign.tensorflow_probabilities(tensors, self.TEXT), folder)

    def test_vocabularies_among_training_data(self):
        """Numbers cost nothing, sentences take no places, and what is too large is passed over."""
        tensors = foreign.torch_model(15)
        want = foreign.torch_probabilities(tensors, self.TEXT)
        numbers = {symbol: number for number, symbol in enumerate(foreign.SYMBOLS)}
        coded = pickle.dumps(([at % 7 for at in range(200000)], numbers, dict(enumerate(foreign.SYMBOLS)),
                              {".": "||period||"}), protocol=3)
        sentences = [[f"{at}", *(f"{word}" for word in range(at % 6)), f"{at}"] for at in range(4000)]
        for name, files in (("coded", {"preprocess.p": coded}),
                            ("sentences", {"a.pkl": pickle.dumps(sentences), "vocab.pkl": pickle.dumps(numbers)}),
                            ("many", {"all.p": pickle.dumps(([at % 20000 for at in range(900000)], numbers))}),
                            ("large", {"a.pkl": pickle.dumps([at % 3 == 0 for at in range(3000000)]),
                                       "vocab.pkl": pickle.dumps(numbers)})):
            path = foreign.write(self.folder_of(f"among-{name}/model.pt"), foreign.torch_zip(tensors))
            for file, content in files.items():
                foreign.write(self.folder_of(f"among-{name}/{file}"), content)
            with self.subTest(name):
                self.check("among-" + name, want, path)
        path = foreign.write(self.folder_of("alone/given.pt"), foreign.torch_zip(tensors))
        self.check("given", want, path, "--vocabulary", self.folder_of("among-coded/preprocess.p"))

    def test_the_unknown_symbol_of_keras(self):
        """StringLookup's stands among characters; it becomes ours."""
        tensors = foreign.torch_model(16)
        path = foreign.write(self.folder_of("lookup/model.pt"), foreign.torch_zip(tensors))
        foreign.write(self.folder_of("lookup/vocab.json"), json.dumps(["[UNK]", *foreign.SYMBOLS[1:]]))
        self.bring("lookup", path)
        with open(os.path.join(self.models, "lookup", "1", "vocab.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["symbols"], ["<unk>", *foreign.SYMBOLS[1:]])

    def test_zip_archives_of_texts(self):
        """What only has data/0 in the middle of a name is not PyTorch's."""
        tensors = foreign.tensorflow_model(12)
        files = foreign.files_below(foreign.ml5(self.folder_of("zipped"), tensors))
        files = {"gita/data/01.txt": b"see archive/data/0 and x/data.pkl", **files}
        path = foreign.write(self.folder_of("texts.zip"), foreign.archive(files, "zip"))
        self.check("zip-of-texts", foreign.tensorflow_probabilities(tensors, self.TEXT), path)

    def test_other_vocabularies(self):
        """Strings, Keras' Tokenizer, NumPy's arrays and numbers: all symbols, in their order."""
        symbols = [*foreign.SYMBOLS, *"defgh"]
        numbers = {symbol: number for number, symbol in enumerate(symbols)}
        tokenizer = {"class_name": "Tokenizer", "config": {
            "char_level": True, "word_counts": json.dumps({symbol: 3 for symbol in symbols[1:]}),
            "word_index": json.dumps({symbol: number for symbol, number in numbers.items() if number})}}
        tensors = {"embedding": ((12, 4), [0.5] * 48), "rnn/basic_rnn_cell/kernel": ((8, 4), [0.5] * 32),
                   "rnn/basic_rnn_cell/bias": ((4,), [0.5] * 4), "softmax_w": ((4, 12), [0.5] * 48)}
        source = foreign.write(self.folder_of("alone/many"), foreign.safetensors(tensors))
        vocabularies = [json.dumps("".join(symbols)), json.dumps({"chars": "".join(symbols)}), json.dumps(tokenizer),
                        json.dumps(json.dumps(tokenizer)), foreign.numpy_file(symbols), pickle.dumps("".join(symbols))]
        vocabularies += [foreign.numpy_pickle(value, protocol) for protocol in (0, 2, 4, 5)
                         for value in (symbols, numbers)]
        for at, content in enumerate(vocabularies):
            model = os.path.join(self.models, "vocabulary")
            done = run("import", source, "--out", model, "--vocabulary", self.vocabulary(content))
            self.assertEqual((done.returncode, done.stderr), (0, ""), at)
            with open(os.path.join(model, str(at + 1), "vocab.json"), encoding="utf-8") as file:
                self.assertEqual(json.load(file)["symbols"], ["<pad>", *symbols[1:]] if at in (2, 3) else symbols, at)

    def test_words_are_no_options(self):
        """What numbers symbols says nothing of the model, whatever words are in it; a configuration beside does."""
        tensors = {"embedding": ((5, 4), [0.5] * 20), "rnn/basic_rnn_cell/kernel": ((8, 4), [0.5] * 32),
                   "rnn/basic_rnn_cell/bias": ((4,), [0.5] * 4), "softmax_w": ((4, 5), [0.5] * 20)}
        source = foreign.write(self.folder_of("words/model"), foreign.safetensors(tensors))
        words = {word: number for number, word in enumerate(["the", "activation", "of", "its", "cells"])}
        foreign.write(self.folder_of("words/a.json"), json.dumps(words))
        model = os.path.join(self.models, "words")
        for arguments in ((), ("--vocabulary", self.folder_of("words/a.json"))):
            done = run("import", source, "--out", model, *arguments)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            foreign.write(self.folder_of("words/config.json"), json.dumps({"activation": "relu", "units": 4}))
            done = run("import", source, "--out", model, *arguments)
            self.assertEqual(done.returncode, 1)
            self.assertIn("relu", done.stderr)
            os.remove(self.folder_of("words/config.json"))

    def test_the_version_says_where_it_came_from(self):
        source = foreign.ml5(self.folder_of("origin"), foreign.tensorflow_model())
        model = os.path.join(self.models, "origin")
        done = run("import", source, "--out", model, "--set", "forget_bias=0.5", "--json")
        said = json.loads(done.stdout)
        self.assertEqual((said["model"], said["version"], said["format"]), ("origin", 1, "ml5 folder"))
        with open(os.path.join(model, "1", "manifest.json"), encoding="utf-8") as file:
            manifest = json.load(file)
        origin = manifest["origin"]["import"]
        self.assertEqual((origin["source"], origin["entry"], origin["set"]),
                         (source, "manifest.json", ["forget_bias=0.5"]))
        self.assertIn({"what": "forget bias", "value": "0.5", "why": "it was set"}, origin["understood"])
        self.assertEqual(origin["understood"], said["understood"])
        self.assertEqual(manifest["architecture"]["units"], foreign.UNITS)
        self.assertEqual(run("import", source, "--out", model).stdout.splitlines()[-1], model + "@2")


@unittest.skipUnless(os.path.isdir(REAL_MODELS), "the real models are not on this machine")
class RealModels(DaemonTest):
    """Probabilities after the prime within 1e-5 and all 200 greedy symbols: imported, served and asked over HTTP."""

    @classmethod
    def start(cls):
        cls.CONFIG = f"import_roots = {os.path.realpath(REAL_MODELS)} {cls.folder}\n"
        return super().start()

    @classmethod
    def golden_vocabulary(cls, name):
        """Of models that were published without theirs."""
        return foreign.write(os.path.join(cls.folder, name + ".json"), json.dumps(golden(name)["vocabulary"]))

    @classmethod
    def repair(cls, name):
        """ml5-shakespeare's vocabulary has two damaged symbols: 13 is "u", 40 is "U"."""
        with open(os.path.join(REAL_MODELS, name, "vocab.json"), encoding="utf-8") as file:
            symbols = {number: symbol for symbol, number in json.load(file).items()}
        return foreign.write(os.path.join(cls.folder, "repaired.json"), json.dumps({**symbols, 13: "u", 40: "U"}))

    @classmethod
    def request(cls, name, arguments):
        """What PUT says in place of the command's arguments."""
        vocabularies = {"repaired": cls.repair, "golden": cls.golden_vocabulary}
        said = {"path": os.path.join(os.path.realpath(REAL_MODELS), golden(name)["model_dir"])}
        for option, value in zip(arguments[::2], arguments[1::2], strict=True):
            if option == "--set":
                said.setdefault("set", {}).update([value.split("=", 1)])
            else:
                said["vocabulary"] = vocabularies[value](name)
        return {"import": said}

    def test_damaged_and_foreign_ones_are_refused_with_a_reason(self):
        for source, reason in (("ml5-shakespeare", 'symbol 13 is "  ", while 63 of 65 symbols are one character'),
                               ("pytorch-gru-negative/asim_gru_module_zip.pt", "the file of its 100 symbols"),
                               ("pytorch-gru-negative/mariejeannel_gru_module_legacy.pt", "the file of its 100")):
            reply = self.expect(422, "PUT", "/v1/models/refused",
                                {"import": {"path": os.path.join(os.path.realpath(REAL_MODELS), source)}})
            self.assertIn(reason, reply["error"]["message"])
        self.assertFalse(os.path.exists(os.path.join(self.models, "refused")))

    def probability(self, name, prompt, symbol, count):
        """What the model itself says of a symbol behind a prompt: all others are forbidden, which changes no
        log-probability."""
        others = {str(other): False for other in range(count) if other != symbol}
        reply = self.expect(200, "POST", "/v1/completions",
                            {"model": name, "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 0,
                             "logit_bias": others})
        return math.exp(reply["choices"][0]["logprobs"]["token_logprobs"][0])

    def check(self, name):
        self.expect(201, "PUT", "/v1/models/" + name, self.request(name, REAL[name]))
        want = golden(name)
        count = len(want["next_probs"])
        for symbol, probability in enumerate(want["next_probs"]):
            said = self.probability(name, want["prime_ids"], symbol, count)
            self.assertLess(abs(said - probability), 1e-5, symbol)
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
