#!/usr/bin/env python3
"""The rules of the house that a program can check, over every file of the repository; reports in TAP, one test a rule.

A rule is a function that takes the tree and yields (path, line, what is wrong); its docstring is its name. Rules that
need a parser of C (unused parameters, suspicious conversions) are the compiler's and clang-tidy's, not ours.
tests/house/test_tidy.py shows each rule a file that breaks it.
"""
import os
import re
import subprocess
import sys

LINE_CHARACTERS_MAX = 120
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 800
TOP_LEVEL = {"daemon", "engine", "config", "systemd", "tests", ".ci", "Makefile",
             "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE",
             ".gitignore", ".clang-format", ".clang-tidy", ".editorconfig"}
# A folder of engine/ includes only itself and the folders before it.
ENGINE_FOLDERS = ["base", "math", "text", "graph", "nn", "decode", "store", "train", "import", "export", "model"]
# Libraries that one place alone may know: the header, and where it may be included.
LIBRARY_HOMES = [
    (r"<cblas\.h>", r"engine/math/gemm\.c"),
    (r"<microhttpd\.h>", r"daemon/http[a-z_]*\.[ch]"),
    (r"<gnutls/.*>", r"daemon/(certificate|http[a-z_]*)\.[ch]"),
    (r"<uv\.h>", r"daemon/.*"),
    (r"<systemd/.*>", r"daemon/systemd\.c"),
    (r"<ini\.h>", r"daemon/.*"),
    (r"<seccomp\.h>", r"daemon/sandbox\.c"),
    (r"<zip\.h>", r"engine/import/.*"),
    (r"[<\"](protobuf-c/|.*\.pb-c\.h)", r"engine/(import/.*onnx.*|export/onnx_write)\.[ch]"),
    (r"<mpi\.h>", r"engine/train/ranks_mpi\.c"),
    (r"<snappy-c\.h>", r"engine/import/level_table\.c"),
    (r"<jansson\.h>", r"(daemon|engine/(text|graph|nn|store|train|import|export|model)|tests)/.*"),
]
NOT_OURS = re.compile(r"^(tests/fuzz/corpus/|tests/golden/|config/demo/[^/]+/\d+/)")
# The body of several .c files, each of which compiles it in its own way: included more than once, so without a guard.
TEMPLATE = re.compile(r"_(template|vector)\.h$")
C_FILE = re.compile(r"\.[ch]$")
CODE_FILE = re.compile(r"(\.[ch]|\.py|\.sh|\.js|Makefile|^config/packages|^tests/run|^config/demo-model|^\.ci/run)$")


class Tree:
    """The text files of a repository, by path; read once."""

    def __init__(self, root):
        self.root = root
        self.texts = {}
        for path in self.list_paths():
            if NOT_OURS.match(path) or not os.path.isfile(os.path.join(root, path)):
                continue
            with open(os.path.join(root, path), "rb") as file:
                content = file.read()
            if b"\0" not in content:
                self.texts[path] = content.decode("utf-8", errors="replace")

    def list_paths(self):
        try:
            return subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=self.root, check=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.splitlines()
        except (OSError, subprocess.CalledProcessError):        # an unpacked archive
            return [os.path.relpath(os.path.join(folder, name), self.root)
                    for folder, _, names in os.walk(self.root) for name in names
                    if not os.path.relpath(folder, self.root).startswith(("build", ".git"))]

    def lines(self, pattern):
        """(path, number from 1, line) of every file whose path matches."""
        for path in sorted(self.texts):
            if re.search(pattern, path):
                for number, line in enumerate(self.texts[path].split("\n"), 1):
                    yield path, number, line

    def matching(self, pattern):
        return [(path, self.texts[path]) for path in sorted(self.texts) if re.search(pattern, path)]


def strip_comments(text):
    """C source with comments and string contents blanked, line by line as before."""
    def blank(match):
        found = match.group(0)
        return '""' if found.startswith('"') else re.sub(r"[^\n]", " ", found)
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.DOTALL)


def rule_top_level(tree):
    """the top level holds the known folders and files only"""
    for path in sorted(tree.texts):
        if path.split("/")[0] not in TOP_LEVEL:
            yield path, 1, f"'{path.split('/')[0]}' is not of the top level: {', '.join(sorted(TOP_LEVEL))}"


def rule_include_order(tree):
    """engine folders include only folders before them, daemon only engine.h and base"""
    for path, number, line in tree.lines(r"^(engine|daemon)/.*\.[ch]$"):
        include = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not include:
            continue
        parts, home = include.group(1).split("/"), path.split("/")
        if parts[0] not in ("engine", "daemon") or len(parts) < 2:
            yield path, number, f"\"{include.group(1)}\": include by the path from the top"
        elif home[0] == "daemon":
            if parts[0] == "engine" and parts[1] not in ("engine.h", "base"):
                yield path, number, f"daemon includes {include.group(1)}: only engine/engine.h and engine/base are open"
        elif parts[0] == "daemon":
            yield path, number, f"engine includes {include.group(1)}: it knows no daemon"
        elif parts[1] == "engine.h" or len(home) == 2:
            if len(home) > 2 and home[1] != "model":
                yield path, number, f"engine/{home[1]} includes engine/engine.h, which is the border to the daemon"
        elif parts[1] not in ENGINE_FOLDERS or home[1] not in ENGINE_FOLDERS:
            yield path, number, f"engine/{home[1]} or engine/{parts[1]} is not in the order of folders"
        elif ENGINE_FOLDERS.index(parts[1]) > ENGINE_FOLDERS.index(home[1]):
            yield path, number, f"engine/{home[1]} includes {include.group(1)}, a folder after it"


def rule_library_homes(tree):
    """a library is known to its one place only"""
    for path, number, line in tree.lines(r"^(engine|daemon)/.*\.[ch]$"):
        for header, home in LIBRARY_HOMES:
            if re.match(rf"\s*#\s*include\s+{header}", line) and not re.fullmatch(home, path):
                yield path, number, f"{line.strip()}: only {home} may include it"


def rule_engine_is_silent(tree):
    """engine neither prints nor exits"""
    call = re.compile(r"(?<![\w.>])(v?f?printf|puts|perror|exit|_exit|abort|syslog)\s*\(")
    for path, text in tree.matching(r"^engine/.*\.[ch]$"):
        if path == "engine/base/check.c":
            continue
        for number, line in enumerate(strip_comments(text).split("\n"), 1):
            found = call.search(line)
            if found and not re.match(r"\s*#\s*(define|pragma)", line) and "format(printf" not in line:
                if found.group(1) != "fprintf" or re.search(r"fprintf\s*\(\s*std", line):
                    yield path, number, f"calls {found.group(1)}: engine returns a status instead"


def rule_header_guards(tree):
    """a header's guard is its path"""
    for path, text in tree.matching(r"\.h$"):
        guard = re.sub(r"[^A-Za-z0-9]", "_", path).upper()
        if not TEMPLATE.search(path) and not re.search(rf"^#ifndef {guard}\n#define {guard}\n", text, re.MULTILINE):
            yield path, 1, f"the guard is not {guard}"


def rule_opening_comment(tree):
    """every file opens with what it is for"""
    for path, text in tree.matching(CODE_FILE.pattern):
        opening = {"c": "/*", "h": "/*"}.get(path.rsplit(".", 1)[-1])
        body = re.sub(r"\A#!.*\n", "", text)
        if opening and not body.startswith(opening) or not opening and not re.match(r'# |"""|/\*|//', body):
            yield path, 1, "does not open with a comment that says what it is for"


def rule_docstrings(tree):
    """every function of a header has a docstring above it"""
    declaration = re.compile(r"^(?!static_assert|_Static_assert|typedef)[a-z][\w \*]*[ \*][a-z]\w*\(")
    for path, text in tree.matching(r"^(engine|daemon|tests)/.*\.h$"):
        lines = text.split("\n")
        code = strip_comments(text).split("\n")
        for index, line in enumerate(code):
            if not declaration.match(line) or line.startswith("static ") and TEMPLATE.search(path):
                continue
            above = index
            while above > 0 and lines[above - 1].strip():
                above -= 1
            if not any("*/" in documented for documented in lines[above:index]):
                yield path, index + 1, f"no docstring above: {line.strip()[:60]}"


def rule_line_length(tree):
    """no line of code is longer than it may be"""
    for path, number, line in tree.lines(CODE_FILE.pattern):
        if len(line) > LINE_CHARACTERS_MAX:
            yield path, number, f"{len(line)} characters, at most {LINE_CHARACTERS_MAX}"


def rule_function_length(tree):
    """a function fits on a screen"""
    for path, text in tree.matching(C_FILE.pattern):
        start = None
        for number, line in enumerate(text.split("\n"), 1):
            if line == "{":
                start = number
            elif line == "}" and start is not None:
                if number - start - 1 > FUNCTION_LINES_MAX:
                    yield path, start, f"a function of {number - start - 1} lines, at most {FUNCTION_LINES_MAX}"
                start = None


def rule_file_length(tree):
    """no file is longer than it may be"""
    for path, text in tree.matching(CODE_FILE.pattern):
        if text.count("\n") > FILE_LINES_MAX:
            yield path, 1, f"{text.count(chr(10))} lines, at most {FILE_LINES_MAX}"


def rule_leftovers(tree):
    """nothing is left for later"""
    words = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b")
    for path, number, line in tree.lines(""):
        if words.search(line):
            yield path, number, f"left for later: {line.strip()[:60]}"


def rule_whitespace(tree):
    """no trailing space, no tab but in the Makefile, no carriage return, and a final newline"""
    for path, number, line in tree.lines(""):
        if line != line.rstrip():
            yield path, number, "trailing space, or a carriage return"
        elif "\t" in line and path != "Makefile":
            yield path, number, "a tab"
    for path, text in tree.matching(""):
        if text and (not text.endswith("\n") or text.endswith("\n\n")):
            yield path, text.count("\n"), "does not end with exactly one newline"


def rule_tests_include_no_source(tree):
    """a test links the library, it includes no .c"""
    for path, number, line in tree.lines(r"^tests/.*\.[ch]$"):
        if re.match(r'\s*#\s*include\s+[<"].*\.c[>"]', line):
            yield path, number, f"{line.strip()}: link it instead"


def rule_architecture(tree):
    """ARCHITECTURE.md names every engine folder and daemon file, and no path that is not there"""
    text = tree.texts.get("ARCHITECTURE.md", "")
    folders = {path.split("/")[1] + "/" for path in tree.texts if re.match(r"engine/\w+/", path)}
    modules = {re.match(r"daemon/(\w+)", path).group(1) for path in tree.texts if re.match(r"daemon/\w+\.[ch]$", path)}
    for name in sorted(folders | modules):
        if not re.search(rf"`(engine/|daemon/)?{re.escape(name)}(\.[ch])?`", text):
            yield "ARCHITECTURE.md", 1, f"does not name `{name}`"
    for number, line in enumerate(text.split("\n"), 1):
        for named in re.findall(r"`((?:engine|daemon|tests|config|systemd)/[\w./-]+)`", line):
            there = named.rstrip("/")
            if not any(path == there or path.startswith(there + "/") or re.sub(r"\.\w+$", "", path) == there
                       for path in tree.texts):
                yield "ARCHITECTURE.md", number, f"names `{named}`, which is not there"


def rule_settings(tree):
    """config/lstmd.conf shows every setting once, commented with its default, and no other"""
    table = "\n".join(text for path, text in tree.matching(r"^daemon/settings(_table)?\.(c|h|def)$"))
    known = set(re.findall(r"^\s*SETTING_?\w*\(\s*\"?([a-z_]+)\"?\s*,", table, re.MULTILINE))
    shown = []
    for path, number, line in tree.lines(r"^config/lstmd\.conf$"):
        setting = re.match(r"#([a-z_]+)\s*=", line)
        if setting:
            shown.append(setting.group(1))
            if setting.group(1) not in known:
                yield path, number, f"'{setting.group(1)}' is no setting of daemon/settings"
    for name in sorted(known):
        if shown.count(name) != 1:
            yield "config/lstmd.conf", 1, f"'{name}' is shown {shown.count(name)} times"


RULES = [value for name, value in sorted(globals().items()) if name.startswith("rule_")]


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    tree = Tree(root)
    failed = 0
    print(f"1..{len(RULES)}")
    for number, rule in enumerate(RULES, 1):
        findings = list(rule(tree))
        failed += bool(findings)
        print(f"{'not ok' if findings else 'ok'} {number} - {rule.__doc__}")
        for path, line, wrong in findings:
            print(f"# {path}:{line}: {wrong}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
