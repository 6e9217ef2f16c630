"""What the tests of all benchmarks look for in a stored result."""

import re

# The beginning of a path, which would name a machine or its user.
PATH = re.compile(r"(?<![\w/])(/\w|~/|[A-Za-z]:\\)")


def find_leaves(value):
    """All values of nested dicts and lists that are neither."""
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, (dict, list)):
        return [leaf for child in children for leaf in find_leaves(child)]
    return [value]
