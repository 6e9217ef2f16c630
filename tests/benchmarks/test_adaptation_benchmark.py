"""The comparison with another library is fair on our half, and says what it found."""

import importlib
import io
import json
import math
import re
import sys
from contextlib import redirect_stdout

import numpy as np
import pytest

from execute import ROOT
from stored_results import PATH, find_leaves

STORED = ROOT / "benchmarks" / "results" / "adaptation.json"
REPORT_KEYS = {"benchmark", "date", "machine", "settings", "other", "summary", "rows"}
OURS = {"method", "weight", "seed", "ours_accuracy", "ours_seconds", "ours_cpu_seconds"}
BOTH = OURS | set(
    "other_accuracy other_seconds other_cpu_seconds ratio cpu_ratio "
    "probability_difference".split()
)
# Answers "class 0" to everything, in four seconds, and keeps what it was asked.
FAKE_WORKER = """
import json, sys
import numpy as np
print(json.dumps({"skada": "fake"}), flush=True)
for line in sys.stdin:
    question = json.loads(line)
    with np.load(question["arrays"]) as file:
        rows, names = len(file["x_test"]), sorted(file)
    np.save(question["answer"], np.eye(10)[np.zeros(rows, int)])
    with open(__file__ + ".asked", "a") as log:
        log.write(json.dumps({"names": names} | question["case"]) + "\\n")
    print(json.dumps([4.0, 8.0]), flush=True)
"""


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("adaptation")


@pytest.fixture(scope="module")
def quick(benchmark, tmp_path_factory):
    """What a quick run without the other library wrote and printed."""
    path = tmp_path_factory.mktemp("results") / "adaptation.json"
    with redirect_stdout(io.StringIO()) as output:
        benchmark.main(["--quick", "--output", str(path)])
    return json.loads(path.read_text(encoding="utf-8")), output.getvalue()


@pytest.fixture
def stored():
    return json.loads(STORED.read_text(encoding="utf-8"))


def only(benchmark, *methods):
    weights = {method: [None] for method in methods}
    return benchmark.QUICK | {"weights": weights}


def draw(benchmark, settings):
    domains = benchmark.load_domains(settings)
    return benchmark.draw_task(domains, 0, settings), domains


def check_content(benchmark, content):
    assert set(content) == REPORT_KEYS
    expected = OURS if content["other"] is None else BOTH
    assert all(set(row) == expected for row in content["rows"])
    assert all(set(line) == set(benchmark.SUMMARY_KEYS) for line in content["summary"])
    numbers = [x for x in find_leaves(content) if isinstance(x, (int, float))]
    assert numbers and all(map(math.isfinite, numbers))


def test_without_the_other_library_our_half_is_measured_and_said_to_be_half(
    benchmark, quick
):
    content, printed = quick
    check_content(benchmark, content)
    assert content["other"] is None and "our half only" in printed
    assert all(line["other_accuracy"] is None for line in content["summary"])
    assert len(printed.splitlines()) >= len(content["summary"]) + 2


def test_the_stored_result_compares_both_halves_over_five_seeds(benchmark, stored):
    check_content(benchmark, stored)
    assert not stored["settings"]["quick"] and stored["other"]["skada"]
    assert all(line["seeds"] == 5 for line in stored["summary"])
    assert {line["method"] for line in stored["summary"]} == set(
        benchmark.FULL["weights"]
    )
    assert not [x for x in find_leaves(stored) if isinstance(x, str) and PATH.search(x)]


def test_the_summary_is_that_of_the_rows(stored):
    for line in stored["summary"]:
        case = line["method"], line["weight"]
        rows = [r for r in stored["rows"] if (r["method"], r["weight"]) == case]
        gains = [row["ours_accuracy"] - row["other_accuracy"] for row in rows]
        assert line["difference"] == pytest.approx(np.mean(gains))
        # t of 4 degrees of freedom, two-sided 95 %
        margin = 2.7764451 * np.std(gains, ddof=1) / math.sqrt(5)
        assert line["high"] - line["difference"] == pytest.approx(margin, abs=1e-9)
        better, worse = line["low"] > 0, line["high"] < 0
        verdict = "better" if better else "worse" if worse else "no evidence"
        assert line["verdict"] == verdict


def test_our_half_alone_does_not_replace_the_stored_result(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "QUICK", only(benchmark, "CORAL"))
    before = STORED.read_bytes()
    with redirect_stdout(io.StringIO()) as output:
        benchmark.main(["--quick"])
    assert STORED.read_bytes() == before and "written" not in output.getvalue()


def test_the_default_discriminator_of_the_other_library_changed_no_accuracy(stored):
    def find(method):
        rows = [row for row in stored["rows"] if row["method"] == method]
        return [row["other_accuracy"] for row in rows]

    assert find("DANN, SKADA's discriminator") == find("source only")


def test_the_recorded_rows_are_those_that_fit_learns_from(benchmark):
    settings = only(benchmark, "source only")
    data, _ = draw(benchmark, settings)
    case, side = {"method": "source only", "weight": None}, benchmark.OurSide(settings)
    side.train(case, data, 0)
    by_hand = benchmark.build_model("source only", data, settings | {"rows": 20})
    benchmark.begin(by_hand, case, data)
    for rows in data["source_rows"].reshape(-1, settings["batch_size"]):
        by_hand.train_on_batch(data["x_source"][rows], data["y_source"][rows])
    trained = side.models["source only"].get_weights()
    for weight, expected in zip(trained, by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6)


def test_an_epoch_takes_each_row_of_both_domains_once_and_in_a_new_order(benchmark):
    settings = only(benchmark, "source only")
    data, _ = draw(benchmark, settings)
    for name in ("source_rows", "target_rows"):
        epochs = data[name].reshape(settings["epochs"], -1)
        for epoch in epochs:
            assert sorted(epoch) == list(range(settings["rows"]))
        assert (epochs[0] != epochs[1]).any()
    assert (data["source_rows"] != data["target_rows"]).any()


def test_every_training_begins_from_the_weights_of_its_seed(benchmark):
    settings = benchmark.QUICK
    data, _ = draw(benchmark, settings)
    case = {"method": "DANN", "weight": 0.5}
    model = benchmark.build_model("DANN", data, settings)
    benchmark.fit(model, data, 0, settings)
    benchmark.begin(model, case, data)
    for i, weight in enumerate(model.classifier.get_weights()):
        np.testing.assert_array_equal(weight, data[f"weight_{i}"])
    for i, variable in enumerate(model.alignment.trainable_variables):
        np.testing.assert_array_equal(variable.numpy(), data[f"discriminator_{i}"])
    assert float(model.weight.numpy()) == 0.5


def test_standardized_source_has_mean_0_and_variance_1_or_0(benchmark):
    x = np.array([[0, 5, 1], [2, 5, 3], [4, 5, 8]], "float32")
    z = benchmark.standardize(x, x)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(z.var(axis=0), [1, 0, 1], atol=1e-6)


def test_the_other_library_gets_no_target_label_and_is_scored_on_the_same_rows(
    benchmark, monkeypatch, tmp_path
):
    worker = tmp_path / "worker.py"
    worker.write_text(FAKE_WORKER, encoding="utf-8")
    monkeypatch.setattr(benchmark, "WORKER", worker)
    settings = only(benchmark, "CORAL")
    rows, summary, versions = benchmark.measure(settings, sys.executable)
    asked = (tmp_path / "worker.py.asked").read_text(encoding="utf-8").splitlines()
    asked = [json.loads(line) for line in asked]
    assert versions == {"skada": "fake"}
    assert len(asked) == 1 + settings["seeds"]  # the first one is not counted
    assert all(question["method"] == "CORAL" for question in asked)
    labels = [name for name in asked[0]["names"] if name.startswith("y")]
    assert labels == ["y_source"]
    _, (_, y_test) = draw(benchmark, settings)[1][1:]
    for row in rows:
        assert row["other_accuracy"] == np.mean(y_test == 0)
        assert row["ratio"] == pytest.approx(4 / row["ours_seconds"])
    gains = [row["ours_accuracy"] - row["other_accuracy"] for row in rows]
    assert summary[0]["difference"] == pytest.approx(np.mean(gains))


def test_the_side_that_begins_changes_from_seed_to_seed(benchmark):
    order, y = [], np.zeros(4, int)

    class Side:
        def __init__(self, name):
            self.name = name

        def train(self, case, data, seed):
            order.append(self.name)
            return np.eye(2)[y], (1.0, 1.0)

    sides = {name: Side(name) for name in ("ours", "other")}
    for seed in range(2):
        benchmark.compare({"method": "", "weight": None}, sides, None, y, seed)
    assert order == ["ours", "other", "other", "ours"]


def test_an_interpreter_that_cannot_run_the_worker_is_named(
    benchmark, monkeypatch, tmp_path
):
    worker = tmp_path / "worker.py"
    worker.write_text("raise SystemExit", encoding="utf-8")
    monkeypatch.setattr(benchmark, "WORKER", worker)
    with pytest.raises(RuntimeError, match=re.escape(sys.executable)):
        benchmark.measure(only(benchmark, "CORAL"), sys.executable)
