"""Each rule of tests/tidy.py must report the sample that breaks it, and nothing else about a sound tree."""
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import tidy  # noqa: E402

SOUND_HEADER = """/* What it is for. */
#ifndef ENGINE_BASE_THING_H
#define ENGINE_BASE_THING_H

/* Does a thing. Thread: any. */
int thing_do(int n);

#endif
"""
SOUND = {
    "engine/base/thing.h": SOUND_HEADER,
    "engine/base/thing.c": '/* Things. */\n#include "engine/base/thing.h"\n\nint thing_do(int n)\n{\n}\n',
    "engine/engine.h": "/* The border. */\n#ifndef ENGINE_ENGINE_H\n#define ENGINE_ENGINE_H\n#endif\n",
    "daemon/main.c": '/* Starts. */\n#include "engine/engine.h"\n\nint main(void)\n{\n    return 0;\n}\n',
    "ARCHITECTURE.md": "The folder `base/` and the file `main`.\n",
    "Makefile": "# Builds.\nall:\n\ttrue\n",
}
FOR_LATER = "FIX" + "ME"


class EveryRule(unittest.TestCase):
    def findings(self, rule, changes):
        """(path, message) of what a rule says about the sound tree with some files changed (None: removed)."""
        with tempfile.TemporaryDirectory() as root:
            for path, text in {**SOUND, **changes}.items():
                if text is not None:
                    os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                    with open(os.path.join(root, path), "w", encoding="utf-8", newline="") as file:
                        file.write(text)
            return [(path, wrong) for path, _, wrong in rule(tidy.Tree(root))]

    def assert_reports(self, rule, path, text, wrong):
        found = self.findings(rule, {path: text})
        self.assertTrue(any(path == at and wrong in message for at, message in found), found)

    def test_a_sound_tree_is_passed_by_every_rule(self):
        for rule in tidy.RULES:
            with self.subTest(rule.__name__):
                self.assertEqual(self.findings(rule, {}), [])

    def test_every_rule_has_a_test_here(self):
        with open(__file__, encoding="utf-8") as file:
            here = file.read()
        for rule in tidy.RULES:
            self.assertIn(f"tidy.{rule.__name__},", here)

    def test_top_level(self):
        self.assert_reports(tidy.rule_top_level, "util/x.c", "/* x */\n", "'util' is not of the top level")

    def test_include_order(self):
        cases = [("engine/base/a.c", '#include "engine/graph/graph.h"', "a folder after it"),
                 ("engine/import/a.c", '#include "engine/model/model.h"', "a folder after it"),
                 ("engine/graph/a.c", '#include "daemon/http.h"', "knows no daemon"),
                 ("engine/graph/a.c", '#include "engine/engine.h"', "the border"),
                 ("engine/odd/a.c", '#include "engine/base/thing.h"', "not in the order"),
                 ("engine/base/a.c", '#include "thing.h"', "path from the top"),
                 ("daemon/a.c", '#include "engine/model/model.h"', "only engine/engine.h")]
        for path, include, wrong in cases:
            with self.subTest(include):
                self.assert_reports(tidy.rule_include_order, path, include + "\n", wrong)
        for path, include in [("engine/model/a.c", '#include "engine/engine.h"'), ("daemon/a.c", '#include <uv.h>'),
                              ("daemon/a.c", '#include "engine/base/clock.h"'),
                              ("engine/model/a.c", '#include "engine/base/thing.h"')]:
            with self.subTest(include):
                self.assertEqual(self.findings(tidy.rule_include_order, {path: include + "\n"}), [])

    def test_library_homes(self):
        self.assert_reports(tidy.rule_library_homes, "engine/nn/a.c", "#include <cblas.h>\n", "only engine/math/gemm")
        self.assert_reports(tidy.rule_library_homes, "daemon/a.c", "#include <microhttpd.h>\n", "only daemon/http")
        self.assert_reports(tidy.rule_library_homes, "engine/base/a.c", "#include <uv.h>\n", "only daemon")

    def test_engine_is_silent(self):
        self.assert_reports(tidy.rule_engine_is_silent, "engine/base/a.c", '    printf("x");\n', "calls printf")
        self.assert_reports(tidy.rule_engine_is_silent, "engine/base/a.c", '    fprintf(stderr, "x");\n', "fprintf")
        self.assert_reports(tidy.rule_engine_is_silent, "engine/base/a.c", "    exit(1);\n", "calls exit")
        sound = '/* exit(1) */ f("printf(");\n    snprintf(a, 1, "");\n    fprintf(file, "");\n'
        self.assertEqual(self.findings(tidy.rule_engine_is_silent, {"engine/base/a.c": sound}), [])

    def test_header_guards(self):
        wrong = SOUND_HEADER.replace("BASE_THING", "THING")
        self.assert_reports(tidy.rule_header_guards, "engine/base/thing.h", wrong, "not ENGINE_BASE_THING_H")

    def test_opening_comment(self):
        self.assert_reports(tidy.rule_opening_comment, "daemon/a.c", "int a;\n", "does not open")
        self.assert_reports(tidy.rule_opening_comment, "tests/a.py", "#!/usr/bin/env python3\nimport os\n", "not open")

    def test_docstrings(self):
        wrong = SOUND_HEADER.replace("/* Does a thing. Thread: any. */\n", "")
        self.assert_reports(tidy.rule_docstrings, "engine/base/thing.h", wrong, "no docstring above: int thing_do")
        apart = SOUND_HEADER.replace("any. */\n", "any. */\n\n")
        self.assert_reports(tidy.rule_docstrings, "engine/base/thing.h", apart, "no docstring above: int thing_do")

    def test_line_length(self):
        self.assert_reports(tidy.rule_line_length, "daemon/a.c", "x" * 121 + "\n", "121 characters")
        self.assertEqual(self.findings(tidy.rule_line_length, {"daemon/a.c": "x" * 120 + "\n"}), [])

    def test_function_length(self):
        def function(lines):
            return "int f(void)\n{\n" + "    g();\n" * lines + "}\n"
        self.assert_reports(tidy.rule_function_length, "daemon/a.c", function(71), "a function of 71 lines")
        self.assertEqual(self.findings(tidy.rule_function_length, {"daemon/a.c": function(70)}), [])

    def test_file_length(self):
        self.assert_reports(tidy.rule_file_length, "daemon/a.c", "x\n" * 801, "801 lines")

    def test_leftovers(self):
        self.assert_reports(tidy.rule_leftovers, "daemon/a.c", f"/* {FOR_LATER}: x */\n", "left for later")

    def test_whitespace(self):
        self.assert_reports(tidy.rule_whitespace, "daemon/a.c", "x \n", "trailing space")
        self.assert_reports(tidy.rule_whitespace, "daemon/a.c", "x\r\n", "carriage return")
        self.assert_reports(tidy.rule_whitespace, "daemon/a.c", "\tx\n", "a tab")
        self.assert_reports(tidy.rule_whitespace, "daemon/a.c", "x", "exactly one newline")
        self.assert_reports(tidy.rule_whitespace, "daemon/a.c", "x\n\n", "exactly one newline")

    def test_tests_include_no_source(self):
        source = '#include "engine/base/thing.c"\n'
        self.assert_reports(tidy.rule_tests_include_no_source, "tests/unit/test_a.c", source, "link it instead")

    def test_architecture(self):
        self.assert_reports(tidy.rule_architecture, "ARCHITECTURE.md", "`main`\n", "does not name `base/`")
        self.assert_reports(tidy.rule_architecture, "ARCHITECTURE.md", "`base/`\n", "does not name `main`")
        absent = SOUND["ARCHITECTURE.md"] + "`engine/magic/`\n"
        self.assert_reports(tidy.rule_architecture, "ARCHITECTURE.md", absent, "names `engine/magic/`")

    def test_settings(self):
        table = {"daemon/settings.def": '/* Settings. */\nSETTING("threads", 2)\n'}
        found = self.findings(tidy.rule_settings, table)
        self.assertIn(("config/lstmd.conf", "'threads' is shown 0 times"), found)
        shown = {**table, "config/lstmd.conf": "#threads = 2\n"}
        self.assertEqual(self.findings(tidy.rule_settings, shown), [])
        other = {**table, "config/lstmd.conf": "#threads = 2\n#odd = 1\n"}
        self.assertIn(("config/lstmd.conf", "'odd' is no setting of daemon/settings"),
                      self.findings(tidy.rule_settings, other))


if __name__ == "__main__":
    unittest.main()
