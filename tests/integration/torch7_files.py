"""Torch7's files written as Lua's torch.save does, and what char-rnn's and torch-rnn's models compute, in plain Python.

A table is a dictionary or, numbered from 1, a list; an array is (shape, [numbers]) as in foreign_files.
"""
import math
import random
import struct

import foreign_files as foreign
from foreign_files import SYMBOLS, UNITS, dot

EMBEDDING = 3


class Object:
    """An object of a class with its fields."""

    def __init__(self, class_name, **fields):
        self.class_name, self.fields = class_name, fields


class Function:
    """Its dump is no code of Lua: nobody may load it."""

    def __init__(self, dump=b"\x1bLua nothing", **upvalues):
        self.dump, self.upvalues = dump, upvalues


class Storage:
    def __init__(self, kind, numbers):
        self.kind, self.numbers = kind, numbers


class Tensor:
    """A view of a storage, row-major from `offset` (of 0) on; without a storage an empty one."""

    def __init__(self, shape=(), storage=None, offset=0, kind="Float", is_swapped=False):
        self.shape, self.storage, self.offset, self.kind = shape, storage, offset, kind
        self.strides = [math.prod(shape[at + 1:]) for at in range(len(shape))]
        self.strides = [1, shape[0]] if is_swapped else self.strides


class Writer:
    """File.lua's writeObject; an object that was written is only its number the next time."""

    FORMS = {"Float": "f", "Cuda": "f", "Double": "d", "Long": "q"}

    def __init__(self, is_ascii=False):
        self.is_ascii, self.out, self.known = is_ascii, [], {}

    def numbers(self, form, *numbers):
        if self.is_ascii and numbers:
            texts = {"f": "%.9g", "d": "%.17g"}
            self.out.append(" ".join(texts.get(form, "%d") % number for number in numbers).encode() + b"\n")
        elif numbers:
            self.out.append(struct.pack(f"<{len(numbers)}{form}", *numbers))

    def text(self, text):
        raw = text if isinstance(text, bytes) else text.encode()
        self.numbers("i", len(raw))
        self.out.append(raw + (b"\n" if self.is_ascii and raw else b""))

    def value(self, value):
        """Any object."""
        if value is None:
            self.numbers("i", 0)
        elif isinstance(value, bool):
            self.numbers("i", 5)
            self.numbers("i", value)
        elif isinstance(value, (int, float)):
            self.numbers("i", 1)
            self.numbers("d", value)
        elif isinstance(value, (str, bytes)):
            self.numbers("i", 2)
            self.text(value)
        else:
            self.shared(value)
        return self

    def shared(self, value):
        self.numbers("i", 3 if isinstance(value, (dict, list)) else 8 if isinstance(value, Function) else 4)
        is_known = id(value) in self.known
        self.numbers("i", self.known.setdefault(id(value), len(self.known) + 1))
        if is_known:
            return
        if isinstance(value, (dict, list)):
            self.table(value)
        elif isinstance(value, Function):
            self.text(value.dump)
            self.value([{"name": name, "value": upvalue} for name, upvalue in value.upvalues.items()])
        else:
            self.classed(value)

    def table(self, value):
        pairs = list(value.items() if isinstance(value, dict) else enumerate(value, 1))
        self.numbers("i", len(pairs))
        for pair in pairs:
            self.value(pair[0])
            self.value(pair[1])

    def classed(self, value):
        self.text("V 1")
        if isinstance(value, Storage):
            self.text(f"torch.{value.kind}Storage")
            self.numbers("q", len(value.numbers))
            self.numbers(self.FORMS[value.kind], *value.numbers)
        elif isinstance(value, Tensor):
            self.text(f"torch.{value.storage.kind if value.storage else value.kind}Tensor")
            self.numbers("i", len(value.shape))
            self.numbers("q", *value.shape)
            self.numbers("q", *value.strides)
            self.numbers("q", value.offset + 1)
            self.value(value.storage)
        else:
            self.text(value.class_name)
            self.known[id(value.fields)] = len(self.known) + 1      # a table of its own
            self.numbers("i", 3)
            self.numbers("i", self.known[id(value.fields)])
            self.table(value.fields)

    def content(self):
        return b"".join(self.out)


def write(value, is_ascii=False):
    return Writer(is_ascii).value(value).content()


def flat(arrays, kind="Float"):
    """{name: Tensor} in one storage, as getParameters and combine_all_parameters leave them."""
    storage, made = Storage(kind, []), {}
    for name, (shape, numbers) in arrays.items():
        made[name] = Tensor(shape, storage, len(storage.numbers))
        storage.numbers.extend(numbers)
    return made


# ---- torch-rnn ----

def torch_rnn_arrays(seed=11, layers=2, gates=4, units=UNITS, symbols=len(SYMBOLS)):
    rng = random.Random(seed)
    arrays = {"embedding": foreign.array(rng, symbols, EMBEDDING)}
    for layer in range(layers):
        arrays[f"weight_{layer}"] = foreign.array(rng, (units if layer else EMBEDDING) + units, gates * units)
        arrays[f"bias_{layer}"] = foreign.array(rng, gates * units)
    arrays["output"] = foreign.array(rng, symbols, units)
    arrays["output_bias"] = foreign.array(rng, symbols)
    return arrays


def torch_rnn(arrays, layers=2, cell="nn.LSTM", more=(), symbols=SYMBOLS, kind="Float", is_swapped=False):
    """A checkpoint of train.lua; `more`: modules before the last three."""
    tensors, rnns = flat(arrays, kind), []
    for layer in range(layers):
        fields = {"h0": Tensor(), "gradInput": [Tensor(), Tensor()], "remember_states": True}
        rnns.append(Object(cell, weight=tensors[f"weight_{layer}"], bias=tensors[f"bias_{layer}"],
                           gradWeight=tensors[f"weight_{layer}"], train=False, **fields))
    output = tensors["output"]
    if is_swapped:
        (rows, columns), numbers = arrays["output"]
        swapped = [numbers[row * columns + column] for column in range(columns) for row in range(rows)]
        output = Tensor((rows, columns), Storage(kind, swapped), is_swapped=True)
    modules = [Object("nn.LookupTable", weight=tensors["embedding"], _input=Tensor(kind="Long")),
               *[module for rnn in rnns for module in (rnn, Object("nn.Dropout", p=0.5))], *more,
               Object("nn.View", numElements=-1), Object("nn.Linear", weight=output, bias=tensors["output_bias"]),
               Object("nn.View", numElements=-1)]
    model = Object("nn.LanguageModel", net=Object("nn.Sequential", modules=modules, output=Tensor()), rnns=rnns,
                   idx_to_token=list(symbols), token_to_idx={symbol: at for at, symbol in enumerate(symbols, 1)},
                   hook=Function(model=modules), dropout=0, model_type="lstm")
    return {"opt": {"rnn_size": UNITS, "seed": 0.5, "gpu": None}, "train_loss_history": [3.5, 3.25], "model": model}


GATES = "ifoj"        # both programs' order


def torch_rnn_probabilities(arrays, symbols, layers=2, is_lstm=True):
    """LSTM.lua's and VanillaRNN.lua's updateOutput."""

    def step(layer, x, h, c):
        sums = foreign.total(foreign.product(x + h, arrays[f"weight_{layer}"]), arrays[f"bias_{layer}"][1])
        return foreign.lstm(sums, c, GATES) if is_lstm else ([math.tanh(a) for a in sums], c)

    output = foreign.unroll([foreign.row(arrays["embedding"], symbol) for symbol in symbols], [UNITS] * layers, step)
    return foreign.softmax(foreign.total(dot(arrays["output"], output), arrays["output_bias"][1]))


# ---- char-rnn ----

def char_rnn_arrays(seed=12, layers=2, units=UNITS, symbols=len(SYMBOLS)):
    rng = random.Random(seed)
    arrays = {}
    for layer in range(1, layers + 1):
        arrays[f"i2h_{layer}"] = foreign.array(rng, 4 * units, units if layer > 1 else symbols)
        arrays[f"i2h_{layer} bias"] = foreign.array(rng, 4 * units)
        arrays[f"h2h_{layer}"] = foreign.array(rng, 4 * units, units)
        arrays[f"h2h_{layer} bias"] = foreign.array(rng, 4 * units)
    arrays["decoder"] = foreign.array(rng, symbols, units)
    arrays["decoder bias"] = foreign.array(rng, symbols)
    return arrays


def node_of(module, parents, name=None):
    """nngraph's, which knows its parents, and by their data their order."""
    annotations = {"_debugLabel": "[LSTM.lua]:1", **({"name": name} if name else {})}
    data = {"annotations": annotations, "mapindex": {}, "module": module}
    for at, parent in enumerate(parents, 1):
        data["mapindex"][at] = parent.fields["data"]
    node = Object("nngraph.Node", data=data, children=list(parents), visited=False)
    for parent in parents:
        parent.fields["data"].setdefault("input", []).append(node)        # a cycle, as gradients leave them
    return node


def char_rnn(arrays, layers=2, named=True, more=(), symbols=SYMBOLS, kind="Double"):
    """A checkpoint of train.lua with model/LSTM.lua's graph."""
    tensors, nodes = flat(arrays, kind), []

    def add(class_name, *parents, name=None, **fields):
        nodes.append(node_of(Object(class_name, output=Tensor(kind=kind), **fields), parents, name))
        return nodes[-1]

    def linear(name, parent):
        bias = tensors.get(name + " bias")
        return add("nn.Linear", parent, name=name if named else None, weight=tensors[name], gradWeight=tensors[name],
                   **({"bias": bias} if bias else {}))

    x = add("OneHot", add("nn.Identity"), _eye=Tensor((1, 1), Storage(kind, [1])))
    for layer in range(1, layers + 1):
        c, h = add("nn.Identity"), add("nn.Identity")
        total = add("nn.CAddTable", linear(f"i2h_{layer}", x), linear(f"h2h_{layer}", h))
        split = add("nn.SplitTable", add("nn.Reshape", total))
        i, f, o, g = [add("nn.Sigmoid", split) for _ in range(3)] + [add("nn.Tanh", split)]
        new_c = add("nn.CAddTable", add("nn.CMulTable", f, c), add("nn.CMulTable", i, g))
        x = add("nn.Dropout", add("nn.CMulTable", o, add("nn.Tanh", new_c)))
    for class_name in more:
        x = add(class_name, x)
    add("nn.LogSoftMax", linear("decoder", x))
    outside = Object("nngraph.Node", data={"input": nodes})        # the innode has no module
    graph = Object("nn.gModule", forwardnodes=[outside, *nodes], fg=Object("graph.Graph", nodes=nodes), verbose=False)
    return {"protos": {"rnn": graph, "criterion": Object("nn.ClassNLLCriterion", weights=tensors["decoder bias"])},
            "opt": {"model": "lstm", "rnn_size": UNITS}, "vocab": {symbol: at for at, symbol in enumerate(symbols, 1)},
            "val_losses": {1000: 1.5}, "i": 1000}


def char_rnn_probabilities(arrays, symbols, layers=2):
    """model/LSTM.lua's graph."""

    def step(layer, x, h, c):
        parts = [dot(arrays[f"i2h_{layer + 1}"], x), dot(arrays[f"h2h_{layer + 1}"], h)]
        parts += [arrays[name][1] for name in (f"i2h_{layer + 1} bias", f"h2h_{layer + 1} bias") if name in arrays]
        return foreign.lstm(foreign.total(*parts), c, GATES)

    output = foreign.unroll(map(foreign.one_hot, symbols), [UNITS] * layers, step)
    return foreign.softmax(foreign.total(dot(arrays["decoder"], output), arrays["decoder bias"][1]))
