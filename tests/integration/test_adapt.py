"""Sessions that adapt: their own copy of a model's weights learns from the text that they are given."""
import http.client
import itertools
import json
import os
import re
import socket
import threading

from harness import Daemon, run, train, wait_until
from test_generate_signature import ENDS, LSTM, Signature, signature
from test_keys import KeysTest, bearer
from test_sessions import PROMPT, VIVID, Continuing

OTHER = "sore seas snare some sane seers. " * 8     # what the model never saw
SLOW = {"units": 256, "layers": 2, "max_steps": 1}


class Adapting(Continuing):
    def begin(self, name, adapt="output", prompt=OTHER, **fields):
        return self.complete(prompt=prompt, session=name, session_start=True, adapt=adapt, **fields)

    def look(self, name):
        return self.expect(200, "GET", f"/v1/sessions/{name}")

    def loss(self, reply):
        """In nats a symbol, of what a reply has the log-probabilities of."""
        values = [value for value in reply["choices"][0]["logprobs"]["token_logprobs"] if value is not None]
        return -sum(values) / len(values)

    def adapting(self):
        content = self.daemon.request("GET", "/metrics")[2]
        return int(re.search(rb"^lstmd_adapting_texts (\d+)$", content, re.M).group(1))


class Learning(Adapting):
    MODELS = {"bard": {}, "slow": SLOW, "tied": {"cell": "gru", "embedding": 16, "tie": True}}

    def test_it_learns_what_it_is_given(self):
        """As `lstmd score --adapt` does, to which the first request's prompt is one text; in fp32, whatever serves."""
        path = os.path.join(self.folder, "other.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write(OTHER)
        self.expect(200, "PATCH", "/v1/models/tied/settings", {"precision": "int8"})
        wait_until(lambda: self.expect(200, "GET", "/v1/models/tied")["precision"] == "int8")
        reading = {"prompt": OTHER, "echo": True, "logprobs": 0, "max_tokens": 0}
        for model, weights in itertools.product(("bard", "tied"), ("output", "all")):
            score = run("score", os.path.join(self.models, model), path, "--json", "--adapt", weights).stdout
            losses = [self.loss(self.begin(weights, weights, model=model, **reading))]
            self.assertAlmostEqual(losses[0], json.loads(score)["adapted"]["nats_per_symbol"], 4)
            for index in range(6):
                losses.append(self.loss(self.complete(session=weights, model=model, **reading,
                                                      **({"adapt": weights} if index % 2 else {}))))
            self.assertEqual(losses, sorted(losses, reverse=True), (model, weights))
            self.assertEqual(self.look(weights)["adapt"], weights)
            self.assertGreater(self.loss(self.complete(model=model, **reading)), losses[0])
        self.complete(session="plain", session_start=True, prompt=OTHER, adapt=False)
        self.assertNotIn("adapt", self.look("plain"))

    def test_same_histories_make_the_same_text(self):
        texts = []
        for name in ("one", "two"):
            text = self.begin(name, "all", max_tokens=30, seed=4, **VIVID)["choices"][0]["text"]
            text += self.text(prompt=" more seas", session=name, max_tokens=30, **VIVID)
            texts.append(text + self.text(prompt="", session=name, max_tokens=200))
        self.assertEqual(texts[0], texts[1])
        self.assertNotIn(texts[0][:30], self.text(prompt=OTHER, max_tokens=30, seed=4, **VIVID))

    def test_pieces_are_one_text(self):
        """Where nothing is given, nothing is learned: any number of requests is one."""
        whole = self.begin("whole", max_tokens=60, seed=4)["choices"][0]["text"]
        text = self.begin("pieces", max_tokens=20, seed=4)["choices"][0]["text"]
        text += "".join(chunk["choices"][0]["text"]
                        for chunk in self.chunks(prompt="", session="pieces", max_tokens=20))
        text += self.daemon.request("GET", "/v1/models/bard/generate?session=pieces&max_tokens=20")[2].decode()
        self.assertEqual(text, whole)
        stopped = self.begin("stop", max_tokens=60, seed=4, stop=whole[30:33])["choices"][0]["text"]
        self.assertEqual(stopped, whole[:whole.index(whole[30:33])])
        self.assertEqual(stopped + self.text(prompt="", session="stop", max_tokens=60 - len(stopped)), whole)

    def test_requests_wait_for_their_turn(self):
        whole = self.begin("whole", max_tokens=181, seed=4)["choices"][0]["text"]
        self.begin("turns", max_tokens=1, seed=4)
        replies = []
        threads = [threading.Thread(target=lambda: replies.append(self.text(prompt="", max_tokens=30, session="turns")))
                   for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(replies), sorted(whole[at:at + 30] for at in range(1, 181, 30)))

    def test_every_door(self):
        path = "/v1/models/bard/generate?prompt=sore%20seas&session=get&session_start=true&adapt=output&max_tokens=9"
        self.assertEqual(self.daemon.request("GET", path)[0], 200)
        self.assertEqual(self.look("get")["adapt"], "output")
        self.expect(200, "POST", "/v1/chat/completions", {
            "model": "bard", "messages": [{"role": "user", "content": "sore seas"}], "session": "chat",
            "session_start": True, "adapt": "all", "max_tokens": 9})
        self.assertEqual(self.look("chat")["adapt"], "all")
        found = self.complete(prompt=PROMPT, session="beam", session_start=True, adapt="output", use_beam_search=True,
                              max_tokens=9)
        self.assertEqual(found["choices"][0]["finish_reason"], "length")

    def test_neighbours_are_unaffected(self):
        fields = {"prompt": PROMPT, "max_tokens": 200, "seed": 4, **VIVID}
        weights = os.path.join(self.models, "bard", "1", "weights.safetensors")
        with open(weights, "rb") as file:
            before = file.read()
        whole = self.text(**fields)
        self.text(session="plain", session_start=True, **{**fields, "max_tokens": 1})
        threads = [threading.Thread(target=lambda name=f"n{index}": self.begin(name, "all", max_tokens=400))
                   for index in range(4)]
        for thread in threads:
            thread.start()
        texts = {self.text(**fields) for _ in range(10)}
        for thread in threads:
            thread.join()
        self.assertEqual(texts | {self.text(**fields)}, {whole})
        self.assertEqual(self.text(prompt="", session="plain", max_tokens=199, **VIVID), whole[1:])
        with open(weights, "rb") as file:
            self.assertEqual(file.read(), before)

    def test_a_fork_goes_its_own_way(self):
        self.begin("trunk", "all", max_tokens=5, seed=4)
        self.assertEqual(self.expect(201, "PUT", "/v1/sessions/fork", {"fork": "trunk"})["adapt"], "all")
        self.text(session="fork", prompt="another tale. " * 5, max_tokens=5)
        self.expect(201, "PUT", "/v1/sessions/again", {"fork": "trunk"})
        self.assertEqual(self.text(session="trunk", prompt=OTHER, max_tokens=50),
                         self.text(session="again", prompt=OTHER, max_tokens=50))
        self.expect(201, "PUT", "/v1/sessions/made", {"model": "bard"})
        self.complete(session="made", prompt=OTHER, max_tokens=1, adapt="output")    # nothing was said in it yet
        self.assertEqual(self.look("made")["adapt"], "output")

    def test_what_is_refused(self):
        self.begin("strict", "output", max_tokens=1)
        self.complete(session="plain", session_start=True, prompt=PROMPT, max_tokens=1)
        for fields, param in (({"adapt": "output"}, "adapt"), ({"adapt": "some"}, "adapt"), ({"adapt": True}, "adapt"),
                              ({"adapt": "output", "state": "AA", "session": "new", "session_start": True}, "state"),
                              ({"adapt": "all", "session": "strict"}, "adapt"),
                              ({"adapt": False, "session": "strict"}, "adapt"),
                              ({"adapt": "output", "session": "plain"}, "adapt"),
                              ({"return_state": True, "session": "strict"}, "return_state"),
                              ({"adapt": "all", "session": "new", "session_start": True, "return_state": True},
                               "return_state"),
                              ({"adapt": "all", "session": "new", "session_start": True, "n": 2}, "session")):
            self.assertEqual(self.complete(400, prompt=PROMPT, **fields)["param"], param, fields)
        self.expect(422, "GET", "/v1/sessions/strict?state=true", error="session_adapts")
        self.expect(404, "GET", "/v1/sessions/new", error="session_not_found")
        self.complete(session="strict", prompt=PROMPT, max_tokens=1, session_start=True)     # anew, without
        self.assertNotIn("adapt", self.look("strict"))

    def test_how_a_text_ends(self):
        """By its deadline, a cancel, its reader leaving: what was given before counts, a prompt half read does not."""
        text = self.begin("late", model="slow", prompt=PROMPT, max_tokens=1, seed=4)["choices"][0]["text"]
        reply = self.complete(model="slow", session="late", prompt="", max_tokens=100000, deadline_ms=1000)
        self.assertEqual(reply["choices"][0]["finish_reason"], "deadline")
        text += reply["choices"][0]["text"] + self.text(model="slow", session="late", prompt="", max_tokens=5)
        whole = self.begin("same", model="slow", prompt=PROMPT, max_tokens=len(text), seed=4)["choices"][0]["text"]
        self.assertTrue(text == whole)
        reply = self.begin("half", model="slow", prompt=OTHER * 200, max_tokens=1, deadline_ms=300)
        self.assertEqual(reply["choices"][0]["finish_reason"], "deadline")
        self.assertEqual(reply["choices"][0]["text"], "")
        self.expect(404, "GET", "/v1/sessions/half", error="session_not_found")
        before = self.look("late")["symbols"]
        self.complete(model="slow", session="late", prompt=OTHER * 200, max_tokens=1, deadline_ms=300)
        self.assertEqual(self.look("late")["symbols"], before)
        for leave in (lambda: self.expect(200, "DELETE", "/v1/requests/leaver"), lambda: None):
            body = {"model": "slow", "prompt": "", "session": "late", "max_tokens": 1000000, "stream": True}
            connection, reply = self.daemon.open_stream("POST", "/v1/completions", body, {"X-Request-Id": "leaver"})
            reply.readline()
            self.assertEqual(self.adapting(), 1)
            leave()
            connection.sock.close()
            connection.close()
            wait_until(lambda: self.adapting() == 0)
        wait_until(lambda: not self.look("late")["busy"])
        self.assertGreater(self.look("late")["symbols"], before)

    def test_a_reader_that_stops_reading_pauses_it(self):
        reader = self.daemon.raw()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.sendall(b"GET /v1/models/bard/generate?prompt=I&max_tokens=1000000&session=lazy&session_start=true&"
                       b"adapt=output HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: lazy\r\n\r\n")

        def made():
            running = self.expect(200, "GET", "/v1/requests")["data"]
            return next((entry["completion_tokens"] for entry in running if entry["id"] == "cmpl-lazy"), 0)
        seen = [-1, -2]

        def has_paused():
            for _ in range(20):
                seen.append(made())
                self.text(prompt=PROMPT, max_tokens=50)
            return len(set(seen[-20:])) == 1 and seen[-1] > 0
        wait_until(has_paused)
        paused_at = made()
        self.assertLess(paused_at, 1000000)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)    # through 4 KiB it would take seconds
        count = 0
        while count < paused_at + 10000:                       # it goes on when somebody reads
            count += len(reader.recv(65536))
        reader.close()
        wait_until(lambda: self.adapting() == 0)


class AdaptingDeadline(Adapting):
    MODELS = {"bard": {}}
    CONFIG = "ping_seconds = 3600\n"

    def test_who_stops_reading_gives_the_place_back_at_the_deadline(self):
        for _ in range(3):
            with self.daemon.raw() as reader:
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                reader.sendall(b"GET /v1/models/bard/generate?prompt=I&max_tokens=1000000&session=lazy&"
                               b"session_start=true&adapt=output&deadline_ms=1500 HTTP/1.1\r\n"
                               b"Host: localhost\r\n\r\n")
                wait_until(lambda: self.adapting() == 1)
                wait_until(lambda: self.adapting() == 0, "its place is still taken")


class AdaptingLimits(Adapting):
    MODELS = {"bard": {}, "slow": SLOW}
    CONFIG = "sessions_bytes_max = 100000\nadapting_max = 1\n"

    def test_bytes_count(self):
        """Some 6 KB of an output layer, 40 KB of all weights."""
        self.begin("small", "output", max_tokens=1)
        small = self.look("small")["bytes"]
        for name in "abc":
            self.begin(name, "all", max_tokens=1)
        names = {entry["name"]: entry["bytes"] for entry in self.expect(200, "GET", "/v1/sessions")["data"]}
        self.assertEqual(set(names), {"b", "c"})
        self.assertGreater(names["b"], 3 * small)
        self.assertRegex(self.daemon.request("GET", "/metrics")[2],
                         rb"lstmd_session_bytes %d\n" % sum(names.values()))
        error = self.complete(413, model="slow", prompt=PROMPT, session="large", session_start=True, adapt="all")
        self.assertEqual(error["code"], "sessions_bytes_max")
        self.expect(404, "GET", "/v1/sessions/large", error="session_not_found")

    def test_so_many_at_a_time(self):
        for _ in range(50):                             # one after another is one at a time
            self.begin("again", max_tokens=1)
        body = {"model": "bard", "prompt": PROMPT, "session": "long", "session_start": True, "adapt": "output",
                "max_tokens": 1000000, "stream": True}
        connection, reply = self.daemon.open_stream("POST", "/v1/completions", body)
        reply.readline()
        error = self.complete(429, prompt=PROMPT, session="second", session_start=True, adapt="output")
        self.assertEqual(error["code"], "adapting_max")
        self.text(prompt=PROMPT, session="second", session_start=True)
        connection.sock.close()
        connection.close()
        wait_until(lambda: self.adapting() == 0)
        self.begin("second", max_tokens=1)


class Shares(KeysTest):
    """A key whose first session adapts for as long as its stream is open."""
    MODELS = {"bard": {}}
    SETTINGS = "adapting_max = 2\n"
    SHORT = {"prompt": PROMPT, "session": "short", "session_start": True, "adapt": "output", "max_tokens": 1}

    def open_endless(self, key):
        body = {**self.SHORT, "session": "long", "max_tokens": 1000000, "stream": True}
        connection, reply = self.daemon.open_stream("POST", "/v1/completions", body, bearer(self.keys[key]))
        reply.readline()
        return connection

    def check_refused(self, status, content):
        self.assertEqual((status, content["error"]["code"]), (429, "queue_share"), content)


class AdaptingKeys(Shares):
    KEYS = (("ann", ()), ("bob", ()))

    def test_no_key_takes_it_all(self):
        connection = self.open_endless("ann")
        self.check_refused(*self.ask("POST", "/v1/completions", "ann", self.SHORT))
        status, reply = self.ask("POST", "/v1/completions", "bob", self.SHORT)
        self.assertEqual(status, 200, reply)
        self.assertEqual(self.ask("GET", "/v1/sessions/short", "ann")[0], 404)
        connection.close()
        wait_until(lambda: self.ask("POST", "/v1/completions", "ann", self.SHORT)[0] == 200)


class AdaptingAddresses(Shares):
    KEYS = (("web", ()),)
    MORE_ENTRIES = "per_address = yes\n"

    def test_a_key_has_its_share_from_all_addresses_together(self):
        connection = self.open_endless("web")
        other = http.client.HTTPConnection("127.0.0.1", self.daemon.port, timeout=60, source_address=("127.0.0.9", 0))
        other.request("POST", "/v1/completions", json.dumps(self.SHORT), bearer(self.keys["web"]))
        refused = other.getresponse()
        self.check_refused(refused.status, json.loads(refused.read()))
        other.close()
        connection.close()


class AdaptingGraphs(Signature):
    def test_a_graph_that_makes_its_text_itself_cannot_adapt(self):
        self.build(*LSTM, signature(*ENDS))
        self.set_variables()
        self.save()
        body = {"model": self.model_name(), "prompt": "abc", "max_tokens": 3, "session": "s", "session_start": True}
        status, reply = self.daemon.json("POST", "/v1/completions", {**body, "adapt": "output"})
        self.assertEqual((status, reply["error"]["code"]), (422, "no_language_model"))
        self.assertEqual(self.daemon.json("POST", "/v1/completions", body)[0], 200)


class AdaptingVersions(Adapting):
    MODELS = {"bard": {}, "other": {"seed": 2}}

    def again(self):
        self.assertEqual(self.daemon.stop(), 0)
        type(self).daemon = Daemon(self.models)

    def test_it_survives_a_restart(self):
        for name in ("kept", "beside"):
            self.begin(name, "all", max_tokens=20, seed=4)
        self.expect(201, "PUT", "/v1/sessions/fork", {"fork": "kept"})
        before = self.look("kept")
        whole = self.text(session="fork", prompt=OTHER, max_tokens=40)
        self.again()
        self.assertEqual(self.look("kept"), before)
        self.assertEqual(self.text(session="kept", prompt=OTHER, max_tokens=40), whole)
        self.assertEqual(self.text(session="beside", prompt=OTHER, max_tokens=40), whole)

    def test_it_stays_with_its_version(self):
        for name in ("first", "same"):
            self.begin(name, "output", model="other", max_tokens=10, seed=4)
        whole = self.text(session="same", model="other", prompt="", max_tokens=20)
        self.expect(200, "POST", "/v1/models/other/save", {})
        self.expect(200, "POST", "/v1/models/other/load")
        self.assertEqual(self.complete(model="other", prompt=PROMPT)["model"], "other@2")
        reply = self.complete(session="first", model="other", prompt="", max_tokens=20)
        self.assertEqual((reply["model"], reply["choices"][0]["text"]), ("other@1", whole))
        wait_until(lambda: self.daemon.json("DELETE", "/v1/models/other")[0] == 200, "other is still in use")
        train(os.path.join(self.models, "other"), seed=9)
        self.expect(200, "POST", "/v1/models/other/load")
        self.assertEqual(self.complete(422, session="first", model="other", prompt="")["code"],
                         "session_version_gone")
