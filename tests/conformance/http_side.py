"""A daemon's HTTP API: one model, its graph reset for each case, programs whole or not at all.

A program is a tree, so scopes that stay open while a case runs something are sent as one program, before those runs:
building never changes what a run gives. A step that must fail is sent at its place, after the steps before it; it must
change nothing, and the case goes on without it.
"""

import copy
import json
import os
import sys
import tempfile
from urllib.parse import quote

from case import FREE, GRAPHS, RAW, RUNS, SCOPES
from check import Failure

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "integration"))

import harness  # noqa: E402

MODEL = "case"
SCOPE_STEPS = SCOPES + ("exit", "exit_keep")


def start_daemon(program, models):
    harness.LSTMD = program
    return harness.Daemon(models)


def handles_in(value):
    """The handles, and other texts, among a step's arguments."""
    if isinstance(value, str):
        return {value.partition(".")[0]}
    items = value if isinstance(value, list) else list(value) + list(value.values()) if isinstance(value, dict) else []
    return set().union(*(handles_in(item) for item in items))


def outlives_its_graph(case):
    """Whether a case uses, after a reset, what it made of the graph before."""
    old, made = set(), set()
    for step in case["steps"]:
        arguments = {key: value for key, value in step.items() if key not in ("do", "as", "name", "expect", "raises")}
        if old & handles_in(arguments):
            return True
        if step["do"] == "reset_default_graph":
            old, made = old | made, set()
        if "as" in step:
            old.discard(step["as"])
            if step["do"] not in FREE:
                made.add(step["as"])
    return False


def goes_over_http(case):
    """Whether a case needs nothing that a model's one graph has not: other graphs, several sessions, none, one that is
    closed or older than the graph, a reset inside open contexts or things of before it, contexts left out of order, raw
    naming calls."""
    if outlives_its_graph(case):
        return False
    contexts = []  # (verb, handles)
    sessions, closed = set(), {None}
    for step in case["steps"]:
        verb = step["do"]
        if step.get("session") in closed - {None}:
            return False
        has_session = step.get("session") in sessions or any(kind.startswith("enter_session") for kind, _ in contexts)
        if verb in RAW or verb in ("new_graph", "enter_graph", "get_default_graph", "close_session", "exit_keep"):
            return False
        if is_run(step) and verb not in ("get_weights", "keras_lstm_step") and not has_session:
            return False
        if verb == "reset_default_graph":
            if contexts:
                return False
            sessions = set()
        if verb in ("session", "enter_session") and step.get("session") not in sessions:
            if sessions:
                return False
            sessions.add(step.get("as"))
        if verb == "enter_session" and any(kind == verb for kind, _ in contexts):
            return False
        if verb == "exit":
            left, handles = contexts.pop()
            if "what" in step and step["what"] not in handles:
                return False
            if left == "enter_session":
                closed.update(handles)
        elif "raises" not in step and (verb in SCOPES or verb.startswith("enter_session")):
            contexts.append((verb, (step.get("as"), step.get("session"))))
    return True


def is_run(step):
    return step["do"] in RUNS


class HttpSide:
    applies_at_once = False
    last_context = None

    def __init__(self, program):
        self.directory = tempfile.TemporaryDirectory()
        self.daemon = start_daemon(program, self.directory.name)
        self.must("PUT", f"/v1/models/{MODEL}", {})
        self.checkpoints = {}

    def close(self):
        self.daemon.stop()
        self.directory.cleanup()

    # ---- order

    @staticmethod
    def order(steps):
        """Runs wait until no scope is open."""
        ordered, waiting, stack = [], [], []
        for step in steps:
            verb = step["do"]
            is_scope_step = verb in SCOPE_STEPS
            if verb == "exit":
                kind = stack.pop() if stack else None
                is_scope_step = kind in SCOPES
            elif "raises" not in step and (verb in SCOPES or verb.startswith("enter_")):
                stack.append(verb)
            scopes_open = any(kind in SCOPES for kind in stack)
            if is_run(step) and (scopes_open or waiting):
                waiting.append(step)
            elif waiting and not scopes_open and not is_scope_step:
                ordered += waiting + [step]
                waiting = []
            else:
                ordered.append(step)
            if waiting and not scopes_open:
                ordered += waiting
                waiting = []
        return ordered + waiting

    # ---- HTTP

    def request(self, method, path, body=None):
        """(error or None, reply)"""
        status, reply = self.daemon.json(method, path, json.dumps(body) if body is not None else None)
        if status >= 400:
            if status >= 500 or not isinstance(reply, dict) or "error" not in reply:
                raise Failure(f"{method} {path}: {status} {reply}")
            return reply["error"], None
        return None, reply

    def must(self, method, path, body=None):
        error, reply = self.request(method, path, body)
        if error is not None:
            raise Failure(f"{method} {path}: {error}")
        return reply

    def begin(self):
        self.must("POST", f"/v1/models/{MODEL}/graph/reset", {})
        self.start_program()
        self.checkpoints = {}

    def start_program(self):
        self.program = []
        self.open = [self.program]  # the lists of steps that are open, the program outermost
        self.sessions = []

    # ---- building

    @staticmethod
    def is_here(name):
        return True

    @staticmethod
    def reference(path):
        return path

    def add(self, step, opens):
        self.open[-1].append(step)
        if opens:
            step["body"] = []
            self.open.append(step["body"])
            self.sessions.append(False)

    def try_step(self, step, opens):
        """Sends the program so far with this step; nothing of it must stay."""
        before = self.must("GET", f"/v1/models/{MODEL}/graph")
        if opens:
            step = {**step, "body": []}
        self.open[-1].append(step)
        error, _ = self.request("POST", f"/v1/models/{MODEL}/graph/build", {"program": self.program})
        self.open[-1].pop()
        if error is not None and self.must("GET", f"/v1/models/{MODEL}/graph") != before:
            raise Failure("a failed build changed the graph")
        if error is None:
            raise Failure(f"{step['op']} went through, and was applied")
        return error

    def can_apply(self):
        """Once no scope is open."""
        return len(self.open) == 1

    def apply(self):
        """Sends what was built since the last time."""
        if not self.program:
            return None, {}
        program = copy.deepcopy(self.program)
        self.program.clear()
        error, reply = self.request("POST", f"/v1/models/{MODEL}/graph/build", {"program": program})
        return error, reply["results"] if reply else {}

    def end_contexts(self):
        """What is open at a case's end: a program has ends of its own."""
        del self.open[1:]

    def leave(self, context):
        is_session = bool(self.sessions) and self.sessions.pop()
        if not is_session and len(self.open) > 1:
            self.open.pop()

    def look_at(self, name):
        reply = self.must("GET", f"/v1/models/{MODEL}/graph")
        return reply["results"][name]

    def reset(self):
        error, _ = self.request("POST", f"/v1/models/{MODEL}/graph/reset", {})
        self.start_program()
        return error

    # ---- sessions: the model is one

    @staticmethod
    def new_session(graph):
        return None

    def enter_session(self, session, name):
        self.sessions.append(True)

    def enter_session_as_default(self, session, name):
        self.sessions.append(True)

    # ---- runs

    def evaluate(self, session, feeds, fetches):
        return self.run(session, feeds, fetches)

    @staticmethod
    def tensor(result):
        return result["name"]

    def run(self, session, feeds, fetches):
        error, reply = self.request("POST", f"/v1/models/{MODEL}/graph/run", {"feeds": feeds, "fetches": fetches})
        if error is not None:
            return error, None
        return None, [reply["results"][name] for name in fetches]

    def load(self, session, result, value):
        path = f"/v1/models/{MODEL}/variables/{quote(result['name'])}"
        return self.request("PUT", path, value)[0]

    def save(self, session, saver, path):
        error, reply = self.request("POST", f"/v1/models/{MODEL}/save", {"saver": saver})
        if error is None:
            self.checkpoints[path] = reply["version"]
        return error

    def restore(self, session, saver, path):
        version = self.checkpoints.get(path, path)
        return self.request("POST", f"/v1/models/{MODEL}/restore", {"saver": saver, "version": version})[0]

    def uninitialized(self, session):
        variables = self.must("GET", f"/v1/models/{MODEL}/variables")["variables"]
        return [one["name"].rsplit(":", 1)[0] for one in variables if not one["initialized"]]

    def describe(self):
        graph = self.must("GET", f"/v1/models/{MODEL}/graph")
        collections = graph["collections"]
        return {
            "global_variables": collections.get("variables", []),
            "trainable_variables": collections.get("trainable_variables", []),
            "shapes": {one["name"]: one["shape"] for one in graph["variables"]},
        }
