"""Random requests to whatever /openapi.json lists: valid ones, and ones with something wrong in them.

A request is made from the description's paths, parameters and schemas, so that a new route is asked for without a word
here; EXAMPLES has bodies for routes whose schema says nothing. What a schema says is kept to, or broken on purpose."""
import json
import string
import urllib.parse

HUGE = (2**31, -2**31 - 1, 2**53 + 1, 2**63, -2**64, 1e308, -1e-320, 10**400)
WORDS = ("", "Call me", "I", "\n", "\u20ac", "\U0001f600", "e\u0301", "\ufeff", "a" * 3000, "(a|b)*c", "[", "\u0000",
         "../x", "bard@1", "stable", "FP32", "init", "x:0")
OTHERS = (None, True, False, 0, -1, 1, 0.5, 1e9, *HUGE, *WORDS, [], {}, [[]], [None], [1, "a", {}], {"a": {"b": [1]}})
# What parameters of paths are, by name; others are made up.
MODELS = ("bard", "bard", "bard", "bard", "poet", "poet", "sums", "sums", "sums", "mine", "bard@1", "sums@2", "nobody",
          "bard@stable")
EXPENDABLE = ("poet", "poet", "mine", "mine", "made", "nobody")
PARAMETERS = {"m": MODELS, "v": ("1", "1", "1", "2", "2", "0", "-1", "99999999999999999999"),
              "label": ("stable", "stable", "next"), "name": ("one", "two", "w", "w", "plays", "output/w"),
              "id": ("cmpl-0", "cmpl-", "0")}
QUERIES = ("format=svg", "format=dot", "format=colour", "to=tar", "to=onnx", "to=safetensors", "force=true",
           "state=true", "encoding=base64", "model=bard", "version=1", "", "a=1&a=2&&", "%00=%", "verbose=\xff")
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
TEXT = "Call me Ishmael. Some years ago, never mind how long precisely. " * 8
EXAMPLES = {
    "/v1/chat/completions": [{"messages": [{"role": "user", "content": "Call me"}], "max_tokens": 5}],
    "/v1/models/{m}": [{}, {"language_model": {"layers": 1, "units": 4}}, {"inputs": [[1, 2]]}, {"instances": [[1, 2]]},
                       {"instances": [{"x": [1, 2]}], "signature_name": "serving_default"},
                       {"import": {"path": "/nowhere"}}],
    "/v1/models/{m}/graph/build": [{"program": [
        {"op": "placeholder", "dtype": "float32", "shape": [None, 3, 2], "name": "i", "as": "i"},
        {"op": "variable_scope", "name": "s", "body": [
            {"op": "basic_lstm_cell", "num_units": 2, "as": "c"},
            {"op": "dynamic_rnn", "cell": "c", "inputs": "i", "dtype": "float32", "as": ["o", "t"]}]},
        {"op": "reduce_mean", "args": ["o"], "as": "mean"}, {"op": "global_variables_initializer", "as": "init"}]},
        {"program": [{"op": "constant", "value": [1.0, 2.0], "as": "k"}]}],
    "/v1/models/{m}/graph/run": [{"targets": ["init"]}, {"feeds": {"x:0": [[1, 2]]}, "fetches": ["sum:0"]},
                                 {"feeds": {"i": [[[1, 2], [3, 4], [5, 6]]]}, "fetches": ["mean", "t"]}],
    "/v1/models/{m}/graph/reset": [{}, {"version": 1}],
    "/v1/models/{m}/variables/{name}": [[1, 2], 0.5, [[1, 2], [3, 4]], "AAAAAA=="],
    "/v1/models/{m}/train": [{"corpus": {"text": TEXT}, "max_steps": 2, "batch": 2, "sequence_length": 4},
                             {"corpus": {"name": "plays"}, "max_steps": 1, "publish": "never"}],
    "/v1/models/{m}/settings": [{"precision": "bf16"}, {"keep_alive_seconds": 100}, {"generation": {"temperature": 1}},
                                {"gate": {"text": "Call me", "margin_nats": 9}}, {"chat_template": "{content}"}],
    "/v1/models/{m}/labels/{label}": [{"version": 1}, {"split": {"1": 1, "2": 3}}, {"instances": [{"x": [1, 2]}]}],
    "/v1/models/{m}/versions/{v}": [{"inputs": {"x": [[1, 2]]}, "signature_name": "one"}, {"instances": [[1, 2]]}],
    "/v1/models/{m}/load": [{}, {"precision": "int8"}],
    "/v1/models/{m}/score": [{"text": "Call me", "candidates": [" I", "sh"]}, {"text": "Call"}],
    "/tokenize": [{"prompt": "Call me", "model": "bard"}],
    "/detokenize": [{"tokens": [1, 2, 3]}],
    "/v1/sessions/{name}": [{"model": "bard"}, {"fork": "one"}, {"state": "AAAA"}],
    "/v2/logging": [{"log_verbose_level": 0}, {"log_info": True}],
    "/v2/repository/index": [{}, {"ready": True}],
}
EXAMPLES["/v2/models/{m}/infer"] = EXAMPLES["/v2/models/{m}/versions/{v}/infer"] = [
    {"inputs": [TENSOR], "outputs": [{"name": "sum"}]},
    {"inputs": [TENSOR], "parameters": {"sequence_id": 7, "sequence_start": True, "signature": "count"}},
    {"inputs": [{"name": "tokens", "datatype": "INT32", "shape": [1, 3], "data": [1, 2, 3]}]}]
for end in ("generate", "generate_stream"):
    EXAMPLES[f"/v2/models/{{m}}/{end}"] = EXAMPLES[f"/v2/models/{{m}}/versions/{{v}}/{end}"] = [
        {"text_input": "Call me", "parameters": {"max_tokens": 4, "seed": 1}}]
# Texts are short, and few at a time, where nothing is said.
USUAL = {"model": ("bard", "bard", "poet", "nobody"), "prompt": ("Call me", "I ", ["I", "Call"], [1, 2], ""),
         "max_tokens": (0, 1, 5, 20), "n": (1, 2, 3), "best_of": (3, 4), "session": ("one", "two"),
         "stop": ("e", ["a", "I "]), "pattern": ("(a|e)*", "I [a-z]+"), "deadline_ms": (1, 50), "min_tokens": (0, 2),
         "logit_bias": ({"e": 1}, {"3": -100}, {"a": False}), "user": ("me", 7, None)}
CHARACTERS = string.printable + "\u00e9\u20ac"


class Request:
    """What is sent; the reply has its name as X-Request-Id."""

    def __init__(self, name, method, target, headers, body):
        self.name = name
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body

    def head(self, *lines):
        sent = [b"%s %s HTTP/1.1" % (self.method.encode(), self.target), b"Host: localhost",
                b"X-Request-Id: " + self.name.encode(), *self.headers, *lines]
        return b"\r\n".join(sent) + b"\r\n\r\n"

    def plain(self):
        return self.head(b"Content-Length: %d" % len(self.body)) + self.body

    def chunked(self, chance):
        parts, at = [self.head(b"Transfer-Encoding: chunked")], 0
        while at < len(self.body):
            part = self.body[at:at + chance.randrange(1, 1 + len(self.body))]
            parts.append(b"%x\r\n%s\r\n" % (len(part), part))
            at += len(part)
        return b"".join(parts) + b"0\r\n\r\n"


class Generator:
    """Makes requests, the same for the same chance and description."""

    def __init__(self, description, chance):
        self.chance = chance
        self.schemas = description["components"]["schemas"]
        self.routes = [(method.upper(), path, operation) for path, methods in sorted(description["paths"].items())
                       for method, operation in sorted(methods.items())]
        self.bodies = [body for bodies in EXAMPLES.values() for body in bodies]

    def rarely(self, share=0.1):
        return self.chance.random() < share

    # ---- Values

    def word(self):
        if self.rarely(0.5):
            return self.chance.choice(WORDS)
        return "".join(self.chance.choices(CHARACTERS, k=self.chance.randrange(12)))

    def number(self, schema, is_whole):
        low, high = schema.get("minimum", -1000), min(schema.get("maximum", 1000), 1000)
        edge = self.chance.choice((low, high, low - 1, schema.get("maximum", high) + 1)) if self.rarely() else None
        if edge is not None:
            return edge
        return self.chance.randint(int(low), int(high)) if is_whole else self.chance.uniform(low, high)

    def value(self, schema):
        """Of the schema; anything where it says nothing."""
        if "$ref" in schema:
            return self.value(self.schemas[schema["$ref"].rpartition("/")[2]])
        if "enum" in schema:
            return self.chance.choice(schema["enum"])
        kind = schema.get("type", "anything")
        kind = self.chance.choice(kind) if isinstance(kind, list) else kind
        if kind == "object":
            fields = schema.get("properties", {})
            return {name: self.field(name, fields[name])
                    for name in self.chance.sample(sorted(fields), min(len(fields), self.chance.randrange(6)))}
        if kind == "array":
            return [self.word() for _ in range(self.chance.randrange(4))]
        return {"string": self.word, "boolean": lambda: self.rarely(0.5), "integer": lambda: self.number(schema, True),
                "number": lambda: self.number(schema, False)}.get(kind, lambda: self.chance.choice(OTHERS))()

    def field(self, name, schema):
        return self.chance.choice(USUAL[name]) if name in USUAL and not self.rarely(0.15) else self.value(schema)

    def broken(self, value):
        """The same with something in it replaced, left out or added."""
        if isinstance(value, dict) and value and not self.rarely(0.15):
            name = self.chance.choice(sorted(value))
            how = self.chance.randrange(4)
            rest = {key: one for key, one in value.items() if key != name}
            return {**value, name: self.broken(value[name])} if how < 2 else rest if how == 2 else \
                {**value, self.word(): self.chance.choice(OTHERS)}
        if isinstance(value, list) and value and not self.rarely(0.15):
            at = self.chance.randrange(len(value))
            how = self.chance.randrange(3)
            return value[:at] + ([self.broken(value[at])], [], [value[at]] * 3)[how] + value[at + 1:]
        return self.chance.choice(OTHERS)

    # ---- Requests

    def body_value(self, path, operation):
        """What the schema says, or like an example: this route's, or rarely any other's."""
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        if schema and not self.rarely(0.05):
            return {"prompt": "Call me", "max_tokens": 5, **self.value(schema)}
        own = EXAMPLES.get(path, [{}])
        return self.chance.choice(self.bodies if self.rarely(0.05) else own)

    def spoilt(self, body):
        """The bytes with some of them changed, cut off or doubled."""
        at = self.chance.randrange(1 + len(body))
        how = self.chance.randrange(5)
        return (body[:at], body[:at] + bytes([self.chance.randrange(256)]) + body[at + 1:], body + body[at:],
                body[:at] + b"\xff\xfe" + body[at:], b"[" * self.chance.choice((1, 100, 5000)) + body)[how]

    def body(self, path, operation):
        if "requestBody" not in operation:
            return b"" if not self.rarely(0.05) else b"{}"
        if "application/octet-stream" in operation["requestBody"]["content"] and self.rarely(0.3):
            return TEXT.encode() if self.rarely(0.7) else self.chance.randbytes(self.chance.randrange(600))
        value = self.body_value(path, operation)
        for _ in range(self.chance.choice((0, 0, 0, 1, 1, 2))):
            value = self.broken(value)
        body = json.dumps(value, ensure_ascii=self.rarely(0.5)).encode("utf-8", "surrogatepass")
        return self.spoilt(body) if self.rarely(0.1) else body if not self.rarely(0.03) else b""

    def parameter(self, name, known):
        if self.rarely(0.05):
            return self.chance.choice((b"%ff", b"%00", b"%", b"..", b"%2e%2e", b"a" * 300, b"%F0%9F%98%80", b"\xff"))
        return urllib.parse.quote(self.chance.choice(known.get(name, WORDS[1:])), safe=":@/").encode()

    def target(self, method, path, operation):
        is_whole = path == "/v1/models/{m}" and method != "POST"            # makes or removes a model
        is_rough = is_whole and method != "GET" or path.endswith(("/unload", "/reset", "/settings"))
        known = {**PARAMETERS, "m": EXPENDABLE if is_rough else MODELS}     # the others last a round
        target = b""
        for part in path.split("/")[1:]:
            name = part.strip("{}")
            target += b"/" + (self.parameter(name, known) if part != name else part.encode())
        if method == "POST" and path.endswith("}") and not self.rarely():   # what no description can say
            target += b":predict"
        queries = [f"{entry['name']}={urllib.parse.quote(str(self.field(entry['name'], entry['schema'])))}"
                   for entry in operation["parameters"] if entry["in"] == "query" and self.rarely(0.1)]
        queries += [self.chance.choice(QUERIES)] if self.rarely(0.25) else []
        target += b"?" + "&".join(queries).encode("latin-1") if queries else b""
        ends = (b"/", b"//x", b"?", b"#a", b"?" + b"a=1&" * 200)
        return target if not self.rarely(0.01) else target + self.chance.choice(ends)

    def headers(self):
        known = (b"Content-Type: application/json", b"Content-Type: text/plain",
                 b"Content-Type: application/octet-stream",
                 b"Accept: text/event-stream", b"Accept: text/plain", b"Accept: */*;q=0", b"Authorization: Bearer none",
                 b"Inference-Header-Content-Length: " + self.chance.choice((b"0", b"10", b"-1", b"9" * 30, b"x")),
                 b"Origin: http://evil.example", b"traceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01",
                 b"Expect: 200-maybe", b"Content-Encoding: gzip", b"Range: bytes=0-1", b"X-Junk: \xff\xfe\x80",
                 b"If-Match: *", b"Upgrade: h2c", b"X-Forwarded-For: 9.9.9.9, \x01")
        return self.chance.choices(known, k=self.chance.choice((0, 0, 1, 1, 2))) if self.rarely(0.4) else []

    def request(self, name):
        method, path, operation = self.chance.choice(self.routes)
        target = self.target(method, path, operation)
        body = self.body(path, operation)
        if self.rarely(0.04):
            method = self.chance.choice(("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "FROB"))
        return Request(name, method, target, self.headers(), body)
