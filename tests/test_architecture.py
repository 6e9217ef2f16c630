"""The rules of the package that a machine can check."""

import ast
import builtins
import dis
import importlib
import inspect
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import transfer_tutorial

PACKAGE = Path(transfer_tutorial.__file__).parent
MODULES = sorted(p.stem for p in PACKAGE.glob("*.py") if p.stem != "__init__")
MAX_MODULE_LINES = 300
MAX_BODY_LINES = 30
HEAVY = {"tensorflow", "keras", "torch", "jax"}
# One word per thing: what a parameter must not be called, and what it is called.
OTHER_WORDS = {
    "lr": "learning_rate",
    "feat": "features",
    "feats": "features",
    "n_classes": "num_classes",
    "nc": "num_classes",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "random_state": "seed",
    "rng": "seed",
}
# Functions that cannot be pasted alone, each with its reason. A budget, not a drain.
EXCEPTIONS = {
    "load_cifar10_mini": "reads a bundled file",
    "load_mnist_mini": "reads a bundled file",
    "load_japanese_vowels": "reads a bundled file",
    "load_sentiment": "reads a bundled file",
    "fetch_cifar10": "shares its clean-up after a failed download",
    "fetch_cifar100": "shares its clean-up after a failed download",
    "build_efficientnet_lite0_backbone": "reads bundled weights",
    "attach_imagenet_head": "reads bundled weights",
    "build_source_cnn_backbone": "reads bundled weights",
    "attach_source_head": "reads bundled weights",
    "plot_history": "shares the book's colour of each strategy",
    "plot_shots": "shares the book's colour of each strategy",
    "plot_scores_with_intervals": "shares the book's colour of each strategy",
    "fine_tune_two_phase": "unfreezes with its neighbour `unfreeze_last_layers`",
}


def parse(module):
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


def find_public_functions():
    """(module name, function) of all that a reader may call."""
    for name in MODULES:
        module = importlib.import_module(f"transfer_tutorial.{name}")
        for value in vars(module).values():
            function = inspect.unwrap(value) if callable(value) else None
            if (
                inspect.isfunction(function)
                and function.__module__ == module.__name__
                and not function.__name__.startswith("_")
            ):
                yield name, function


FUNCTIONS = [
    pytest.param(module, function, id=f"{module}.{function.__name__}")
    for module, function in find_public_functions()
]


def find_missing_names(module, function):
    """Names that `function` lacks when only its module's library imports precede it."""
    imports = [
        ast.unparse(node)
        for node in parse(module).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    namespace = {}
    exec("\n".join([*imports, inspect.getsource(function)]), namespace)
    pasted = inspect.unwrap(namespace[function.__name__])
    return find_global_names(pasted.__code__) - set(namespace) - set(dir(builtins))


def find_global_names(code):
    """Names that a code object, or one nested in it, looks up outside itself."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= find_global_names(constant)
    return names


def find_body(node):
    """The statements of a function, without its docstring."""
    return node.body[1:] if ast.get_docstring(node) else node.body


@pytest.mark.parametrize(("module", "function"), FUNCTIONS)
def test_public_function_can_be_pasted_alone(module, function):
    missing = find_missing_names(module, function)
    if function.__name__ in EXCEPTIONS:
        assert missing, "it can be pasted alone: take it out of EXCEPTIONS"
    else:
        assert not missing


def test_exceptions_name_functions_that_exist():
    assert set(EXCEPTIONS) <= {f.__name__ for _, f in find_public_functions()}


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_no_other_stage(module):
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            names = [node.module]
        else:
            continue
        assert not [n for n in names if n.split(".")[0] == "transfer_tutorial"]


@pytest.mark.parametrize("module", ["__init__", *MODULES])
def test_module_fits_in_300_lines(module):
    lines = (PACKAGE / f"{module}.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_MODULE_LINES


@pytest.mark.parametrize("module", MODULES)
def test_function_bodies_fit_on_a_screen(module):
    too_long = {}
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.FunctionDef) and (body := find_body(node)):
            length = body[-1].end_lineno - body[0].lineno + 1
            if length > MAX_BODY_LINES:
                too_long[node.name] = length
    assert not too_long


@pytest.mark.parametrize(("module", "function"), FUNCTIONS)
def test_docstring_tells_arguments_and_answer(module, function):
    text = inspect.getdoc(function) or ""
    assert text, "no docstring"
    for name in inspect.signature(function).parameters:
        documented = rf"^ +([\w*]+, )*\*{{0,2}}{name}(, [\w*]+)*:"
        assert re.search(documented, text, re.MULTILINE), f"`{name}` is not in Args"
    tree = ast.parse(inspect.getsource(function)).body[0]
    answers = any(isinstance(n, ast.Return) and n.value for n in ast.walk(tree))
    assert ("Returns:" in text) == answers


@pytest.mark.parametrize(("module", "function"), FUNCTIONS)
def test_parameters_use_the_words_of_the_house(module, function):
    found = set(inspect.signature(function).parameters) & set(OTHER_WORDS)
    assert not {name: OTHER_WORDS[name] for name in found}


def run_python(code, **environment):
    """What a fresh Python prints."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.split()


LOADED = "import sys; print(*{name.split('.')[0] for name in sys.modules})"


@pytest.mark.parametrize("module", ["evaluation", "transferability", "splits"])
def test_module_loads_no_deep_learning_library(module):
    loaded = run_python(f"import transfer_tutorial.{module}; {LOADED}")
    assert not HEAVY & set(loaded)


def test_the_package_itself_loads_nothing_heavy():
    loaded = run_python(f"import transfer_tutorial; {LOADED}")
    assert not (HEAVY | {"numpy", "sklearn", "scipy", "matplotlib"}) & set(loaded)


@pytest.mark.parametrize(("set_before", "seen"), [(None, "3"), ("0", "0")])
def test_the_package_quietens_tensorflow_unless_told_otherwise(
    monkeypatch, set_before, seen
):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    environment = {"TF_CPP_MIN_LOG_LEVEL": set_before} if set_before else {}
    code = "import transfer_tutorial, os; print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    assert run_python(code, **environment) == [seen]
