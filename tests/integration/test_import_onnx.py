"""Importing ONNX: graphs as exporters write them, what is refused by a node's name, and ONNX' own node vectors."""
import json
import os
import random
import struct

import foreign_files as foreign
import onnx_files as onnx
from harness import ROOT
from import_case import ComputedTest, ImportTest

NODE_TESTS = os.path.join(ROOT, "..", "shared", "models", "onnx-lstm-node-tests")
METADATA = {"author": "nobody", "vocabulary": json.dumps({"kind": "characters", "symbols": foreign.SYMBOLS})}


class Graphs(ComputedTest):
    def test_weights_cut_and_joined_and_states_fed(self):
        tensors = foreign.torch_model()
        path = foreign.write(self.folder_of("torch"), onnx.from_torch(tensors, METADATA))
        said = self.check("torch", foreign.torch_probabilities(tensors, self.TEXT), path)
        self.assertIn("gate order: i, o, f, c", said)
        self.assertIn("layers: 2 (0 (LSTM_0) to 1 (LSTM_1))", said)
        self.assertIn("states: inputs", said)

    def test_one_hot_vectors_fed_and_external_data(self):
        tensors = foreign.torch_model(7)
        want = foreign.torch_probabilities(tensors, self.TEXT)
        folder = self.folder_of("folded")
        path = foreign.write(folder + "/model.onnx", onnx.Folded(tensors).file(folder))
        said = self.check("folded", want, path, "--vocabulary", self.vocabulary())
        self.assertIn("states: zeros", said)
        path = foreign.write(folder + "/large/model.onnx", onnx.Folded(tensors).file(folder + "/large", "weights.bin"))
        self.check("external", want, path, "--vocabulary", self.vocabulary())

    def test_states_of_zeros(self):
        tensors = foreign.torch_model(13)
        path = foreign.write(self.folder_of("zeros"), onnx.with_zeros(tensors).file(""))
        said = self.check("zeros", foreign.torch_probabilities(tensors, self.TEXT), path, "--vocabulary",
                          self.vocabulary())
        self.assertIn("states: zeros", said)

    def test_constants_of_other_shapes(self):
        tensors = foreign.torch_model(11, 1)
        path = foreign.write(self.folder_of("shapes"), onnx.reshaped(tensors).file(""))
        self.check("shapes", foreign.torch_probabilities(tensors, self.TEXT, 1), path, "--vocabulary",
                   self.vocabulary())

    def test_cells_that_no_language_model_has(self):
        rng = random.Random(9)
        for name, cells in (
                ("peepholes", [("LSTM", 3, 4, True)]), ("reset-after", [("GRU", 3, 4, False, False, 1)]),
                ("sizes", [("LSTM", 3, 4), ("GRU", 4, 6), ("RNN", 6, 5)]),
                ("some-residual", [("LSTM", 4, 4, True, True), ("GRU", 4, 4, False, True, 1), ("RNN", 4, 4)]),
                ("activations", [("LSTM", 3, 4, False, False, 0, "Softsign", "Relu", "Tanh"),
                                 ("GRU", 4, 5, False, False, 1, "Sigmoid", "Softplus"),
                                 ("RNN", 5, 5, False, False, 0, "Relu")])):
            made = []
            for op, inputs, units, *rest in cells:
                has_peepholes, is_residual, is_after, *activations = rest + [False, False, 0][len(rest):]
                attributes = {"activations": activations} if activations else {}
                attributes.update({"linear_before_reset": 1} if is_after else {})
                made.append(onnx.Cell(rng, op, inputs, units, has_peepholes, is_residual, **attributes))
            content, want = onnx.stack(rng, made, self.TEXT, METADATA)
            with self.subTest(name):
                said = self.check(name, want, foreign.write(self.folder_of(name), content))
                self.assertIn("program: a graph of its own", said)

    def test_many_symbols_without_a_table(self):
        symbols = 16400  # squared they are more than the parameters that a model may have
        rng = random.Random(12)
        cell = onnx.Cell(rng, "LSTM", symbols, 1, has_peepholes=True)
        tensors = [onnx.tensor(f"{name}0", *array) for name, array in cell.tensors.items()]
        tensors += [onnx.tensor("dense", *foreign.array(rng, 1, symbols)),
                    onnx.tensor("bias", *foreign.array(rng, symbols)),
                    onnx.tensor("depth", [], [symbols], onnx.INT64), onnx.tensor("values", [2], [0.0, 1.0])]
        nodes = [onnx.node("OneHot", ["symbols", "depth", "values"], ["x0"]), *cell.nodes(0),
                 onnx.node("MatMul", ["x1", "dense"], ["product"]), onnx.node("Add", ["product", "bias"], ["logits"])]
        vocabulary = {"vocabulary": json.dumps([f"<{number}>" for number in range(symbols)])}
        path = foreign.write(self.folder_of("many"), onnx.model(
            nodes, tensors, [onnx.value("symbols", "time", 1, kind=onnx.INT64)],
            [onnx.value("logits", "time", 1, symbols)], vocabulary))
        self.assertIn("program: a graph of its own", self.bring("many", path))

    def test_usual_cells_are_a_language_model(self):
        rng = random.Random(10)
        for op in ("LSTM", "GRU", "RNN"):
            cells = [onnx.Cell(rng, op, 4, 4), onnx.Cell(rng, op, 4, 4, is_residual=True)]
            content, want = onnx.stack(rng, cells, self.TEXT, METADATA)
            said = self.check("usual-" + op, want, foreign.write(self.folder_of(op), content))
            self.assertIn("cell: " + op.lower(), said)

    def test_a_window_is_asked_about(self):
        tensors = foreign.torch_model(8)
        path = foreign.write(self.folder_of("window"), onnx.Folded(tensors, length=40).file(""))
        self.check("window", foreign.torch_probabilities(tensors, self.TEXT), path, "--vocabulary", self.vocabulary(),
                   "--set", "window=none")


class Refusals(ImportTest):
    def refuse(self, message, folded, *arguments, data=None):
        folder = os.path.join(self.folder, "source")
        path = foreign.write(folder + "/model.onnx", folded.file(folder, data))
        self.bad(message, path, *arguments)

    def changed(self, at, *words, **attributes):
        folded = onnx.Folded(foreign.torch_model())
        folded.nodes[at] = onnx.node(*words, **attributes)
        return folded

    def test_nodes_by_name(self):
        layer = ["LSTM", ["x0", "W0", "R0", "B0"], ["y0", "h0"], "first"]
        for message, at, words, attributes in (
                ("node 'first' (LSTM): its direction is bidirectional", 1, layer, {"direction": "bidirectional"}),
                ("node 'first' (LSTM): activation 2 is Affine, which is not built", 1, layer,
                 {"activations": ["Sigmoid", "Tanh", "Affine"]}),
                ("node 'first' (LSTM): it clips at 3", 1, layer, {"clip": 3.0}),
                ("node 'first' (LSTM): its input and forget gates are one", 1, layer, {"input_forget": 1}),
                ("node 'first' (LSTM): its input 'h' is neither zeros nor fed", 1,
                 ["LSTM", ["x0", "W0", "R0", "B0", "", "h"], ["y0"], "first"], {}),
                ("node 'first' (GRU): W is of shape (1, 20, 7), where 15 rows are due", 1, ["GRU", *layer[1:]], {}),
                ("node 'first' (LSTM): its W is no constant", 1, ["LSTM", ["x0", "x", "R0"], ["y0"], "first"], {}),
                ("node 'mix' (Relu): nothing that is understood between the symbols and the layers", 0,
                 ["Relu", ["x"], ["x0"], "mix"], {}),
                ("node 'mix' (Mul): nothing that is understood between the layers and an output", 7,
                 ["Mul", ["top", "dense"], ["product"], "mix"], {}),
                ("'x0' is made of itself", 0, ["Identity", ["x0"], ["x0"]], {}),
                ("node 'product' (Identity): constants made in more", 7, ["Identity", ["product"], ["product"]], {}),
                ("more than 16 recurrent layers, or a cycle", 1, ["LSTM", ["x1", *layer[1][1:]], *layer[2:]], {})):
            self.refuse(message, self.changed(at, *words, **attributes))

    def test_states_of_other_numbers(self):
        double = onnx.field(1, 1) + onnx.field(2, 11) + onnx.field(10, struct.pack("<d", 1))
        half = onnx.field(1, 1) + onnx.field(2, 10) + onnx.field(5, onnx.varint(0x3c00))
        for fill, kept in ((1.0, None), (0.0, double), (0.0, half), (0.0, onnx.external("", [1], "elsewhere"))):
            self.refuse("node 'Fill' (ConstantOfShape): a state that does not begin with zeros",
                        onnx.with_zeros(foreign.torch_model(), fill, kept))

    def test_constants_that_do_not_fit(self):
        for message, numbers, op, attributes in (
                ("35 elements do not have that shape", [4, -1], "Reshape", {}),
                ("35 elements do not have that shape", [-1, -1], "Reshape", {}),
                ("axis 1 has 7 elements", [1], "Squeeze", {}),
                ("axis 2 of 2", [2], "Squeeze", {}),
                ("no axes, or more than 8 dimensions", [0] * 7, "Unsqueeze", {}),
                ("perm is no permutation of 2 axes", [], "Transpose", {"perm": [1, 1]}),
                ("to type 7, which is no floating-point number", [], "Cast", {"to": 7}),
                ("starts, ends, axes or steps that are not understood", [0], "Slice", {}),
                ("tensors that do not fit together", [3], "Concat", {"axis": 0}),
                ("its axis is none of 2", [3], "Concat", {"axis": 5}),
                ("its input 1 is no constant of whole numbers", "bias", "Reshape", {}),
                ("9 axes, at most 8", [0] * 9, "Squeeze", {})):
            folded = self.changed(7, "MatMul", ["top", "made"], ["product"])
            inputs = ["dense", numbers if numbers == "bias" else "numbers"]
            folded.nodes += [onnx.constant("numbers", list(numbers if numbers != "bias" else [])),
                             onnx.node(op, inputs, ["made"], "odd", **attributes)]
            self.refuse(f"node 'odd' ({op}): {message}", folded)

    def test_settings_without_effect(self):
        rng = random.Random(11)
        cells = [onnx.Cell(rng, "LSTM", 3, 4), onnx.Cell(rng, "LSTM", 4, 6)]
        path = foreign.write(os.path.join(self.folder, "sizes"), onnx.stack(rng, cells, [0], METADATA)[0])
        self.bad("forget_bias=0 was set, and nothing of this model asks for it", path, "--set", "forget_bias=0")
        self.good(path)

    def test_windows(self):
        self.refuse("has 40 symbols and nothing carries a state on: say --set window=none",
                    onnx.Folded(foreign.torch_model(), length=40))
        self.refuse("window=40: an ONNX model is built without a window only",
                    onnx.Folded(foreign.torch_model(), length=40), "--set", "window=40")

    def test_data_that_lies_elsewhere(self):
        folded = onnx.Folded(foreign.torch_model())
        foreign.write(os.path.join(self.folder, "secret"), b"\0" * 100000)
        for place in ("../secret", "/etc/passwd", "a/../../secret"):
            self.refuse(f"its data lies in '{place}', which is no file beside it", folded, data=place)
        os.makedirs(os.path.join(self.folder, "source"), exist_ok=True)
        folded.file(os.path.join(self.folder, "source"), "data")
        os.truncate(os.path.join(self.folder, "source", "data"), 100)
        tensors = [onnx.external("W0", [1, 4], "data", 96, 16)]
        path = foreign.write(os.path.join(self.folder, "source", "short"), onnx.model([], tensors, [], []))
        self.bad("'W0': not within the 100 bytes of data", path)
        path = foreign.write(path, onnx.model([], [onnx.external("W0", [1], "nothing")], [], []))
        self.bad("'W0' is in the file nothing, which is not beside short", path)

    def test_no_recurrence(self):
        tensors = [onnx.tensor("w", [2, 2], [0.5] * 4)]
        path = foreign.write(os.path.join(self.folder, "dense"), onnx.model(
            [onnx.node("MatMul", ["x", "w"], ["y"])], tensors, [onnx.value("x", 1, 2)], [onnx.value("y", 1, 2)]))
        self.bad("between symbols and output there is no LSTM, GRU or RNN", path)
        self.bad("rest=used: it can only be ignored", path, "--set", "rest=used")
        path = foreign.write(path, onnx.model([], tensors, [], [onnx.value("x", 1)]))
        self.bad("none of its 1 outputs is made by an output layer", path)


def read_tensor(path):
    """Shape and numbers of a TensorProto of floats, whose bytes are raw."""
    with open(path, "rb") as file:
        content = file.read()
    shape, numbers, at = [], [], 0
    while at < len(content):
        number, kind = content[at] >> 3, content[at] & 7
        size, at = content[at + 1], at + 2
        if size >= 128:
            size, at = size - 128 + content[at] * 128, at + 1
        if kind == 2:
            numbers = struct.unpack(f"<{size // 4}f", content[at:at + size]) if number == 9 else numbers
            at += size
        elif number == 1:
            shape.append(size)
    return content, shape, list(numbers)


class NodeVectors(ComputedTest):
    """The operator's vectors, behind a table whose rows are their inputs and below an output layer that shows h."""

    def check_vector(self, name, weights, names):
        folder = os.path.join(NODE_TESTS, name, "test_data_set_0")
        if not os.path.isdir(folder):
            self.skipTest("ONNX' node vectors are not on this machine")
        _, shape, rows = read_tensor(folder + "/input_0.pb")
        inputs = [read_tensor(f"{folder}/input_{at}.pb")[0] for at in weights]
        _, [_, _, units], want = read_tensor(folder + "/output_0.pb")
        table = rows + [0.0] * (shape[2] * (units - shape[1]))
        eye = [float(row == column) for row in range(units) for column in range(units)]
        nodes = [onnx.node("Gather", ["table", "symbols"], ["x"]), onnx.node("LSTM", ["x", *names], ["y"]),
                 onnx.node("MatMul", ["y", "eye"], ["logits"])]
        path = foreign.write(self.folder_of(name), onnx.model(
            nodes, [*inputs, onnx.tensor("table", [units, shape[2]], table), onnx.tensor("eye", [units, units], eye)],
            [onnx.value("symbols", "time", 1, kind=onnx.INT64)], [onnx.value("logits", "time", 1, units)],
            {"vocabulary": json.dumps(foreign.SYMBOLS[:units])}))
        self.bring(name, path)
        made = [self.fetch(name, "predict/logits:0", [[row]])[0][0][:units] for row in range(shape[1])]
        for got, wanted in zip([number for row in made for number in row], want, strict=True):
            self.assertAlmostEqual(got, wanted, delta=1e-6)

    def test_initial_bias(self):
        self.check_vector("test_lstm_with_initial_bias", (1, 2, 3), "WRB")

    def test_peepholes(self):
        self.check_vector("test_lstm_with_peepholes", (1, 2, 3, 7), [*"WRB", "", "", "", "P"])
