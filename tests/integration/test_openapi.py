"""/openapi.json against the route table, and as a validator of OpenAPI sees it; /metrics as Prometheus' promtool does.

The validator comes by npm, promtool out of Debian's package prometheus, both into the build folder, once.
"""
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile

import npm
from harness import ROOT, TIMEOUT_SECONDS, DaemonTest

SHORT = True
VALIDATOR = "@seriousme/openapi-schema-validator@2.4.1"
VALIDATE = """
const { Validator } = await import(process.argv[1] + "/index.js");
const text = await new Response(process.stdin).text();
console.log(JSON.stringify(await new Validator().validate(JSON.parse(text))));
"""


def find_promtool():
    """(its path, None) or (None, the reason why there is none)."""
    found = shutil.which("promtool")
    kept = os.path.join(ROOT, "build", "prometheus", "usr", "bin", "promtool")
    if found or os.path.exists(kept):
        return found or kept, None
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return None, "promtool is not on this machine, and this is no Debian"
    os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.join(ROOT, "build")) as folder:
        done = subprocess.run(["apt-get", "download", "prometheus"], cwd=folder, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True,
                              timeout=TIMEOUT_SECONDS)
        packages = glob.glob(os.path.join(folder, "*.deb"))
        if done.returncode != 0 or not packages:
            return None, f"apt-get cannot download prometheus: {done.stdout.strip().splitlines()[-1:]}"
        subprocess.run(["dpkg-deb", "-x", packages[0], os.path.join(folder, "unpacked")], check=True)
        os.replace(os.path.join(folder, "unpacked"), os.path.join(ROOT, "build", "prometheus"))
    return kept, None


class Described(DaemonTest):
    MODELS = {"bard": {}}

    def description(self):
        return self.expect(200, "GET", "/openapi.json")

    def test_every_route_is_there(self):
        with open(os.path.join(ROOT, "daemon", "routes.c"), encoding="utf-8") as file:
            rows = re.findall(r'\{"(\w+)",\s*"(/[^"]*)",\s*(\w+),\s*SCOPE_(\w+),', file.read())
        wanted = {(method.lower(), pattern.replace("…", "") + (":predict" if handler == "api_tf_predict" else "")):
                  scope.lower().replace("open", "none") for method, pattern, handler, scope in rows}
        given = {(method, path): operation for path, methods in self.description()["paths"].items()
                 for method, operation in methods.items()}
        self.assertEqual({key: operation["x-lstmd-scope"] for key, operation in given.items()}, wanted)
        for (method, path), operation in given.items():
            self.assertTrue(operation["summary"], path)
            self.assertEqual([entry["name"] for entry in operation["parameters"] if entry["in"] == "path"],
                             re.findall(r"\{(\w+)\}", path))
            self.assertEqual(operation["security"], [] if operation["x-lstmd-scope"] == "none" else [{"key": []}])
            self.assertEqual("requestBody" in operation, method not in ("get", "delete"))
        names = [operation["operationId"] for operation in given.values()]
        self.assertEqual(len(set(names)), len(names))
        self.assertIn("put_v1_models_m_labels_label", names)

    def test_queries_statuses_and_kinds(self):
        paths = self.description()["paths"]
        for path, name in (("/tokenizer_info", "model"), ("/v1/models/bard/graph", "format"),
                           ("/v1/models/bard/export", "to"), ("/v1/sessions/none", "state")):
            reply = self.expect(400, "GET", f"{path}?{name}x=1", error="unknown_field")
            self.assertEqual(reply["error"]["param"], f"/{name}x")
            parameters = paths[re.sub("bard", "{m}", path).replace("none", "{name}")]["get"]["parameters"]
            self.assertIn({"name": name, "in": "query", "schema": {"type": "string"}}, parameters)
        self.expect(400, "GET", "/v1/sessions/none?state=1")
        self.assertIn("201", paths["/v1/sessions/{name}"]["put"]["responses"])
        self.assertIn("202", paths["/v1/models/{m}/train"]["post"]["responses"])
        kinds = paths["/v1/models/{m}/generate"]["get"]["responses"]["200"]["content"]
        self.assertEqual(set(kinds), {"application/json", "text/event-stream", "text/plain"})

    def test_fields_of_texts(self):
        fields = self.description()["components"]["schemas"]["TextRequest"]["properties"]
        self.assertEqual(fields["temperature"], {"type": "number", "minimum": 0, "maximum": 2})
        self.assertEqual(fields["n"], {"type": "integer", "minimum": 1, "maximum": 128})
        self.assertEqual(fields["pattern"], {"type": "string", "maxLength": 4096})
        self.assertEqual(fields["adapt"], {"enum": [False, "output", "all"]})
        for name in fields:                             # each is known: null is the default
            reply = self.expect(200, "POST", "/v1/completions", {"prompt": "I ", "max_tokens": 1, name: None})
            self.assertNotIn("warnings", reply, name)

    def test_it_is_openapi(self):
        module, reason = npm.install(os.path.join(ROOT, "build", "npm-openapi"), VALIDATOR)
        if module is None:
            self.skipTest(reason)
        for description, is_valid in ((self.description(), True), ({"openapi": "3.1.0"}, False)):
            done = subprocess.run(["node", "--input-type=module", "-e", VALIDATE, module], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, input=json.dumps(description), text=True, check=False,
                                  timeout=TIMEOUT_SECONDS)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(json.loads(done.stdout)["valid"], is_valid, done.stdout)

    def test_promtool_finds_nothing_in_the_metrics(self):
        promtool, reason = find_promtool()
        if promtool is None:
            self.skipTest(reason)
        self.expect(200, "POST", "/v1/completions", {"prompt": "I ", "max_tokens": 3})
        content = self.daemon.request("GET", "/metrics")[2]
        for text, is_good in ((content, True), (b"# TYPE a counter\na 1\n", False)):
            done = subprocess.run([promtool, "check", "metrics"], input=text, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, check=False, timeout=TIMEOUT_SECONDS)
            self.assertEqual((done.returncode, done.stdout) == (0, b""), is_good, done.stdout)
