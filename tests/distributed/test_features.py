"""Features and seeds by Ray: real processes on loopback, one start for all tests."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow
import pytest
from pyarrow import parquet

from distributed.processes import PROCESSES
from distributed.ray_driver import SEEDS, compute_features, make_pictures, run
from transfer_tutorial.distributed import (
    connect_to_ray,
    extract_features_on_workers,
    features,
    load_features,
)

# For a machine under heavy load; two idle cores need less than 60.
SECONDS_TO_FINISH = 400
RAY_FOLDERS = "ray-*"


def find_ray_folders():
    return {path.name for path in Path("/tmp").glob(RAY_FOLDERS)}


def find_running(processes):
    """Those of `[pid, time of creation]` that still run."""
    running = []
    for pid, created in processes:
        try:
            if psutil.Process(pid).create_time() == created:
                running.append(pid)
        except psutil.NoSuchProcess:
            pass
    return running


def wait_until_none_runs(processes, seconds=30):
    deadline = time.monotonic() + seconds
    while (running := find_running(processes)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return running


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the process that starts Ray has worked; it is killed if it hangs."""
    folder = tmp_path_factory.mktemp("ray")
    before = find_ray_folders()
    process = PROCESSES.Process(target=run, args=(folder,))
    process.start()
    process.join(SECONDS_TO_FINISH)
    if process.exitcode is None:
        family = psutil.Process(process.pid).children(recursive=True)
        for member in [process, *family]:
            member.kill()
    process.join()
    assert process.exitcode == 0, (folder / "log.txt").read_text()
    (folder / "left.json").write_text(json.dumps(sorted(find_ray_folders() - before)))
    return folder


@pytest.fixture(scope="module")
def seen(folder):
    return json.loads((folder / "seen.json").read_text())


def assert_complete(result, ids):
    order = np.argsort(ids)
    assert result["ids"] == sorted(ids)
    np.testing.assert_allclose(result["features"], compute_features()[order], rtol=1e-6)


def test_features_of_a_folder_are_complete_and_belong_to_their_ids(seen):
    assert_complete(seen["undisturbed"], make_pictures()[0])
    assert seen["undisturbed"]["dtype"] == "float32"


def test_each_actor_builds_one_backbone_and_gets_its_share_of_the_cores(seen):
    assert len(seen["undisturbed"]["actors"]) == 2
    assert seen["undisturbed"]["threads"] == ["1", "1"]


def test_a_finished_run_says_nothing(seen):
    assert seen["log"] == ""


def test_features_of_a_parquet_file_keep_its_ids(seen):
    ids = [100 + i for i in range(len(make_pictures()[0]))]
    assert_complete(seen["from_parquet"], ids)


def test_a_killed_actor_costs_no_row_and_doubles_none(seen):
    disturbed, undisturbed = seen["disturbed"], seen["undisturbed"]
    assert disturbed["killed"] in disturbed["actors"]
    assert len(disturbed["actors"]) == 3  # one more was started
    assert disturbed["ids"] == undisturbed["ids"]
    np.testing.assert_allclose(
        disturbed["features"], undisturbed["features"], rtol=1e-6
    )


def test_actors_that_die_again_and_again_end_the_run_and_leave_nothing(seen, folder):
    assert seen["dying"]["error"].startswith("Actor")
    assert not list(folder.glob("*dying*.parquet")) and not (folder / "dying").exists()
    assert not list(folder.glob(".*.partial"))


def test_a_picture_that_cannot_be_read_is_named(seen, folder):
    assert "cannot identify image file" in seen["broken"]["error"]
    assert "broken/a.png" in seen["broken"]["error"]
    assert not (folder / "of_broken").exists()


def test_what_a_killed_run_has_left_is_not_taken_for_its_own(folder):
    names = [path.suffix for path in (folder / "undisturbed").iterdir()]
    assert set(names) == {".parquet"}
    assert not (folder / ".undisturbed.partial").exists()


def test_more_actors_than_cores_are_refused(seen):
    assert "Received: 3 CPUs needed, 2 found." in seen["too_many"]["error"]


def test_a_connected_process_is_not_connected_elsewhere(seen):
    assert "Received: address='auto'." in seen["connected"]


def test_scores_by_ray_are_those_by_local_processes(seen):
    by_ray, by_loky = seen["seeds_by_ray"], seen["seeds_by_loky"]
    expected = [np.random.default_rng(seed).random() for seed in SEEDS]
    for name in ("a", "b"):
        assert by_ray[name]["accuracy"] == by_loky[name]["accuracy"] == expected


def test_seeds_are_run_by_processes_of_ray(seen):
    used = {
        pid for scores in seen["seeds_by_ray"].values() for pid in scores["process"]
    }
    assert used <= {pid for pid, _ in seen["processes"]}


def test_ray_listens_on_loopback_alone(seen):
    assert {a.removeprefix("::ffff:") for a in seen["addresses"]} == {"127.0.0.1"}


def test_ray_leaves_neither_processes_nor_folders_nor_settings(seen, folder):
    assert seen["processes"]
    assert wait_until_none_runs(seen["processes"]) == []
    assert json.loads((folder / "left.json").read_text()) == []
    assert seen["changed_settings"] == []


def build_nothing():
    raise AssertionError("nothing should be built")


def extract(pictures, output, **options):
    extract_features_on_workers(
        pictures, output, build_nothing, build_nothing, **options
    )


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"")
    return tmp_path / "pictures"


@pytest.mark.parametrize("name", ["num_actors", "batch_size", "cpus_per_actor"])
@pytest.mark.parametrize("number", [0, 1.5])
def test_numbers_below_one_or_broken_are_refused(pictures, tmp_path, name, number):
    with pytest.raises(
        ValueError, match=f"`{name}` must be.*Received: {name}={number}"
    ):
        extract(pictures, tmp_path / "out", **{name: number})


def test_an_output_that_exists_is_refused_and_kept(pictures, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="`output` must not exist yet. .*out"):
        extract(pictures, tmp_path / "out")
    assert (tmp_path / "out").exists()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="`pictures` must be.*Received: .*none"):
        extract(tmp_path / "none", tmp_path / "out")


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "notes.txt").write_text("none here")
    (tmp_path / "pictures" / ".hidden.png").write_text("")
    with pytest.raises(ValueError, match="0 pictures and 0 Parquet files"):
        extract(tmp_path / "pictures", tmp_path / "out")


def test_pictures_beside_parquet_files_are_refused(pictures, tmp_path):
    parquet.write_table(pyarrow.table({"id": [1]}), pictures / "b.parquet")
    with pytest.raises(ValueError, match="1 pictures and 1 Parquet files"):
        extract(pictures, tmp_path / "out")


@pytest.mark.parametrize(
    ("columns", "received"),
    [
        ({"id": [1], "picture": [b""]}, r"\['id', 'picture'\]"),
        ({"id": [1, 2, 1], "image": 3 * [b""]}, "3 rows, 0 without an id, 1 2 times"),
        ({"id": ["a", None], "image": 2 * [b""]}, "2 rows, 1 without an id"),
        ({"id": [], "image": []}, "0 rows"),
    ],
)
def test_rows_without_ids_of_their_own_are_refused(tmp_path, columns, received):
    parquet.write_table(pyarrow.table(columns), tmp_path / "pictures.parquet")
    with pytest.raises(ValueError, match=f"`pictures` must have.*Received: {received}"):
        extract(tmp_path / "pictures.parquet", tmp_path / "out")


def test_without_a_connection_nothing_is_started(pictures, tmp_path):
    with pytest.raises(RuntimeError, match="block of `connect_to_ray`"):
        extract(pictures, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures"]


def test_without_ray_the_error_says_what_to_install(pictures, tmp_path, monkeypatch):
    for name in ("ray", "ray.data"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "transfer-tutorial\[scale\]"'):
        extract(pictures, tmp_path / "out")
    with pytest.raises(ImportError, match=r'pip install "transfer-tutorial\[scale\]"'):
        with connect_to_ray():
            pass


def test_without_pyarrow_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'pip install "transfer-tutorial\[scale\]"'):
        load_features(tmp_path)


def test_features_are_loaded_in_the_order_of_their_ids(tmp_path):
    values = pyarrow.array(np.arange(6, dtype="float32"))
    column = pyarrow.FixedSizeListArray.from_arrays(values, 2)
    table = pyarrow.table({"id": ["c", "a", "b"], "features": column})
    parquet.write_table(table.slice(0, 2), tmp_path / "0.parquet")
    parquet.write_table(table.slice(2), tmp_path / "1.parquet")
    ids, features = load_features(tmp_path)
    assert ids.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(features, [[2, 3], [4, 5], [0, 1]])
    assert features.dtype == "float32"


@pytest.mark.parametrize(
    ("written", "received"),
    [
        (["a", "b"], "1 lost, 0 doubled, of 3"),
        (["a", "b", "b", "c"], "0 lost, 1 doubled"),
    ],
)
def test_lost_and_doubled_rows_are_found_at_the_end(tmp_path, written, received):
    parquet.write_table(pyarrow.table({"id": written}), tmp_path / "0.parquet")
    with pytest.raises(RuntimeError, match=f"ids that were written.*{received}"):
        features._check_written(tmp_path, ["a", "b", "c"])
