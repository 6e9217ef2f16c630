import numpy as np
import pytest

from transfer_tutorial.pipelines import build_augmentation, make_dataset


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
