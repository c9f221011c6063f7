"""The precision a model is packed in: its setting, loads that ask for another, swaps under streams, refusals."""
import json
import os
import socket
import unittest

from harness import FLAVOUR, DaemonTest, wait_until

FLOAT_MAX = 3.4028234e38       # bf16 has no number near it but infinity
KERNEL = "rnn/multi_rnn_cell/cell_1/basic_lstm_cell/kernel"


class Precision(DaemonTest):
    MODELS = {name: {"units": 32, "layers": 2} for name in ("set", "asked", "stream", "held", "edited", "later")}

    def model(self, name):
        return self.expect(200, "GET", f"/v1/models/{name}")

    def setting(self, name):
        return self.expect(200, "GET", f"/v1/models/{name}/settings")["precision"]

    def complete(self, name):
        reply = self.expect(200, "POST", "/v1/completions",
                            {"model": name, "prompt": "I ", "max_tokens": 60, "seed": 7})
        return reply["choices"][0]["text"], reply["system_fingerprint"]

    def write(self, name, text):
        path = os.path.join(self.models, name)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(path + ".new", path)

    def save_unholdable(self, name):
        """A new version with a weight that fp32 alone can hold."""
        self.assign_unholdable(name)
        return self.expect(200, "POST", f"/v1/models/{name}/save")["version"]

    def assign_unholdable(self, name):
        path = f"/v1/models/{name}/variables/{KERNEL}"
        value = self.expect(200, "GET", path + "?encoding=nested")
        value[5][0] = FLOAT_MAX
        self.expect(200, "PUT", path, value)

    def test_setting(self):
        self.assertEqual(self.setting("set"), "fp32")
        before = self.model("set")
        self.assertEqual(before["precision"], "fp32")
        wide = self.complete("set")
        fingerprints = {wide[1]}
        for precision, pattern in (("bf16", "(avx512|avx2|plain)-bf16"), ("int8", "avx512-vnni|avx2-int8|plain-int8")):
            reply = self.expect(200, "PATCH", "/v1/models/set/settings", {"precision": precision})
            self.assertEqual(reply["precision"], precision)
            now = self.model("set")
            self.assertEqual((now["precision"], now["version"]), (precision, 1))
            self.assertRegex(now["kernels"], pattern)
            self.assertLess(now["bytes"], before["bytes"] * 0.8)
            self.assertEqual(now["versions"][0]["precision"], precision)
            fingerprints.add(self.complete("set")[1])
        self.assertEqual(len(fingerprints), 3, fingerprints)
        for value in ("int4", 8, True):
            reply = self.expect(400, "PATCH", "/v1/models/set/settings", {"precision": value}, error="invalid_setting")
            self.assertEqual(reply["error"]["param"], "/precision")
        self.expect(200, "PATCH", "/v1/models/set/settings", {"precision": None})
        self.assertEqual(self.model("set")["kernels"], before["kernels"])
        self.assertEqual(self.complete("set"), wide)

    def test_a_load_asks_for_another(self):
        """In place of the setting, for new versions too, until the setting is patched or the model unloaded."""
        path = "/v1/models/asked"
        reply = self.expect(200, "POST", path + "/load", {"precision": "int8"})
        self.assertEqual((reply["model"], reply["previous"]), ("asked@1", "asked@1"))
        self.assertEqual((self.model("asked")["precision"], self.setting("asked")), ("int8", "fp32"))
        self.expect(200, "POST", path + "/save")
        now = self.model("asked")
        self.assertEqual((now["version"], now["precision"]), (2, "int8"))
        self.expect(200, "POST", path + "/load", {"version": 1, "precision": "bf16"})
        self.assertEqual([version["precision"] for version in self.model("asked")["versions"]], ["bf16", "bf16"])
        self.expect(200, "POST", path + "/load", {})
        self.assertEqual(self.model("asked")["precision"], "bf16")
        self.expect(200, "POST", path + "/unload")
        self.expect(200, "POST", path + "/load")
        self.assertEqual(self.model("asked")["precision"], "fp32")
        self.expect(200, "POST", path + "/load", {"precision": "int8"})
        self.expect(200, "PATCH", path + "/settings", {"precision": "fp32"})
        self.assertEqual(self.model("asked")["precision"], "fp32")
        reply = self.expect(400, "POST", path + "/load", {"precision": "int4"})
        self.assertEqual(reply["error"]["param"], "/precision")

    def stream(self, tokens):
        """A reader whose small buffers hold the stream up until somebody reads."""
        body = json.dumps({"prompt": "I ", "max_tokens": tokens, "seed": 3}).encode()
        reader = socket.socket()
        self.addCleanup(reader.close)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.settimeout(60)
        reader.connect(("127.0.0.1", self.daemon.port))
        reader.sendall(b"POST /v1/models/stream/generate HTTP/1.0\r\nHost: localhost\r\nAccept: text/plain\r\n"
                       b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        return reader

    @staticmethod
    def read_to_end(reader, content=b""):
        while piece := reader.recv(1 << 16):
            content += piece
        return content.partition(b"\r\n\r\n")[2]

    def test_streams_finish_on_what_they_began_with(self):
        tokens = 400_000
        wanted = self.read_to_end(self.stream(tokens))
        self.assertEqual(len(wanted), tokens)
        reader = self.stream(tokens)
        begun = reader.recv(1000)
        self.expect(200, "PATCH", "/v1/models/stream/settings", {"precision": "int8"})
        self.assertEqual(self.model("stream")["precision"], "int8")
        self.assertEqual(self.read_to_end(reader, begun), wanted)
        self.assertNotEqual(self.read_to_end(self.stream(2000)), wanted[:2000])

    def test_what_cannot_be_held_is_refused(self):
        version = self.save_unholdable("held")
        text = self.complete("held")
        for call in (("PATCH", "/v1/models/held/settings"), ("POST", "/v1/models/held/load")):
            for precision in ("int8", "bf16"):
                reply = self.expect(422, *call, {"precision": precision}, error="precision_refused")
                self.assertRegex(reply["error"]["message"],
                                 rf"version {version} of held .* {precision}: .*serves on in fp32")
                now = self.model("held")
                self.assertEqual((now["version"], now["precision"], self.setting("held")), (version, "fp32", "fp32"))
                self.assertEqual([one["reason"] for one in now["versions"]], [None, None])
        self.assertEqual(self.complete("held"), text)
        self.expect(200, "PATCH", "/v1/models/held/settings", {"start": "I"})

    def test_a_file_that_asks_for_what_cannot_be(self):
        version = self.save_unholdable("edited")
        self.write("edited/settings.json", '{"precision": "int8"}')
        reply = self.expect(422, "POST", "/v1/models/edited/load", error="precision_refused")
        now = self.model("edited")
        self.assertEqual((now["version"], now["precision"], self.setting("edited")), (version, "fp32", "int8"))
        self.assertEqual(now["versions"][0]["reason"]["code"], "not_finite", reply)
        self.expect(422, "PATCH", "/v1/models/edited/settings", {"precision": "int8"}, error="precision_refused")
        self.complete("edited")
        self.write("edited/settings.json", '{"precision": "fp32"}')
        self.expect(200, "POST", "/v1/models/edited/load")
        self.assertIsNone(self.model("edited")["versions"][0]["reason"])

    def test_a_new_version_that_cannot_be(self):
        """It is refused as any bad one is, and taken when the setting allows it."""
        self.expect(200, "PATCH", "/v1/models/later/settings", {"precision": "int8"})
        self.assign_unholdable("later")
        self.expect(422, "POST", "/v1/models/later/save", error="version_refused")
        now = self.model("later")
        self.assertEqual((now["version"], now["precision"]), (1, "int8"))
        self.expect(200, "PATCH", "/v1/models/later/settings", {"precision": None})
        wait_until(lambda: self.model("later")["version"] == 2, "the new version never served")
        self.assertEqual(self.model("later")["precision"], "fp32")


class Memory(DaemonTest):
    MODELS = {"big": {"units": 512, "layers": 2, "batch": 1, "sequence_length": 1, "max_steps": 1}}

    @unittest.skipIf(FLAVOUR != "release", "sanitizers hold memory of their own")
    def test_a_model_is_held_as_packed(self):
        """What it was packed from is not kept: the process is its weights as packed and at most 20 MB."""
        for precision in ("int8", "fp32", "bf16", "int8"):
            self.expect(200, "PATCH", "/v1/models/big/settings", {"precision": precision})
            self.expect(200, "POST", "/v1/completions", {"model": "big", "prompt": "I", "max_tokens": 20})
            packed = self.expect(200, "GET", "/v1/models/big")["bytes"]
            wait_until(lambda most=packed + 20_000_000: self.daemon.rss_bytes() <= most,
                       lambda: f"{precision}: {packed} bytes packed, {self.daemon.rss_bytes()} resident")


if __name__ == "__main__":
    unittest.main()
