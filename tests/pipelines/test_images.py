import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from transfer_tutorial.pipelines import (
    build_augmentation,
    list_image_folder,
    load_images,
    make_dataset,
)


def read_rows(dataset):
    """All rows of a dataset of unlabelled batches, in the order of one epoch."""
    return np.concatenate([x.numpy() for x in dataset]).tolist()


def test_dataset_keeps_the_order_the_types_and_the_values(tiny_images):
    x, y = tiny_images
    parts = zip(*make_dataset(x, y, batch_size=10), strict=True)
    for part, expected in zip(parts, (x, y), strict=True):
        values = np.concatenate([tensor.numpy() for tensor in part])
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values, expected)


def test_dataset_has_full_batches_and_a_smaller_last_one():
    dataset = make_dataset(np.arange(10), batch_size=4)
    assert [len(x) for x in dataset] == [4, 4, 2]
    assert len(dataset) == 3


def test_dataset_without_labels_has_inputs_only():
    assert read_rows(make_dataset(np.arange(5), batch_size=2)) == [0, 1, 2, 3, 4]


def test_dataset_of_texts_keeps_them():
    [batch] = make_dataset(np.array(["good", "bad"]), [1, 0])
    assert batch[0].numpy().tolist() == [b"good", b"bad"]


def test_shuffled_dataset_draws_every_row_once_and_a_new_order_each_epoch():
    dataset = make_dataset(np.arange(100), shuffle=True)
    first, second = read_rows(dataset), read_rows(dataset)
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second and list(range(100)) not in (first, second)


def test_shuffled_dataset_can_send_any_row_anywhere():
    # A buffer smaller than the data would keep late rows out of the first batch.
    dataset = make_dataset(np.arange(1000), batch_size=100, shuffle=True)
    assert max(next(iter(dataset)).numpy()) > 900


def test_shuffled_dataset_keeps_labels_with_their_rows():
    rows = np.arange(100)
    for x, y in make_dataset(rows, rows * 7, shuffle=True):
        np.testing.assert_array_equal(y, x.numpy() * 7)


def test_shuffled_dataset_repeats_with_the_same_seed_and_differs_with_another():
    first, again, other = (
        [read_rows(dataset), read_rows(dataset)]
        for dataset in (
            make_dataset(np.arange(100), shuffle=True, seed=s) for s in (1, 1, 2)
        )
    )
    assert first == again != other


def test_augmentation_leaves_images_unchanged_at_inference(tiny_images):
    images = tiny_images[0]
    augmentation = build_augmentation()
    np.testing.assert_array_equal(augmentation(images), images)
    np.testing.assert_array_equal(augmentation(images, training=False), images)
    np.testing.assert_array_equal(augmentation.predict(images, verbose=0), images)


EACH_AUGMENTATION = pytest.mark.parametrize(
    "options",
    [
        {"rotation": 0, "zoom": 0},
        {"flip": None, "rotation": 0.5, "zoom": 0},
        {"flip": None, "rotation": 0, "zoom": 0.5},
    ],
    ids=["flip", "rotation", "zoom"],
)


@EACH_AUGMENTATION
def test_each_augmentation_changes_images_and_keeps_shape_and_range(
    tiny_images, options
):
    images = tiny_images[0]
    augmented = build_augmentation(**options)(images, training=True)
    assert augmented.shape == images.shape and augmented.dtype == "float32"
    changed = np.any(augmented != images, axis=(1, 2, 3))
    # By chance alone, a flip spares all but ten of 48 images once in 20,000 times.
    assert changed.sum() > 10
    low, high = np.min(augmented), np.max(augmented)
    assert images.min() - 1e-3 <= low <= high <= images.max() + 1e-3


@pytest.mark.parametrize(
    ("flip", "axes"),
    [
        ("horizontal", [(1,)]),
        ("vertical", [(0,)]),
        # Keras 3.15 draws one number for both axes and so never mirrors along one.
        ("horizontal_and_vertical", [(0, 1), (0,), (1,)]),
    ],
)
def test_flips_are_the_mirror_images_asked_for(tiny_images, flip, axes):
    images = tiny_images[0]
    augmented = build_augmentation(flip=flip, rotation=0, zoom=0)(images, training=True)
    seen = set()
    for image, result in zip(images, np.asarray(augmented), strict=True):
        candidates = {(): image, **{axis: np.flip(image, axis) for axis in axes}}
        [match] = [a for a, mirror in candidates.items() if np.all(result == mirror)]
        seen.add(match)
    assert seen >= {(), axes[0]}


def test_turned_and_shrunk_images_have_no_black_corners():
    white = np.full((20, 8, 8, 3), 200, "uint8")
    augmented = build_augmentation(rotation=0.5, zoom=0.5)(white, training=True)
    np.testing.assert_allclose(augmented, 200, rtol=1e-4)


@EACH_AUGMENTATION
def test_augmentation_repeats_with_the_same_seed_and_differs_with_another(
    tiny_images, options
):
    first, again, other = (
        np.asarray(build_augmentation(seed=s, **options)(tiny_images[0], training=True))
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_mapped_augmentation_is_drawn_anew_in_every_epoch_unless_cached(tiny_images):
    augmentation = build_augmentation()

    def augment(x, y):
        return augmentation(x, training=True), y

    dataset = make_dataset(*tiny_images, batch_size=48).map(augment)
    cached = dataset.cache()
    [fresh], [later] = ([x for x, _ in dataset] for _ in range(2))
    assert np.any(fresh != later)
    [stale], [repeated] = ([x for x, _ in cached] for _ in range(2))
    np.testing.assert_array_equal(stale, repeated)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: make_dataset(np.zeros((0, 2))),
            r"`x` .* Received: len\(x\)=0, batch_size=32",
        ),
        (
            lambda: make_dataset([1, 2], batch_size=0),
            r"`batch_size` .* Received: len\(x\)=2, batch_size=0",
        ),
        (
            lambda: make_dataset([1, 2], [0]),
            r"`x` and `y` .* Received: len\(x\)=2, len\(y\)=1",
        ),
        (
            lambda: make_dataset(np.full((2, 8, 8, 3), 0.5, "float32")),
            r"`x` must hold images in 0\.\.\.255.* Received: float32 .* maximum 0.5",
        ),
        (
            lambda: build_augmentation(flip="diagonal"),
            "`flip` must be one of .* Received: 'diagonal'",
        ),
        (
            lambda: build_augmentation(rotation=90),
            "`rotation` and `zoom` .* Received: rotation=90, zoom=0.1",
        ),
        (
            lambda: build_augmentation(zoom=-0.1),
            "`rotation` and `zoom` .* Received: rotation=0.05, zoom=-0.1",
        ),
        (
            lambda: build_augmentation(flip=None, rotation=0, zoom=0),
            "`flip`, `rotation` and `zoom` .* Received: flip=None, rotation=0, zoom=0",
        ),
    ],
)
def test_bad_input_names_the_argument_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_dark_images_and_rows_in_zero_to_one_that_are_no_images_are_accepted(dtype):
    black = np.zeros((2, 8, 8, 3), dtype)
    assert read_rows(make_dataset(black)) == black.tolist()
    features = np.full((2, 3), 0.5, "float32")
    assert read_rows(make_dataset(features)) == features.tolist()


def write_pictures(folder, *names, color=(200, 100, 50)):
    """Write a picture of 4x4 in one colour under each of the names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), color).save(path)
    return folder


def write_columns(path, columns, height, **options):
    """Write a grey picture whose columns have these values."""
    rows = np.tile(np.array(columns, "uint8"), (height, 1))
    Image.fromarray(rows).save(path, **options)
    return path


def test_folder_is_listed_by_class_and_name_and_labels_index_the_sorted_classes(
    tmp_path,
):
    write_pictures(tmp_path, "dog/2.png", "dog/10.jpg", "Zebra/a.png", "cat/b.bmp")
    paths, labels, class_names = list_image_folder(tmp_path)
    assert class_names == ["Zebra", "cat", "dog"]  # by code point on every system
    names = [path.relative_to(tmp_path).as_posix() for path in paths]
    assert names == ["Zebra/a.png", "cat/b.bmp", "dog/10.jpg", "dog/2.png"]
    assert labels.tolist() == [0, 1, 2, 2] and labels.dtype == "int64"
    assert [class_names[c] for c in labels] == [path.parent.name for path in paths]


def test_folder_takes_every_extension_in_any_case_and_a_path_as_text(tmp_path):
    every = [f"a/x.{e}" for e in ("png", "JPG", "Jpeg", "BMP", "gif", "WebP")]
    write_pictures(tmp_path, *every, "b/x.png")
    assert len(list_image_folder(str(tmp_path))[0]) == 7


def test_folder_listing_ignores_hidden_files_and_notes_beside_the_classes(tmp_path):
    write_pictures(tmp_path, "a/x.png", "b/x.png", ".trash/x.png", "a/.x.png", ".x.png")
    for name in ("README.md", "labels.csv", "a/.DS_Store", "a/Thumbs.db", ".gitignore"):
        (tmp_path / name).touch()
    paths, _, class_names = list_image_folder(tmp_path)
    assert paths == [tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"]
    assert class_names == ["a", "b"]


@pytest.mark.parametrize(
    ("pictures", "others", "received"),
    [
        ([], [], "the sub-folders are []"),
        (["x.png"], [], "the sub-folders are []"),
        (["cat/x.png"], [], "the sub-folders are ['cat']"),
        (["cat/x.png"], ["dog/"], "{folder}/dog is empty"),
        (["cat/x.png"], ["dog/.DS_Store"], "{folder}/dog is empty"),
        (["cat/x.png"], ["dog/x.heic"], "{folder}/dog/x.heic is not a picture"),
        (["cat/x.png", "dog/x.png"], ["dog/y"], "{folder}/dog/y is not a picture"),
        (["cat/x.png", "dog/x.png"], ["dog/y/"], "{folder}/dog/y is not a picture"),
        (["cat/x.png", "dog/x.png", "y.png"], [], "{folder}/y.png is in no sub-folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_folder_that_would_lose_pictures_is_refused_and_the_culprit_named(
    tmp_path, pictures, others, received
):
    write_pictures(tmp_path, *pictures)
    for name in others:
        path = tmp_path / name
        (path if name.endswith("/") else path.parent).mkdir(exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    with pytest.raises(ValueError, match="`folder` must have a sub-folder") as caught:
        list_image_folder(tmp_path)
    expected = received.format(folder=tmp_path)
    assert str(caught.value).endswith(f"Received: {tmp_path}, where {expected}.")


def test_folder_that_does_not_exist_or_is_a_file_is_named(tmp_path):
    write_pictures(tmp_path, "x.png")
    for path in (tmp_path / "missing", tmp_path / "x.png"):
        with pytest.raises(FileNotFoundError, match=re.escape(f"Received: {path}.")):
            list_image_folder(path)


@given(
    image=arrays("uint8", st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))
)
def test_loading_gives_back_every_pixel_of_a_lossless_picture(tmp_path_factory, image):
    path = tmp_path_factory.getbasetemp() / "lossless.png"
    Image.fromarray(image).save(path)
    loaded = load_images([path])
    np.testing.assert_array_equal(loaded, image[np.newaxis])
    assert loaded.dtype == "uint8"


def test_loading_keeps_the_order_of_the_paths(tmp_path):
    values = [30, 10, 20]
    for value in values:
        write_pictures(tmp_path, f"{value}.png", color=(value, 0, 0))
    images = load_images([tmp_path / f"{value}.png" for value in values])
    assert images.shape == (3, 4, 4, 3)
    assert images[:, 0, 0, 0].tolist() == values


def test_loading_crops_the_central_square_and_averages_what_it_shrinks(tmp_path):
    # The square is the middle two columns: (10 + 30) / 2; no white of the borders.
    wide = write_columns(tmp_path / "wide.png", [255, 10, 30, 255], height=2)
    assert load_images([wide], image_size=1).ravel().tolist() == [20, 20, 20]
    # From 4 to 2 pixels the triangle of the antialiased bilinear filter is 4 pixels
    # wide. The first centre is 1; the pixels at 0.5, 1.5, 2.5 weigh 3/4, 3/4, 1/4:
    # (3/4 * 0 + 3/4 * 140 + 1/4 * 70) / (7/4) = 70, and for the second
    # (1/4 * 140 + 3/4 * 70 + 3/4 * 140) / (7/4) = 110.
    square = write_columns(tmp_path / "square.png", [0, 140, 70, 140], height=4)
    np.testing.assert_array_equal(
        load_images([square], image_size=2)[0, :, :, 0], [[70, 110], [70, 110]]
    )


def test_loading_brings_pictures_of_all_sizes_to_one(tmp_path):
    small = write_columns(tmp_path / "small.png", [7, 7], height=2)
    tall = write_columns(tmp_path / "tall.png", [9, 9, 9], height=8)
    images = load_images([small, tall], image_size=5)
    assert images.shape == (2, 5, 5, 3)
    assert np.all(images[0] == 7) and np.all(images[1] == 9)


def test_loading_keeps_pictures_of_the_size_asked_for_as_they_are(tmp_path):
    noise = np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype="uint8")
    Image.fromarray(noise).save(tmp_path / "noise.png")
    loaded = load_images([tmp_path / "noise.png"], image_size=8)
    np.testing.assert_array_equal(loaded[0], noise)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, [[1, 2, 3], [4, 5, 6]]),
        (2, [[3, 2, 1], [6, 5, 4]]),  # mirrored
        (3, [[6, 5, 4], [3, 2, 1]]),  # upside down
        (6, [[4, 1], [5, 2], [6, 3]]),  # the camera was turned to the left
        (8, [[3, 6], [2, 5], [1, 4]]),  # ... and to the right
    ],
)
def test_loading_turns_pictures_upright_as_exif_says(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.array([[1, 2, 3], [4, 5, 6]], "uint8")
    Image.fromarray(stored).save(tmp_path / "x.png", exif=exif)
    loaded = load_images([tmp_path / "x.png"])[0]
    np.testing.assert_array_equal(loaded, np.stack(3 * [upright], axis=-1))


@pytest.mark.parametrize(
    ("mode", "color", "extension", "options", "expected"),
    [
        ("L", 90, "png", {}, (90, 90, 90)),
        ("1", 1, "png", {}, (255, 255, 255)),
        ("P", (10, 20, 30), "png", {}, (10, 20, 30)),
        ("P", (10, 20, 30), "gif", {}, (10, 20, 30)),
        ("I;16", 257 * 90, "png", {}, (90, 90, 90)),
        # Inks take light away: full cyan leaves no red.
        ("CMYK", (255, 0, 0, 0), "jpg", {}, (0, 255, 255)),
        ("RGBA", (10, 20, 30, 255), "png", {}, (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), "png", {}, (255, 255, 255)),
        # 51 of 255 is a fifth: 0.2 * 5 + 0.8 * 255 = 205
        ("RGBA", (5, 5, 5, 51), "png", {}, (205, 205, 205)),
        ("LA", (5, 51), "png", {}, (205, 205, 205)),
        ("RGB", (1, 2, 3), "png", {"transparency": (1, 2, 3)}, (255, 255, 255)),
        ("L", 9, "png", {"transparency": 9}, (255, 255, 255)),
        ("P", (10, 20, 30), "png", {"transparency": 0}, (255, 255, 255)),
    ],
)
def test_loading_makes_rgb_of_every_kind_of_picture(
    tmp_path, mode, color, extension, options, expected
):
    picture = Image.new(mode, (8, 8), color)
    if mode == "P":  # the colour is entry 0 of the palette
        picture = Image.new("P", (8, 8), 0)
        picture.putpalette(color)
    path = tmp_path / f"x.{extension}"
    picture.save(path, **options)
    loaded = load_images([path])
    assert loaded.shape == (1, 8, 8, 3) and loaded.dtype == "uint8"
    np.testing.assert_array_equal(loaded, np.broadcast_to(expected, loaded.shape))


def test_loading_takes_the_first_picture_of_an_animation(tmp_path):
    first, second = (Image.new("RGB", (4, 4), color) for color in ("white", "black"))
    first.save(tmp_path / "x.gif", save_all=True, append_images=[second])
    assert load_images([tmp_path / "x.gif"]).min() == 255


@pytest.mark.parametrize("extension", ["png", "jpg", "gif", "bmp", "webp"])
def test_loading_names_a_picture_that_is_cut_off_although_its_header_is_whole(
    tmp_path, extension
):
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype="uint8")
    whole, cut = tmp_path / f"whole.{extension}", tmp_path / f"cut.{extension}"
    Image.fromarray(noise).save(whole)
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) * 2 // 3])
    assert load_images([whole]).shape == (1, 64, 64, 3)
    with pytest.raises(ValueError, match=re.escape(f"pictures. Received: {cut} (")):
        load_images([whole, cut], image_size=32)


def test_loading_names_a_file_that_is_no_picture(tmp_path):
    (tmp_path / "note.png").write_text("not a picture")
    with pytest.raises(ValueError, match=r"Received: .*note.png \(cannot identify"):
        load_images([tmp_path / "note.png"])


def test_loading_names_a_picture_too_large_to_decode_safely(tmp_path, monkeypatch):
    write_pictures(tmp_path, "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7)  # an error from twice as many
    with pytest.raises(ValueError, match=r"large.png \(Image size \(16 pixels\)"):
        load_images([tmp_path / "large.png"], image_size=2)


def test_loading_says_which_file_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing.png"):
        load_images([tmp_path / "missing.png"])


def test_loading_wants_one_size_or_to_be_told_which(tmp_path):
    small = write_columns(tmp_path / "small.png", [7, 7], height=2)
    tall = write_columns(tmp_path / "tall.png", [9, 9, 9], height=8)
    with pytest.raises(ValueError, match=r"`image_size`.*\(2, 2, 3\).*\(8, 3, 3\)"):
        load_images([small, tall])


@pytest.mark.parametrize(
    ("paths", "image_size"), [([], None), ("x.png", 96), (["x.png"], 0)]
)
def test_loading_wants_a_list_of_files_and_a_positive_size(paths, image_size):
    received = re.escape(f"Received: paths={paths!r}, image_size={image_size}.")
    with pytest.raises(ValueError, match=f"`paths` .* `image_size` .*{received}"):
        load_images(paths, image_size=image_size)
