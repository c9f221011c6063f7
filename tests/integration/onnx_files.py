"""ONNX files made byte by byte, as exporters lay them out: for the tests of importing. Field numbers: onnx.proto."""
import math
import struct

import foreign_files as foreign

FLOAT, INT64 = 1, 7
UNITS, COUNT = foreign.UNITS, len(foreign.SYMBOLS)


def varint(number):
    number &= (1 << 64) - 1
    content = bytearray()
    while number >= 128:
        content.append(number & 127 | 128)
        number >>= 7
    return bytes(content) + bytes([number])


def field(number, content):
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    if isinstance(content, float):
        return varint(number << 3 | 5) + struct.pack("<f", content)
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name, shape, numbers, kind=FLOAT, is_raw=True):
    """A TensorProto, whose numbers are bytes, or in the field of their type."""
    head = b"".join(field(1, size) for size in shape) + field(2, kind) + field(8, name)
    if is_raw:
        return head + field(9, struct.pack(f"<{len(numbers)}{'f' if kind == FLOAT else 'q'}", *numbers))
    if kind == FLOAT:
        return head + field(4, foreign.raw(numbers))
    return head + field(7, b"".join(map(varint, numbers)))


def external(name, shape, location, offset=0, length=None):
    """A TensorProto whose numbers lie in another file."""
    entries = {"location": location, "offset": str(offset), "length": length and str(length)}
    return (b"".join(field(1, size) for size in shape) + field(2, FLOAT) + field(8, name) + field(14, 1)
            + b"".join(field(13, field(1, key) + field(2, value)) for key, value in entries.items() if value))


def attribute(name, value):
    if isinstance(value, bytes):
        return field(1, name) + field(5, value) + field(20, 4)
    if isinstance(value, float):
        return field(1, name) + field(2, value) + field(20, 1)
    if isinstance(value, int):
        return field(1, name) + field(3, value) + field(20, 2)
    if isinstance(value, str):
        return field(1, name) + field(4, value) + field(20, 3)
    at, kind = (8, 7) if isinstance(value[0], int) else (9, 8)
    return field(1, name) + b"".join(field(at, one) for one in value) + field(20, kind)


def node(op, inputs, outputs, name="", **attributes):
    return (b"".join(field(1, one) for one in inputs) + b"".join(field(2, one) for one in outputs)
            + (field(3, name) if name else b"") + field(4, op)
            + b"".join(field(5, attribute(*one)) for one in attributes.items()))


def value(name, *shape, kind=FLOAT):
    sizes = b"".join(field(1, field(1, size) if isinstance(size, int) else field(2, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, sizes)))


def model(nodes, tensors, inputs, outputs, metadata=None):
    graph = (b"".join(field(1, one) for one in nodes) + field(2, "graph") + b"".join(field(5, one) for one in tensors)
             + b"".join(field(11, one) for one in inputs) + b"".join(field(12, one) for one in outputs))
    return (field(1, 8) + field(2, "tests") + field(7, graph) + field(8, field(1, "") + field(2, 13))
            + b"".join(field(14, field(1, key) + field(2, text)) for key, text in (metadata or {}).items()))


def constant(name, numbers):
    """A Constant node of whole numbers."""
    return node("Constant", [], [name], value=tensor("", [len(numbers)], numbers, INT64, is_raw=len(numbers) > 1))


def onnx_rows(numbers):
    """PyTorch's gates i, f, g, o, blocks of rows, in ONNX' order i, o, f, c."""
    block = len(numbers) // 4
    parts = [numbers[at * block:(at + 1) * block] for at in range(4)]
    return parts[0] + parts[3] + parts[1] + parts[2]


def transposed(array):
    (rows, columns), numbers = array
    return (columns, rows), [numbers[row * columns + column] for column in range(columns) for row in range(rows)]


# ---- as PyTorch's exporter writes nn.LSTM and nn.Linear without folding constants ----

def cut_and_joined(name, source, made, rank):
    """Nodes that turn PyTorch's order of gates into ONNX', along axis 0, and add an axis in front."""
    nodes, parts = [constant(name + ".axis", [0])], []
    for at, (begin, end) in enumerate(((0, 1), (3, 4), (1, 3))):
        part = f"{name}.{at}"
        nodes += [constant(part + ".begin", [begin * UNITS]), constant(part + ".end", [end * UNITS]),
                  node("Slice", [source, part + ".begin", part + ".end", name + ".axis"], [part])]
        parts.append(part)
    joined = made if rank == 1 else name + ".joined"
    nodes.append(node("Concat", parts, [joined], axis=0))
    return nodes if rank == 1 else [*nodes, node("Unsqueeze", [joined, name + ".axis"], [made])]


def from_torch(tensors, metadata=None, layers=2):
    """Symbols are numbers; states [layers, batch, units] go in and are sliced."""
    initializers = [tensor(name, *array, is_raw="bias" in name) for name, array in tensors.items()]
    initializers += [tensor("depth", [], [COUNT], INT64), tensor("values", [2], [0.0, 1.0])]
    nodes = [node("OneHot", ["symbols", "depth", "values"], ["x0"])]
    for layer in range(layers):
        weights = [f"W{layer}", f"R{layer}"]
        for name, made in zip(("weight_ih", "weight_hh"), weights):
            nodes += cut_and_joined(made + ".made", f"lstm.{name}_l{layer}", made, 2)
        for name in ("bias_ih", "bias_hh"):
            nodes += cut_and_joined(f"{name}{layer}.made", f"lstm.{name}_l{layer}", f"{name}{layer}", 1)
        nodes += [node("Concat", [f"bias_ih{layer}", f"bias_hh{layer}"], [f"both{layer}"], axis=0),
                  node("Unsqueeze", [f"both{layer}", f"W{layer}.made.axis"], [f"B{layer}"]),
                  constant(f"from{layer}", [layer]), constant(f"to{layer}", [layer + 1])]
        for state in "hc":
            nodes.append(node("Slice", [state, f"from{layer}", f"to{layer}", "W0.made.axis"], [f"{state}{layer}"]))
        nodes += [node("LSTM", [f"x{layer}", *weights, f"B{layer}", "", f"h{layer}", f"c{layer}"],
                       [f"y{layer}", f"h{layer}_next", f"c{layer}_next"], f"LSTM_{layer}", hidden_size=UNITS),
                  constant(f"one{layer}", [1]), node("Squeeze", [f"y{layer}", f"one{layer}"], [f"x{layer + 1}"])]
    nodes += [node("Concat", [f"{state}{layer}_next" for layer in range(layers)], [f"{state}_next"], axis=0)
              for state in "hc"]
    nodes += [constant("flat", [-1, UNITS]), node("Reshape", [f"x{layers}", "flat"], ["rows"]),
              node("Gemm", ["rows", "fc.weight", "fc.bias"], ["logits"], "Gemm_9", alpha=1.0, beta=1.0, transB=1)]
    states = [value(state, layers, 1, UNITS) for state in "hc"]
    return model(nodes, initializers, [value("symbols", "time", 1, kind=INT64), *states],
                 [value("logits", "time", COUNT), value("h_next", layers, 1, UNITS), value("c_next", layers, 1, UNITS)],
                 metadata)


# ---- with one-hot vectors that are fed, folded weights and no states, as Keras' models come out ----

class Folded:
    """The parts of such a file, to be changed by tests."""

    def __init__(self, tensors, layers=2, length="time", op="LSTM", **attributes):
        self.initializers, self.layers, self.length = {}, layers, length
        self.nodes = [node("Transpose", ["x"], ["x0"], perm=[1, 0, 2])]
        for layer in range(layers):
            for name, made in (("weight_ih", "W"), ("weight_hh", "R")):
                shape, numbers = tensors[f"lstm.{name}_l{layer}"]
                self.initializers[f"{made}{layer}"] = (1, *shape), onnx_rows(numbers)
            biases = [onnx_rows(tensors[f"lstm.{name}_l{layer}"][1]) for name in ("bias_ih", "bias_hh")]
            self.initializers[f"B{layer}"] = (1, 8 * UNITS), biases[0] + biases[1]
            self.nodes += [node(op, [f"x{layer}", f"W{layer}", f"R{layer}", f"B{layer}"], [f"y{layer}", f"h{layer}"],
                                f"lstm_{layer}", hidden_size=UNITS, **attributes),
                           node("Squeeze", [f"y{layer}"], [f"x{layer + 1}"], axes=[1])]
        self.initializers["dense"] = transposed(tensors["fc.weight"])
        self.initializers["bias"] = tensors["fc.bias"]
        self.nodes += [constant("last", [-1]), node("Gather", [f"x{layers}", "last"], ["top"], axis=0),
                       node("MatMul", ["top", "dense"], ["product"], "dense_matmul"),
                       node("Add", ["product", "bias"], ["logits"]), node("Softmax", ["logits"], ["scores"], axis=-1)]

    def file(self, folder, data=None):
        """Bytes; where `data` names a file the weights are written into it."""
        tensors, content = [], b""
        for name, (shape, numbers) in self.initializers.items():
            assert math.prod(shape) == len(numbers)
            if data:
                tensors.append(external(name, shape, data, len(content), 4 * len(numbers)))
                content += foreign.raw(numbers)
            else:
                tensors.append(tensor(name, shape, numbers))
        if data:
            foreign.write(f"{folder}/{data}", content)
        return model(self.nodes, tensors, [value("x", 1, self.length, COUNT)], [value("scores", 1, COUNT)])


def with_zeros(tensors, fill=0.0, kept=None):
    """States as PyTorch's exporter writes those that nobody gives: zeros of a computed size, whole or sliced."""
    folded = Folded(tensors)
    folded.initializers["zeros"] = (1, 1, 1), [fill]
    zeros = [constant(f"n{at}", [at]) for at in range(3)] + [
        constant("units", [UNITS]), node("Shape", ["x"], ["sizes"]), node("Gather", ["sizes", "n0"], ["batch"]),
        node("Concat", ["n2", "batch", "units"], ["all"], axis=0),
        node("Concat", ["n1", "batch", "units"], ["one"], axis=0),
        node("ConstantOfShape", ["all"], ["states"], "Fill",
             value=kept or tensor("", [1], [fill], is_raw=fill == 0)),
        node("Slice", ["states", "n0", "n1", "n0"], ["h0"]), node("Expand", ["zeros", "one"], ["c0"])]
    layer = node("LSTM", ["x0", "W0", "R0", "B0", "", "h0", "c0"], ["y0"], "lstm_0", hidden_size=UNITS)
    folded.nodes[1:2] = [*zeros, layer]
    return folded


def reshaped(tensors):
    """One layer whose constants lie in other shapes, and are brought into their own by nodes."""
    folded = Folded(tensors, 1)
    for name, shape in (("W0", [-1]), ("R0", [1, 1, 4 * UNITS, UNITS]), ("B0", [1, 8 * UNITS, 1])):
        folded.initializers[name + ".kept"] = [len(folded.initializers[name][1])] if shape == [-1] else shape, \
            folded.initializers.pop(name)[1]
    folded.initializers["dense.kept"] = transposed(folded.initializers.pop("dense"))
    folded.nodes += [constant("W0.shape", [1, 4 * UNITS, -1]), node("Reshape", ["W0.kept", "W0.shape"], ["W0"]),
                     node("Squeeze", ["R0.kept"], ["R0"], axes=[-3]),
                     node("Squeeze", ["B0.kept"], ["B0.vector"]), constant("first", [0]),
                     node("Unsqueeze", ["B0.vector", "first"], ["B0.made"]), node("Identity", ["B0.made"], ["B0"]),
                     node("Transpose", ["dense.kept"], ["dense.turned"]),
                     node("Cast", ["dense.turned"], ["dense"], to=FLOAT)]
    return folded


# ---- stacks of any cells, and what they compute ----

ACTIVATIONS = {"Sigmoid": foreign.sigmoid, "Tanh": math.tanh, "Relu": lambda x: max(0.0, x),
               "Softsign": lambda x: x / (1 + abs(x)), "Softplus": lambda x: math.log1p(math.exp(x))}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def rows_of(array, x):
    (_, rows, columns), numbers = array
    return [sum(numbers[row * columns + at] * one for at, one in enumerate(x)) for row in range(rows)]


class Cell:
    """One recurrent node with random weights; units of its own."""

    def __init__(self, rng, op, inputs, units, has_peepholes=False, is_residual=False, **attributes):
        self.op, self.units, self.is_residual, self.attributes = op, units, is_residual, attributes
        rows = GATES[op] * units
        self.tensors = {"W": foreign.array(rng, 1, rows, inputs), "R": foreign.array(rng, 1, rows, units),
                        "B": foreign.array(rng, 1, 2 * rows)}
        if has_peepholes:
            self.tensors["P"] = foreign.array(rng, 1, 3 * units)
        self.functions = [ACTIVATIONS[name] for name in attributes.get("activations", USUAL[op])]
        self.h, self.c = [0.0] * units, [0.0] * units

    def nodes(self, at):
        inputs = [f"x{at}"] + [f"{name}{at}" if name in self.tensors else "" for name in "WRB"]
        inputs += ["", "", "", f"P{at}"] if "P" in self.tensors else []
        nodes = [node(self.op, inputs, [f"y{at}"], f"cell_{at}", hidden_size=self.units, **self.attributes),
                 node("Squeeze", [f"y{at}"], [f"y{at}s"], axes=[1])]
        return nodes + [node("Add", [f"x{at}", f"y{at}s"], [f"x{at + 1}"]) if self.is_residual
                        else node("Identity", [f"y{at}s"], [f"x{at + 1}"])]

    def step(self, x):
        """The operator's equations, for one step of one row."""
        units, bias = self.units, self.tensors["B"][1]
        rows = len(bias) // 2

        def gate(numbers, at):
            return numbers[at * units:(at + 1) * units]

        def add(*vectors):
            return [sum(numbers) for numbers in zip(*vectors, strict=True)]

        def times(*vectors):
            return [math.prod(numbers) for numbers in zip(*vectors, strict=True)]

        from_x = add(rows_of(self.tensors["W"], x), bias[:rows])
        from_h = add(rows_of(self.tensors["R"], self.h), bias[rows:])
        f, g = self.functions[0], self.functions[-1]
        if self.op == "RNN":
            self.h = [f(one) for one in add(from_x, from_h)]
        elif self.op == "LSTM":
            peepholes = self.tensors.get("P", (None, [0.0] * 3 * units))[1]
            i, o, forget, c = (gate(add(from_x, from_h), at) for at in range(4))
            i = [f(one) for one in add(i, times(gate(peepholes, 0), self.c))]
            forget = [f(one) for one in add(forget, times(gate(peepholes, 2), self.c))]
            self.c = add(times(forget, self.c), times(i, [self.functions[1](one) for one in c]))
            o = [f(one) for one in add(o, times(gate(peepholes, 1), self.c))]
            self.h = times(o, [g(one) for one in self.c])
        else:
            z, r = ([f(one) for one in add(gate(from_x, at), gate(from_h, at))] for at in range(2))
            if self.attributes.get("linear_before_reset"):
                n = times(r, gate(from_h, 2))
            else:
                n = add(gate(rows_of(self.tensors["R"], times(r, self.h)), 2), gate(bias[rows:], 2))
            n = [g(one) for one in add(gate(from_x, 2), n)]
            self.h = add(times([1 - one for one in z], n), times(z, self.h))
        return add(self.h, x) if self.is_residual else self.h


def stack(rng, cells, symbols, metadata):
    """The file of cells over one-hot symbols, or a table of as many columns as the first one takes; and what it says of
    the symbol after `symbols`."""
    width = cells[0].tensors["W"][0][2]
    dense, bias = foreign.array(rng, cells[-1].units, COUNT), foreign.array(rng, COUNT)
    table = foreign.array(rng, COUNT, width)
    nodes = [node("Gather", ["table", "symbols"], ["x0"])]
    tensors = [tensor("table", *table), tensor("dense", *dense), tensor("bias", *bias)]
    for at, cell in enumerate(cells):
        nodes += cell.nodes(at)
        tensors += [tensor(f"{name}{at}", *array) for name, array in cell.tensors.items()]
    nodes += [node("MatMul", [f"x{len(cells)}", "dense"], ["product"]), node("Add", ["product", "bias"], ["logits"])]
    x = []
    for symbol in symbols:
        x = table[1][symbol * width:(symbol + 1) * width]
        for cell in cells:
            x = cell.step(x)
    want = foreign.softmax([a + b for a, b in zip(foreign.product(x, dense), bias[1])])
    return model(nodes, tensors, [value("symbols", "time", 1, kind=INT64)], [value("logits", "time", 1, COUNT)],
                 metadata), want
