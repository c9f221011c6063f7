"""daemon/graph-programs.md: every program in it builds, and every step it names is there."""
import json
import os
import re
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import ROOT  # noqa: E402
from graph_case import GraphTest  # noqa: E402


def read_page():
    with open(os.path.join(ROOT, "daemon", "graph-programs.md"), encoding="utf-8") as file:
        return file.read()


class Programs(GraphTest):
    def test_programs(self):
        programs = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", read_page(), re.DOTALL)]
        self.assertGreater(len(programs), 6)
        for program in programs:
            self.expect(200, "POST", "/graph/reset")
            self.expect(200, "POST", "/graph/build", program)

    def test_steps(self):
        """A step that is there complains of its arguments, not of its name."""
        page = read_page()
        functions = page[page.index("## Functions"):page.index("## Cells")]
        names = re.findall(r"`([a-z][a-z0-9_]+)`", functions.split("```")[2])
        tables = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
        names += [name for cell in tables for name in re.findall(r"`([a-z][a-z0-9_]+)`", cell)]
        fields = {"value", "dtype", "name", "args"}
        self.assertGreater(len(names), 150)
        for name in set(names) - fields:
            status, reply = self.daemon.json("POST", self.path + "/graph/build", {"program": [{"op": name}]})
            self.assertNotIn("there is no step", reply["error"]["message"] if status != 200 else "", name)


if __name__ == "__main__":
    unittest.main()
