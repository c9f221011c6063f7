"""Writes a character LSTM with random weights as ONNX, for onnx_peer.js. Debian: python3-onnx.

Usage: python3 onnx_model.py OUT.onnx UNITS LAYERS VOCABULARY EMBEDDING fp32|int8      (EMBEDDING 0: one-hot)
Inputs: symbols [1, batch] int64, h and c [layers, batch, units]; outputs: probabilities [1, batch, vocabulary], and the
next h and c. int8 is ONNX Runtime's DynamicQuantizeLSTM.
"""
import sys

import numpy
from onnx import TensorProto, checker, helper, numpy_helper, save

GATES = 4


class Writer:
    """Nodes and constants of a graph, as they come."""

    def __init__(self, units):
        self.nodes, self.constants = [], []
        self.random = numpy.random.RandomState(1)
        self.scale = 1 / numpy.sqrt(units)

    def constant(self, values):
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def weights(self, *shape):
        return self.constant((self.random.uniform(-self.scale, self.scale, shape)).astype(numpy.float32))

    def weights_int8(self, *shape):
        return self.constant(self.random.randint(-127, 128, shape).astype(numpy.int8))

    def node(self, op, inputs, outputs, **attributes):
        self.nodes.append(helper.make_node(op, inputs, outputs, **attributes))
        return outputs[0]

    def state_of_layer(self, name, layer):
        ends = [self.constant(numpy.array([at], numpy.int64)) for at in (layer, layer + 1)]
        return self.node("Slice", [name, *ends], [f"{name}_{layer}"])

    def layer(self, inputs, input_size, units, layer, precision):
        outputs = [f"sequence_{layer}", f"h_next_{layer}", f"c_next_{layer}"]
        bias = self.weights(1, 2 * GATES * units)
        state = [bias, "", self.state_of_layer("h", layer), self.state_of_layer("c", layer)]
        if precision == "fp32":
            kernels = [self.weights(1, GATES * units, size) for size in (input_size, units)]
            self.node("LSTM", [inputs, *kernels, *state], outputs, hidden_size=units)
        else:
            kernels = [self.weights_int8(1, size, GATES * units) for size in (input_size, units)]
            scale = self.constant(numpy.full((1, GATES * units), self.scale / 127, numpy.float32))
            zero = self.constant(numpy.zeros((1, GATES * units), numpy.int8))
            self.node("DynamicQuantizeLSTM", [inputs, *kernels, *state, "", scale, zero, scale, zero], outputs,
                      hidden_size=units, domain="com.microsoft")
        axis = self.constant(numpy.array([1], numpy.int64))
        return self.node("Squeeze", [outputs[0], axis], [f"layer_{layer}"])


def main(path, units, layers, vocabulary, embedding, precision):
    units, layers, vocabulary, embedding = int(units), int(layers), int(vocabulary), int(embedding)
    writer = Writer(units)
    if embedding > 0:
        top, size = writer.node("Gather", [writer.weights(vocabulary, embedding), "symbols"], ["embedded"]), embedding
    else:
        depth = writer.constant(numpy.array(vocabulary, numpy.int64))
        values = writer.constant(numpy.array([0, 1], numpy.float32))
        top, size = writer.node("OneHot", ["symbols", depth, values], ["one_hot"]), vocabulary
    for layer in range(layers):
        top, size = writer.layer(top, size, units, layer, precision), units
    for name in "hc":
        writer.node("Concat", [f"{name}_next_{layer}" for layer in range(layers)], [f"{name}_next"], axis=0)
    product = writer.node("MatMul", [top, writer.weights(units, vocabulary)], ["product"])
    logits = writer.node("Add", [product, writer.weights(vocabulary)], ["logits"])
    writer.node("Softmax", [logits], ["probabilities"], axis=-1)
    state = [layers, "batch", units]
    floats = TensorProto.FLOAT
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        writer.nodes, "text",
        [value("symbols", TensorProto.INT64, [1, "batch"]), value("h", floats, state), value("c", floats, state)],
        [value("probabilities", floats, [1, "batch", vocabulary]), value("h_next", floats, state),
         value("c_next", floats, state)], writer.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13),
                                                    helper.make_opsetid("com.microsoft", 1)])
    model.ir_version = 8
    if precision == "fp32":
        checker.check_model(model)
    save(model, path)


main(*sys.argv[1:])
