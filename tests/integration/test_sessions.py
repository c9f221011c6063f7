"""Texts that go on: by a state that the caller keeps, and by sessions that lstmd keeps."""
import base64
import json

from harness import DaemonTest

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
                "prompt_tokens_details": {"restored_tokens": len(PROMPT) + len(text), "replayed_tokens": 0}})
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
