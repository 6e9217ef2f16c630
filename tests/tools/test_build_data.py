"""The tools that make the bundled files: their rules, on inputs that fit on a line."""

import hashlib
import pickle

import numpy as np
import pytest

import build_data
import build_weights
import bundling


def test_first_of_each_class_keeps_the_original_order():
    y = np.array([2, 0, 0, 2, 0, 2])
    assert build_data.first_of_each_class(y, 2).tolist() == [0, 1, 2, 3]


def test_interleaving_takes_the_classes_in_turn():
    y = np.array([0, 0, 0, 1, 1, 2])
    assert build_data.interleave_classes(y).tolist() == [0, 3, 5, 1, 4, 2]


def test_a_test_image_that_is_a_training_image_stops_the_build(tmp_path):
    x, y = np.zeros((2, 4, 4), "uint8"), np.array([0, 1])
    x[1] = 7
    with pytest.raises(SystemExit, match=r"1 test images of set\.npz"):
        build_data.write_images(tmp_path / "set.npz", x, y, x[1:], y[1:])
    assert not list(tmp_path.iterdir())


def test_series_are_zero_after_their_end():
    text = "#comment\n@data\n1,2,3:4,5,6:1\n7:8:2\n"
    x, lengths, y = build_data.parse_ts(text, max_length=4)
    assert lengths.tolist() == [3, 1] and y.tolist() == [0, 1]
    assert x[0].tolist() == [[1, 4], [2, 5], [3, 6], [0, 0]]
    assert x[1].tolist() == [[7, 8], [0, 0], [0, 0], [0, 0]]


def test_cleaned_text_has_no_entities_and_single_spaces():
    assert build_data.clean_text(" Lord &amp;amp; Taylor  &lt;3 ") == "Lord & Taylor <3"


def test_rewritten_tweets_are_one_document_and_others_are_not():
    texts = ["Good day today.", "GOOD day today!!!", "@anonymous no", "good day all"]
    assert build_data.group_near_duplicates(texts) == [0, 0, 2, 3]


def test_placeholders_do_not_make_tweets_alike():
    texts = ["@anonymous yes http://url_removed", "@anonymous no http://url_removed"]
    assert build_data.group_near_duplicates(texts) == [0, 1]


def test_near_duplicates_group_through_a_chain():
    texts = ["a b c", "a b c d", "b c d e"]  # 3/4, then 3/5; first and last only 2/5
    assert build_data.group_near_duplicates(texts) == [0, 0, 0]
    assert build_data.group_near_duplicates(texts, similarity=0.7) == [0, 0, 2]


def test_a_quarter_of_the_documents_is_for_testing():
    splits = [build_data.choose_split(f"movies-{n}") for n in range(4000)]
    assert set(splits) == {"train", "test"}
    # four standard deviations of a share of 0.25 among 4,000
    assert abs(splits.count("test") / 4000 - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5


def test_repeated_texts_and_texts_without_letters_are_left_out():
    records = [("1_1", "2", "Fine."), ("1_2", "-1.25", "!"), ("2_1", "1", " Fine. ")]
    rows, left_out = build_data.clean_domain("products", records)
    assert [row[:4] for row in rows] == [["products", "products-1", "2.0000", "Fine."]]
    assert left_out == {"repeated": 1, "without a letter": 1}


def test_npz_files_have_the_same_bytes_each_time_and_need_no_pickle(tmp_path):
    arrays = {"x": np.arange(6, dtype="float16").reshape(2, 3), "y": np.array([1, 2])}
    for name in ("a.npz", "b.npz"):
        bundling.write_npz(tmp_path / name, arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        assert {name: stored[name].tolist() for name in stored.files} == {
            name: array.tolist() for name, array in arrays.items()
        }


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half(temporary):
        temporary.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        bundling.write_whole(path, write_half)
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["no-such-client"], "needs `no-such-client`"),
        (["false"], "Check the connection"),
        (["touch", "other.tgz"], "other.tgz"),
        (["touch", "good.tgz"], "should have the SHA-256"),
    ],
)
def test_a_failed_download_says_why_and_keeps_nothing(
    tmp_path, monkeypatch, command, message
):
    archive = (command, "1", "good.tgz", hashlib.sha256(b"good").hexdigest())
    monkeypatch.setitem(bundling.ARCHIVES, "good", archive)
    with pytest.raises(SystemExit, match=message):
        bundling.fetch_archive("good", tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_archive_with_the_right_digest_is_fetched_once(tmp_path, monkeypatch):
    command = ["sh", "-c", "printf good > good.tgz"]
    archive = (command, "1", "good.tgz", hashlib.sha256(b"good").hexdigest())
    monkeypatch.setitem(bundling.ARCHIVES, "good", archive)
    path = bundling.fetch_archive("good", tmp_path)
    assert path.read_bytes() == b"good"
    monkeypatch.setitem(bundling.ARCHIVES, "good", (["false"], *archive[1:]))
    assert bundling.fetch_archive("good", tmp_path) == path


def test_checksums_are_those_of_sha256sum(tmp_path):
    (tmp_path / "b").write_bytes(b"")
    bundling.write_checksums(tmp_path, ["b"])
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert (tmp_path / "SHA256SUMS").read_text() == f"{digest}  b\n"


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    with pytest.raises(pickle.UnpicklingError, match="does not belong"):
        build_weights.read_torch_weights(pickle.dumps(Evil()))


def test_strided_storage_becomes_the_right_array():
    storage = np.arange(10, dtype="float32")
    array = build_weights.cut_out(storage, 1, (2, 3), (1, 2))  # column by column
    assert array.tolist() == [[1, 3, 5], [2, 4, 6]]
    with pytest.raises(SystemExit, match="leaves its storage"):
        build_weights.cut_out(storage, 6, (2, 3), (1, 2))


@pytest.mark.parametrize(
    ("torch_name", "name"),
    [
        ("_conv_stem.weight", "stem_conv/kernel"),
        ("_blocks.0._bn2.running_var", "block_1_project_batch_norm/moving_variance"),
        ("_blocks.15._depthwise_conv.weight", "block_16_depthwise_conv/kernel"),
        ("_bn1.bias", "top_batch_norm/beta"),
        ("_fc.weight", "head/kernel"),
        ("_bn0.num_batches_tracked", None),
    ],
)
def test_weights_get_the_names_of_keras_layers(torch_name, name):
    assert build_weights.rename_torch_weight(torch_name) == name


def test_crops_are_windows_of_the_image_or_of_its_mirror_image():
    x = np.random.default_rng(0).integers(256, size=(8, 32, 32, 3)).astype("uint8")
    crops = build_weights.augment(x, 24, rng=np.random.default_rng(1))
    mirrored = []
    for image, crop in zip(x, crops, strict=True):
        found = {
            flip
            for flip, view in ((False, image), (True, image[:, ::-1]))
            for row in range(9)
            for column in range(9)
            if np.array_equal(view[row : row + 24, column : column + 24], crop)
        }
        assert len(found) == 1
        mirrored += found
    assert set(mirrored) == {True, False}


def test_held_out_images_are_of_every_class_and_not_trained_on():
    x, y = np.arange(12), np.repeat([0, 1, 2], 4)
    (x_kept, y_kept), (x_held, y_held) = build_weights.hold_out(x, y, 1)
    assert x_held.tolist() == [3, 7, 11] and y_held.tolist() == [0, 1, 2]
    assert sorted([*x_kept, *x_held]) == x.tolist() and len(y_kept) == 9


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero():
    rates = [build_weights.one_cycle(progress) for progress in (0, 0.1, 0.2, 0.6, 1)]
    peak = build_weights.PEAK_LEARNING_RATE
    assert np.allclose(rates, [0, peak / 2, peak, peak / 2, 0])
