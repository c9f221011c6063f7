#!/usr/bin/env python3
"""Runs one file of unittest tests and reports in TAP, the one language tests/run understands.

    tests/tap.py tests/integration/test_x.py [TestClass.test_method]
"""
import importlib.util
import os
import re
import sys
import traceback
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class TapResult(unittest.TestResult):
    """Prints a line as each test ends; what failed follows as comments."""

    def __init__(self, stream, suite):
        super().__init__()
        self.stream = stream
        self.planned = list(tests_of(suite))
        self.reported = 0
        self.subtest_errors = []

    def startTest(self, test):
        super().startTest(test)
        self.subtest_errors = []

    def report(self, verdict, test, note=""):
        for name in self.names(test):
            self.reported += 1
            self.stream.write(f"{verdict} {self.reported} {'# SKIP ' if note else '- '}{name}{note}\n")
        self.stream.flush()

    def names(self, test):
        """What ended: one test, or every test of a class or module whose set-up went wrong."""
        of_class = re.fullmatch(r"setUp(?:Class|Module) \((.+)\)", test.id())
        if not of_class:
            return [test.id().partition(".")[2] or test.id()]
        return [name.partition(".")[2] for name in self.planned if name.startswith(of_class.group(1) + ".")]

    def report_failure(self, test, err):
        self.report("not ok", test)
        for line in "".join(traceback.format_exception(*err)).rstrip().split("\n"):
            self.stream.write(f"# {line}\n")
        self.stream.flush()

    def addSuccess(self, test):
        if not self.subtest_errors:
            self.report("ok", test)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            if not self.subtest_errors:
                self.report("not ok", test)
            self.subtest_errors.append(err)
            text = f"{subtest}\n" + "".join(traceback.format_exception(*err)).rstrip()
            self.stream.write("".join(f"# {line}\n" for line in text.split("\n")))

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.report_failure(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self.report_failure(test, err)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.report("ok", test, f": {reason}")

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self.report("ok", test)

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.report("not ok", test)


def tests_of(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from tests_of(item)
        else:
            yield item.id()


def main():
    path = os.path.abspath(sys.argv[1])
    sys.path.insert(0, os.path.dirname(path))
    sys.path.insert(0, ROOT)
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    loader = unittest.TestLoader()
    suite = loader.loadTestsFromNames(sys.argv[2:], module) if sys.argv[2:] else loader.loadTestsFromModule(module)
    print(f"1..{suite.countTestCases()}", flush=True)
    result = TapResult(sys.stdout, suite)
    suite.run(result)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
