"""Conformance steps (TensorFlow calls) as steps of lstmd's build programs: the same for C and for HTTP."""

import json

CELLS = {
    "BasicRNNCell": "basic_rnn_cell",
    "BasicLSTMCell": "basic_lstm_cell",
    "LSTMCell": "lstm_cell",
    "GRUCell": "gru_cell",
    "DropoutWrapper": "dropout_wrapper",
    "ResidualWrapper": "residual_wrapper",
}

# Python's operators name their op in lower case; functions are called by their own name.
OPERATORS = {"add": "add", "sub": "subtract", "mul": "multiply"}

KEEP_PROBABILITIES = ("input_keep_prob", "output_keep_prob", "state_keep_prob")

PASSED_ON = ("dtype", "shape", "name", "trainable", "collections", "synchronization")


# What a step has besides its call's arguments.
NOT_ARGUMENTS = ("do", "type", "as", "expect", "raises", "note", "comment", "source")


class Unsupported(Exception):
    """The step has no counterpart in this way of running it."""


def initializer(value):
    """An initializer of a case as one of a program."""
    if not isinstance(value, dict):
        return value
    for plain in ("zeros", "ones", "glorot_uniform"):
        if plain in value:
            return plain
    if "py" in value:
        return {"value": value["py"], **({"dtype": value["dtype"]} if "dtype" in value else {})}
    if "fn" in value:
        return {"callable": value["fn"], "takes_arguments": bool(value.get("required_args"))}
    return value


def regularizer(value):
    return "none" if value == "no_regularizer" else value


def reuse(value):
    return "auto" if value == "AUTO_REUSE" else value


def copy_fields(step, names):
    """These fields of a step; a variable's dtype, float32_ref, is float32 wherever one is asked for."""
    fields = {name: step[name] for name in names if name in step}
    if isinstance(fields.get("dtype"), str):
        fields["dtype"] = fields["dtype"].removesuffix("_ref")
    return fields


def arguments_of(step, besides=()):
    return {key: value for key, value in step.items() if key not in NOT_ARGUMENTS and key not in besides}


class Translator:
    """Turns one case's steps into program steps. `rename` gives the name a handle of the case has in the program."""

    def __init__(self, rename):
        self.rename = rename

    def handle(self, value):
        """A handle, a dotted path from one, a number, or a list or dictionary of those."""
        if isinstance(value, str):
            return self.rename(value)
        if isinstance(value, list):
            return [self.handle(item) for item in value]
        if isinstance(value, dict):
            return {key: self.handle(item) for key, item in value.items()}
        return value

    def number(self, value):
        """A number, or a tensor's handle."""
        if isinstance(value, dict) and value.keys() == {"tensor"}:
            value = value["tensor"]
        return self.handle(value)

    def step(self, step):
        method = getattr(self, "step_" + step["do"], None)
        if method is None:
            raise Unsupported("no program step for " + step["do"])
        return method(step)

    def with_initializer(self, step, result):
        for name in ("initializer", "kernel_initializer", "bias_initializer"):
            if name in step:
                value = initializer(step[name])
                if isinstance(value, dict) and "tensor" in value:
                    value = {"tensor": self.handle(value["tensor"])}
                result[name] = value
        if "regularizer" in step:
            result["regularizer"] = regularizer(step["regularizer"])
        return result

    # ---- scopes

    def step_enter_variable_scope(self, step):
        for absent in ("partitioner", "custom_getter"):
            if absent in step:
                raise Unsupported(absent)
        result = {"op": "variable_scope"}
        result.update(copy_fields(step, ("name", "default_name", "dtype", "constraint", "auxiliary_name_scope")))
        if "scope" in step:
            result["scope"] = self.handle(step["scope"])
        if "reuse" in step:
            result["reuse"] = reuse(step["reuse"])
        return self.with_initializer(step, result)

    def step_enter_name_scope(self, step):
        name = step.get("name")
        if isinstance(name, dict):
            path, _, attribute = name["attr"].rpartition(".")
            name = {"scope_of": self.handle(path)} if attribute == "original_name_scope" else {
                "text_of": self.handle(name["attr"])}
        return {"op": "name_scope", "name": name, **copy_fields(step, ("default_name",))}

    def step_get_variable_scope(self, step):
        return {"op": "get_variable_scope"}

    def step_reuse_variables(self, step):
        return {"op": "reuse_variables", "scope": self.handle(step["scope"])}

    def step_set_initializer(self, step):
        return self.with_initializer(step, {"op": "set_initializer", "scope": self.handle(step["scope"])})

    def step_set_regularizer(self, step):
        return self.with_initializer(step, {"op": "set_regularizer", "scope": self.handle(step["scope"])})

    def step_set_dtype(self, step):
        return {"op": "set_dtype", "scope": self.handle(step["scope"]), "dtype": step["dtype"]}

    def step_get_collection(self, step):
        result = {"op": "get_collection", "key": step["key"]}
        if "scope" in step:
            result["scope"] = self.handle(step["scope"])
        return {**result, **copy_fields(step, ("scope_prefix",))}

    def step_add_to_collection(self, step):
        keys = step["keys"] if "keys" in step else step["key"]
        value = step["value"]
        value = self.rename(value, else_text=True) if isinstance(value, str) else {"text": json.dumps(value)}
        return {"op": "add_to_collection", "keys": keys, "value": value}

    def step_finalize(self, step):
        return {"op": "finalize"}

    # ---- variables

    def step_get_variable(self, step):
        return self.with_initializer(step, {"op": "get_variable", **copy_fields(step, PASSED_ON)})

    def step_get_local_variable(self, step):
        return self.with_initializer(step, {"op": "get_local_variable", **copy_fields(step, PASSED_ON)})

    def step_Variable(self, step):
        result = {"op": "variable", **copy_fields(step, PASSED_ON)}
        if "initial_value" in step:
            value = initializer(step["initial_value"])
            if isinstance(value, dict) and "tensor" in value:
                value = {"tensor": self.handle(value["tensor"])}
            result["initial_value"] = value
        return result

    def step_assign(self, step):
        return {"op": "assign", "var": self.handle(step["var"]), "value": self.handle(step["value"]),
                **copy_fields(step, ("mode",))}

    def step_global_variables_initializer(self, step):
        return {"op": "global_variables_initializer"}

    # ---- tensors

    def step_constant(self, step):
        return {"op": "constant", **copy_fields(step, ("value", "dtype", "shape", "name"))}

    def step_zeros(self, step):
        return {"op": "zeros", "shape": step["shape"], **copy_fields(step, ("dtype", "name"))}

    def step_placeholder(self, step):
        return {"op": "placeholder", **copy_fields(step, ("dtype", "shape", "name"))}

    def step_op(self, step):
        kind = step["type"]
        result = {"op": OPERATORS.get(kind, kind), "args": self.handle(step["inputs"])}
        result.update(arguments_of(step, ("inputs",)))
        if "name" in step or kind in OPERATORS:
            result["name"] = step.get("name", kind)
        return result

    # ---- cells

    def step_cell(self, step):
        fields = arguments_of(step)
        if step["type"] == "Plus1":
            size = step["num_units"]
            return {"op": "cell", "num_units": size, "state_sizes": [size], "input": "x", "states": ["s"], "body": [
                {"op": "add", "args": ["x", 1.0], "name": "add", "as": "y"},
                {"op": "add", "args": ["s", 1.0], "name": "add_1", "as": "t"},
            ], "output": "y", "next_states": ["t"]}
        if "reuse" in fields:
            fields["reuse"] = reuse(fields["reuse"])
        return self.with_initializer(step, {"op": CELLS[step["type"]], **fields})

    def step_multi_cell(self, step):
        return {"op": "multi_rnn_cell", "cells": self.handle(step["cells"]), **copy_fields(step, ("state_is_tuple",))}

    def step_wrapper(self, step):
        fields = arguments_of(step)
        for name in KEEP_PROBABILITIES:
            if name in fields:
                fields[name] = self.number(fields[name])
        return {"op": CELLS[step["type"]], **fields, "cell": self.handle(step["cell"])}

    def step_zero_state(self, step):
        return {"op": "zero_state", "cell": self.handle(step["cell"]), "batch_size": self.handle(step["batch_size"]),
                "dtype": step.get("dtype", "float32")}

    def scope_argument(self, step):
        if "scope" not in step:
            return {}
        scope = step["scope"]
        return {"scope": {"scope": self.handle(scope["scope"])} if isinstance(scope, dict) else scope}

    def step_call_cell(self, step):
        return {"op": "call_cell", "cell": self.handle(step["cell"]), "input": self.handle(step["input"]),
                "state": self.handle(step["state"]), **self.scope_argument(step)}

    def recurrence(self, step, op):
        result = {"op": op, **copy_fields(step, ("dtype", "time_major")), **self.scope_argument(step)}
        for field in ("cell", "cell_fw", "cell_bw", "inputs", "initial_state", "initial_state_fw", "initial_state_bw",
                      "sequence_length"):
            if field in step:
                result[field] = self.handle(step[field])
        return result

    def step_dynamic_rnn(self, step):
        return self.recurrence(step, "dynamic_rnn")

    def step_static_rnn(self, step):
        return self.recurrence(step, "static_rnn")

    def step_bidirectional_dynamic_rnn(self, step):
        return self.recurrence(step, "bidirectional_dynamic_rnn")

    # ---- training

    def step_gradients(self, step):
        result = {"op": "gradients", **copy_fields(step, ("unconnected_gradients",))}
        for field in ("ys", "xs", "stop_gradients", "grad_ys"):
            if field in step:
                result[field] = self.handle(step[field])
        return result

    def step_clip_by_global_norm(self, step):
        return {"op": "clip_by_global_norm", "tensors": self.handle(step["tensors"]),
                "clip_norm": self.number(step["clip_norm"])}

    def optimizer(self, step, op):
        fields = {key: value if key == "name" else self.number(value) for key, value in arguments_of(step).items()}
        return {"op": op, **fields}

    def step_sgd(self, step):
        return self.optimizer(step, "sgd")

    def step_adam(self, step):
        return self.optimizer(step, "adam")

    def step_apply_gradients(self, step):
        return {"op": "apply_gradients", "optimizer": self.handle(step["optimizer"]),
                "gradients": self.handle(step["grads"]), "variables": self.handle(step["vars"]),
                **copy_fields(step, ("name",))}

    def step_minimize(self, step):
        result = {"op": "minimize", "optimizer": self.handle(step["optimizer"]), "loss": self.handle(step["loss"])}
        if "var_list" in step:
            result["var_list"] = self.handle(step["var_list"])
        return {**result, **copy_fields(step, ("name",))}

    def step_saver(self, step):
        result = {"op": "saver", **copy_fields(step, ("reshape",))}
        if "var_list" in step:
            result["var_list"] = self.handle(step["var_list"])
        return result

    # ---- Keras

    def step_keras_sequential(self, step):
        return {"op": "sequential", "layers": step["layers"], **copy_fields(step, ("name",))}

    def step_keras_build(self, step):
        return {"op": "build_model", "model": self.handle(step["model"]), "input_shape": step["input_shape"]}

    def step_get_layer(self, step):
        return {"op": "get_layer", "model": self.handle(step["model"]), **copy_fields(step, ("name", "index"))}

    def step_get_weights(self, step):
        return {"op": "get_weights", "layer": self.handle(step["layer"])}

    def step_keras_model_weights(self, step):
        return {"op": "get_weights", "model": self.handle(step["model"])}
