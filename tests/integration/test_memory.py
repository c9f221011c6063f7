"""models_bytes_max: what has no room is not loaded, says so at every door, and is loaded once there is room."""
import os
import re
import shutil

from harness import CORPUS, Daemon, DaemonTest, wait_until

SHORT = True

CODE = "models_bytes_max"
NUMBERS = r"it needs \d+ bytes, and of models_bytes_max, \d+ bytes, \d+ are held by \d+ models"
JOB = {"corpus": {"text": CORPUS}, "batch": 4, "sequence_length": 16, "max_steps": 3, "publish": "end"}


class Memory(DaemonTest):
    """In each test `bard` is loaded, and half of its memory is left."""
    MODELS = {"bard": {}, "other": {"seed": 2}}
    CONFIG = ""

    def setUp(self):
        self.limit(0)
        self.expect(200, "POST", "/v1/models/bard/load")
        self.expect(200, "POST", "/v1/models/other/unload")
        self.bytes = self.entry("bard")["bytes"]
        self.limit(self.bytes * 3 // 2)
        self.addCleanup(self.limit, 0)

    def limit(self, count):
        with open(os.path.join(self.folder, "lstmd.conf"), "w", encoding="utf-8") as file:
            file.write(f"models_bytes_max = {count}\n")
        self.expect(200, "POST", "/v1/reload")

    def entry(self, model):
        return self.expect(200, "GET", "/v1/models/" + model)

    def newest(self, model):
        return self.entry(model)["versions"][0]

    def complete(self, code, model, error=None):
        return self.expect(code, "POST", "/v1/completions", {"model": model, "prompt": "I", "max_tokens": 3},
                           error=error)

    def metric(self, name):
        text = self.daemon.request("GET", "/metrics")[2].decode()
        self.assertRegex(text, rf"(?m)^# HELP {name} .+\n# TYPE {name} gauge$")
        return float(re.search(rf"(?m)^{name} (\S+)$", text).group(1))

    def check_postponed(self, model):
        """Its newest version waits for room; what it says to whoever asks."""
        reason = self.newest(model)["reason"]
        self.assertEqual(reason["code"], CODE)
        self.assertRegex(reason["message"], NUMBERS)
        status, headers, content = self.daemon.request("POST", f"/v1/models/{model}/load")
        self.assertEqual(status, 503, content)
        self.assertGreater(int(headers["Retry-After"]), 0)
        self.assertRegex(content.decode(), NUMBERS)
        self.assertRegex(content.decode(), f'"code": ?"{CODE}"')

    def test_a_load_and_requests(self):
        self.expect(503, "POST", "/v1/models/other/load", error=CODE)
        self.check_postponed("other")
        self.complete(200, "bard")
        reply = self.complete(503, "other", CODE)
        self.assertRegex(reply["error"]["message"], "version 1 of other cannot be loaded now: " + NUMBERS)
        status, headers, _ = self.daemon.request("POST", "/tokenize", {"model": "other", "prompt": "I"})
        self.assertEqual((status, "Retry-After" in headers), (503, True))
        self.assertEqual((self.metric("lstmd_models_bytes"), self.metric("lstmd_models_bytes_max")),
                         (self.bytes, self.bytes * 3 // 2))
        self.expect(200, "POST", "/v1/models/bard/unload")
        wait_until(lambda: self.entry("other")["status"] == "serving", self.daemon.text)
        self.complete(200, "other")
        self.assertEqual(self.newest("other")["reason"], None)

    def test_the_repository_of_the_open_inference_protocol(self):
        status, headers, content = self.daemon.request("POST", "/v2/repository/models/other/load")
        self.assertEqual((status, "Retry-After" in headers), (503, True))
        self.assertRegex(content.decode(), NUMBERS)
        rows = self.expect(200, "POST", "/v2/repository/index")
        row = next(row for row in rows if row["name"] == "other")
        self.assertEqual(row["state"], "UNAVAILABLE")
        self.assertRegex(row["reason"], NUMBERS)

    def test_a_version_that_is_copied_in(self):
        """The old one serves on until there is room for both."""
        place = os.path.join(self.models, "bard")
        old = self.entry("bard")["version"]
        shutil.copytree(os.path.join(place, str(old)), os.path.join(self.folder, "partial"))
        os.rename(os.path.join(self.folder, "partial"), os.path.join(place, str(old + 1)))
        self.expect(200, "POST", "/v1/reload")
        self.check_postponed("bard")
        self.assertEqual(self.complete(200, "bard")["model"], f"bard@{old}")
        self.limit(self.bytes * 2)
        self.assertEqual(self.complete(200, "bard")["model"], f"bard@{old + 1}")
        self.assertEqual(self.newest("bard")["reason"], None)

    def test_a_version_that_was_trained(self):
        old = self.entry("bard")["version"]
        self.expect(202, "POST", "/v1/models/bard/train", JOB)
        wait_until(lambda: self.newest("bard")["version"] > old, self.daemon.text)
        wait_until(lambda: self.newest("bard")["reason"] is not None, self.daemon.text)
        self.check_postponed("bard")
        self.assertEqual(self.complete(200, "bard")["model"], f"bard@{old}")
        self.limit(0)
        wait_until(lambda: self.entry("bard")["version"] > old, self.daemon.text)

    def test_an_import(self):
        tar = self.daemon.request("GET", "/v1/models/bard/export?to=tar")[2]
        status, headers, content = self.daemon.request("PUT", "/v1/models/copied", tar)
        self.assertEqual((status, "Retry-After" in headers), (503, True), content)
        self.assertRegex(content.decode(), NUMBERS)
        self.check_postponed("copied")
        self.expect(200, "POST", "/v1/models/bard/unload")
        wait_until(lambda: self.entry("copied")["status"] == "serving", self.daemon.text)
        self.expect(200, "DELETE", "/v1/models/copied")

    def test_idle_models_make_room(self):
        """Whoever asks for one has it: the other one sleeps, but not without the setting."""
        for model in ("bard", "other"):
            self.expect(200, "PATCH", f"/v1/models/{model}/settings", {"keep_alive_seconds": 3600})
        for _ in range(2):
            for model, sleeper in (("other", "bard"), ("bard", "other")):
                self.expect(200, "POST", f"/v1/models/{model}/load")
                self.assertEqual(self.entry(sleeper)["status"], "idle")
                self.complete(200, sleeper)
                self.assertEqual((self.entry(sleeper)["status"], self.entry(model)["status"]), ("serving", "idle"))
        self.complete(200, "bard")
        self.expect(200, "PATCH", "/v1/models/bard/settings", {"keep_alive_seconds": None})
        self.complete(503, "other", CODE)
        self.assertEqual(self.entry("bard")["status"], "serving")
        self.expect(200, "PATCH", "/v1/models/other/settings", {"keep_alive_seconds": None})

    def test_a_start(self):
        """One of two is served."""
        config = os.path.join(self.folder, "start.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"models_bytes_max = {self.bytes * 3 // 2}\n")
        models = os.path.join(self.folder, "start")
        for model in ("bard", "other"):
            shutil.copytree(os.path.join(self.models, model, "1"), os.path.join(models, model, "1"))
        daemon = Daemon(models, config=config, wait=False)
        self.addCleanup(daemon.kill)
        daemon.port = int(daemon.wait_for_output(r"127\.0\.0\.1:([1-9]\d*)").group(1))
        daemon.wait_for_output("postponed model=(bard|other) version=1 code=" + CODE)
        found = {model: daemon.json("POST", "/v1/completions", {"model": model, "prompt": "I", "max_tokens": 3})
                 for model in ("bard", "other")}
        self.assertEqual(sorted(status for status, _ in found.values()), [200, 503])
        self.assertEqual(daemon.stop(), 0)
