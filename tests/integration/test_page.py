"""The web page: what a browser gets, and, in jsdom, what it shows and does against the daemon."""
import json
import os
import re
import subprocess

import npm
from harness import CORPUS, ROOT, TIMEOUT_SECONDS, Daemon, DaemonTest, run, wait_until

FOLDER = os.path.join(ROOT, "build", "npm-jsdom")
PACKAGE = "jsdom@26.1.0"
SCRIPT = os.path.join(ROOT, "tests", "integration", "page_in_dom.js")


def use(test, daemon, key=""):
    """What the page told when it was used; skips the test where jsdom cannot be had."""
    module, reason = npm.install(FOLDER, PACKAGE)
    if not module:
        test.skipTest(reason)
    done = subprocess.run(["node", SCRIPT, FOLDER, f"http://127.0.0.1:{daemon.port}", key], check=False, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=TIMEOUT_SECONDS)
    test.assertEqual(done.returncode, 0, done.stderr)
    return json.loads(done.stdout)


class Page(DaemonTest):
    MODELS = {"bard": {"corpus": CORPUS + "I 'm"}}

    def test_it_asks_nobody_else(self):
        status, headers, content = self.daemon.request("GET", "/")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        with open(os.path.join(ROOT, "daemon", "ui", "page.html"), "rb") as file:
            self.assertEqual(content, file.read())
        policy = headers["Content-Security-Policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertIn("connect-src 'self'", policy)
        self.assertNotRegex(content.decode(), r"(src|href)=\"(?!data:)|url\(|@import|innerHTML|insertAdjacentHTML")
        status, headers, content = self.daemon.request("HEAD", "/")
        self.assertEqual((status, content), (200, b""))
        self.assertEqual(self.daemon.request("GET", "/", headers={"Host": "example.org"})[0], 403)

    def test_it_is_used(self):
        told = use(self, self.daemon)
        self.assertEqual(told["models"][0][:3], ["bard", "version 1", f"{self.symbols()} characters"])
        reply = self.expect(200, "POST", "/v1/completions", {"model": "bard", "prompt": "I 'm", "max_tokens": 40,
                                                             "seed": 3, "temperature": 0.5})
        self.assertEqual(told["text"], "I 'm" + reply["choices"][0]["text"])
        self.assertRegex(told["told"], r"^seed 3 · bard@1 · first symbols after \d+ ms · .* · ended: length$")
        self.assertTrue(told["problem"])
        again = subprocess.run(["sh", "-c", told["command"].replace("curl ", "curl -s ")], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, timeout=TIMEOUT_SECONDS, check=True)
        self.assertEqual(json.loads(again.stdout)["choices"], reply["choices"])
        self.assertIn("\U0001f40b", told["refused"])
        self.assertEqual(told["training_status"], [202, ""])
        self.assertRegex(told["training"], r"^Training bard.*step \d+ · train loss \d")
        wait_until(lambda: not self.expect(200, "GET", "/v1/requests")["data"], "the text that was stopped goes on")

    def symbols(self):
        return self.expect(200, "GET", "/v1/models/bard")["vocabulary"]["size"]


class WithKeys(DaemonTest):
    MODELS = {"bard": {"corpus": CORPUS + "I 'm"}}

    @classmethod
    def start(cls):
        made = run("key", "reader", "--scope", "generate")
        cls.key, keys = made.stderr.strip(), os.path.join(cls.folder, "keys")
        config = os.path.join(cls.folder, "lstmd.conf")
        for path, content in ((keys, made.stdout), (config, f"keys = {keys}\n")):
            with open(path, "w", encoding="utf-8") as file:
                file.write(content)
        return Daemon(cls.models, config=config)

    def test_it_asks_for_the_key(self):
        told = use(self, self.daemon, self.key)
        self.assertTrue(re.search("key", told["asked"], re.IGNORECASE), told["asked"])
        self.assertEqual(told["models"][0][0], "bard")
        self.assertGreater(len(told["text"]), 4)
        self.assertEqual(told["training_status"][0], 403)        # what the key may not, the page does without
