"""Keys: who may ask for what, over TCP and Unix sockets; the key file's reload; what is open without a key."""
import json
import os
import re
import shutil
import signal
import socket
import tempfile
import unittest
import urllib.parse

from harness import ROOT, Daemon, DaemonTest, run, wait_until

SHORT = True
OPEN_WITHOUT_A_KEY = {("GET", "/"), ("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/metrics"),
                      ("GET", "/monitoring/prometheus/metrics"),
                      ("GET", "/v2/health/live"), ("GET", "/v2/health/ready")}


def routes():
    """(method, pattern, scope) of every row of the route table."""
    with open(os.path.join(ROOT, "daemon", "routes.c"), encoding="utf-8") as file:
        found = re.findall(r'\{"(\w+)",\s*"(/[^"]*)",\s*\w+,\s*SCOPE_(\w+),', file.read())
    assert len(found) > 50, "the route table is not where this test looks for it"
    return found


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


class KeysTest(DaemonTest):
    MODELS = {"bard": {}, "keats": {}}
    KEYS = (("boss", ("--scope", "admin")), ("page", ()), ("other", ()), ("poet", ("--models", "keats")))
    MORE_ENTRIES = ""
    SETTINGS = ""

    @classmethod
    def start(cls):
        cls.keys, entries = {}, ""
        for name, options in cls.KEYS:
            done = run("key", name, *options)
            assert done.returncode == 0, done.stderr
            cls.keys[name] = done.stderr.strip()
            entries += done.stdout + "\n"
        cls.key_file = os.path.join(cls.folder, "keys")
        cls.entries = entries + cls.MORE_ENTRIES
        cls.write_keys(cls.entries)
        cls.config = os.path.join(cls.folder, "lstmd.conf")
        with open(cls.config, "w", encoding="utf-8") as file:
            file.write(f"keys = {cls.key_file}\ndefault_model = bard\n{cls.SETTINGS}")
        return Daemon(cls.models, *cls.ARGUMENTS, config=cls.config)

    @classmethod
    def write_keys(cls, text):
        with open(cls.key_file, "w", encoding="utf-8") as file:
            file.write(text)

    def ask(self, method, path, key=None, body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.daemon.json(method, path, body, {**(bearer(self.keys[key]) if key else {}), **headers})


class Keys(KeysTest):
    def test_every_route_is_closed(self):
        for method, pattern, scope in routes():
            path = urllib.parse.quote(re.sub(r"\{[^}]*\}", "bard", pattern))
            status, headers, content = self.daemon.request(method, path)
            if (method, pattern) in OPEN_WITHOUT_A_KEY:
                self.assertNotIn(status, (401, 403), (method, pattern))
                continue
            self.assertNotEqual(scope, "OPEN", pattern)
            self.assertEqual((status, headers["WWW-Authenticate"]), (401, "Bearer"), (method, pattern, content))
            for wrong in ({"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}, {"Authorization": "Bearer"},
                          {"Authorization": "Basic " + self.keys["boss"]}, {"Authorization": self.keys["boss"]},
                          bearer(self.keys["boss"] + "0"), bearer(self.keys["boss"][:-1])):
                self.assertEqual(self.daemon.request(method, path, headers=wrong)[0], 401, (method, pattern, wrong))
            if scope == "ADMIN":
                status, reply = self.ask(method, path, "page")
                self.assertEqual(status, 403, (method, pattern))
                self.assertIn("needs admin", json.dumps(reply))

    def test_the_errors_are_openais(self):
        status, reply = self.ask("POST", "/v1/completions", body={"prompt": "I "})
        self.assertEqual((status, reply["error"]["type"], reply["error"]["code"], reply["error"]["param"]),
                         (401, "authentication_error", "invalid_api_key", None))
        status, reply = self.ask("POST", "/v1/reload", "page")
        self.assertEqual((status, reply["error"]["type"], reply["error"]["code"]),
                         (403, "permission_error", "missing_scope"))
        status, reply = self.ask("GET", "/v2")
        self.assertEqual((status, type(reply["error"])), (401, str))

    def test_scopes(self):
        self.assertEqual(self.ask("POST", "/v1/completions", "page", {"prompt": "I ", "max_tokens": 1})[0], 200)
        self.assertEqual(self.ask("POST", "/v1/completions", "boss", {"prompt": "I ", "max_tokens": 1})[0], 200)
        self.assertEqual(self.ask("POST", "/v1/reload", "boss")[0], 200)
        self.assertEqual(self.daemon.json("POST", "/v1/completions", {"prompt": "I ", "max_tokens": 1},
                                          {"Authorization": "bearer  " + self.keys["page"]})[0], 200)

    def test_a_key_for_some_models_knows_no_others(self):
        def status(path, body=None):
            code, reply = self.ask("POST" if body is not None else "GET", path, "poet", body)
            if code != 200:
                self.assertEqual((code, reply["error"]["code"]), (404, "model_not_found"), path)
                said.append(reply["error"]["message"])
            return code
        said = []
        short = {"prompt": "I ", "max_tokens": 1}
        self.assertEqual(status("/v1/completions", {**short, "model": "keats"}), 200)
        self.assertEqual(status("/v1/completions", {**short, "model": "keats@1"}), 200)
        for body in ({**short, "model": "bard"}, {**short, "model": "bard@1"}, {**short, "model": "nobody"}, short):
            self.assertEqual(status("/v1/completions", body), 404, body)
        self.assertEqual(said[-1], 'key poet has no default model: "model" must say which')
        self.assertEqual(status("/v1/models/keats"), 200)
        for path in ("/v1/models/bard", "/v1/models/%62ard", "/v1/models/bard@1/generate", "/v1/models/nobody/labels"):
            self.assertEqual(status(path), 404, path)
        listed = [entry["id"] for entry in self.ask("GET", "/v1/models", "poet")[1]["data"]]
        self.assertEqual(listed, ["keats"])
        self.assertEqual(len(self.ask("GET", "/v1/models", "page")[1]["data"]), 2)

    def test_foreign_protocols_know_keys(self):
        def infer(key, model, **parameters):
            tokens = {"name": "tokens", "datatype": "INT32", "shape": [1, 1], "data": [1]}
            body = {"inputs": [tokens], "outputs": [{"name": "logits"}], "parameters": parameters}
            return self.ask("POST", f"/v2/models/{model}/infer", key, body)[0]

        self.assertEqual([infer("poet", "keats"), infer("poet", "bard"), infer("poet", "nobody")], [200, 404, 404])
        self.assertEqual(self.ask("POST", "/v1/models/bard:predict", "poet", {"instances": [[1]]})[0], 404)
        self.assertEqual(self.ask("POST", "/v1/models/keats:predict", "poet", {"instances": [[1]]})[0], 200)
        index = self.ask("POST", "/v2/repository/index", "poet", {})[1]
        self.assertEqual([one["name"] for one in index], ["keats"])
        stats = self.ask("GET", "/v2/models/stats", "poet")[1]["model_stats"]
        self.assertEqual([one["name"] for one in stats], ["keats"])
        self.assertEqual(self.ask("POST", "/v2/repository/models/keats/unload", "poet", {})[0], 403)
        self.assertEqual(infer("page", "keats", sequence_id=1, sequence_start=True), 200)
        self.assertEqual(infer("page", "keats", sequence_id=1), 200)
        self.assertEqual(infer("other", "keats", sequence_id=1), 400)

    def test_only_ones_own_requests_can_be_cancelled(self):
        body = {"model": "bard", "prompt": "I ", "max_tokens": 1000000, "stream": True}
        headers = {**bearer(self.keys["page"]), "X-Request-Id": "of-page"}
        connection, reply = self.daemon.open_stream("POST", "/v1/completions", body, headers)
        reply.readline()
        self.assertEqual(self.ask("GET", "/v1/requests", "boss")[1]["data"][0]["key"], "page")
        self.assertEqual(self.ask("DELETE", "/v1/requests/cmpl-of-page", "other")[0], 404)
        self.assertEqual(self.ask("DELETE", "/v1/requests/cmpl-of-page", "page")[0], 200)
        connection.close()

    def test_keys_in_log_and_metrics(self):
        start = len(self.daemon.output)
        self.ask("POST", "/v1/completions", "page", {"prompt": "I ", "max_tokens": 1}, X_Request_Id="to-be-logged")
        self.daemon.wait_for_output(r"id=to-be-logged .*key=page\b", start)
        wait_until(lambda: b'outcome="length",key="page"}' in self.daemon.request("GET", "/metrics")[2])
        for key in self.keys.values():
            self.assertNotIn(key, self.daemon.text())

    def test_pages_and_proxies(self):
        short = {"prompt": "I ", "max_tokens": 1}
        self.assertEqual(self.ask("POST", "/v1/completions", "page", short, Host="any.name.example")[0], 200)
        for refused in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}):
            self.assertEqual(self.ask("POST", "/v1/completions", "page", short, **refused)[0], 403)
            self.assertEqual(self.ask("OPTIONS", "/v1/completions", **refused)[0], 403)
        self.assertEqual(self.ask("OPTIONS", "/v1/completions")[0], 204)
        for forwarded in ({"X_Forwarded_For": "10.0.0.1"}, {"Forwarded": "for=10.0.0.1"}):
            self.assertEqual(self.ask("POST", "/v1/reload", "boss", **forwarded)[0], 200)
            self.assertEqual(self.ask("POST", "/v1/reload", **forwarded)[0], 401)

    def test_the_file_is_read_again(self):
        done = run("key", "late")
        late = done.stderr.strip()
        self.addCleanup(self.ask, "POST", "/v1/reload", "boss")
        self.addCleanup(self.write_keys, self.entries)

        def status(key):
            return self.daemon.json("GET", "/v1/models", headers=bearer(key))[0]
        self.assertEqual(status(late), 401)
        self.write_keys(self.entries.replace("[key other]", "[key renamed]") + done.stdout)
        self.daemon.signal(signal.SIGHUP)
        wait_until(lambda: status(late) == 200)
        start = len(self.daemon.output)
        self.write_keys("[key late]\nsha256 = nonsense\n")
        code, reply = self.ask("POST", "/v1/reload", "boss")
        self.assertEqual((code, reply["error"]["code"]), (422, "bad_configuration"))
        self.assertIn(":2: sha256", reply["error"]["message"])
        self.daemon.wait_for_output("keys_refused", start)
        self.assertEqual(status(late), 200)             # the last good ones stay
        self.write_keys(self.entries)
        self.assertEqual(self.ask("POST", "/v1/reload", "boss")[0], 200)
        self.assertEqual(status(late), 401)


class MetricsWithAKey(KeysTest):
    MODELS = {}
    SETTINGS = "metrics_need_key = yes\n"

    def test_metrics(self):
        self.assertEqual(self.daemon.request("GET", "/metrics")[0], 401)
        self.assertEqual(self.daemon.request("GET", "/monitoring/prometheus/metrics")[0], 401)
        self.assertEqual(self.daemon.request("GET", "/metrics", headers=bearer(self.keys["page"]))[0], 200)
        self.assertEqual(self.daemon.request("GET", "/health/live")[0], 200)


class UsersOfAUnixSocket(KeysTest):
    MODELS = {}
    MORE_ENTRIES = f"[key me]\nusers = {os.getuid()}\n"

    @classmethod
    def start(cls):
        cls.path = os.path.join(cls.folder, "lstmd.sock")
        cls.ARGUMENTS = ("--listen", cls.path)
        return super().start()

    def status(self, path, head=b"", method=b"GET"):
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.path)
        client.sendall(method + b" " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + head + b"\r\n")
        content = b""
        while piece := client.recv(65536):
            content += piece
        client.close()
        return int(content.split()[1])

    def test_a_listed_user_needs_no_key(self):
        self.assertEqual(self.status(b"/v1/models"), 200)
        self.assertEqual(self.status(b"/v1/requests"), 403)                 # the entry's scope is generate
        self.assertEqual(self.status(b"/v1/models", b"Authorization: Bearer wrong\r\n"), 401)
        self.assertEqual(self.status(b"/v1/requests", b"Authorization: Bearer %s\r\n" % self.keys["boss"].encode()),
                         200)
        self.assertEqual(self.daemon.json("GET", "/v1/models")[0], 401)     # not over TCP
        self.write_keys(self.entries.replace(f"users = {os.getuid()}", f"users = {os.getuid() + 1}"))
        self.assertEqual(self.ask("POST", "/v1/reload", "boss")[0], 200)
        self.assertEqual(self.status(b"/v1/models"), 401)


class Starting(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lstmd-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.models = os.path.join(self.folder, "models")
        os.mkdir(self.models)

    def serve(self, key_entries, *arguments, mode=0o600):
        config, keys = (os.path.join(self.folder, name) for name in ("lstmd.conf", "keys"))
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"keys = {keys}\n" if key_entries is not None else "")
        with open(keys, "w", encoding="utf-8") as file:
            file.write(key_entries or "")
        os.chmod(keys, mode)
        return ("serve", "--models", self.models, "--config", config, *arguments)

    def test_bad_key_files_are_refused(self):
        entry = run("key", "page").stdout
        for entries, mode, message in (("[key a]\nscope = all\n", 0o600, "keys:2: scope"),
                                       (entry, 0o602, "written by everybody")):
            for check in ((), ("--check",)):
                done = run(*self.serve(entries, "--listen", "127.0.0.1:0", *check, mode=mode))
                self.assertEqual(done.returncode, 1)
                self.assertIn(message, done.stderr)
        os.unlink(os.path.join(self.folder, "keys"))
        done = run("serve", "--models", self.models, "--config", os.path.join(self.folder, "lstmd.conf"), "--check")
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1))
        self.assertIn("open key file", done.stderr)

    def test_other_addresses_need_keys(self):
        done = run(*self.serve(None, "--listen", "0.0.0.0:0"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("without keys lstmd listens on loopback", done.stderr)
        arguments = self.serve(run("key", "page").stdout)
        daemon = Daemon(self.models, *arguments[3:], listen="0.0.0.0:0", wait=False)
        self.addCleanup(daemon.kill)
        daemon.port = int(daemon.wait_for_output(r"0\.0\.0\.0:([1-9]\d*)").group(1))
        daemon.wait_until_ready()
        self.assertEqual(daemon.json("GET", "/v1/models")[0], 401)
        self.assertEqual(daemon.stop(), 0)

    def test_the_command(self):
        done = run("key", "page", "--scope", "admin", "--models", "bard", "--models", "keats")
        self.assertRegex(done.stdout, r"\A\[key page\]\nsha256 = [0-9a-f]{64}\nscope = admin\n"
                                      r"models = bard\nmodels = keats\n\Z")
        self.assertRegex(done.stderr, r"\Alstmd-[0-9a-f]{64}\n\Z")
        self.assertNotEqual(run("key", "page").stderr, done.stderr)
        for wrong in (("key",), ("key", "a b"), ("key", "a", "--scope", "all"), ("key", "a", "--models", ".."),
                      ("key", "a", "b")):
            done = run(*wrong)
            self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (2, "", 1), wrong)
