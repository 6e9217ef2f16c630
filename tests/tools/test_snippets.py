import builtins
import importlib
import inspect
import pkgutil
import re

import pytest

import transfer_tutorial
from global_names import find_global_names
from snippets import append_snippet, make_snippet


def find_public():
    """All functions and classes that the reference describes."""
    for info in pkgutil.iter_modules(transfer_tutorial.__path__):
        module = importlib.import_module(f"transfer_tutorial.{info.name}")
        for name, value in vars(module).items():
            thing = inspect.unwrap(value) if callable(value) else None
            if (inspect.isfunction(thing) or inspect.isclass(thing)) and (
                thing.__module__.startswith(module.__name__) and name[0] != "_"
            ):
                yield pytest.param(thing, id=f"{info.name}.{name}")


PUBLIC = list(find_public())


def run_in_empty_namespace(source):
    namespace = {"__name__": "pasted"}
    exec(source, namespace)
    return namespace


@pytest.mark.parametrize("thing", PUBLIC)
def test_snippet_runs_in_an_empty_namespace_and_defines_the_thing(thing):
    snippet = make_snippet(thing)
    pasted = run_in_empty_namespace(snippet)[thing.__name__]
    if not (inspect.isclass(thing) and issubclass(thing, Exception)):  # has none
        expected = list(inspect.signature(thing).parameters)
        assert list(inspect.signature(pasted).parameters) == expected
    needed = find_global_names(compile(snippet, "snippet", "exec"))
    assert not needed - set(dir(builtins))


def test_snippet_computes_what_the_package_computes():
    from transfer_tutorial import evaluation

    pasted = run_in_empty_namespace(make_snippet(evaluation.compare_paired))
    a, b = [0.7, 0.8, 0.75, 0.9], [0.6, 0.7, 0.7, 0.8]
    assert pasted["compare_paired"](a, b) == evaluation.compare_paired(a, b)


def test_neighbours_come_along_in_the_order_of_the_file():
    from transfer_tutorial import l2_sp

    snippet = make_snippet(l2_sp.add_l2_sp)
    assert snippet.index("class L2SP") < snippet.index("def add_l2_sp")


def test_only_used_imports_are_pasted():
    from transfer_tutorial import splits

    for param in PUBLIC:
        snippet = make_snippet(param.values[0])
        head, _, body = snippet.partition("\n\n\n")
        for name in re.findall(r"^import (?:.* as )?(\w+)", head, re.M):
            assert re.search(rf"\b{name}\b", body), (param.id, name)
    assert "import numpy as np" in make_snippet(splits.few_shot_indices)


def test_what_reads_a_bundled_file_is_imported():
    from transfer_tutorial import datasets

    assert make_snippet(datasets.load_mnist_mini).startswith(
        "from transfer_tutorial.datasets import load_mnist_mini"
    )


def test_what_needs_a_file_beside_its_own_is_imported():
    from transfer_tutorial import exercises

    assert make_snippet(exercises.check_gru_step).startswith(
        "from transfer_tutorial.exercises import check_gru_step"
    )


def test_docstrings_keep_their_first_line_and_code_its_comments():
    from transfer_tutorial import fine_tuning

    snippet = make_snippet(fine_tuning.reset_training)
    assert '    """Set the weights of a compiled classifier' in snippet
    assert "Args:" not in snippet
    assert "# else the first trace creates the state" in snippet


def test_description_of_a_function_ends_with_its_snippet():
    from transfer_tutorial import splits

    lines = ["What it does."]
    append_snippet(None, "function", "x", splits.few_shot_indices, None, lines)
    assert lines[0] == "What it does." and ".. dropdown:: To paste" in lines
    assert "      def few_shot_indices(" in "\n".join(lines)


def test_a_module_gets_no_snippet():
    lines = ["A module."]
    append_snippet(None, "module", "x", transfer_tutorial, None, lines)
    assert lines == ["A module."]
