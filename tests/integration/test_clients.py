"""Real clients of OpenAI's API: the npm packages openai and @ai-sdk/openai-compatible against the daemon, with a key.

They come by npm into the build folder, once.
"""
import json
import os
import subprocess

import npm
from harness import CORPUS, ROOT, TIMEOUT_SECONDS, DaemonTest, Daemon, run, wait_until

FOLDER = os.path.join(ROOT, "build", "npm-openai")
PACKAGES = ("openai@6.49.0", "@ai-sdk/openai-compatible@2.0.87", "ai@6.0.326")
SCRIPT = os.path.join(ROOT, "tests", "integration", "openai_clients.js")


class Clients(DaemonTest):
    MODELS = {"bard": {"corpus": CORPUS + "user:\nassistant:\n"}, "keats": {}}     # what the AI SDK's prompts have

    @classmethod
    def start(cls):
        module, reason = npm.install(FOLDER, *PACKAGES)
        made = run("key", "client")
        cls.key, keys = made.stderr.strip(), os.path.join(cls.folder, "keys")
        config = os.path.join(cls.folder, "lstmd.conf")
        with open(keys, "w", encoding="utf-8") as file:
            file.write(made.stdout)
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"keys = {keys}\n")
        daemon = Daemon(cls.models, config=config)
        cls.reason, cls.told = reason, None
        if module:
            done = subprocess.run(["node", SCRIPT, FOLDER, f"http://127.0.0.1:{daemon.port}/v1", cls.key],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  timeout=TIMEOUT_SECONDS, check=False, text=True,
                                  env={**os.environ, "AI_SDK_LOG_WARNINGS": "false"})
            if done.returncode != 0:
                daemon.kill()
                raise AssertionError(done.stderr)
            cls.told = json.loads(done.stdout)
        return daemon

    def setUp(self):
        if self.told is None:
            self.skipTest(self.reason)
        self.openai, self.sdk = self.told["openai"], self.told["sdk"]

    def ask(self, path, **fields):
        """The same over plain HTTP."""
        body = {"model": "bard", "max_tokens": 20, "seed": 3, **fields}
        return self.expect(200, "POST", path, body, {"Authorization": f"Bearer {self.key}"})

    def test_completions(self):
        wanted = self.ask("/v1/completions", prompt="Call me", n=2, logprobs=1)
        given = self.openai["completion"]
        self.assertEqual(given["choices"], wanted["choices"])
        self.assertEqual(given["usage"], wanted["usage"])
        self.assertEqual(self.openai["extras"]["choices"],
                         self.ask("/v1/completions", prompt="Call me", top_k=1, min_p=0.1)["choices"])

    def test_streams(self):
        text = self.ask("/v1/completions", prompt="Call me")["choices"][0]["text"]
        chunks = self.openai["stream"]
        self.assertEqual("".join(choice["text"] for chunk in chunks for choice in chunk["choices"]), text)
        self.assertEqual((chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]), ([], 20))
        wait_until(lambda: 'outcome="cancelled",key="client"' in self.daemon.request("GET", "/metrics")[2].decode(),
                   "the stream that the client aborted goes on")

    def test_chats(self):
        messages = [{"role": "user", "content": "Call me"}]
        wanted = self.ask("/v1/chat/completions", messages=messages, logprobs=True, top_logprobs=2)
        self.assertEqual(self.openai["chat"]["choices"], wanted["choices"])
        content = "".join(choice["delta"].get("content", "")
                          for chunk in self.openai["chatStream"] for choice in chunk["choices"])
        self.assertEqual(content, wanted["choices"][0]["message"]["content"])

    def test_models(self):
        self.assertEqual(self.openai["models"], ["bard", "keats"])
        self.assertEqual((self.openai["model"]["id"], self.openai["model"]["object"]), ("bard", "model"))

    def test_errors(self):
        for what, wanted in {"model": ("NotFoundError", 404, "model_not_found", None),
                             "range": ("BadRequestError", 400, "invalid", "temperature"),
                             "suffix": ("BadRequestError", 400, "unsupported_parameter", "suffix"),
                             "retrieve": ("NotFoundError", 404, "model_not_found", None),
                             "key": ("AuthenticationError", 401, "invalid_api_key", None),
                             "scope": ("PermissionDeniedError", 403, "missing_scope", None)}.items():
            error = self.openai["errors"][what]
            self.assertEqual((error["name"], error["status"], error["code"], error["param"]), wanted, error)
        self.assertIn("does not exist", self.sdk["error"]["message"])

    def test_the_ai_sdk(self):
        """It lays a template of its own over prompts."""
        wanted = self.ask("/v1/completions", prompt="user:\nCall me\n\nassistant:\n", stop=["\nuser:"])
        self.assertEqual(self.sdk["text"], wanted["choices"][0]["text"])
        self.assertEqual(self.sdk["streamed"], self.sdk["text"])
        for name in ("finish", "streamedFinish"):
            self.assertEqual(self.sdk[name], wanted["choices"][0]["finish_reason"])
        for name in ("usage", "streamedUsage"):
            self.assertEqual((self.sdk[name]["inputTokens"], self.sdk[name]["outputTokens"]),
                             (wanted["usage"]["prompt_tokens"], wanted["usage"]["completion_tokens"]))
        chat = self.ask("/v1/chat/completions", messages=[{"role": "user", "content": "Call me"}])
        self.assertEqual(self.sdk["chat"], chat["choices"][0]["message"]["content"])
