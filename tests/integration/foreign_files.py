"""Foreign model files made byte by byte, and what such a model computes, in plain Python: for the tests of importing.

A model is a dictionary of named arrays; an array is (shape, [numbers]).
"""
import collections
import io
import json
import math
import os
import pickle
import random
import struct
import sys
import tarfile
import types
import zipfile
from array import array as array_of_numbers

UNITS, SYMBOLS = 5, ["a", "b", "c", " ", "\n", "é", "✓"]


def array(rng, *shape):
    """Random numbers that float32 holds exactly."""
    return shape, [rng.randrange(-512, 512) / 512 for _ in range(math.prod(shape))]


def raw(numbers):
    """float32, little-endian, of a list or an array of such."""
    if isinstance(numbers, array_of_numbers) and sys.byteorder == "little":
        return numbers.tobytes()
    return struct.pack(f"<{len(numbers)}f", *numbers)


def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    return path


def files_below(folder):
    """{path below it: content} of all files."""
    paths = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
    files = {}
    for path in paths:
        with open(path, "rb") as file:
            files[os.path.relpath(path, folder)] = file.read()
    return files


def archive(files, kind="tar"):
    """An archive of {path: content}; kinds: tar, tar.gz, tar.bz2, tar.xz, zip."""
    made = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as zipped:
            for path, content in files.items():
                zipped.writestr(path, content)
        return made.getvalue()
    with tarfile.open(fileobj=made, mode="w:" + kind.partition(".")[2]) as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def archive_of_link(name, target):
    """A tar of one symbolic link."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        tar.addfile(entry)
    return made.getvalue()


def huge_tar(size):
    """The beginning of a tar that states a file of so many bytes."""
    entry = tarfile.TarInfo("huge")
    entry.size = size
    return entry.tobuf() + bytes(1024)


def tensorflow_model(seed=1, layers=2, kernel="kernel", bias="bias"):
    """char-rnn-tensorflow's variables, with the last parts of their names."""
    rng = random.Random(seed)
    tensors = {"embedding": array(rng, len(SYMBOLS), UNITS)}
    for layer in range(layers):
        scope = f"rnnlm/multi_rnn_cell/cell_{layer}/basic_lstm_cell/"
        tensors[scope + kernel] = array(rng, 2 * UNITS, 4 * UNITS)
        tensors[scope + bias] = array(rng, 4 * UNITS)
    tensors["rnnlm/softmax_w"] = array(rng, UNITS, len(SYMBOLS))
    tensors["rnnlm/softmax_b"] = array(rng, len(SYMBOLS))
    return tensors


def torch_model(seed=2, layers=2):
    """A state_dict of nn.LSTM and nn.Linear over one-hot symbols."""
    rng = random.Random(seed)
    tensors = collections.OrderedDict()
    for layer in range(layers):
        inputs = UNITS if layer else len(SYMBOLS)
        tensors[f"lstm.weight_ih_l{layer}"] = array(rng, 4 * UNITS, inputs)
        tensors[f"lstm.weight_hh_l{layer}"] = array(rng, 4 * UNITS, UNITS)
        tensors[f"lstm.bias_ih_l{layer}"] = array(rng, 4 * UNITS)
        tensors[f"lstm.bias_hh_l{layer}"] = array(rng, 4 * UNITS)
    tensors["fc.weight"] = array(rng, len(SYMBOLS), UNITS)
    tensors["fc.bias"] = array(rng, len(SYMBOLS))
    return tensors


def keras_objects(cells, paths, seed=30):
    """torch_stack's model as Keras' weights, {PATH/WEIGHT: array}, and itself; GRUs reset after the product, as in
    TensorFlow 2, biases of LSTMs and RNNs are one. `paths`: of the table, the layers and the output."""
    made, stack = {}, torch_stack(cells, seed)
    made[paths[0] + "/embeddings"] = stack["encoder.weight"]
    for layer, (kind, units) in enumerate(cells):
        weights = {part: stack[f"rnns.{layer}.{part}_l0"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        if kind != "gru":
            weights["bias_hh"] = stack[f"rnns.{layer}.bias_hh_l0"] = (CELL_GATES[kind] * units,), [0.0] * (
                CELL_GATES[kind] * units)
        order = [1, 0, 2] if kind == "gru" else range(CELL_GATES[kind])                # z, r, h; i, f, g, o

        def arranged(array, order=order):
            shape, numbers = array
            block = len(numbers) // len(order)
            return shape, [number for gate in order for number in numbers[gate * block:(gate + 1) * block]]

        for name, part in (("kernel", "weight_ih"), ("recurrent_kernel", "weight_hh")):
            (rows, columns), numbers = arranged(weights[part])
            turned = [numbers[row * columns + column] for column in range(columns) for row in range(rows)]
            made[f"{paths[layer + 1]}/{name}"] = (columns, rows), turned
        (size,), numbers = arranged(weights["bias_ih"])
        more = arranged(weights["bias_hh"])[1]
        made[paths[layer + 1] + "/bias"] = ((2, size), numbers + more) if kind == "gru" else ((size,), numbers)
    (rows, columns), numbers = stack["decoder.weight"]
    made[paths[-1] + "/kernel"] = (columns, rows), [numbers[row * columns + at] for at in range(columns)
                                                    for row in range(rows)]
    made[paths[-1] + "/bias"] = stack["decoder.bias"]
    return made, stack


def weight_dropped(tensors, is_fastai):
    """torch_model's tensors by AWD-LSTM's names; fastai's keep what a dropout left of the weights beside."""
    made = {}
    for key, content in tensors.items():
        name, _, part = key.partition(".")
        if name == "fc":
            made["1.decoder." + part] = content
            continue
        part, layer = part[:-1] + "0", part[-1]
        inside = f"rnns.{layer}.module.{part}"
        if "weight_hh" not in part:
            made[inside] = content
        elif is_fastai:
            made[f"rnns.{layer}.{part}_raw"], made[inside] = content, (content[0], [0.0] * len(content[1]))
        else:
            made[inside + "_raw"] = content
    return made


CELL_GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def torch_stack(cells, seed=20, name="rnns.{}.{}_l0"):
    """A state_dict of an nn.Embedding, layers [(kind, units), …] and an nn.Linear."""
    rng = random.Random(seed)
    inputs, tensors = 3, {"encoder.weight": array(rng, len(SYMBOLS), 3)}
    for layer, (kind, units) in enumerate(cells):
        rows = CELL_GATES[kind] * units
        tensors[name.format(layer, "weight_ih")] = array(rng, rows, inputs)
        tensors[name.format(layer, "weight_hh")] = array(rng, rows, units)
        tensors[name.format(layer, "bias_ih")] = array(rng, rows)
        tensors[name.format(layer, "bias_hh")] = array(rng, rows)
        inputs = units
    tensors["decoder.weight"], tensors["decoder.bias"] = array(rng, len(SYMBOLS), inputs), array(rng, len(SYMBOLS))
    return tensors


def renamed_layers(tensors, places):
    """torch_stack's tensors with other places than rnns.0, rnns.1, …"""
    for at, place in enumerate(places):
        tensors = {place + name[len(f"rnns.{at}"):] if name.startswith(f"rnns.{at}.") else name: content
                   for name, content in tensors.items()}
    return tensors


# ---- files ----

def ml5(folder, tensors, vocabulary=None):
    """manifest.json and a file for each variable; vocab.json is {symbol: number}."""
    manifest = {}
    for name, (shape, numbers) in tensors.items():
        manifest[name] = {"filename": name.replace("/", "_"), "shape": list(shape)}
        write(os.path.join(folder, manifest[name]["filename"]), raw(numbers))
    write(os.path.join(folder, "manifest.json"), json.dumps(manifest, indent=2))
    vocabulary = vocabulary or {symbol: number for number, symbol in enumerate(SYMBOLS)}
    write(os.path.join(folder, "vocab.json"), json.dumps(vocabulary))
    return folder


class Storage:
    """Stands for a storage of PyTorch's while its pickle is written."""

    def __init__(self, key, numbers):
        self.key, self.numbers = key, numbers


class Tensor:
    """Stands for a tensor: rows and columns may be swapped in the storage."""

    def __init__(self, storage, shape, is_swapped=False):
        self.storage, self.shape, self.is_swapped = storage, shape, is_swapped

    def __reduce__(self):
        strides = [math.prod(self.shape[at + 1:]) for at in range(len(self.shape))]
        strides = [1, self.shape[0]] if self.is_swapped else strides
        arguments = (self.storage, 0, tuple(self.shape), tuple(strides), False, collections.OrderedDict())
        return sys.modules["torch._utils"]._rebuild_tensor_v2, arguments


class Module:
    """Stands for a pickled nn.Module; `tensors` by their dotted names."""

    def __init__(self, tensors):
        self.tensors = tensors

    def __reduce__(self):
        modules, parameters = collections.OrderedDict(), collections.OrderedDict()
        for name, tensor in self.tensors.items():
            place, _, part = name.partition(".")
            if part:
                modules.setdefault(place, collections.OrderedDict())[part] = tensor
            else:
                parameters[name] = tensor
        state = {"training": False, "_parameters": parameters, "_buffers": collections.OrderedDict(),
                 "_modules": collections.OrderedDict((place, Module(below)) for place, below in modules.items())}
        return sys.modules["torch"].Module, (), state


def pickle_like_torch(root):
    """What torch.save's pickler writes for `root`, whose tensors are Tensor."""
    utils, torch = types.ModuleType("torch._utils"), types.ModuleType("torch")

    def _rebuild_tensor_v2():
        """Only its name is written."""

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    torch.Module = type("Module", (), {"__module__": "torch"})

    class Pickler(pickle.Pickler):
        """Storages are kept outside."""

        def persistent_id(self, obj):
            if isinstance(obj, Storage):
                return "storage", torch.FloatStorage, obj.key, "cpu", len(obj.numbers)
            return None

    file = io.BytesIO()
    sys.modules["torch"], sys.modules["torch._utils"] = torch, utils
    try:
        Pickler(file, protocol=2).dump(root)
    finally:
        del sys.modules["torch"], sys.modules["torch._utils"]
    return file.getvalue()


def torch_tensors(tensors, swapped=(), begin=0):
    """A state_dict of Tensor, and the storages in it; those named in `swapped` lie transposed. `begin`: where the
    storages' keys do."""
    state, storages = collections.OrderedDict(), []
    for name, (shape, numbers) in tensors.items():
        if name in swapped:
            numbers = [numbers[row * shape[1] + column] for column in range(shape[1]) for row in range(shape[0])]
        storages.append(Storage(str(begin + len(storages)), numbers))
        state[name] = Tensor(storages[-1], shape, name in swapped)
    return state, storages


def torch_zip(tensors, more=None, swapped=(), is_script=False):
    """What torch.save writes; `is_script`: TorchScript's archives have the pickle behind the storages."""
    state, storages = torch_tensors(tensors, swapped)
    return torch_archive(dict(more, state_dict=state) if more else state, storages, is_script)


def torch_archive(root, storages, is_script=False):
    """What torch.save writes of anything that holds Tensor."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        if not is_script:
            archive.writestr("archive/data.pkl", pickle_like_torch(root))
            archive.writestr("archive/byteorder", "little")
        for storage in storages:
            archive.writestr(f"archive/data/{storage.key}", raw(storage.numbers))
        if is_script:
            archive.writestr("archive/data.pkl", pickle_like_torch(root))
            archive.writestr("archive/code/__torch__/model.py", "class Model(Module):\n  pass\n")
    return file.getvalue()


def numpy_pickle(value, protocol):
    """`value` pickled as NumPy pickles it: lists of texts as arrays, texts and whole numbers as scalars of its own."""
    modules = {name: types.ModuleType(name) for name in ("numpy", "numpy.core", "numpy.core.multiarray",
                                                         "numpy.core.numeric")}
    package = modules["numpy.core.multiarray"]

    def named(name, module):
        def made():
            """Only its name is written."""

        made.__module__, made.__qualname__, made.__name__ = module.__name__, name, name
        setattr(module, name, made)
        return made

    reconstruct, scalar = named("_reconstruct", package), named("scalar", package)
    from_buffer = named("_frombuffer", modules["numpy.core.numeric"])
    dtype, ndarray = named("dtype", modules["numpy"]), named("ndarray", modules["numpy"])

    class Reduced:
        """Pickled as the call that it holds."""

        def __init__(self, *parts):
            self.parts = parts

        def __reduce__(self):
            return self.parts

    def typed(name, width):
        return Reduced(dtype, (name, False, True), (3, "<", None, None, None, width, width, 8))

    def converted(item):
        if isinstance(item, dict):
            return {converted(key): converted(content) for key, content in item.items()}
        if isinstance(item, list):
            content = "".join(text.ljust(2, "\0") for text in item).encode("utf-32-le")
            if protocol == 5:
                return Reduced(from_buffer, (bytearray(content), typed("U2", 8), (len(item),), "C"))
            return Reduced(reconstruct, (ndarray, (0,), b"b"), (1, (len(item),), typed("U2", 8), False, content))
        content = item.encode("utf-32-le") if isinstance(item, str) else struct.pack("<i", item)
        return Reduced(scalar, (typed("U1", 4) if isinstance(item, str) else typed("i4", 4), content))

    sys.modules.update(modules)
    try:
        return pickle.dumps(converted(value), protocol=protocol)
    finally:
        for name in modules:
            del sys.modules[name]


def numpy_file(texts):
    """A .npy file of texts."""
    width = max(map(len, texts))
    header = f"{{'descr': '<U{width}', 'fortran_order': False, 'shape': ({len(texts)},), }}"
    header = header.ljust(117) + "\n"
    content = "".join(text.ljust(width, "\0") for text in texts).encode("utf-32-le")
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode() + content


def torch_legacy(tensors, more=None):
    state, storages = torch_tensors(tensors)
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    content = b"".join(pickle.dumps(item, protocol=2) for item in (0x1950a86a20f9469cfc6c, 1001, machine))
    content += pickle_like_torch(dict(more, state_dict=state) if more else state)
    content += pickle.dumps([storage.key for storage in storages], protocol=2)
    return content + b"".join(struct.pack("<q", len(storage.numbers)) + raw(storage.numbers) for storage in storages)


def safetensors(tensors, metadata=None):
    header, data = {}, b""
    for name, (shape, numbers) in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(data), len(data) + 4 * len(numbers)]}
        data += raw(numbers)
    if metadata:
        header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def crc32c(content):
    """Castagnoli's, as TensorFlow's files have it; bit by bit."""
    crc = 0xffffffff
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def masked(content):
    """The sum as they store it."""
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff


def message(*fields):
    """A protocol buffer of [(number, content)]: bytes, a whole number, or four bytes of one as (number,)."""
    content = b""
    for number, value in fields:
        if isinstance(value, tuple):
            content += varint(number << 3 | 5) + struct.pack("<I", *value)
        elif isinstance(value, int):
            content += varint(number << 3) + varint(value)
        else:
            content += varint(number << 3 | 2) + varint(len(value)) + value
    return content


def varint(number):
    content = b""
    while number > 127:
        content, number = content + bytes([number & 127 | 128]), number >> 7
    return content + bytes([number])


def level_table(entries):
    """A LevelDB table of one block of [(key, value)], sorted."""
    table = b""

    def put(pairs):
        nonlocal table
        block = b"".join(varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in pairs)
        block += struct.pack("<II", 0, 1)
        place = varint(len(table)) + varint(len(block))
        table += block + b"\0" + struct.pack("<I", masked(block + b"\0"))
        return place

    data = put(entries)
    ends = put([]) + put([(b"~", data)])
    return table + ends.ljust(40, b"\0") + struct.pack("<Q", 0xdb4775248b80fb57)


def tensorflow_checkpoint(prefix, tensors):
    """A V2 checkpoint, PREFIX.index and its one shard."""
    data, entries = b"", [(b"", message((1, 1), (3, message((1, 1)))))]
    for name, (shape, numbers) in sorted(tensors.items()):
        content = raw(numbers)
        sizes = message(*[(2, message((1, size))) for size in shape])
        entries.append((name.encode(), message((1, 1), (2, sizes), (4, len(data)), (5, len(content)),
                                               (6, (masked(content),)))))
        data += content
    write(prefix + ".data-00000-of-00001", data)
    return write(prefix + ".index", level_table(entries))


# ---- computing ----

def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def product(vector, matrix):
    (rows, columns), numbers = matrix
    assert rows == len(vector)
    return [sum(x * numbers[row * columns + column] for row, x in enumerate(vector)) for column in range(columns)]


def dot(matrix, vector):
    """A matrix of rows times a vector."""
    (rows, columns), numbers = matrix
    assert columns == len(vector)
    return [sum(numbers[row * columns + at] * x for at, x in enumerate(vector)) for row in range(rows)]


def softmax(logits):
    largest = max(logits)
    powers = [math.exp(logit - largest) for logit in logits]
    return [power / sum(powers) for power in powers]


def row(matrix, at):
    (_, columns), numbers = matrix
    return numbers[at * columns:(at + 1) * columns]


def one_hot(symbol):
    return [float(at == symbol) for at in range(len(SYMBOLS))]


def total(*vectors):
    return [sum(terms) for terms in zip(*vectors, strict=True)]


def lstm(sums, c, order, forget_bias=0):
    """An LSTM's new h and c; `order`: where `sums` has the gates i, f, o and j, which is what is written."""
    units = len(c)
    i, f, o, j = (sums[order.index(gate) * units:(order.index(gate) + 1) * units] for gate in "ifoj")
    c = [c[u] * sigmoid(f[u] + forget_bias) + sigmoid(i[u]) * math.tanh(j[u]) for u in range(units)]
    return [sigmoid(o[u]) * math.tanh(c[u]) for u in range(units)], c


def unroll(inputs, sizes, step):
    """What the last of layers of these sizes gives after `inputs`; step(layer, x, h, c) is a layer's new h and c."""
    states = [([0.0] * units, [0.0] * units) for units in sizes]
    for x in inputs:
        for layer in range(len(sizes)):
            states[layer] = step(layer, x, *states[layer])
            x = states[layer][0]
    return states[-1][0]


def tensorflow_probabilities(tensors, symbols, layers=2, kernel="kernel", bias="bias"):
    """What tensorflow_model's model says of the symbol after `symbols`."""

    def step(layer, x, h, c):
        scope = f"rnnlm/multi_rnn_cell/cell_{layer}/basic_lstm_cell/"
        return lstm(total(product(x + h, tensors[scope + kernel]), tensors[scope + bias][1]), c, "ijfo", 1)

    output = unroll([row(tensors["embedding"], symbol) for symbol in symbols], [UNITS] * layers, step)
    return softmax(total(product(output, tensors["rnnlm/softmax_w"]), tensors["rnnlm/softmax_b"][1]))


def torch_probabilities(tensors, symbols, layers=2):
    """What torch_model's model says of the symbol after `symbols`: nn.LSTM's equations."""

    def step(layer, x, h, c):
        return lstm(total(dot(tensors[f"lstm.weight_ih_l{layer}"], x), dot(tensors[f"lstm.weight_hh_l{layer}"], h),
                          tensors[f"lstm.bias_ih_l{layer}"][1], tensors[f"lstm.bias_hh_l{layer}"][1]), c, "ifjo")

    output = unroll(map(one_hot, symbols), [UNITS] * layers, step)
    return softmax(total(dot(tensors["fc.weight"], output), tensors["fc.bias"][1]))


def torch_stack_probabilities(tensors, cells, symbols, name="rnns.{}.{}_l0"):
    """What torch_stack's model says of the symbol after `symbols`: the equations of nn.LSTM, nn.GRU, nn.RNN (relu)."""

    def step(layer, x, h, c):
        weights = [tensors[name.format(layer, part)] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        below, before = total(dot(weights[0], x), weights[2][1]), total(dot(weights[1], h), weights[3][1])
        kind, units = cells[layer]
        if kind == "lstm":
            return lstm(total(below, before), c, "ifjo")
        if kind == "rnn":
            return [max(0.0, a) for a in total(below, before)], c
        r, z = ([sigmoid(a + b) for a, b in zip(below[at * units:(at + 1) * units], before[at * units:])]
                for at in range(2))
        n = [math.tanh(below[2 * units + u] + r[u] * before[2 * units + u]) for u in range(units)]
        return [(1 - z[u]) * n[u] + z[u] * h[u] for u in range(units)], c

    output = unroll([row(tensors["encoder.weight"], symbol) for symbol in symbols], [units for _, units in cells], step)
    return softmax(total(dot(tensors["decoder.weight"], output), tensors["decoder.bias"][1]))
