"""Texts that go on: by a state that the caller keeps, and by sessions that lstmd keeps."""
import base64
import hashlib
import json
import os
import random
import re
import struct
import threading

from harness import CORPUS, FLAVOUR, IS_SLOW, SEED, Daemon, DaemonTest, train, wait_until
from test_keys import KeysTest

SHORT = True
PROMPT = "Call me"
VIVID = {"temperature": 0.9, "repetition_penalty": 1.1, "frequency_penalty": 0.1, "top_k": 30}


class Continuing(DaemonTest):
    def complete(self, code=200, model="bard", **fields):
        status, reply = self.daemon.json("POST", "/v1/completions", {"model": model, **fields})
        self.assertEqual(status, code, reply)
        return reply["error"] if code != 200 else reply

    def text(self, **fields):
        return self.complete(**fields)["choices"][0]["text"]

    def steps(self):
        """How many rows were stepped so far: a symbol each."""
        content = self.daemon.request("GET", "/metrics")[2]
        return int(re.search(rb"^lstmd_step_rows_sum (\d+)$", content, re.M).group(1))

    def chunks(self, **fields):
        events = self.daemon.events("/v1/completions", {"model": "bard", "stream": True, **fields})
        self.assertEqual(events.pop(), "[DONE]")
        return [json.loads(event) for event in events]


class States(Continuing):
    """`return_state` and `state`: nothing is kept by the daemon."""
    MODELS = {"bard": {}, "other": {"seed": 2}}

    def test_any_pieces_are_one_text(self):
        whole = self.text(prompt=PROMPT, max_tokens=60, seed=4, **VIVID)
        reply = self.complete(prompt=PROMPT, max_tokens=1, seed=4, return_state=True, **VIVID)
        text = reply["choices"][0]["text"]
        while len(text) < 60:
            state = reply["choices"][0]["state"]
            count = min(1 + len(text) % 4, 60 - len(text))
            reply = self.complete(prompt="", max_tokens=count, state=state, return_state=True, **VIVID)
            self.assertEqual(reply["seed"], 4)
            self.assertEqual(reply["usage"], {
                "prompt_tokens": 0, "completion_tokens": count, "total_tokens": count,
                "prompt_tokens_details": {"cached_tokens": 0, "restored_tokens": len(PROMPT) + len(text),
                                          "replayed_tokens": 0}})
            text += reply["choices"][0]["text"]
        self.assertEqual(text, whole)

    def test_streams_end_with_the_state(self):
        fields = {"prompt": PROMPT, "max_tokens": 20, "seed": 4, "return_state": True}
        plain = self.complete(n=2, **fields)["choices"]
        chunks = [chunk["choices"][0] for chunk in self.chunks(n=2, **fields)]
        states = {choice["index"]: choice["state"] for choice in chunks if choice["finish_reason"]}
        self.assertEqual(states, {choice["index"]: choice["state"] for choice in plain})
        self.assertEqual([choice for choice in chunks if "state" in choice and not choice["finish_reason"]], [])
        self.assertNotIn("state", self.complete(prompt=PROMPT)["choices"][0])
        for index, state in states.items():     # each goes on as its own choice would have
            whole = self.complete(prompt=PROMPT, max_tokens=40, seed=4, n=2)["choices"][index]["text"]
            self.assertEqual(plain[index]["text"] + self.text(prompt="", state=state, max_tokens=20), whole)

    def test_a_seed_makes_another_text(self):
        reply = self.complete(prompt=PROMPT, max_tokens=5, seed=4, return_state=True)
        state = reply["choices"][0]["state"]
        same = {self.text(prompt="", state=state, max_tokens=30) for _ in range(3)}
        others = {self.text(prompt="", state=state, max_tokens=30, seed=seed) for seed in range(5, 9)}
        self.assertEqual(len(same), 1)
        self.assertEqual(len(same | others), 5)

    def test_a_prompt_goes_on_too(self):
        whole = self.text(prompt="Call me Ishmael", max_tokens=30, seed=9)
        state = self.complete(prompt="Call me", max_tokens=0, return_state=True)["choices"][0]["state"]
        self.assertEqual(self.text(prompt=" Ishmael", state=state, max_tokens=30, seed=9), whole)

    def test_stop_strings_leave_no_trace(self):
        whole = self.text(prompt=PROMPT, max_tokens=80, seed=4)
        for begin, length in ((10, 1), (20, 3), (33, 5)):
            stop = whole[begin:begin + length]
            choice = self.complete(prompt=PROMPT, max_tokens=80, seed=4, stop=stop, return_state=True)["choices"][0]
            self.assertEqual(choice["finish_reason"], "stop")
            rest = self.text(prompt="", state=choice["state"], max_tokens=80 - len(choice["text"]))
            self.assertEqual(choice["text"] + rest, whole)

    def rewritten(self, state, change):
        """The state with bytes changed, and a checksum that is right again."""
        content = bytearray(base64.b64decode(state))
        change(content)
        content[8:16] = hashlib.sha256(content[16:]).digest()[:8]
        return base64.b64encode(content).decode()

    def test_a_state_that_no_text_can_go_on_from(self):
        """Whether it is sent with a request or put into a session."""
        state = self.complete(prompt=PROMPT, max_tokens=5, return_state=True)["choices"][0]["state"]
        number_bytes = struct.unpack_from("<I", base64.b64decode(state), 88)[0]
        first = 112                                     # the numbers, behind the head

        def spoil_digest(content):
            content[30] ^= 1

        def spoil_number(content):
            content[first:first + 4] = struct.pack("<f", float("nan"))

        def spoil_symbol(content):
            content[first + number_bytes:first + number_bytes + 4] = struct.pack("<I", 100000)
        self.expect(201, "PUT", "/v1/sessions/good", {"state": self.rewritten(state, lambda content: None)})
        for change, status, code, what in ((spoil_digest, 422, "state_mismatch", "bard@1"),
                                           (spoil_number, 400, "state_malformed", "number 0 of"),
                                           (spoil_symbol, 400, "state_malformed", "symbol 100000")):
            bad = self.rewritten(state, change)
            for error in (self.complete(status, prompt="", state=bad),
                          self.expect(status, "PUT", "/v1/sessions/bad", {"state": bad})["error"]):
                self.assertEqual((error["code"], error["param"]), (code, "state"))
                self.assertIn(what, error["message"])
            self.expect(404, "GET", "/v1/sessions/bad")

    def test_a_large_state(self):
        """In a body that is read beside the loop: of a request, and of a session."""
        small = self.complete(prompt=PROMPT, max_tokens=1, return_state=True)["choices"][0]["state"]
        spaces = " " * 100000
        whole = self.text(prompt="", state=small, max_tokens=9, seed=4)
        self.assertEqual(self.text(prompt="", state=small, max_tokens=9, seed=4, user=spaces), whole)
        content = json.dumps({"state": small}) + spaces
        self.assertEqual(self.daemon.json("PUT", "/v1/sessions/large", content)[0], 201)
        self.assertEqual(self.text(prompt="", session="large", max_tokens=9, seed=4), whole)
        self.expect(400, "PUT", "/v1/sessions/large", "{" + spaces, error="bad_json")

    def test_what_is_no_state(self):
        state = self.complete(prompt=PROMPT, max_tokens=5, return_state=True)["choices"][0]["state"]
        content = bytearray(base64.b64decode(state))
        content[60] ^= 1
        for wrong in ("!", "abcd", state[:-8], base64.b64encode(content).decode()):
            error = self.complete(400, prompt="", state=wrong)
            self.assertEqual((error["code"], error["param"]), ("state_malformed", "state"))
        error = self.complete(422, model="other", prompt="", state=state)
        self.assertEqual(error["code"], "state_mismatch")
        self.assertIn("bard@1", error["message"])
        self.assertEqual(self.complete(400, prompt="", state=7)["param"], "state")
        error = self.daemon.json("GET", "/v1/models/bard/generate?prompt=I&return_state=true")[1]["error"]
        self.assertEqual(error["param"], "return_state")


class Sessions(Continuing):
    MODELS = {"bard": {}, "other": {"seed": 2}, "slow": {"units": 512, "layers": 2, "max_steps": 1}}

    def test_a_thousand_requests_are_one_text(self):
        whole = self.text(prompt=PROMPT, max_tokens=1000, seed=4, **VIVID)
        connection = self.daemon.connect()
        pieces = []
        for index in range(1000):
            begin = {"prompt": PROMPT, "seed": 4, "session_start": True} if index == 0 else {"prompt": ""}
            body = {"model": "bard", "session": "long", "max_tokens": 1, **begin, **VIVID}
            connection.request("POST", "/v1/completions", json.dumps(body))
            pieces.append(json.loads(connection.getresponse().read())["choices"][0]["text"])
        connection.close()
        self.assertEqual("".join(pieces), whole)
        reply = self.expect(200, "GET", "/v1/sessions/long")
        self.assertEqual((reply["symbols"], reply["model"], reply["busy"]), (len(PROMPT) + 1000, "bard@1", False))

    def test_only_new_symbols_are_read(self):
        self.text(prompt=PROMPT * 20, max_tokens=10, seed=4, session="cost", session_start=True)
        before = self.steps()
        self.text(prompt="", max_tokens=10, session="cost")
        self.assertEqual(self.steps() - before, 10)
        usage = self.complete(prompt="I ", max_tokens=5, session="cost")["usage"]
        self.assertEqual((usage["prompt_tokens"], usage["prompt_tokens_details"]["replayed_tokens"]), (2, 0))
        self.assertEqual(self.steps() - before, 10 + 2 + 5)

    def test_forks_differ_by_seed_alone(self):
        first = self.text(prompt=PROMPT, max_tokens=20, seed=4, session="trunk", session_start=True)
        for name in ("same", "again", "changed"):
            self.expect(201, "PUT", f"/v1/sessions/{name}", {"fork": "trunk"})
        texts = {name: self.text(prompt="", max_tokens=40, session=name, **more)
                 for name, more in (("same", {}), ("again", {}), ("changed", {"seed": 5}), ("trunk", {}))}
        self.assertEqual(texts["same"], texts["again"])
        self.assertEqual(texts["same"], texts["trunk"])
        self.assertNotEqual(texts["same"], texts["changed"])
        self.assertEqual(first + texts["same"], self.text(prompt=PROMPT, max_tokens=60, seed=4))

    def test_every_door(self):
        whole = self.text(prompt=PROMPT, max_tokens=60, seed=4, model="bard")
        text = self.text(prompt=PROMPT, max_tokens=20, seed=4, session="doors", session_start=True)
        text += "".join(chunk["choices"][0]["text"] for chunk in self.chunks(prompt="", session="doors", max_tokens=20))
        text += self.daemon.request("GET", "/v1/models/bard/generate?session=doors&max_tokens=20")[2].decode()
        self.assertEqual(text, whole)

    def test_stop_strings_leave_no_trace(self):
        whole = self.text(prompt=PROMPT, max_tokens=100, seed=4)
        text = self.text(prompt=PROMPT, max_tokens=100, seed=4, stop=whole[40:43], session="stop", session_start=True)
        self.assertLess(len(text), 43)
        text += self.text(prompt="", max_tokens=100 - len(text), session="stop")
        self.assertEqual(text, whole)

    def test_a_reader_that_leaves(self):
        """The session stands where the stream was cut, somewhere behind what was read."""
        fields = {"model": "slow", "prompt": PROMPT, "seed": 4, "temperature": 1}
        body = {**fields, "stream": True, "max_tokens": 100000, "session": "left", "session_start": True, "flush_ms": 0}
        connection, reply = self.daemon.open_stream("POST", "/v1/completions", body)
        read = ""
        while len(read) < 5:
            line = reply.readline().decode()
            read += json.loads(line[6:])["choices"][0]["text"] if line.startswith("data: ") else ""
        connection.sock.close()
        connection.close()
        rest = self.text(model="slow", prompt="", session="left", max_tokens=30)
        made = self.expect(200, "GET", "/v1/sessions/left")["symbols"] - len(PROMPT) - 30
        self.assertGreaterEqual(made, len(read))
        whole = self.text(max_tokens=made + 30, **fields)
        self.assertEqual(whole, whole[:made] + rest)
        self.assertEqual(whole[:len(read)], read)

    def test_requests_wait_for_their_turn(self):
        self.text(prompt=PROMPT, max_tokens=1, seed=4, session="turns", session_start=True)
        replies = []
        threads = [threading.Thread(target=lambda: replies.append(self.text(prompt="", max_tokens=30, session="turns")))
                   for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        whole = self.text(prompt=PROMPT, max_tokens=181, seed=4)
        self.assertEqual(sorted(replies), sorted(whole[at:at + 30] for at in range(1, 181, 30)))

    def test_a_busy_session(self):
        body = {"model": "slow", "prompt": PROMPT, "stream": True, "max_tokens": 100000, "session": "busy",
                "session_start": True}
        connection, reply = self.daemon.open_stream("POST", "/v1/completions", body)
        reply.readline()
        self.assertTrue(self.expect(200, "GET", "/v1/sessions/busy")["busy"])
        self.expect(409, "DELETE", "/v1/sessions/busy", error="session_busy")
        self.expect(409, "PUT", "/v1/sessions/busy", {"model": "bard"}, error="session_busy")
        self.expect(404, "PUT", "/v1/sessions/fork", {"fork": "busy"}, error="session_not_found")   # not begun yet
        connection.sock.close()
        connection.close()
        self.text(model="slow", prompt="", session="busy", max_tokens=1)
        self.expect(200, "DELETE", "/v1/sessions/busy")
        self.expect(404, "GET", "/v1/sessions/busy", error="session_not_found")

    def test_put_look_and_delete(self):
        made = self.expect(201, "PUT", "/v1/sessions/made", {"model": "bard", "ttl_seconds": 60})
        self.assertEqual((made["model"], made["symbols"], made["ttl_seconds"]), ("bard@1", 0, 60))
        text = self.text(prompt=PROMPT, max_tokens=20, seed=4, session="made")
        self.assertEqual(text, self.text(prompt=PROMPT, max_tokens=20, seed=4))
        state = self.expect(200, "GET", "/v1/sessions/made?state=true")["state"]
        self.expect(201, "PUT", "/v1/sessions/copy", {"state": state})
        self.assertEqual(self.text(prompt="", max_tokens=20, session="copy"),
                         self.text(prompt="", max_tokens=20, state=state))
        self.assertEqual(self.expect(200, "PUT", "/v1/sessions/made", {"ttl_seconds": 90})["symbols"],
                         len(PROMPT) + 20)
        self.assertIn("made", [entry["name"] for entry in self.expect(200, "GET", "/v1/sessions")["data"]])
        self.expect(200, "DELETE", "/v1/sessions/made")
        self.assertNotIn("made", [entry["name"] for entry in self.expect(200, "GET", "/v1/sessions")["data"]])

    def test_what_is_refused(self):
        self.text(prompt=PROMPT, max_tokens=1, session="strict", session_start=True)
        self.assertEqual(self.complete(404, session="nobody")["code"], "session_not_found")
        self.assertEqual(self.complete(400, session="a/b")["code"], "invalid_name")
        for more in ({"n": 2}, {"best_of": 2}, {"prompt": ["a", "b"]}):
            self.assertEqual(self.complete(400, session="strict", **more)["param"], "session")
        self.assertEqual(self.complete(400, session="strict", state="AA")["param"], "state")
        self.assertEqual(self.complete(400, session="strict", model="other")["param"], "model")
        self.assertEqual(self.complete(400, session_start=True)["param"], "session_start")
        self.expect(404, "PUT", "/v1/sessions/x", {"fork": "nobody"}, error="session_not_found")
        self.expect(400, "PUT", "/v1/sessions/x", {"fork": "strict", "model": "bard"})
        self.expect(400, "PUT", "/v1/sessions/x", {"state": "AA"}, error="state_malformed")
        self.expect(404, "PUT", "/v1/sessions/x", {"model": "nobody"}, error="model_not_found")
        self.expect(400, "PUT", "/v1/sessions/x", {"frobnicate": 1}, error="unknown_field")
        self.complete(400, session="fresh", session_start=True, temperature=9)
        self.expect(404, "GET", "/v1/sessions/fresh", error="session_not_found")

    def test_a_failed_request_changes_nothing(self):
        self.text(prompt=PROMPT, max_tokens=10, seed=4, session="whole", session_start=True)
        before = self.expect(200, "GET", "/v1/sessions/whole?state=true")["state"]
        self.complete(400, prompt="\u00e9\u00e8", session="whole")
        self.assertEqual(self.expect(200, "GET", "/v1/sessions/whole?state=true")["state"], before)


class PromptCache(Continuing):
    MODELS = {"bard": {}}

    def found(self):
        content = self.daemon.request("GET", "/metrics")[2]
        return int(re.search(rb"^lstmd_prompt_cache_symbols_total (\d+)$", content, re.M).group(1))

    def test_shared_beginnings_are_read_once(self):
        beginning = CORPUS[50:350]
        before = self.found()
        fields = {"max_tokens": 40, "seed": 4, **VIVID}
        first = self.complete(prompt=beginning + "abc", **fields)
        self.assertNotIn("prompt_tokens_details", first["usage"])
        second = self.complete(prompt=beginning + "Ish", **fields)
        self.assertEqual(second["usage"]["prompt_tokens"], 303)
        self.assertEqual(second["usage"]["prompt_tokens_details"], {"cached_tokens": 256})
        self.assertEqual(self.complete(prompt=beginning + "abc", **fields)["choices"], first["choices"])
        self.assertEqual(self.found() - before, 512)
        # nothing of an echoed prompt comes from the cache: another way to the same texts
        for reply, tail in ((first, "abc"), (second, "Ish")):
            echoed = self.complete(prompt=beginning + tail, echo=True, **fields)
            self.assertNotIn("prompt_tokens_details", echoed["usage"])
            self.assertEqual(echoed["choices"][0]["text"], beginning + tail + reply["choices"][0]["text"])

    def test_a_short_prompt_that_comes_again(self):
        before = self.found()
        fields = {"prompt": CORPUS[7:16], "max_tokens": 30, "seed": 4, **VIVID}
        replies = [self.complete(**fields) for _ in range(5)]
        self.assertEqual(self.found() - before, 3 * 8)
        for reply in replies[1:]:               # and nothing of the reply tells the third from the first
            self.assertEqual((reply["choices"], reply["usage"]), (replies[0]["choices"], replies[0]["usage"]))
        echoed = self.complete(echo=True, **fields)
        self.assertEqual(echoed["choices"][0]["text"], fields["prompt"] + replies[0]["choices"][0]["text"])
        self.assertEqual(self.found() - before, 3 * 8)

    def test_a_session_begins_from_it(self):
        beginning = CORPUS[:200]
        self.text(prompt=beginning, max_tokens=1)
        whole = self.text(prompt=beginning, max_tokens=50, seed=4, echo=True)[200:]
        reply = self.complete(prompt=beginning, max_tokens=20, seed=4, session="s", session_start=True)
        self.assertEqual(reply["usage"]["prompt_tokens_details"], {"cached_tokens": 192})
        text = reply["choices"][0]["text"] + self.text(prompt="", max_tokens=30, session="s")
        self.assertEqual(text, whole)


class Time(Continuing):
    MODELS = {"bard": {}}

    def test_a_session_expires(self):
        self.expect(201, "PUT", "/v1/sessions/brief", {"model": "bard", "ttl_seconds": 1})
        expires_at = self.expect(200, "GET", "/v1/sessions/brief")["expires_at"]
        status = 200
        while status == 200:
            status, reply = self.daemon.json("GET", "/v1/sessions/brief")
        self.assertEqual((reply["error"]["code"], reply["error"]["expired_at"]), ("session_not_found", expires_at))
        self.assertEqual(self.complete(404, session="brief")["expired_at"], expires_at)


class Memory(Continuing):
    MODELS = {"bard": {}}
    CONFIG = "sessions_bytes_max = 65536\n"

    def test_the_ones_unused_longest_go(self):
        self.text(prompt=PROMPT, max_tokens=1, session="first", session_start=True)
        size = self.expect(200, "GET", "/v1/sessions/first")["bytes"]
        room = 65536 // size
        for index in range(room + 10):
            self.text(prompt=PROMPT, max_tokens=1, session=f"s{index:03}", session_start=True)
            self.text(prompt="", max_tokens=1, session="first")
        names = {entry["name"] for entry in self.expect(200, "GET", "/v1/sessions")["data"]}
        self.assertIn("first", names)
        self.assertNotIn("s000", names)
        self.assertIn(f"s{room + 9:03}", names)
        self.assertLessEqual(len(names), room)
        self.assertGreater(len(names), room * 8 // 10)
        self.assertRegex(self.daemon.request("GET", "/metrics")[2],
                         rb'lstmd_sessions_ended_total{reason="memory"} [1-9]')


class Shares(KeysTest):
    """Whose sessions go, when there are more than there is room for."""
    MODELS = {"bard": {}}
    KEYS = (("ann", ()), ("bob", ()), ("carl", ()), ("dora", ()))
    SETTINGS = "sessions_bytes_max = 65536\n"

    def begin(self, key, name):
        body = {"model": "bard", "prompt": PROMPT, "max_tokens": 1, "session": name, "session_start": True}
        self.assertEqual(self.ask("POST", "/v1/completions", key, body)[0], 200)

    def test_one_large_session_pushes_out_nobody(self):
        for index in range(20):
            self.begin("carl", f"c{index:03}")
        body = {"model": "bard", "prompt": PROMPT, "max_tokens": 1, "session": "large", "session_start": True,
                "adapt": "all"}
        self.assertEqual(self.ask("POST", "/v1/completions", "dora", body)[0], 200)
        self.assertEqual((self.list("carl")["total"], self.list("dora")["total"]), (20, 0))

    def list(self, key):
        return self.ask("GET", "/v1/sessions", key)[1]

    def test_nobody_is_pushed_out_by_one_who_has_more(self):
        for index in range(3):
            self.begin("ann", f"a{index}")
        size = self.list("ann")["data"][0]["bytes"]
        count = 65536 // size + 10
        for index in range(count):
            self.begin("bob", f"b{index:03}")
        self.assertEqual([entry["name"] for entry in self.list("ann")["data"]], ["a2", "a1", "a0"])
        names = [entry["name"] for entry in self.list("bob")["data"]]
        self.assertEqual(names, [f"b{count - 1 - index:03}" for index in range(len(names))])
        self.assertEqual(len(names), self.list("bob")["total"])
        self.assertGreater(3 + len(names), count * 8 // 10 - 10)
        self.assertLess(len(names), count)


class Number(KeysTest):
    """How many sessions there may be, of a key and together."""
    MODELS = {"bard": {}}
    KEYS = (("ann", ()), ("bob", ()), ("cecil", ()))
    SETTINGS = "sessions_max = 5\nsessions_per_key_max = 3\n"

    def put(self, key, name):
        status, reply = self.ask("PUT", f"/v1/sessions/{name}", key, {"model": "bard"})
        return status, reply.get("error", {}).get("code")

    def test_at_most(self):
        for name in "abc":
            self.assertEqual(self.put("ann", name), (201, None))
        self.assertEqual(self.put("ann", "d"), (429, "sessions_per_key_max"))
        self.assertEqual(self.put("ann", "c"), (200, None))
        body = {"prompt": PROMPT, "max_tokens": 1, "session": "d", "session_start": True}
        status, reply = self.ask("POST", "/v1/completions", "ann", body)
        self.assertEqual((status, reply["error"]["param"]), (429, "session"))
        for name in "ab":
            self.assertEqual(self.put("bob", name), (201, None))
        self.assertEqual(self.put("cecil", "a"), (503, "sessions_max"))
        self.assertEqual(self.ask("DELETE", "/v1/sessions/a", "ann")[0], 200)
        self.assertEqual(self.put("cecil", "a"), (201, None))
        self.assertEqual(self.put("ann", "a"), (503, "sessions_max"))


class Restart(Continuing):
    MODELS = {"bard": {}, "slow": {"units": 512, "layers": 2, "max_steps": 1}}

    def again(self, config=""):
        self.assertEqual(self.daemon.stop(), 0)
        path = os.path.join(self.folder, "again.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(config)
        type(self).daemon = Daemon(self.models, config=path)

    def test_sessions_survive(self):
        whole = self.text(prompt=PROMPT, max_tokens=90, seed=4, **VIVID)
        text = self.text(prompt=PROMPT, max_tokens=30, seed=4, session="kept", session_start=True, **VIVID)
        self.expect(201, "PUT", "/v1/sessions/empty", {"model": "bard"})
        before = self.expect(200, "GET", "/v1/sessions/kept?state=true")
        self.again()
        self.assertEqual(self.expect(200, "GET", "/v1/sessions/kept?state=true"), before)
        self.assertEqual(self.expect(200, "GET", "/v1/sessions/empty")["model"], "bard@1")
        text += self.text(prompt="", max_tokens=30, session="kept", **VIVID)
        self.again()
        text += self.text(prompt="", max_tokens=30, session="kept", **VIVID)
        self.assertEqual(text, whole)

    def test_files_that_are_no_good(self):
        folder = os.path.join(self.models, ".sessions")
        for index in range(20):
            self.expect(201, "PUT", f"/v1/sessions/many{index}", {"model": "bard"})
        self.assertEqual(self.daemon.stop(), 0)
        self.assertEqual(os.stat(folder).st_mode & 0o77, 0)
        names = sorted(name for name in os.listdir(folder) if name.endswith(".sessions"))
        with open(os.path.join(folder, names[0]), "r+b") as file:
            file.seek(90)
            file.write(b"?")
        os.truncate(os.path.join(folder, names[1]), 50)
        type(self).daemon = Daemon(self.models)
        for name in names[:2]:
            self.daemon.wait_for_output(f"sessions_refused.*{name}")
            self.assertTrue(os.path.exists(os.path.join(folder, f"{name}.refused")))
        left = {entry["name"] for entry in self.expect(200, "GET", "/v1/sessions")["data"]}
        self.assertLess(len([name for name in left if name.startswith("many")]), 20)
        self.assertGreater(len(left), 0)

    def test_files_of_the_first_format(self):
        """That knew nothing of sessions that adapt; what follows the head is the same."""
        whole = self.text(prompt=PROMPT, max_tokens=60, seed=4)
        text = self.text(prompt=PROMPT, max_tokens=30, seed=4, session="old", session_start=True)
        self.assertEqual(self.daemon.stop(), 0)
        folder = os.path.join(self.models, ".sessions")
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), "r+b") as file:
                file.seek(8)
                file.write(struct.pack("<I", 1))
        type(self).daemon = Daemon(self.models)
        self.assertEqual(text + self.text(prompt="", max_tokens=30, session="old"), whole)

    def make_large(self, name):
        """A session whose prompt was not read yet when its request was cancelled: its state has it all."""
        body = {"model": "slow", "prompt": CORPUS * 10, "session": name, "session_start": True}
        connection = self.daemon.connect()
        connection.request("POST", "/v1/completions", json.dumps(body), {"X-Request-Id": name})
        wait_until(lambda: self.daemon.json("DELETE", f"/v1/requests/{name}")[0] == 200)
        reply = json.loads(connection.getresponse().read())
        connection.close()
        self.assertEqual(reply["choices"][0]["finish_reason"], "cancelled")
        return self.expect(200, "GET", f"/v1/sessions/{name}")["bytes"]

    def test_one_that_is_too_large_now(self):
        self.assertGreater(self.make_large("large"), 200000)
        small = [f"small{index}" for index in range(600)]
        for name in small:
            self.expect(201, "PUT", f"/v1/sessions/{name}", {"model": "bard"})
        self.assertEqual(self.daemon.stop(), 0)
        folder = os.path.join(self.models, ".sessions")
        files = {}
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), "rb") as file:
                files[name] = file.read()
        content, = [content for content in files.values() if b"large" in content]
        beside = [name for name in small if name.encode() + b"bard@1" in content]
        self.assertNotEqual(beside, [])
        self.again("sessions_bytes_max = 200000\n")
        self.daemon.wait_for_output("session_dropped.*session=large")
        self.assertNotIn("sessions_refused", self.daemon.text())
        for name in beside:
            self.expect(200, "DELETE", f"/v1/sessions/{name}")
        self.expect(404, "GET", "/v1/sessions/large", error="session_not_found")

    def test_what_a_killed_daemon_left(self):
        self.expect(201, "PUT", "/v1/sessions/some", {"model": "bard"})
        self.again()
        left = os.path.join(self.models, ".sessions", ".lstmd-0123456789abcdef")
        with open(left, "wb") as file:
            file.write(b"half of a file")
        self.again()
        self.assertFalse(os.path.exists(left))

    def test_a_version_that_is_gone(self):
        train(os.path.join(self.models, "brief"))
        self.daemon.json("POST", "/v1/models/brief/load")
        self.text(model="brief", prompt=PROMPT, max_tokens=5, session="gone", session_start=True)
        wait_until(lambda: self.daemon.json("DELETE", "/v1/models/brief")[0] == 200, "brief is still in use")
        self.assertEqual(self.complete(422, model="brief", prompt="", session="gone")["code"], "session_version_gone")
        train(os.path.join(self.models, "brief"), seed=9)
        self.daemon.json("POST", "/v1/models/brief/load")
        error = self.complete(422, model="brief", prompt="", session="gone")
        self.assertEqual(error["code"], "session_version_gone")
        self.assertIn("as it was", error["message"])


class Crash(Continuing):
    MODELS = {"bard": {}}
    CONFIG = "sessions_save_seconds = 1\n"

    def test_what_was_written_meanwhile_is_there(self):
        whole = self.text(prompt=PROMPT, max_tokens=60, seed=4)
        text = self.text(prompt=PROMPT, max_tokens=30, seed=4, session="kept", session_start=True)
        folder = os.path.join(self.models, ".sessions")
        wait_until(lambda: os.path.isdir(folder) and any(name.endswith(".sessions") for name in os.listdir(folder)))
        self.daemon.kill()
        type(self).daemon = Daemon(self.models)
        self.assertEqual(text + self.text(prompt="", max_tokens=30, session="kept"), whole)


class Many(Continuing):
    """Idle sessions cost little more than their states: 100,000 of a 2×128 model stay under 400 MB, and any of them
    goes on as if it had never stopped, at the cost of its new symbols."""
    MODELS = {"bard": {"units": 128, "layers": 2, "max_steps": 1}}
    COUNT = 100000 if IS_SLOW and FLAVOUR != "tsan" else 2000      # the thread sanitizer would take half an hour
    CLIENTS = 16

    def begin_some(self, first, statuses):
        connection = self.daemon.connect()
        for index in range(first, self.COUNT, self.CLIENTS):
            body = {"prompt": PROMPT, "max_tokens": 1, "session": f"s{index}", "session_start": True, "seed": index}
            connection.request("POST", "/v1/completions", json.dumps(body))
            reply = connection.getresponse()
            reply.read()
            statuses.add(reply.status)
        connection.close()

    def test_memory(self):
        self.text(prompt=PROMPT, max_tokens=1, session="first", session_start=True)
        before = self.daemon.rss_bytes()
        statuses = set()
        threads = [threading.Thread(target=self.begin_some, args=(first, statuses)) for first in range(self.CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(statuses, {200})
        self.assertEqual(self.expect(200, "GET", "/v1/sessions")["total"], self.COUNT + 1)
        used = self.daemon.rss_bytes()
        print(f"# {self.COUNT + 1} sessions: {used / 1e6:.0f} MB, before {before / 1e6:.0f} MB", flush=True)
        chance = random.Random(SEED)
        print(f"# seed {SEED}", flush=True)
        for index in [0, self.COUNT - 1, *chance.sample(range(1, self.COUNT - 1), 50)]:
            steps = self.steps()
            reply = self.complete(prompt="", max_tokens=5, session=f"s{index}")
            self.assertEqual(self.steps() - steps, 5)
            self.assertEqual(reply["usage"]["prompt_tokens_details"], {
                "cached_tokens": 0, "restored_tokens": len(PROMPT) + 1, "replayed_tokens": 0})
            whole = self.text(prompt=PROMPT, max_tokens=6, seed=index)
            self.assertEqual(reply["choices"][0]["text"], whole[1:])
        if FLAVOUR == "release":
            slack = 8 << 20                     # for what the allocator holds
            self.assertLess((used - before - slack) / self.COUNT, 3500)
            self.assertLess(used, 400e6)


class OwnSessions(KeysTest):
    """A key sees its own sessions only."""
    MODELS = {"bard": {}}
    KEYS = (("ann", ()), ("bob", ()), ("boss", ("--scope", "admin")))

    def test_names_are_each_keys_own(self):
        for key, seed in (("ann", 1), ("bob", 2)):
            status, _ = self.ask("POST", "/v1/completions", key, {
                "prompt": PROMPT, "max_tokens": 9, "seed": seed, "session": "mine", "session_start": True})
            self.assertEqual(status, 200)
        states = {self.ask("GET", "/v1/sessions/mine?state=true", key)[1]["state"] for key in ("ann", "bob")}
        self.assertEqual(len(states), 2)
        self.assertEqual(self.ask("PUT", "/v1/sessions/secret", "ann", {"model": "bard"})[0], 201)
        for key in ("bob", "boss"):
            for method, path, body in (("GET", "/v1/sessions/secret", None), ("DELETE", "/v1/sessions/secret", None),
                                       ("PUT", "/v1/sessions/x", {"fork": "secret"}),
                                       ("POST", "/v1/completions", {"prompt": "", "session": "secret"})):
                self.assertEqual(self.ask(method, path, key, body)[0], 404, path)
        self.assertEqual([entry["name"] for entry in self.ask("GET", "/v1/sessions", "bob")[1]["data"]], ["mine"])
        self.assertEqual(self.ask("GET", "/v1/sessions", "boss")[1]["data"], [])
