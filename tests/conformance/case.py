"""Runs one case on one side: the engine's C calls, or a daemon's HTTP API."""

import json

from check import Failure, check_error, check_same, check_value
from translate import Translator, Unsupported

SCOPES = ("enter_variable_scope", "enter_name_scope")
GRAPHS = ("new_graph", "enter_graph", "get_default_graph", "reset_default_graph")
SESSIONS = ("session", "enter_session", "enter_session_as_default", "close_session")
RAW = ("create_op", "unique_name", "get_name_scope")
RUNS = ("run", "eval", "load", "save", "restore", "report_uninitialized_variables", "get_weights", "keras_lstm_step")


# Python objects that belong to no graph until they are used.
FREE = ("cell", "multi_cell", "wrapper", "sgd", "adam")


class NamedTuple(list):
    """The items of a fetched named tuple."""

    def __init__(self, items, names):
        super().__init__(items)
        self.names = names


def with_names(value):
    """A cell's state_size as TensorFlow has it: LSTMStateTuple(c=2, h=2) is also [2, 2]."""
    if isinstance(value, dict):
        return NamedTuple([with_names(item) for item in value.values()], list(value))
    return [with_names(item) for item in value] if isinstance(value, list) else value


class Case:
    """What one case has made so far."""

    def __init__(self, side, case):
        self.side = side
        self.case = case
        self.names = {}  # handle of the case → name in the program
        self.results = {}  # name in the program → what it is
        self.waiting = []  # built steps whose expectations are looked at when the side has applied them
        self.places = {}  # handle → what the side knows it by: graphs, sessions, contexts
        self.values = {}  # handle → a value of Python's: unique names, weights
        self.contexts = []  # open contexts: (handles they go by, what the side knows them by)
        self.initializers = {}  # handle of an initialiser → the variable's handle
        self.free = {}  # handle of an object that no graph has used → the step that made it
        self.count = 0
        self.translator = Translator(self.rename)

    # ---- handles

    def rename(self, path, else_text=False):
        first, dot, rest = path.partition(".")
        if first not in self.names:
            return {"text": path} if else_text else path
        if first in self.free and not self.side.is_here(self.names[first]):
            self.names[first], _ = self.ask(self.translator.step(self.free[first]))
        return self.side.reference(self.names[first] + dot + rest)

    def give_name(self):
        self.count += 1
        return f"n{self.count}"

    def find(self, path):
        """What a dotted path from a handle of the case means: a result."""
        first, _, rest = path.partition(".")
        result = self.results.get(self.names.get(first))
        if result is None:
            raise Failure(f"no result {path}")
        for part in rest.split(".") if rest else []:
            result = self.item(result, part, path)
        return result

    @staticmethod
    def item(result, part, path):
        """The item of a list by name or number; a list's "items" or "list" is the list itself."""
        items, names = result.get("items", []), result.get("names") or []
        index = names.index(part) if part in names else int(part) if part.isdigit() else len(items)
        if index < len(items):
            return {**items[index], "graph": result.get("graph")}
        if part in ("items", "list") and "items" in result:
            return result
        raise Failure(f"{path}: no {part} in {result}")

    # ---- steps

    def do(self, step):
        verb = step["do"]
        if verb in SCOPES:
            self.build(step, opens=True)
        elif verb in ("exit", "exit_keep"):
            self.leave(step)
        elif verb in RUNS or verb in GRAPHS or verb in SESSIONS or verb in RAW or verb == "initializer":
            self.flush()
            getattr(self, "do_" + verb)(step)
        else:
            self.build(step, opens=False)

    def build(self, step, opens):
        program_step = self.translator.step(step)
        name = self.give_name()
        if "as" in step or "expect" in step:
            program_step["as"] = name
        if "raises" in step:
            check_error(step, self.side.try_step(program_step, opens))
            return
        self.side.add(program_step, opens)
        if opens:
            self.opened(step)
        if "as" in step:
            self.names[step["as"]] = name
            self.free.pop(step["as"], None)
            if step["do"] in FREE:
                self.free[step["as"]] = step
        if "cell" in step["do"] or "rnn" in step["do"]:  # a cell that was called has variables
            for key in ("cell", "cell_fw", "cell_bw"):
                if step["do"] not in FREE and step["do"] != "zero_state" and isinstance(step.get(key), str):
                    self.free.pop(step[key], None)
        self.waiting.append((step, name))
        if self.side.applies_at_once:
            self.flush()

    def flush(self):
        """Has what was built applied, and looks at what was expected of it; a side may want to wait."""
        if not self.side.can_apply():
            return
        error, results = self.side.apply()
        waiting, self.waiting = self.waiting, []
        if error is not None:
            step = waiting[-1][0] if self.side.applies_at_once and waiting else {"do": "the program"}
            check_error(step, error)
        self.results.update(results)
        for step, name in waiting:
            self.expect(step, self.results.get(name))

    def opened(self, step):
        """A context goes by its own handle, or by that of the graph or session it entered."""
        handles = [step[key] for key in ("as", "session", "graph") if key in step]
        self.contexts.append((handles, self.side.last_context))

    def leave(self, step):
        """Leaves the innermost context, or that of a handle, which must be open."""
        at = len(self.contexts) - 1
        while at >= 0 and "what" in step and step["what"] not in self.contexts[at][0]:
            at -= 1
        if at < 0:
            raise Failure(f"{step['do']}: no context {step.get('what', '')} is open")
        error = self.side.leave(self.contexts[at][1])
        if error is None:
            del self.contexts[at]
        check_error(step, error)

    # ---- what is expected of a result

    def expect(self, step, result):
        expect = step.get("expect")
        if expect is None:
            return
        if result is None:
            raise Failure(f"{step['do']}: no result")
        what = f"{step['do']} {step.get('as', '')}".strip()
        for key, wanted in expect.items():
            if key in ("atol", "rtol"):
                continue
            if key in ("same_as", "not_same_as"):
                check_same(what, self.identity(result), self.identity(self.find(wanted)), key == "same_as")
            elif key == "is_none":
                items = self.item(result, "list", what)["items"]
                check_value(f"{what} is_none", [item["kind"] == "none" for item in items], {"value": wanted})
            elif key == "names":
                names = [item.get("name", item.get("value")) for item in result["items"]]
                check_value(f"{what} names", names, {"value": texts(wanted)})
            elif key == "count":
                check_value(f"{what} count", len(result["items"]), {"value": wanted})
            elif key == "value" and "items" in result:
                check_value(what, [item.get("name", item.get("value")) for item in result["items"]],
                            {"value": texts(wanted)})
            elif key == "value":
                check_value(what, result.get("original_name_scope", result.get("value")), expect)
            else:
                check_value(f"{what} {key}", self.attribute(result, key), {"value": wanted})

    @staticmethod
    def attribute(result, key):
        seen = result.get(key)
        if key == "state_size":
            return with_names(seen)
        return {"auto": "AUTO_REUSE", None: False}.get(seen, seen) if key == "reuse" else seen

    @staticmethod
    def identity(result):
        return tuple(str(result.get(key)) for key in ("graph", "kind", "name", "id"))

    def known_as(self, path):
        """The identity of what a handle stands for: a graph or session, or what a step made."""
        return self.places[path] if path in self.places else self.identity(self.find(path))

    # ---- graphs and sessions, raw names: the engine's side alone has them

    def do_new_graph(self, step):
        self.places[step["as"]] = self.side.new_graph()

    def do_enter_graph(self, step):
        check_error(step, self.side.enter_graph(self.places[step["graph"]], step.get("as")))
        self.opened(step)

    def do_get_default_graph(self, step):
        graph = self.side.default_graph()
        if "as" in step:
            self.places[step["as"]] = graph
        for key, wanted in step.get("expect", {}).items():
            check_same("the default graph", graph, self.places[wanted], key == "same_as")

    def do_reset_default_graph(self, step):
        check_error(step, self.side.reset())

    def do_session(self, step):
        self.places[step.get("as")] = self.side.new_session(self.places.get(step.get("graph")))

    def do_enter_session(self, step):
        session = self.places.get(step.get("session"))
        if session is None:
            session = self.side.new_session(self.places.get(step.get("graph")))
        error = self.side.enter_session(session, step.get("as"))
        check_error(step, error)
        if error is None:
            self.places[step.get("as")] = session
            self.opened(step)

    def do_enter_session_as_default(self, step):
        session = self.places[step["session"]]
        error = self.side.enter_session_as_default(session, step.get("as"))
        check_error(step, error)
        if error is None:
            self.opened(step)

    def do_close_session(self, step):
        self.side.close_session(self.places[step["session"]])

    def do_unique_name(self, step):
        value = self.side.unique_name(step["name"], step.get("mark_as_used", True))
        check_value("unique_name", value, step["expect"])

    def do_get_name_scope(self, step):
        check_value("get_name_scope", self.side.name_scope(), step["expect"])

    def do_create_op(self, step):
        error, name = self.side.create_op(step["type"], step.get("name"))
        check_error(step, error)
        if error is None and "expect" in step:
            check_value("create_op", name, {"value": step["expect"]["name"]})

    # ---- runs

    def do_initializer(self, step):
        self.initializers[step["as"]] = step["var"]

    def fetch_names(self, fetches):
        """The structure with tensor and operation names for leaves."""
        if fetches is None:
            return None
        if isinstance(fetches, list):
            return [self.fetch_names(item) for item in fetches]
        if isinstance(fetches, (bool, int, float)):
            return fetches
        if isinstance(fetches, dict):
            return {key: self.fetch_names(item) for key, item in fetches.items()}
        if fetches.startswith("name="):
            return fetches[len("name="):]
        if fetches in self.initializers:
            return self.find(self.initializers[fetches])["initializer"]
        return self.result_names(self.find(fetches))

    def result_names(self, result):
        if result["kind"] == "none":
            return None
        if result["kind"] == "list":
            items = [self.result_names({**item, "graph": result.get("graph")}) for item in result["items"]]
            return NamedTuple(items, result["names"]) if result.get("names") else items
        return self.side.tensor(result)

    def do_run(self, step, evaluates=False):
        feeds = {}
        for key, value in step.get("feed", {}).items():
            name = key[len("name="):] if key.startswith("name=") else self.side.tensor(self.find(key))
            feeds[name] = self.feed_value(value)
        structure = self.fetch_names(step["fetches"])
        leaves = []
        flatten(structure, leaves)
        session = self.session(step)
        if evaluates:
            error, values = self.side.evaluate(session, feeds, leaves)
        else:
            error, values = self.side.run(session, feeds, leaves)
        check_error(step, error)
        if error is None and "value" in step.get("expect", {}):
            iterator = iter(values)
            check_value(f"run of {step['fetches']}", rebuild(structure, iterator), step["expect"])

    def feed_value(self, value):
        """A value, or a tensor, which TensorFlow refuses."""
        handle = value.get("tensor") if isinstance(value, dict) else value
        if isinstance(handle, str) and handle.split(".")[0] in self.names:
            return {"tensor": self.find(handle)["name"]}
        return value

    def do_eval(self, step):
        self.do_run({**step, "fetches": step["tensor"]}, evaluates=True)

    def do_load(self, step):
        check_error(step, self.side.load(self.session(step), self.find(step["var"]), step["value"]))

    def session(self, step):
        """The session a step names; None: the default one."""
        return self.places.get(step.get("session"))

    def do_save(self, step):
        check_error(step, self.side.save(self.session(step), self.rename(step["saver"]), step["path"]))

    def do_restore(self, step):
        check_error(step, self.side.restore(self.session(step), self.rename(step["saver"]), step["path"]))

    def do_report_uninitialized_variables(self, step):
        names = self.side.uninitialized(self.session(step))
        if "value" in step.get("expect", {}):
            check_value("uninitialized variables", names, step["expect"])

    def ask(self, program_step):
        """Applies a step of the runner's own; what it made."""
        name = self.give_name()
        self.side.add({**program_step, "as": name}, False)
        self.flush()
        return name, self.results[name]

    def do_get_weights(self, step):
        _, result = self.ask(self.translator.step(step))
        weights, error = result["items"], None
        if "index" in step:
            try:
                weights = weights[step["index"]]
            except IndexError as index_error:  # Python's, of Python's list
                error = {"type": "IndexError", "message": str(index_error)}
        check_error(step, error)
        expect = {} if error else step.get("expect", {})
        if "count" in expect:
            check_value("count of weights", len(weights), {"value": expect["count"]})
        if "shapes" in expect:
            check_value("shapes of weights", [one["shape"] for one in weights], {"value": expect["shapes"]})
        if "shape" in expect:
            check_value("shape of the weight", weights["shape"], {"value": expect["shape"]})

    def do_keras_lstm_step(self, step):
        """One step of a Keras LSTM with these weights, from these states."""
        kernel, recurrent = step["kernel"], step["recurrent_kernel"]
        units, depth = len(recurrent), len(kernel)
        states = [self.ask({"op": "constant", "value": step[key], "dtype": "float32"})[0] for key in ("h", "c")]
        inputs, _ = self.ask({"op": "constant", "value": [[row] for row in step["x"]], "dtype": "float32"})
        layer, _ = self.ask({"op": "lstm", "units": units, "return_state": True,
                             "recurrent_activation": step["recurrent_activation"]})
        name, result = self.ask({"op": "call_layer", "layer": layer, "input": inputs, "initial_state": states})
        _, weights = self.ask({"op": "get_weights", "layer": layer})
        session = self.side.new_session(None)
        for weight, value in zip(weights["items"], (kernel, recurrent, step["bias"])):
            check_error(step, self.side.load(session, weight, value))
        assert len(weights["items"][0]["shape"]) == 2 and weights["items"][0]["shape"][0] == depth
        graph = result.get("graph")
        fetches = [self.side.tensor({**item, "graph": graph}) for item in result["items"][1:3]]
        error, values = self.side.run(session, {}, fetches)
        check_error(step, error)
        for key, seen in zip(("h", "c"), values):
            check_value(key, seen, {**step["expect"], "value": step["expect"][key]})

    # ---- the end

    def finish(self):
        expect = self.case.get("expect", {})
        open_count = expect.get("frames_open")
        if isinstance(open_count, int) and not isinstance(open_count, bool):
            check_value("open contexts", len(self.contexts), {"value": open_count})
        self.side.end_contexts()
        self.flush()
        seen = self.side.describe()
        for key in ("global_variables", "trainable_variables"):
            if key in expect:
                check_value(key, seen[key], {"value": expect[key]})
        for name, shape in expect.get("variable_shapes", {}).items():
            check_value(f"shape of {name}", seen["shapes"].get(name), {"value": shape})
        for key, is_same in (("same", True), ("distinct", False)):
            for one, other in expect.get(key, []):
                check_same(f"{one}, {other}", self.known_as(one), self.known_as(other), is_same)
        for path, wanted in expect.get("attrs", {}).items():
            handle, _, attribute = path.rpartition(".")
            result = self.side.look_at(self.names[handle.split(".")[0]])
            self.results[self.names[handle.split(".")[0]]] = result
            check_value(path, self.attribute(self.find(handle), attribute), {"value": wanted})


def texts(values):
    """What collections hold, as they show it: numbers are texts there."""
    return [one if isinstance(one, str) else json.dumps(one) for one in values]


def flatten(structure, leaves):
    if isinstance(structure, list):
        for item in structure:
            flatten(item, leaves)
    elif isinstance(structure, dict):
        for item in structure.values():
            flatten(item, leaves)
    else:
        leaves.append(structure)


def rebuild(structure, values):
    if isinstance(structure, NamedTuple):
        return NamedTuple([rebuild(item, values) for item in structure], structure.names)
    if isinstance(structure, list):
        return [rebuild(item, values) for item in structure]
    if isinstance(structure, dict):
        return {key: rebuild(item, values) for key, item in structure.items()}
    return next(values)


def run_case(side, case):
    """Raises Failure where the case does not hold."""
    side.begin()
    state = Case(side, case)
    try:
        for step in side.order(case["steps"]):
            state.do(step)
        state.finish()
    except Unsupported as unsupported:
        raise Failure(f"cannot be expressed: {unsupported}") from unsupported
    except (KeyError, TypeError, AttributeError, IndexError) as wrong:
        raise Failure(f"{type(wrong).__name__}: {wrong}") from wrong
