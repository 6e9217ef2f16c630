import numpy as np
import pytest

from transfer_tutorial.distributed import EpochCheckpoints


def make_arrays(epoch):
    return {"position": np.array([epoch, 7]), "weights": np.full((2, 3), epoch / 3)}


def assert_equal(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], expected[name])


@pytest.fixture
def checkpoints(tmp_path):
    checkpoints = EpochCheckpoints(tmp_path / "made" / "when_needed")
    for epoch in (8, 9, 10):
        checkpoints.save(epoch, make_arrays(epoch))
    return checkpoints


def list_names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_the_newest_is_read(checkpoints):
    assert_equal(checkpoints.load_newest(), make_arrays(10))


def test_an_empty_or_missing_folder_has_no_newest(tmp_path):
    assert EpochCheckpoints(tmp_path).load_newest() is None
    assert EpochCheckpoints(tmp_path / "missing").load_newest() is None


def test_the_oldest_are_deleted(checkpoints):
    checkpoints.save(11, make_arrays(11))
    assert list_names(checkpoints) == [f"epoch_{n:05d}.npz" for n in (9, 10, 11)]


def test_how_many_to_keep_must_be_at_least_one(tmp_path):
    with pytest.raises(ValueError, match="`keep` must be at least 1. Received: keep=0"):
        EpochCheckpoints(tmp_path, keep=0)


def test_a_process_that_dies_while_it_writes_leaves_the_older_files(
    checkpoints, monkeypatch
):
    def die(descriptor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", die)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(10, make_arrays(0))
    assert "epoch_00010.tmp" in list_names(checkpoints)
    assert_equal(checkpoints.load_newest(), make_arrays(10))  # without a warning
    checkpoints.save(11, make_arrays(11))
    assert list_names(checkpoints) == [f"epoch_{n:05d}.npz" for n in (9, 10, 11)]


def test_a_file_cut_short_anywhere_is_skipped_with_a_warning(checkpoints):
    path = checkpoints.folder / "epoch_00010.npz"
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.warns(UserWarning, match="epoch_00010.npz is damaged and is skip"):
            assert_equal(checkpoints.load_newest(), make_arrays(9))


def test_a_file_with_one_byte_changed_is_skipped_with_a_warning(checkpoints):
    path = checkpoints.folder / "epoch_00010.npz"
    content = path.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.warns(UserWarning, match="epoch_00010.npz is damaged and is skip"):
            assert_equal(checkpoints.load_newest(), make_arrays(9))


def test_a_file_is_one_that_numpy_reads(checkpoints):
    with np.load(checkpoints.folder / "epoch_00010.npz") as stored:
        assert_equal(dict(stored), make_arrays(10))


def test_two_damaged_files_are_skipped_and_three_leave_nothing(checkpoints):
    paths = sorted(checkpoints.folder.iterdir())
    for path in paths[1:]:
        path.write_bytes(b"not an archive")
    with pytest.warns(UserWarning, match="damaged") as caught:
        assert_equal(checkpoints.load_newest(), make_arrays(8))
    assert len(caught) == 2
    paths[0].write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged") as caught:
        assert checkpoints.load_newest() is None
    assert len(caught) == 3
