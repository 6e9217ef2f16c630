"""A snippet for each function of the reference: all that must be pasted to run it.

`make_snippet` finds the imports and the neighbours that a function or class needs in
its file. As a Sphinx extension, this file puts the snippet below the description.
"""

import ast
import functools
import inspect
from pathlib import Path

from transfer_tutorial import __version__

# What these contain is of no use without the files that the package brings along.
BUNDLED = "__file__"


def find_bound(node):
    """The names that a top-level statement defines."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(a.asname or a.name).split(".")[0] for a in node.names}
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {t.id for t in node.targets if isinstance(t, ast.Name)}
    return set()


def find_used(node):
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


@functools.cache
def read_module(path):
    """Lines of a file, and its statements: (names defined, names used, statement)."""
    source = Path(path).read_text(encoding="utf-8")
    nodes = ast.parse(source).body
    return source.splitlines(), [(find_bound(n), find_used(n), n) for n in nodes]


def find_needed(statements, name):
    """The statements that `name` needs, itself among them, in the order of the file."""
    needed, waiting = set(), {name}
    while waiting:
        wanted = waiting.pop()
        for i, (bound, used, _) in enumerate(statements):
            if i not in needed and wanted in bound:
                needed.add(i)
                waiting |= used
    return [statements[i][2] for i in sorted(needed)]


def cut_docstrings(node, lines):
    """The source of a statement, with the first line alone of every docstring."""
    start = min([d.lineno for d in getattr(node, "decorator_list", [])] + [node.lineno])
    kept = dict(enumerate(lines[start - 1 : node.end_lineno], start=start))
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(part):
            text = part.body[0]
            for number in range(text.lineno + 1, text.end_lineno + 1):
                del kept[number]
            if text.end_lineno > text.lineno:
                kept[text.lineno] += '"""'
    return "\n".join(kept.values())


def make_snippet(thing):
    """The source that defines `thing`, a function or class, in an empty namespace.

    What reads a bundled file, or needs a neighbouring file, is imported instead.
    """
    thing = inspect.unwrap(thing)
    title = f"# From Transfer Learning, Tested, {__version__} (MIT licence)"
    lines, statements = read_module(inspect.getsourcefile(thing))
    needed = find_needed(statements, thing.__name__)
    imports = [n for n in needed if isinstance(n, ast.Import | ast.ImportFrom)]
    rest = [n for n in needed if n not in imports]
    module = ".".join(thing.__module__.split(".")[:2])
    if any(BUNDLED in ast.unparse(node) for node in rest):
        return f"from {module} import {thing.__name__}  # reads a file of the package"
    if any("transfer_tutorial" in ast.unparse(node) for node in imports):
        return f"from {module} import {thing.__name__}  # needs files beside its own"
    head = "\n".join(ast.unparse(node) for node in imports)
    bodies = [cut_docstrings(node, lines) for node in rest]
    return "\n\n\n".join([f"{title}\n{head}".rstrip(), *bodies])


def append_snippet(app, what, name, thing, options, lines):
    """Handle Sphinx's event: extend the description by a folded snippet."""
    if what not in ("function", "class"):
        return
    # As plain text: colours would make the page heavier by half.
    lines += ["", ".. dropdown:: To paste", "", "   .. code-block:: text", ""]
    lines += [
        "      " + line if line else "" for line in make_snippet(thing).split("\n")
    ]
    lines.append("")


def setup(app):
    app.connect("autodoc-process-docstring", append_snippet, priority=900)
    return {"version": __version__, "parallel_read_safe": True}
