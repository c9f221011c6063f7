"""Small Keras models as files, and what they predict, in plain Python: for the tests of importing.

A model is a list of layers, (class, name, configuration, weights by name); weights are (shape, [numbers]) as in
foreign_files. HDF5 is written by libhdf5 itself.
"""
import contextlib
import ctypes
import ctypes.util
import json
import math
import os
import random
import struct
import tempfile
import zipfile

from foreign_files import array, raw, write

UNITS, SYMBOLS, WINDOW = 3, ["a", "b", "c", "d", "\n"], 4


# ---- HDF5 ----

class Hdf5:
    """The few calls of libhdf5 that writing needs."""

    STRING, FLOAT, UNSIGNED = "H5T_C_S1_g", "H5T_IEEE_F32LE_g", "H5T_STD_U32LE_g"

    def __init__(self, path, is_there=False):
        self.hdf5 = ctypes.CDLL(ctypes.util.find_library("hdf5_serial") or ctypes.util.find_library("hdf5"))
        self.hdf5.H5open()
        self.id = (self.call("H5Fopen", path.encode(), ctypes.c_uint(1), 0) if is_there else
                   self.call("H5Fcreate", path.encode(), ctypes.c_uint(2), 0, 0))

    def call(self, name, *arguments):
        function = getattr(self.hdf5, name)
        function.restype = ctypes.c_int64
        done = function(*[ctypes.c_int64(a) if isinstance(a, int) else a for a in arguments])
        assert done >= 0, name
        return done

    def constant(self, name):
        return ctypes.c_int64.in_dll(self.hdf5, name).value

    def space(self, shape):
        return self.call("H5Screate_simple", ctypes.c_int(len(shape)), (ctypes.c_uint64 * len(shape))(*shape), None)

    def attribute(self, place, name, texts):
        """A list of texts; or one text."""
        items = [text.encode() for text in ([texts] if isinstance(texts, str) else texts)]
        width = max(map(len, items), default=0) + 1
        kind = self.call("H5Tcopy", self.constant(self.STRING))
        self.call("H5Tset_size", kind, ctypes.c_size_t(width))
        space = self.call("H5Screate", ctypes.c_int(0)) if isinstance(texts, str) else self.space([len(items)])
        made = self.call("H5Acreate_by_name", self.id, place.encode(), name.encode(), kind, space, 0, 0, 0)
        self.call("H5Awrite", made, kind, b"".join(item.ljust(width, b"\0") for item in items) or b"\0")
        self.call("H5Aclose", made)

    def group(self, path):
        self.call("H5Gclose", self.call("H5Gcreate2", self.id, path.encode(), 0, 0, 0))

    def dataset(self, path, values, parents, is_whole=False):
        shape, numbers = values
        kind = self.constant(self.UNSIGNED if is_whole else self.FLOAT)
        content = ((ctypes.c_uint32 if is_whole else ctypes.c_float) * len(numbers))(*numbers)
        made = self.call("H5Dcreate2", self.id, path.encode(), kind, self.space(shape), parents, 0, 0)
        self.call("H5Dwrite", made, kind, 0, 0, 0, content)
        self.call("H5Dclose", made)

    def nothing(self, path):
        """A dataset of numbers that has none, and no shape."""
        space = self.call("H5Screate", ctypes.c_int(2))
        kind = self.constant(self.FLOAT)
        self.call("H5Dclose", self.call("H5Dcreate2", self.id, path.encode(), kind, space, 0, 0, 0))

    def parents(self):
        """A property list that has groups made where they are missing."""
        made = self.call("H5Pcreate", self.constant("H5P_CLS_LINK_CREATE_ID_g"))
        self.call("H5Pset_create_intermediate_group", made, ctypes.c_uint(1))
        return made

    def close(self):
        self.call("H5Fclose", self.id)


def h5(path, layers, config=None, version="2.2.4", weight="{layer}/{name}:0"):
    """model.save, or without configuration save_weights."""
    with contextlib.closing(Hdf5(path)) as file:
        top = "/"
        if config is not None:
            file.attribute("/", "model_config", json.dumps(config))
            top = "/model_weights"
            file.group(top)
        if version is not None:
            file.attribute(top, "keras_version", version)
        file.attribute(top, "layer_names", [name for _, name, _, _ in layers])
        parents = file.parents()
        for _, layer, _, weights in layers:
            file.group(f"{top}/{layer}")
            for name, values in weights.items():
                file.dataset(f"{top}/{layer}/" + weight.format(layer=layer, name=name), values, parents)
    return path


# ---- .keras and TensorFlow.js ----

def v3_weights(path, layers):
    """save_weights of Keras 3: weights have numbers, and layers, also those without weights, the names of classes."""
    counts = {}
    with contextlib.closing(Hdf5(path)) as file:
        parents = file.parents()
        file.group("/layers")
        for kind, _, _, weights in layers:
            stored = {"SimpleRNN": "simple_rnn", "LeakyReLU": "leaky_re_lu"}.get(kind, kind.lower())
            counts[stored] = counts.get(stored, -1) + 1
            place = f"/layers/{stored}" + (f"_{counts[stored]}" if counts[stored] else "")
            file.group(place)
            sides = {name.split("_lstm/")[0] for name in weights} if kind == "Bidirectional" else [""]
            for side in sorted(sides):
                inner = place + (f"/{side}_layer" if side else "")
                inner += "/cell/vars" if kind in ("LSTM", "GRU", "SimpleRNN", "Bidirectional") else "/vars"
                own = [values for name, values in weights.items() if name.startswith(side)]
                for number, values in enumerate(own):
                    file.dataset(f"{inner}/{number}", values, parents)
    return path


def v3(path, layers, config, version="3.0.5"):
    """A .keras archive, whose weights have numbers."""
    with tempfile.TemporaryDirectory() as folder:
        weights = v3_weights(os.path.join(folder, "weights"), layers)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"keras_version": version}))
            archive.writestr("config.json", json.dumps(config))
            archive.write(weights, "model.weights.h5")
    return path


def quantised(values, dtype):
    """The bytes of a weight, what the manifest says of them, and the numbers that they stand for."""
    shape, numbers = values
    if dtype == "float16":
        content = struct.pack(f"<{len(numbers)}e", *numbers)
        return content, {"dtype": dtype}, (shape, list(struct.unpack(f"<{len(numbers)}e", content)))
    least, scale = min(numbers), (max(numbers) - min(numbers)) / 255
    steps = [round((number - least) / scale) for number in numbers]
    return bytes(steps), {"dtype": dtype, "scale": scale, "min": least}, (shape, [s * scale + least for s in steps])


def tfjs(folder, layers, config, dtype=None, shard_bytes=None):
    """model.json and its shards; returns the layers with the numbers that quantised weights stand for."""
    content, entries, kept = b"", [], []
    for kind, layer, settings, weights in layers:
        kept.append((kind, layer, settings, {}))
        for name, values in weights.items():
            entry = {"name": f"{layer}/{name}", "shape": list(values[0]), "dtype": "float32"}
            if dtype is None:
                content += raw(values[1])
            else:
                more, entry["quantization"], values = quantised(values, dtype)
                content += more
            entries.append(entry)
            kept[-1][3][name] = values
    shard_bytes = shard_bytes or len(content)
    shards = [content[at:at + shard_bytes] for at in range(0, len(content), shard_bytes)]
    paths = [f"group1-shard{number}of{len(shards)}.bin" for number in range(1, len(shards) + 1)]
    for path, shard in zip(paths, shards, strict=True):
        write(os.path.join(folder, path), shard)
    write(os.path.join(folder, "model.json"), json.dumps({
        "format": "layers-model", "modelTopology": {"keras_version": "2.4.0", "model_config": config},
        "weightsManifest": [{"paths": paths, "weights": entries}]}))
    return kept


# ---- models ----

def recurrent(rng, kind, inputs, **config):
    """(class, name, configuration, weights) of a layer."""
    gates = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}[kind]
    bias = array(rng, 2, gates * UNITS) if config.get("reset_after") else array(rng, gates * UNITS)
    config = {"units": UNITS, "activation": "tanh", "recurrent_activation": "hard_sigmoid", "stateful": False,
              "return_sequences": False, **config}
    return kind, kind.lower(), config, {"kernel": array(rng, inputs, gates * UNITS),
                                        "recurrent_kernel": array(rng, UNITS, gates * UNITS), "bias": bias}


def embedding(rng, columns=2, **config):
    config = {"input_dim": len(SYMBOLS), "output_dim": columns, **config}
    return "Embedding", "embedding", config, {"embeddings": array(rng, len(SYMBOLS), columns)}


def dense(rng, inputs=UNITS, activation="softmax"):
    return "Dense", "dense", {"units": len(SYMBOLS), "activation": activation}, {
        "kernel": array(rng, inputs, len(SYMBOLS)), "bias": array(rng, len(SYMBOLS))}


def cudnn(layer):
    """The same layer as CuDNNLSTM or CuDNNGRU (of one that resets after) keep it."""
    kind, name, config, weights = layer
    gates = {"LSTM": 4, "GRU": 3}[kind]
    (inputs, columns), kernel = weights["kernel"]
    made, turned = [0.0] * len(kernel), [0.0] * (UNITS * columns)
    for gate in range(gates):
        for unit in range(UNITS):
            for row in range(inputs):
                at = unit * inputs + row
                made[at // UNITS * columns + gate * UNITS + at % UNITS] = kernel[row * columns + gate * UNITS + unit]
            for row in range(UNITS):
                turned[unit * columns + gate * UNITS + row] = \
                    weights["recurrent_kernel"][1][row * columns + gate * UNITS + unit]
    bias = weights["bias"][1]
    if kind == "LSTM":
        bias = [0.25 * number for number in bias] + [0.75 * number for number in bias]
    return "CuDNN" + kind, name, {**config, "recurrent_activation": None}, {
        "kernel": ((inputs, columns), made), "recurrent_kernel": ((UNITS, columns), turned),
        "bias": ((2 * columns,), bias)}


def keras_1_names(layers):
    """Their weights as Keras 1 names them: a tensor for each gate."""
    stored = []
    for kind, name, config, weights in layers:
        letters = {"LSTM": "ifco", "GRU": "zrh"}.get(kind, "")
        named = {}
        for role, values in weights.items():
            letter = {"kernel": "W", "recurrent_kernel": "U", "bias": "b", "embeddings": "W"}[role]
            shape, numbers = values
            for gate, gate_name in enumerate(letters):
                columns = [numbers[at] for at in range(len(numbers)) if at % shape[-1] // UNITS == gate]
                named[f"{name}_{letter}_{gate_name}"] = (*shape[:-1], UNITS), columns
            if not letters:
                named[f"{name}_{letter}"] = values
        stored.append((kind, name, config, named))
    return stored


def keras_1_weights(path, layers):
    """save_weights of Keras 1, of layers whose weights are named already."""
    return h5(path, layers, None, None, "{name}:0")


def keras_1(path, layers, input_shape):
    """model.save of Keras 1, which has other names."""
    items = []
    for kind, name, config, _ in layers:
        old = {"units": "output_dim", "recurrent_activation": "inner_activation"}
        items.append({"class_name": kind, "config": {"name": name, **{old.get(k, k): v for k, v in config.items()}}})
    items[0]["config"]["batch_input_shape"] = input_shape
    return h5(path, keras_1_names(layers), {"class_name": "Sequential", "config": items}, "1.2.2", "{name}:0")


def attention(rng, columns):
    """textgenrnn's AttentionWeightedAverage."""
    return "AttentionWeightedAverage", "attention", {}, {"attention_W": array(rng, columns, 1)}


def bidirectional(rng, go_backwards):
    """A layer of both directions that gives its sequence, an LSTM that reads it all, and a dense layer."""
    width = len(SYMBOLS)
    sides = {side: recurrent(rng, "LSTM", width, return_sequences=True, go_backwards=go_backwards)
             for side in ("forward", "backward")}
    weights = {f"{side}_lstm/{name}": values for side, layer in sides.items() for name, values in layer[3].items()}
    config = {"merge_mode": "concat", "layer": {"class_name": "LSTM", "config": sides["forward"][2]}}
    return [("Bidirectional", "both", config, weights), recurrent(rng, "LSTM", 2 * UNITS), dense(rng)]


def functional(layers, inputs):
    """The configuration of layers that are joined as `inputs` says, {name: [names]}; the last one is the output."""
    items = [{"class_name": kind, "name": name, "config": {"name": name, **config},
              "inbound_nodes": [[[one, 0, 0, {}] for one in inputs[name]]] if name in inputs else []}
             for kind, name, config, _ in layers]
    return {"class_name": "Model", "config": {"name": "model", "layers": items,
                                              "output_layers": [[layers[-1][1], 0, 0]]}}


def sequential(layers, input_shape):
    """The configuration of such a model."""
    items = [{"class_name": kind, "config": {"name": name, **config}} for kind, name, config, _ in layers]
    items[0]["config"]["batch_input_shape"] = input_shape
    return {"class_name": "Sequential", "config": {"name": "model", "layers": items}}


# ---- what they predict ----

FUNCTIONS = {
    "linear": lambda x: x,
    "tanh": math.tanh,
    "relu": lambda x: max(x, 0.0),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "hard_sigmoid": lambda x: min(max(0.2 * x + 0.5, 0), 1),
    "hard_sigmoid of Keras 3": lambda x: min(max(x / 6 + 0.5, 0), 1),
}


def times(x, matrix):
    (rows, columns), numbers = matrix
    assert len(x) == rows
    return [sum(x[r] * numbers[r * columns + c] for r in range(rows)) for c in range(columns)]


def add(*vectors):
    return [sum(numbers) for numbers in zip(*vectors, strict=True)]


def step(kind, config, weights, x, state):
    """The next state: [h, c] of an LSTM, [h] of the others."""
    outer, inner = FUNCTIONS[config["activation"]], FUNCTIONS[config["recurrent_activation"]]
    units, bias, h = UNITS, weights["bias"][1], state[0]
    if kind == "SimpleRNN":
        return [[outer(n) for n in add(times(x, weights["kernel"]), times(h, weights["recurrent_kernel"]), bias)]]
    gate = lambda z, i: z[i * units:(i + 1) * units]  # noqa: E731
    if kind == "LSTM":
        z = add(times(x, weights["kernel"]), times(h, weights["recurrent_kernel"]), bias)
        i, f, o = ([inner(n) for n in gate(z, k)] for k in (0, 1, 3))
        c = [f[k] * state[1][k] + i[k] * outer(n) for k, n in enumerate(gate(z, 2))]
        return [[o[k] * outer(n) for k, n in enumerate(c)], c]
    after = len(weights["bias"][0]) == 2
    from_x = add(times(x, weights["kernel"]), bias[:3 * units])
    from_h = times(h, weights["recurrent_kernel"])
    from_h = add(from_h, bias[3 * units:]) if after else from_h
    update, reset = ([inner(n) for n in add(gate(from_x, k), gate(from_h, k))] for k in (0, 1))
    if after:
        own = [reset[k] * n for k, n in enumerate(gate(from_h, 2))]
    else:
        own = gate(times([reset[k] * n for k, n in enumerate(h)], weights["recurrent_kernel"]), 2)
    candidate = [outer(n) for n in add(gate(from_x, 2), own)]
    return [[update[k] * h[k] + (1 - update[k]) * candidate[k] for k in range(units)]]


def read_all(kind, config, weights, sequence, kept=None):
    """What a layer gives at each place, from a zero state; at places that are not kept nothing changes."""
    state, outputs = [[0.0] * UNITS, [0.0] * UNITS], []
    for x, is_kept in zip(sequence, kept or [True] * len(sequence), strict=True):
        state = step(kind, config, weights, x, state) if is_kept else state
        outputs.append(state[0])
    return outputs


def probabilities(layers, symbols):
    """What a sequential model predicts behind these symbols, None being a zero vector: read from a zero state."""
    sequence = [[float(k == symbol) for k in range(len(SYMBOLS))] for symbol in symbols]
    kept = [True] * len(symbols)
    for kind, _, config, weights in layers:
        if kind == "Embedding":
            (_, columns), numbers = weights["embeddings"]
            sequence = [numbers[(s or 0) * columns:((s or 0) + 1) * columns] for s in symbols]
            kept = [bool(s) for s in symbols] if config.get("mask_zero") else kept
        elif kind == "Masking":
            kept = [any(n != config["mask_value"] for n in x) for x in sequence]
            sequence = [[n * is_kept for n in x] for x, is_kept in zip(sequence, kept, strict=True)]
        elif kind == "Dense":
            outer = FUNCTIONS.get(config["activation"], float)           # softmax comes last of all
            sequence = [[outer(n) for n in add(times(x, weights["kernel"]), weights["bias"][1])] for x in sequence]
        elif kind in ("LSTM", "GRU", "SimpleRNN"):
            sequence = read_all(kind, config, weights, sequence, kept)
        elif kind == "Bidirectional":
            inner = config["layer"]
            sides = [{name.split("/")[1]: values for name, values in weights.items() if name.startswith(side)}
                     for side in ("forward", "backward")]
            turn = -1 if inner["config"].get("go_backwards") else 1
            forward = read_all(inner["class_name"], inner["config"], sides[0], sequence[::turn], kept[::turn])
            backward = read_all(inner["class_name"], inner["config"], sides[1], sequence[::-turn], kept[::-turn])
            sequence = [one + other for one, other in zip(forward, backward[::-1], strict=True)]
    return softmax(sequence[-1])


def softmax(x):
    powers = [math.exp(n - max(x)) for n in x]
    return [n / sum(powers) for n in powers]


def textgenrnn_probabilities(layers, symbols):
    """Of embedding, two recurrent layers, attention over all three, and a dense layer."""
    lookup, first, second, average, last = layers
    (_, columns), numbers = lookup[3]["embeddings"]
    sequences = [[numbers[s * columns:(s + 1) * columns] for s in symbols]]
    for kind, _, config, weights in (first, second):
        sequences.append(read_all(kind, config, weights, sequences[-1]))
    joined = [sum(rows, []) for rows in zip(*sequences, strict=True)]
    scores = softmax([times(x, average[3]["attention_W"])[0] for x in joined])
    mean = add(*[[score * n for n in x] for score, x in zip(scores, joined, strict=True)])
    return softmax(add(times(mean, last[3]["kernel"]), last[3]["bias"][1]))


def window_of(symbols, padding=None):
    """The last symbols, with what stands before a text's beginning."""
    return ([padding] * WINDOW + symbols)[-WINDOW:]


def seeded(seed):
    return random.Random(seed)
