"""Chats over completions, and the tokenizer's routes."""
import json
import os
import shutil

from harness import CORPUS, ROOT, DaemonTest

SHORT = True
MESSAGES = [{"role": "system", "content": "Some years ago"}, {"role": "user", "content": "never mind how long"}]


class Chat(DaemonTest):
    MODELS = {"bard": {}}
    CONFIG = "default_model = bard\n"

    def chat(self, **fields):
        body = {"messages": MESSAGES, "max_tokens": 40, "seed": 5, **fields}
        return self.expect(200, "POST", "/v1/chat/completions", body)

    def complete(self, prompt, **fields):
        body = {"prompt": prompt, "max_tokens": 40, "seed": 5, **fields}
        return self.expect(200, "POST", "/v1/completions", body)

    def chunks(self, **fields):
        body = {"messages": MESSAGES, "max_tokens": 40, "seed": 5, "stream": True, **fields}
        events = self.daemon.events("/v1/chat/completions", body)
        self.assertEqual(events[-1], "[DONE]")
        return [json.loads(event) for event in events[:-1]]

    def set_template(self, template):
        self.expect(200, "PATCH", "/v1/models/bard/settings", {"chat_template": template})

    def test_shape(self):
        reply = self.chat(max_tokens=None, max_completion_tokens=7, temperature=0)
        self.assertEqual((reply["object"], reply["model"], reply["seed"]), ("chat.completion", "bard@1", 5))
        self.assertTrue(reply["id"].startswith("chatcmpl-"))
        self.assertLessEqual(reply["usage"]["completion_tokens"], 7)
        choice = reply["choices"][0]
        self.assertEqual(choice.keys(), {"index", "message", "logprobs", "finish_reason"})
        self.assertEqual(choice["message"].keys(), {"role", "content", "refusal"})
        self.assertEqual((choice["message"]["role"], choice["message"]["refusal"]), ("assistant", None))

    def test_it_is_a_completion_of_the_laid_out_text(self):
        self.addCleanup(self.set_template, None)
        for template, prompt, stop in (
                (None, "Some years ago\nnever mind how long\n", "\n"),
                ("{role}, {content}\n", "system, Some years ago\nuser, never mind how long\nassistant, ", "\n"),
                ("{content} e", "Some years ago enever mind how long e", " e")):
            self.set_template(template)
            for fields in ({}, {"n": 2}, {"temperature": 0, "stop": ["a"]}):
                wanted = self.complete(prompt, **{**fields, "stop": [*fields.get("stop", []), stop]})
                reply = self.chat(**fields)
                self.assertEqual([(choice["message"]["content"], choice["finish_reason"])
                                  for choice in reply["choices"]],
                                 [(choice["text"], choice["finish_reason"]) for choice in wanted["choices"]])
                self.assertEqual(reply["usage"], wanted["usage"])

    def test_a_long_chat(self):
        """Laid out beside the loop: many messages, and a long template over few bytes of them."""
        self.addCleanup(self.set_template, None)
        for template, count, content in ((None, 400, CORPUS[:300].replace("\n", " ")),
                                         (CORPUS[:200].strip() + "{content}\n", 500, "a")):
            self.set_template(template)
            before, after = (template or "{content}\n").split("{content}")
            wanted = self.complete((before + content + after) * count + before, stop="\n")
            reply = self.chat(messages=[{"role": "user", "content": content}] * count)
            self.assertEqual(reply["choices"][0]["message"]["content"], wanted["choices"][0]["text"])
            self.assertEqual(reply["usage"]["prompt_tokens"], wanted["usage"]["prompt_tokens"])
            self.expect(400, "POST", "/v1/chat/completions", {
                "messages": [{"role": "user", "content": content}] * count + [{"role": "nobody", "content": ""}]})

    def test_streamed_is_not_streamed(self):
        for fields in ({}, {"n": 3}, {"logprobs": True, "top_logprobs": 2}):
            whole = self.chat(**fields)["choices"]
            texts, tokens, ends = {}, {}, {}
            for chunk in self.chunks(**fields, stream_options={"include_usage": True}):
                self.assertEqual(chunk["object"], "chat.completion.chunk")
                for choice in chunk["choices"]:
                    index, delta = choice["index"], choice["delta"]
                    self.assertEqual("role" in delta, index not in texts)
                    texts[index] = texts.get(index, "") + delta.get("content", "")
                    tokens.setdefault(index, []).extend((choice["logprobs"] or {"content": []})["content"])
                    ends[index] = choice["finish_reason"] or ends.get(index)
            self.assertEqual(chunk["choices"], [])
            self.assertEqual(chunk["usage"]["total_tokens"],
                             chunk["usage"]["prompt_tokens"] + chunk["usage"]["completion_tokens"])
            for choice in whole:
                self.assertEqual(texts[choice["index"]], choice["message"]["content"])
                self.assertEqual(ends[choice["index"]], choice["finish_reason"])
                self.assertEqual(tokens[choice["index"]], (choice["logprobs"] or {"content": []})["content"])

    def test_logprobs(self):
        prompt = "Some years ago\nnever mind how long\n"
        legacy = self.complete(prompt, logprobs=2, stop="\n")["choices"][0]["logprobs"]
        tokens = self.chat(logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
        self.assertEqual([token["token"] for token in tokens], legacy["tokens"])
        self.assertEqual([token["logprob"] for token in tokens], legacy["token_logprobs"])
        for token, top in zip(tokens, legacy["top_logprobs"]):
            self.assertEqual(token["bytes"], list(token["token"].encode()))
            self.assertEqual({entry["token"]: entry["logprob"] for entry in token["top_logprobs"]},
                             dict(list(top.items())[:2]))
        self.assertEqual(self.chat(logprobs=True)["choices"][0]["logprobs"]["content"][0]["top_logprobs"], [])
        self.assertIsNone(self.chat(logprobs=False)["choices"][0]["logprobs"])

    def test_refusals(self):
        for fields, param in (({"messages": []}, "messages"), ({"messages": None}, "messages"),
                              ({"messages": [{"role": "user"}]}, "messages/0/content"),
                              ({"messages": [{"role": "user", "content": "€"}]}, "messages"),
                              ({"logprobs": 2}, "logprobs"), ({"top_logprobs": 2}, "top_logprobs"),
                              ({"logprobs": True, "top_logprobs": 6}, "logprobs"), ({"temperature": 3}, "temperature"),
                              ({"max_completion_tokens": -1}, "max_tokens")):
            body = {"messages": MESSAGES, **fields}
            reply = self.expect(400, "POST", "/v1/chat/completions", body)
            self.assertEqual(reply["error"]["param"], param, reply)
        self.assertEqual(self.chat(tools=[])["warnings"], ["unknown field 'tools' was ignored"])
        for template in ("", "no content", "{content}{role}", 7):
            self.expect(400, "PATCH", "/v1/models/bard/settings", {"chat_template": template}, error="invalid_setting")

    def test_a_chat_can_be_cancelled(self):
        connection, reply = self.daemon.open_stream("POST", "/v1/chat/completions", {
            "messages": MESSAGES, "max_tokens": 1000000, "logit_bias": {"\n": False}, "stream": True},
            {"X-Request-Id": "long-chat"})
        self.assertIn(b"chatcmpl-long-chat", reply.readline())
        self.expect(200, "DELETE", "/v1/requests/chatcmpl-long-chat")
        self.assertIn(b'"finish_reason":"cancelled"', reply.read())
        connection.close()


class Tokenizer(DaemonTest):
    MODELS = {"bard": {}}

    def test_there_and_back(self):
        for text in ("Call me Ishmael.\n", "", CORPUS * 30):                # the last on run threads
            reply = self.expect(200, "POST", "/tokenize", {"prompt": text, "add_special_tokens": False})
            self.assertEqual((len(reply["tokens"]), reply["count"]), (len(text), len(text)))
            self.assertEqual(self.expect(200, "POST", "/detokenize", {"tokens": reply["tokens"]}), {"prompt": text})
        self.assertEqual(self.expect(200, "POST", "/detokenize", {"tokens": [], "prompt": [5]}), {"prompt": ""})
        tokens = self.expect(200, "POST", "/tokenize", {"prompt": "Call me", "model": "bard@1"})["tokens"]
        fields = {"max_tokens": 20, "seed": 1, "echo": True}
        self.assertEqual(self.expect(200, "POST", "/v1/completions", {"prompt": tokens, **fields})["choices"],
                         self.expect(200, "POST", "/v1/completions", {"prompt": "Call me", **fields})["choices"])

    def test_info(self):
        info = self.expect(200, "GET", "/tokenizer_info")
        self.assertEqual((info["model"], info["kind"], info["eos_token"]), ("bard@1", "characters", "\n"))
        self.assertEqual(info["vocab_size"], len(set(CORPUS)))
        self.assertEqual(self.expect(200, "GET", "/tokenizer_info?model=bard")["model"], "bard@1")
        self.expect(404, "GET", "/tokenizer_info?model=nobody", error="model_not_found")
        self.expect(400, "GET", "/tokenizer_info?colour=red", error="unknown_field")

    def test_more_symbols_than_a_prompt_may_have(self):
        for path, field, value in (("/tokenize", "prompt", "a" * ((1 << 20) + 1)),
                                   ("/detokenize", "tokens", [1] * ((1 << 20) + 1))):
            with self.subTest(path=path):
                error = self.expect(413, "POST", path, {field: value})["error"]
                self.assertEqual(error["param"], field)
                self.assertIn("1048577 symbols, at most 1048576", error["message"])

    def test_refusals(self):
        for path, body, param in (("/tokenize", {}, "prompt"), ("/tokenize", {"prompt": ["a"]}, "prompt"),
                                  ("/tokenize", {"prompt": "€"}, "prompt"), ("/detokenize", {}, "tokens"),
                                  ("/detokenize", {"tokens": "a"}, "tokens"),
                                  ("/detokenize", {"tokens": [1, "a"]}, "tokens"),
                                  ("/detokenize", {"tokens": [[1]]}, "tokens"),
                                  ("/detokenize", {"tokens": [1, 100000]}, "tokens"),
                                  ("/detokenize", {"tokens": [-1]}, "tokens")):
            self.assertEqual(self.expect(400, "POST", path, body)["error"]["param"], param, (path, body))
        self.expect(404, "POST", "/tokenize", {"prompt": "a", "model": "nobody"}, error="model_not_found")
        self.expect(400, "POST", "/tokenize", "{", error="bad_json")


class Demo(DaemonTest):
    """The model that comes with lstmd; paragraphs of its book stand apart by an empty line."""

    @classmethod
    def start(cls):
        shutil.copytree(os.path.join(ROOT, "config", "demo", "moby"), os.path.join(cls.models, "moby"))
        return super().start()

    def test_it_has_something_to_say(self):
        for seed in range(5):
            body = {"messages": [{"role": "user", "content": "Call me Ishmael."}], "seed": seed, "max_tokens": 300}
            text = self.expect(200, "POST", "/v1/chat/completions", body)["choices"][0]["message"]["content"]
            self.assertGreater(len(text), 20)
            self.assertNotIn("\n\n", text)
