"""The rules of the package that a machine can check."""

import ast
import builtins
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import transfer_tutorial
from global_names import find_global_names

PACKAGE = Path(transfer_tutorial.__file__).parent
# Every file by its dotted name in the package: "splits", "evaluation.scores". A folder
# is a module that outgrew one file: its `__init__` gathers, and defines nothing.
FILES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
)
MODULES = [name for name in FILES if not name.endswith("__init__")]
FOLDERS = sorted({name.rpartition(".")[0] for name in FILES if "." in name})
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
# What cannot be pasted alone, each with its reason. A budget, not a drain.
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
    "build_minilm_backbone": "reads bundled weights",
    "load_minilm_tokenizer": "reads a bundled file",
    "build_transformer_backbone": "attends by its neighbour `_attend`; paste both",
    "plot_history": "shares the book's colour of each strategy",
    "plot_shots": "shares the book's colour of each strategy",
    "plot_scores_with_intervals": "shares the book's colour of each strategy",
    "fine_tune_two_phase": "unfreezes with its neighbour `unfreeze_last_layers`",
    "audit_fine_tuning": "puts the checks of its file together; paste the file",
    "fold_batch_norm": "computes each new layer with `_fold`; paste the file",
    "convert_to_tflite": "hides C++ log lines with `_hide_log`; paste the file",
    "predict_tflite": "hides C++ log lines with `_hide_log`; paste the file",
    "check_cluster": "reads the variable by its neighbour `read_tf_config`; paste both",
    "train_on_workers": "shares rows and state by helpers of its file; paste the file",
    "evaluate_on_workers": "shares rows by the helpers of its file; paste the file",
    "connect_to_ray": "starts Ray by the helpers of its file; paste the file",
    "extract_features_on_workers": "shares out by helpers of its file; paste the file",
    "add_l2_sp": "adds the penalty of its neighbour `L2SP`",
    "add_lora": "wraps layers in its neighbour `LoRA`",
    "merge_lora": "looks for its neighbour `LoRA`",
    "add_adapters": "wraps layers in its neighbour `BottleneckAdapter`",
}


def find_path(module):
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")


def parse(module):
    return ast.parse(find_path(module).read_text(encoding="utf-8"))


def find_public(is_wanted):
    """(module name, function or class) of all that a reader may call."""
    for name in MODULES:
        module = importlib.import_module(f"transfer_tutorial.{name}")
        for value in vars(module).values():
            value = inspect.unwrap(value) if callable(value) else None
            if (
                is_wanted(value)
                and value.__module__ == module.__name__
                and not value.__name__.startswith("_")
            ):
                yield name, value


def make_parameters(pairs):
    return [pytest.param(*pair, id=f"{pair[0]}.{pair[1].__name__}") for pair in pairs]


FUNCTIONS = make_parameters(find_public(inspect.isfunction))
CLASSES = make_parameters(find_public(inspect.isclass))
# The checks of exercises are run, not pasted: they share how they compare and complain.
PASTED = [p for p in FUNCTIONS + CLASSES if not p.values[0].startswith("exercises.")]


def find_missing_names(module, thing):
    """Names that `thing` lacks when only its module's library imports precede it."""
    imports = [
        ast.unparse(node)
        for node in parse(module).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    namespace = {}
    exec("\n".join(imports), namespace)
    code = compile(inspect.getsource(thing), module, "exec")
    return find_global_names(code) - set(namespace) - set(dir(builtins))


def find_parameters(thing):
    """What a caller may pass to a function, or to the `__init__` of a class."""
    if inspect.isclass(thing):
        thing = vars(thing).get("__init__", lambda self: None)
        parameters = list(inspect.signature(thing).parameters.values())[1:]
        return [p.name for p in parameters if p.kind != p.VAR_KEYWORD]
    return list(inspect.signature(thing).parameters)


def find_body(node):
    """The statements of a function, without its docstring."""
    return node.body[1:] if ast.get_docstring(node) else node.body


@pytest.mark.parametrize(("module", "thing"), PASTED)
def test_public_function_or_class_can_be_pasted_alone(module, thing):
    missing = find_missing_names(module, thing)
    if thing.__name__ in EXCEPTIONS:
        assert missing, "it can be pasted alone: take it out of EXCEPTIONS"
    else:
        assert not missing


def test_exceptions_name_what_exists():
    assert set(EXCEPTIONS) <= {p.values[1].__name__ for p in FUNCTIONS + CLASSES}


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_gathers_all_that_its_files_define_and_nothing_else(folder):
    docstring, *imports, exported = parse(f"{folder}.__init__").body
    assert isinstance(docstring, ast.Expr)
    found = set()
    for node in imports:
        assert isinstance(node, ast.ImportFrom), f"line {node.lineno}: no import"
        found |= {(node.module, alias.name) for alias in node.names}
    public = {p.values for p in FUNCTIONS + CLASSES}
    assert found == {
        (f"transfer_tutorial.{module}", thing.__name__)
        for module, thing in public
        if module.startswith(f"{folder}.")
    }
    # The reference shows what `__all__` lists, in this order.
    assert ast.unparse(exported.targets[0]) == "__all__"
    assert sorted(ast.literal_eval(exported.value)) == sorted(n for _, n in found)


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
        folder = module.rpartition(".")[0]  # whose files may share what they need
        for name in names:
            if name.split(".")[0] == "transfer_tutorial":
                assert folder and name.startswith(f"transfer_tutorial.{folder}.")


@pytest.mark.parametrize("module", FILES)
def test_module_fits_in_300_lines(module):
    lines = find_path(module).read_text(encoding="utf-8").splitlines()
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


@pytest.mark.parametrize(("module", "thing"), FUNCTIONS + CLASSES)
def test_docstring_tells_every_argument(module, thing):
    text = inspect.cleandoc(thing.__doc__ or "")  # its own, not an inherited one
    assert text, "no docstring"
    for name in find_parameters(thing):
        documented = rf"^ +([\w*]+, )*\*{{0,2}}{name}(, [\w*]+)*:"
        assert re.search(documented, text, re.MULTILINE), f"`{name}` is not in Args"


@pytest.mark.parametrize(("module", "function"), FUNCTIONS)
def test_docstring_tells_the_answer_if_there_is_one(module, function):
    tree = ast.parse(inspect.getsource(function)).body[0]
    answers = any(isinstance(n, ast.Return) and n.value for n in ast.walk(tree))
    assert ("Returns:" in inspect.getdoc(function)) == answers


@pytest.mark.parametrize(("module", "thing"), FUNCTIONS + CLASSES)
def test_parameters_use_the_words_of_the_house(module, thing):
    found = set(find_parameters(thing)) & set(OTHER_WORDS)
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


@pytest.mark.parametrize(
    "module", ["evaluation", "linear_probe", "splits", "transferability"]
)
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
