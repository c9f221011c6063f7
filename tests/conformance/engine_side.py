"""The engine's C calls, through the driver (drive.c): one line of JSON a call, one back."""

import json
import subprocess
import tempfile

from check import Failure


def graphs_of(value):
    """The graphs of a step's elements that are not the default graph's, in order."""
    if isinstance(value, dict) and value.keys() == {"graph", "handle"}:
        return [value["graph"]]
    found = []
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        found += [graph for graph in graphs_of(item) if graph not in found]
    return found


def bare(value):
    """A step with the elements of a graph named as within it."""
    if isinstance(value, dict):
        if value.keys() == {"graph", "handle"}:
            return value["handle"]
        return {key: bare(item) for key, item in value.items()}
    return [bare(item) for item in value] if isinstance(value, list) else value


def of_session(session):
    """The driver takes the default session where none is named."""
    return {} if session is None else {"session": session}


class EngineSide:
    applies_at_once = True

    def __init__(self, driver):
        self.driver = driver
        self.directory = tempfile.TemporaryDirectory()  # checkpoints
        self.error = None
        self.results = {}
        self.checkpoint_count = 0
        self.start()

    def start(self):
        self.process = subprocess.Popen([self.driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        cwd=self.directory.name)

    def close(self):
        if self.process.poll() is not None:
            return
        self.process.stdin.close()
        if self.process.wait(timeout=60) != 0:
            raise Failure(f"the driver ended with status {self.process.returncode}")

    def call(self, do, **fields):
        """(error, reply)"""
        self.process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            # begin starts it anew
            raise Failure(f"the driver ended with status {self.process.wait()} at {do} {fields}")
        reply = json.loads(line)
        return reply.get("error"), reply.get("reply", {})

    def must(self, do, **fields):
        error, reply = self.call(do, **fields)
        if error is not None:
            raise Failure(f"{do}: {error}")
        return reply

    @staticmethod
    def order(steps):
        return steps

    def begin(self):
        if self.process.poll() is not None:
            self.start()
        self.must("begin")
        self.error, self.results = None, {}
        self.graph_of = {}
        self.last_context = None
        self.paths = {}  # what a case calls a checkpoint → its file

    # ---- building

    def is_here(self, name):
        return self.graph_of.get(name) == self.default_graph()

    def reference(self, path):
        graph = self.graph_of.get(path.split(".")[0])
        return path if graph == self.default_graph() else {"graph": graph, "handle": path}

    def build(self, step, opens):
        """(error, reply) of a step. One on another graph's elements alone is built there, as in TensorFlow."""
        owners = graphs_of(step)
        if not owners:
            return self.call("enter" if opens else "step", step=step)
        if any(isinstance(arg, dict) for arg in step.get("args", [])) and len(owners) + self.uses_own(step) > 1:
            return self.call("call", function=step["op"], name=step.get("name"), args=step["args"])
        inner = self.must("enter_graph", graph=owners[0])["context"]
        error, reply = self.call("enter" if opens else "step", step=bare(step))
        self.must("exit", what=inner)
        return error, reply

    def uses_own(self, step):
        """Whether elements of the default graph are among a function's arguments."""
        return any(isinstance(arg, str) for arg in step.get("args", []))

    def add(self, step, opens):
        graph = (graphs_of(step) + [self.default_graph()])[0]
        if "as" in step:
            self.graph_of[step["as"]] = graph
        self.error, reply = self.build(step, opens)
        self.last_context = reply.get("context")
        self.results = {name: {**result, "graph": graph} for name, result in reply.get("results", {}).items()}

    def try_step(self, step, opens):
        return self.build(step, opens)[0]

    @staticmethod
    def can_apply():
        return True

    def apply(self):
        error, results = self.error, self.results
        self.error, self.results = None, {}
        return error, results

    def leave(self, context):
        return self.call("exit", what=context)[0]

    def end_contexts(self):
        """What is open stays open."""

    def enter(self, do, **fields):
        error, reply = self.call(do, **fields)
        self.last_context = reply.get("context")
        return error

    def look_at(self, name):
        return {**self.must("look_at", name=name), "graph": self.graph_of[name]}

    # ---- graphs, sessions, names

    def new_graph(self):
        return self.must("new_graph")["graph"]

    def enter_graph(self, graph, name):
        return self.enter("enter_graph", graph=graph, name=name)

    def default_graph(self):
        return self.must("default_graph")["graph"]

    def reset(self):
        return self.call("reset_default_graph")[0]

    def new_session(self, graph):
        return self.must("new_session", **({} if graph is None else {"graph": graph}))["session"]

    def enter_session(self, session, name):
        return self.enter("enter_session", session=session, name=name)

    def enter_session_as_default(self, session, name):
        return self.enter("enter_session_as_default", session=session, name=name)

    def close_session(self, session):
        self.must("close_session", session=session)

    def unique_name(self, name, mark_as_used):
        return self.must("unique_name", name=name, mark_as_used=mark_as_used)["name"]

    def name_scope(self):
        return self.must("name_scope")["name"]

    def create_op(self, kind, name):
        error, reply = self.call("create_op", type=kind, **({} if name is None else {"name": name}))
        return error, reply.get("name")

    # ---- runs

    @staticmethod
    def tensor(result):
        return f"{result['graph']}|{result['name']}"

    def evaluate(self, session, feeds, fetches):
        return self.run(session, feeds, fetches, evaluates=True)

    def run(self, session, feeds, fetches, evaluates=False):
        fields = {"evaluates": evaluates, **of_session(session)}
        named = [{"key": self.element(key), "value": value} for key, value in feeds.items()]
        error, reply = self.call("run", feeds=named, fetches=[self.element(one) for one in fetches], **fields)
        return error, reply.get("values")

    @staticmethod
    def element(name):
        """A graph's element for the driver; a bare name is one in the session's graph."""
        graph, bar, rest = name.partition("|") if isinstance(name, str) else ("", "", name)
        return {"graph": int(graph), "name": rest} if bar else name

    def load(self, session, result, value):
        return self.call("load", variable=result["name"], value=value, **of_session(session))[0]

    def save(self, session, saver, path):
        self.checkpoint_count += 1
        file = f"checkpoint-{self.checkpoint_count}"
        error = self.call_saver("save", session, saver, file)
        if error is None:
            self.paths[path] = file
        return error

    def restore(self, session, saver, path):
        return self.call_saver("restore", session, saver, self.paths.get(path, path))

    def call_saver(self, do, session, saver, path):
        """A saver is looked for in its own graph, whichever is the default one."""
        context = self.must("enter_graph", graph=(graphs_of(saver) + [self.default_graph()])[0])["context"]
        error, _ = self.call(do, saver=bare(saver), path=path, **of_session(session))
        self.must("exit", what=context)
        return error

    def uninitialized(self, session):
        return self.must("uninitialized", **of_session(session))["names"]

    def describe(self):
        return self.must("describe")
