"""What a case expects against what was seen."""

import math
import re


class Failure(Exception):
    """The case does not hold."""


def number(value):
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return float(value.replace("Infinity", "inf"))
    return value


def close(seen, expected, atol, rtol):
    seen, expected = number(seen), number(expected)
    if isinstance(expected, bool) or isinstance(seen, bool) or expected is None or seen is None:
        return seen == expected
    if isinstance(expected, str) or isinstance(seen, str):
        return seen == expected
    if math.isnan(expected) or math.isinf(expected):
        return (math.isnan(seen) and math.isnan(expected)) or seen == expected
    return abs(seen - expected) <= atol + rtol * abs(expected)


def equal(seen, expected, atol, rtol):
    if isinstance(expected, dict):
        if hasattr(seen, "names"):  # a named tuple
            seen = dict(zip(seen.names, seen))
        return isinstance(seen, dict) and seen.keys() == expected.keys() and all(
            equal(seen[key], expected[key], atol, rtol) for key in expected)
    if isinstance(expected, list):
        return isinstance(seen, list) and len(seen) == len(expected) and all(
            equal(one, other, atol, rtol) for one, other in zip(seen, expected))
    return not isinstance(seen, (list, dict)) and close(seen, expected, atol, rtol)


def check_value(what, seen, expect):
    if not equal(seen, expect["value"], expect.get("atol", 1e-6), expect.get("rtol", 1e-6)):
        raise Failure(f"{what} is {seen}, expected {expect['value']}")


def check_error(step, error):
    """`error` is None or has `type` and `message`."""
    raises = step.get("raises")
    if raises is None:
        if error is not None:
            raise Failure(f"{step['do']} failed: {error.get('type')}: {error.get('message')}")
        return
    wanted = raises["class"]
    if error is None:
        raise Failure(f"{step['do']} went through, expected {wanted}: {raises.get('match')}")
    if error.get("type") != wanted or not re.search(raises.get("match", ""), error["message"], re.DOTALL):
        raise Failure(f"{step['do']} failed with {error.get('type')}: {error['message']}, "
                      f"expected {wanted}: {raises.get('match')}")


def check_same(what, seen, expected, is_same):
    if (seen == expected) != is_same:
        raise Failure(f"{what}: {seen} and {expected} are {'not ' if is_same else ''}the same")
