"""The counting of tests/run: a number that cannot be wrong, whatever a test program does."""
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import tempfile
import unittest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
LOADER = importlib.machinery.SourceFileLoader("tests_run", os.path.join(TESTS, "run"))
run = importlib.util.module_from_spec(importlib.util.spec_from_loader("tests_run", LOADER))
LOADER.exec_module(run)

UNITTEST_SAMPLE = '''
import unittest
class Sample(unittest.TestCase):
    def test_passes(self): pass
    def test_fails(self): self.assertEqual(1, 2)
    def test_errs(self): raise OSError("gone")
    @unittest.skip("no such tool")
    def test_skips(self): pass
    def test_two_of_three_subtests_fail(self):
        for n in range(3):
            with self.subTest(n=n): self.assertEqual(n, 1)
class NeverSetUp(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise OSError("no daemon")
    def test_one(self): pass
    def test_two(self): pass
class SkippedAsAWhole(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise unittest.SkipTest("nothing to boot")
    def test_one(self): pass
    def test_two(self): pass
'''


class CountTap(unittest.TestCase):
    def assert_counts(self, output, exit_status, expected):
        counts = run.count_tap(output, exit_status)
        self.assertEqual((counts.passed, counts.failed, counts.skipped), expected, output)
        return counts

    def test_each_verdict_of_cmocka(self):
        counts = self.assert_counts("1..3\nok 1 - a\nno such file\nnot ok 2 # SKIP b\nnot ok 3 - c\n# 1 != 2\n", 1,
                                    (1, 1, 1))
        self.assertEqual(counts.skip_reasons, ["b: no such file"])

    def test_each_verdict_of_unittest(self):
        counts = self.assert_counts("1..2\nok 1 - A.test\nok 2 # SKIP A.other: no tool\n", 0, (1, 0, 1))
        self.assertEqual(counts.skip_reasons, ["A.other: no tool"])

    def test_two_groups_add_up(self):
        self.assert_counts("1..1\nok 1 - a\n1..2\nok 1 - b\nok 2 - c\n", 0, (3, 0, 0))

    def test_a_crash_fails_what_was_planned(self):
        self.assert_counts("1..3\nok 1 - a\n", -11, (1, 2, 0))

    def test_a_leak_found_at_the_end_fails(self):
        self.assert_counts("1..1\nok 1 - a\n==1==ERROR: LeakSanitizer\n", 23, (1, 1, 0))

    def test_silence_fails(self):
        self.assert_counts("", 0, (0, 1, 0))
        self.assert_counts("1..0\n", 0, (0, 1, 0))


class TapOfUnittest(unittest.TestCase):
    def test_every_outcome_is_counted(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "test_sample.py")
            with open(path, "w", encoding="utf-8") as file:
                file.write(UNITTEST_SAMPLE)
            done = subprocess.run([os.path.join(TESTS, "tap.py"), path], stdout=subprocess.PIPE, text=True, check=False)
        counts = run.count_tap(done.stdout, done.returncode)
        self.assertEqual((counts.passed, counts.failed, counts.skipped), (1, 5, 3), done.stdout)
        self.assertIn("Sample.test_skips: no such tool", counts.skip_reasons)
        self.assertIn("SkippedAsAWhole.test_two: nothing to boot", counts.skip_reasons)


if __name__ == "__main__":
    unittest.main()
