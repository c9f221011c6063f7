"""keep_alive_seconds: a model that nobody uses is unloaded, and whoever asks for it waits until it is loaded again."""
import json
import os
import re
import shutil
import time

from harness import DaemonTest, wait_until

LONG = True

PROMPT = "Call me"


class Idle(DaemonTest):
    MODELS = {"bard": {}, "other": {"seed": 2}}

    def setUp(self):
        reply = self.expect(200, "PATCH", "/v1/models/bard/settings", {"keep_alive_seconds": 1})
        self.assertEqual(reply["keep_alive_seconds"], 1)

    def status(self, model):
        return self.expect(200, "GET", "/v1/models/" + model)["status"]

    def await_idle(self):
        wait_until(lambda: self.status("bard") == "idle", lambda: self.daemon.text())

    def complete(self, **fields):
        return self.expect(200, "POST", "/v1/completions", {"model": "bard", "seed": 4, **fields})

    def test_requests_wait_for_the_load(self):
        """Each gets the text it would have had; looking at an idle model leaves it idle."""
        whole = self.complete(prompt=PROMPT, max_tokens=40)["choices"]
        symbols = self.expect(200, "POST", "/tokenize", {"model": "bard", "prompt": PROMPT})
        self.await_idle()
        self.assertEqual(self.complete(prompt=PROMPT, max_tokens=40)["choices"], whole)
        self.await_idle()
        events = self.daemon.events("/v1/completions", {"model": "bard", "seed": 4, "prompt": PROMPT, "max_tokens": 40,
                                                        "stream": True})
        text = "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1])
        self.assertEqual(text, whole[0]["text"])
        self.await_idle()
        self.assertEqual(self.expect(200, "POST", "/tokenize", {"model": "bard", "prompt": PROMPT}), symbols)
        self.await_idle()
        self.expect(200, "GET", "/health/ready")
        self.assertEqual(self.expect(200, "GET", "/v2/models/bard/ready"), {"name": "bard", "ready": True})
        states = self.expect(200, "GET", "/v1/models/bard")["model_version_status"]
        self.assertEqual(states[0]["state"], "AVAILABLE")
        content = self.daemon.request("GET", "/metrics")[2].decode()
        self.assertEqual(re.findall(r'^lstmd_model_bytes\{model="(\w+)"', content, re.M), ["other"])
        self.assertEqual((self.status("bard"), self.status("other")), ("idle", "serving"))

    def test_sessions_go_on(self):
        whole = self.complete(prompt=PROMPT, max_tokens=30)["choices"][0]["text"]
        text = self.complete(prompt=PROMPT, max_tokens=10, session="s", session_start=True)["choices"][0]["text"]
        for _ in range(2):
            self.await_idle()
            text += self.complete(prompt="", max_tokens=10, session="s")["choices"][0]["text"]
        self.assertEqual(text, whole)
        self.await_idle()
        self.expect(201, "PUT", "/v1/sessions/made-of-an-idle-model", {"model": "bard"})

    def test_a_load_and_a_run_of_its_graph(self):
        self.await_idle()
        self.assertEqual(self.expect(200, "POST", "/v1/models/bard/load")["model"], "bard@1")
        self.await_idle()
        body = {"instances": [{"tokens": [1, 2, 3]}]}
        self.expect(200, "POST", "/v1/models/bard:predict", body)
        wait_until(lambda: self.status("bard") == "serving", lambda: self.daemon.text())
        self.await_idle()

    def test_its_live_graph_wakes_none(self):
        self.await_idle()
        self.expect(200, "GET", "/v1/models/bard/variables")
        self.assertEqual(self.status("bard"), "idle")

    def test_what_tells_of_a_model(self):
        """What the tokenizer is like waits for the load; an export reads the files, and wakes nothing."""
        facts = self.expect(200, "GET", "/tokenizer_info?model=bard")
        whole = self.daemon.request("GET", "/v1/models/bard/export?to=tar")
        self.await_idle()
        exported = self.daemon.request("GET", "/v1/models/bard/export?to=tar")
        self.assertEqual((whole[0], exported[0], exported[2]), (200, 200, whole[2]))
        self.assertEqual(self.status("bard"), "idle")
        self.assertEqual(self.expect(200, "GET", "/tokenizer_info?model=bard"), facts)

    def test_looking_at_signatures_is_no_use(self):
        def look():
            for path in ("/v2/models/bard", "/v1/models/bard/metadata"):
                self.expect(200, "GET", path)
            return self.status("bard") == "idle"
        wait_until(look, self.daemon.text)
        self.assertTrue(look())

    def test_statistics_stay(self):
        def infer():
            tokens = {"name": "tokens", "shape": [1, 3], "datatype": "INT32", "data": [1, 2, 3]}
            self.expect(200, "POST", "/v2/models/bard/infer", {"inputs": [tokens]})
            return count()

        def count():
            stats = self.expect(200, "GET", "/v2/models/bard/stats")["model_stats"]
            return sum(one["inference_count"] for one in stats)
        before = infer()
        self.await_idle()
        self.assertEqual(count(), before)
        self.assertEqual(infer(), before + 1)

    def test_a_precision_is_tried_by_what_serves(self):
        """An idle model is loaded for that first."""
        for precision, name in (("int8", "int8"), (None, "fp32")):
            self.await_idle()
            self.expect(400, "PATCH", "/v1/models/bard/settings", {"precision": "int3"})
            self.assertEqual(self.status("bard"), "idle")
            reply = self.expect(200, "PATCH", "/v1/models/bard/settings", {"precision": precision})
            self.assertEqual(reply["precision"], name)
            packed = r"packed model=bard .*precision=(\w+)"
            wait_until(lambda name=name: re.findall(packed, self.daemon.text())[-1:] == [name])  # the log comes behind

    def test_what_slept_is_replaced(self):
        """Its directory goes and another version comes: whoever asks, for whatever, has the new one."""
        self.await_idle()
        place = os.path.join(self.models, "bard")
        newest = max(name for name in os.listdir(place) if name.isdigit())
        os.rename(os.path.join(place, newest), os.path.join(self.folder, "away"))
        shutil.move(os.path.join(self.folder, "away"), os.path.join(place, str(int(newest) + 1)))
        self.expect(200, "POST", "/v1/reload")
        self.expect(200, "POST", "/v1/models/bard:predict", {"instances": [{"tokens": [1, 2, 3]}]})
        self.assertEqual(self.complete(prompt=PROMPT, max_tokens=1)["model"], f"bard@{int(newest) + 1}")

    def test_a_model_can_be_set_to_stay(self):
        self.await_idle()
        self.expect(200, "PATCH", "/v1/models/bard/settings", {"keep_alive_seconds": None})
        self.complete(prompt=PROMPT, max_tokens=1)
        time.sleep(1.5)
        self.expect(200, "POST", "/v1/reload")
        self.assertEqual(self.status("bard"), "serving")
        for value in (0, -1, 1.5, "1", True):
            reply = self.expect(400, "PATCH", "/v1/models/bard/settings", {"keep_alive_seconds": value})
            self.assertEqual(reply["error"]["param"], "/keep_alive_seconds")


class Slow(DaemonTest):
    MODELS = {"large": {"units": 1024, "layers": 2, "max_steps": 1}}

    def status(self):
        return self.expect(200, "GET", "/v1/models/large")["status"]

    def complete(self, code, error=None, **fields):
        return self.expect(code, "POST", "/v1/completions", {"model": "large", "prompt": PROMPT, "max_tokens": 1,
                                                             **fields}, error=error)

    def test_a_deadline_holds_while_the_model_is_loaded(self):
        """It comes long before the load's end; the load goes on."""
        self.expect(200, "PATCH", "/v1/models/large/settings", {"keep_alive_seconds": 1})
        for fields in ({}, {"session": "s", "session_start": True}):
            wait_until(lambda: self.status() == "idle", self.daemon.text)
            self.complete(503, "deadline", deadline_ms=1, **fields)
            self.complete(200, **fields)


class Endless(DaemonTest):
    """Reading the gate's text takes this model minutes."""
    MODELS = {"gated": {"units": 1024, "layers": 2, "max_steps": 1}}

    def setUp(self):
        settings = {"keep_alive_seconds": 1, "gate": {"text": "a" * 16384}}
        self.expect(200, "PATCH", "/v1/models/gated/settings", settings)
        wait_until(lambda: self.status() == "idle", self.daemon.text)

    def status(self):
        return self.expect(200, "GET", "/v1/models/gated")["status"]


class Leaving(Endless):
    def running(self):
        return self.expect(200, "GET", "/v1/requests")["data"]

    def open_request(self, is_text=False):
        body = json.dumps({"model": "gated", "prompt": PROMPT, "max_tokens": 1}).encode()
        client = self.daemon.raw()
        if is_text:
            client.sendall(b"GET /v1/models/gated/generate?prompt=I HTTP/1.1\r\nHost: localhost\r\n\r\n")
        else:
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                           % len(body) + body)
        wait_until(self.running, self.daemon.text)
        return client

    def test_who_leaves_or_is_cancelled_waits_no_longer_for_a_load(self):
        for is_text in (False, True):
            self.open_request(is_text).close()
            wait_until(lambda: not self.running() or self.status() != "loading", self.daemon.text)
            self.assertEqual((self.running(), self.status()), ([], "loading"))
        with self.open_request() as client:
            self.expect(200, "DELETE", "/v1/requests/" + self.running()[0]["id"])
            self.assertIn(b" 409 ", client.recv(65536).split(b"\r\n")[0])
        self.assertEqual((self.running(), self.status()), ([], "loading"))


class Deadline(Endless):
    CONFIG = "request_seconds_max = 1\n"

    def test_every_call_waits_for_a_load_until_its_deadline(self):
        body = {"model": "gated", "prompt": PROMPT}
        for method, path, sent in (("POST", "/tokenize", body), ("GET", "/tokenizer_info?model=gated", None),
                                   ("PUT", "/v1/sessions/s", {"model": "gated"}), ("POST", "/v1/completions", body)):
            self.expect(503, method, path, sent, error="deadline")
            self.assertEqual(self.status(), "loading")
