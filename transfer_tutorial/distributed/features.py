"""Features of very many pictures by Ray: on a laptop, and unchanged on a cluster."""

import contextlib
import io
import logging
import os
import shutil
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


def extract_features_on_workers(
    pictures,
    output,
    build_backbone,
    load_images,
    *,
    num_actors=2,
    batch_size=64,
    cpus_per_actor=1,
    gpus_per_actor=0,
):
    """Extract the features of pictures by several processes, and write them to Parquet.

    Each process is an actor of Ray Data: it builds the backbone once, then decodes and
    extracts batch after batch. If an actor dies, it is started again, up to three
    times, and what it had in hand is computed again. At the end the ids that were
    written are compared with those of the pictures. The output appears under its name
    when all of it is there; until then it grows in a hidden folder beside it.

    Call it in a block of `connect_to_ray`, whose address alone tells a laptop from a
    cluster::

        with connect_to_ray(address):
            extract_features_on_workers(folder, "features", build_backbone, load_images)

    The machines of a cluster must see `pictures` and `output` under the same paths, and
    have what `build_backbone` and `load_images` import. Which pictures share a batch
    does not depend on `num_actors`, nor on who dies.

    Args:
        pictures: Path of a folder, searched with its sub-folders for files that end in
            bmp, gif, jpeg, jpg, png or webp, whose ids are their paths in the folder
            with `/` between the parts; or of a Parquet file, or a folder of them, with
            the columns `id` and `image`, the latter the bytes of a picture's file. An
            actor takes four batches at a time, or one row group.
        output: Path of the folder to make. It must not exist.
        build_backbone: Function without arguments that returns a backbone, called once
            in each actor.
        load_images: Function of a list of files, paths or binary files; returns an
            array of pictures of shape `(n, height, width, 3)`, such as
            `pipelines.load_images`.
        num_actors: Processes that extract at the same time.
        batch_size: Pictures a batch.
        cpus_per_actor: Cores of an actor, and threads of its TensorFlow.
        gpus_per_actor: GPUs of an actor; 0.5 lets two actors share one.

    Raises:
        ImportError: If Ray or pyarrow is not installed.
        RuntimeError: If this process is not connected to Ray, or the ids that were
            written are not those of the pictures.
        ValueError: If a number is too small, there are no pictures, the columns are
            missing, an id is missing or occurs twice, the output exists, or the cluster
            has too few cores or GPUs.
        FileNotFoundError: If there is no such folder or file.
        ray.exceptions.RayError: If `build_backbone` or `load_images` fails, or an actor
            has died too often.
    """
    _check_numbers(
        num_actors=num_actors, batch_size=batch_size, cpus_per_actor=cpus_per_actor
    )
    pictures, output = Path(pictures).absolute(), Path(output).absolute()
    if output.exists():
        raise ValueError(f"`output` must not exist yet. Received: {output}.")
    parts, ids = _list_parts(pictures, 4 * batch_size)
    needed = {"CPU": num_actors * cpus_per_actor, "GPU": num_actors * gpus_per_actor}
    with _quiet_ray_data() as ray, _make_folder(output) as partial:
        _check_resources(needed, ray.cluster_resources())
        write = _make_writer()
        job = dict(
            parts=parts,
            folder=str(partial),
            extractor=_make_extractor(),
            arguments=(build_backbone, load_images, batch_size),
            num_actors=num_actors,
            num_cpus=cpus_per_actor,
            num_gpus=gpus_per_actor,
        )
        if ray.util.client.ray.is_connected():  # Ray Data has to start in the cluster
            task = ray.remote(num_cpus=0, max_retries=0)  # a second try would add files
            ray.get(task(write).remote(**job))
        else:
            write(**job)
        _check_written(partial, ids)


@contextlib.contextmanager
def _quiet_ray_data():
    """Neither bars nor log lines nor Ray's warnings of its own options."""
    try:
        import ray.data
        import ray.util.client
    except ImportError as error:
        message = 'Ray is needed: pip install "transfer-tutorial[scale]".'
        raise ImportError(message) from error
    if not ray.is_initialized():
        raise RuntimeError("Call this in a block of `connect_to_ray`.")
    logger = logging.getLogger("ray.data")
    level, stderr = logger.level, os.dup(2)  # C++ code writes there past Python
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere:
        warnings.simplefilter("ignore", DeprecationWarning)
        context = ray.data.DataContext.get_current()
        bars = context.enable_progress_bars
        try:
            context.enable_progress_bars = False
            logger.setLevel(logging.CRITICAL)
            os.dup2(nowhere.fileno(), 2)
            yield ray
        finally:
            context.enable_progress_bars = bars
            logger.setLevel(level)
            os.dup2(stderr, 2)
            os.close(stderr)


@contextlib.contextmanager
def _make_folder(path):
    """A hidden folder that gets its name when the block has ended well."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_numbers(**numbers):
    for name, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            raise ValueError(
                f"`{name}` must be a whole number of at least 1. "
                f"Received: {name}={number!r}."
            )


def _check_resources(needed, found):
    for name, number in needed.items():
        if number > found.get(name, 0):
            raise ValueError(
                "`num_actors` must not ask for more than the cluster has, or the run "
                f"would wait for ever. Received: {number:g} {name}s needed, "
                f"{found.get(name, 0):g} found."
            )


def _list_parts(pictures, part_size):
    """What an actor takes at a time, as dicts of one form; and the ids of all pictures.

    A part is some pictures of a folder, or a row group of a Parquet file.
    """
    if not pictures.exists():
        raise FileNotFoundError(
            f"`pictures` must be a folder or a Parquet file. Received: {pictures}."
        )
    paths = [pictures] if pictures.is_file() else sorted(pictures.rglob("*"))
    paths = [p for p in paths if p.is_file() and not _is_hidden(p, pictures)]
    tables = [str(p) for p in paths if p.suffix == ".parquet"]
    images = [p for p in paths if p.suffix.lower() in PICTURES and p != pictures]
    if bool(tables) == bool(images):
        raise ValueError(
            "`pictures` must be a folder with pictures, or Parquet files: one of the "
            f"two. Received: {pictures}, where {len(images)} pictures and "
            f"{len(tables)} Parquet files were found."
        )
    if tables:
        return _list_row_groups(tables)
    ids = [path.relative_to(pictures).as_posix() for path in images]
    starts = range(0, len(ids), part_size)
    parts = [ids[start : start + part_size] for start in starts]
    return [{"folder": str(pictures), "ids": part} for part in parts], ids


def _is_hidden(path, folder):
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _list_row_groups(tables):
    from pyarrow import parquet

    parts, ids = [], []
    for path in tables:
        with parquet.ParquetFile(path) as file:
            if not {"id", "image"} <= set(file.schema_arrow.names):
                raise ValueError(
                    "`pictures` must have the columns `id` and `image`. "
                    f"Received: {file.schema_arrow.names} in {path}."
                )
            groups = range(file.num_row_groups)
            parts += [{"file": path, "row_group": group} for group in groups]
            ids += file.read(columns=["id"])["id"].to_pylist()
    (common, times), *_ = Counter(ids).most_common(1) or [(None, 0)]
    if None in ids or times != 1:
        raise ValueError(
            "`pictures` must have rows, each with an id of its own. Received: "
            f"{len(ids)} rows, {ids.count(None)} without an id, {common!r} {times} "
            "times."
        )
    return parts, ids


def _make_reader():
    """A function that travels by value, so that other machines need not have this."""

    def read_batches(batch_size, folder=None, ids=None, file=None, row_group=None):
        if folder is not None:
            for start in range(0, len(ids), batch_size):
                batch = ids[start : start + batch_size]
                yield batch, [os.path.join(folder, id_) for id_ in batch]
            return
        from pyarrow import parquet

        with parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(
                batch_size, row_groups=[row_group], columns=["id", "image"]
            ):
                images = batch["image"].to_pylist()
                yield batch["id"], [io.BytesIO(image) for image in images]

    return read_batches


def _make_extractor():
    """The class of an actor, which travels by value, too."""
    read_batches = _make_reader()

    class Extractor:
        def __init__(self, build_backbone, load_images, batch_size):
            # As many as Ray has counted for this actor.
            os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["OMP_NUM_THREADS"]
            self.load_images, self.backbone = load_images, build_backbone()
            self.batch_size = batch_size

        def __call__(self, parts):
            import pyarrow

            for ids, files in read_batches(self.batch_size, **parts.to_pylist()[0]):
                features = self.backbone.predict_on_batch(self.load_images(files))
                features = np.asarray(features, "float32")
                if features.ndim != 2 or len(features) != len(files):
                    raise ValueError(
                        "`build_backbone` must return a backbone with features of "
                        f"shape (n, d). Received: {features.shape}, n={len(files)}."
                    )
                column = pyarrow.FixedSizeListArray.from_arrays(
                    features.ravel(), features.shape[1]
                )
                yield pyarrow.table({"id": ids, "features": column})

    return Extractor


def _make_writer():
    """A function that runs the whole job, and travels by value."""

    def write_features(parts, folder, extractor, arguments, num_actors, **resources):
        import ray.data

        # Again, since it may be another process that shows them.
        ray.data.DataContext.get_current().enable_progress_bars = False
        dataset = ray.data.from_items(parts, override_num_blocks=len(parts))
        dataset.map_batches(
            extractor,
            fn_constructor_args=arguments,
            batch_size=1,  # part
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(num_actors, len(parts))),
            ray_remote_args_fn=lambda: {"max_restarts": 3, "max_task_retries": 3},
            **resources,
        ).write_parquet(folder, ray_remote_args={"num_cpus": 0})

    return write_features


def _check_written(folder, ids):
    from pyarrow import dataset

    written = dataset.dataset(folder).to_table(columns=["id"])["id"].to_pylist()
    if sorted(written) != sorted(ids):
        raise RuntimeError(
            "The ids that were written must be those of the pictures. Received: "
            f"{len(set(ids) - set(written))} lost, "
            f"{len(written) - len(set(written))} doubled, of {len(ids)}."
        )
