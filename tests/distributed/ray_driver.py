"""What one process does with Ray; what it saw goes to a file."""

import contextlib
import io
import json
import os
import signal
import threading
import time
import warnings

import joblib
import numpy as np
import psutil
import pyarrow
from joblib.externals.loky import get_reusable_executor
from PIL import Image
from pyarrow import parquet

from distributed.worker import redirect_output
from transfer_tutorial.distributed import (
    connect_to_ray,
    extract_features_on_workers,
    load_features,
)
from transfer_tutorial.evaluation import run_strategies

NUM_PICTURES = 40
SEEDS = [3, 1, 2]


def make_pictures():
    """`(ids, pictures)`: no two pictures alike, half of them in a sub-folder."""
    pictures = np.random.default_rng(0).integers(0, 256, (NUM_PICTURES, 4, 4, 3))
    ids = [f"{'even' if i % 2 == 0 else '.'}/{i}.png" for i in range(NUM_PICTURES)]
    return [i.removeprefix("./") for i in ids], pictures.astype("uint8")


def encode(picture):
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "png")
    return content.getvalue()


def write_pictures(folder):
    """A folder of PNG files, and the same pictures as Parquet, ids 100, 101, ..."""
    ids, pictures = make_pictures()
    (folder / "pictures" / "even").mkdir(parents=True)
    for id_, picture in zip(ids, pictures, strict=True):
        (folder / "pictures" / id_).write_bytes(encode(picture))
    (folder / "pictures" / ".hidden.png").write_bytes(b"no picture")
    rows = {"id": range(100, 100 + NUM_PICTURES), "image": map(encode, pictures)}
    table = pyarrow.table({name: list(values) for name, values in rows.items()})
    parquet.write_table(table, folder / "pictures.parquet", row_group_size=16)


def make_functions(folder, do_in_batch=lambda number: None):
    """`(build_backbone, load_images)`, which travel by value, and note each actor.

    The backbone has four features that a hand can compute. Before it computes those of
    its batch number 1, 2, ... it calls `do_in_batch`.
    """

    class Backbone:
        def __init__(self):
            self.number = 0

        def predict_on_batch(self, x):
            self.number += 1
            do_in_batch(self.number)
            means = x.mean(axis=(1, 2))
            return np.concatenate([means, x.max(axis=(1, 2, 3))[:, None]], axis=1)

    def build_backbone():
        threads = os.environ["TF_NUM_INTRAOP_THREADS"]
        (folder / f"actor_{os.getpid()}").write_text(threads)
        return Backbone()

    def load_images(files):
        return np.stack([np.asarray(Image.open(file)) for file in files])

    return build_backbone, load_images


def compute_features():
    pictures = make_pictures()[1].astype("float64")
    means = pictures.mean(axis=(1, 2))
    return np.concatenate([means, pictures.max(axis=(1, 2, 3))[:, None]], axis=1)


def extract(folder, name, source="pictures", *, num_actors=2, **functions):
    """Extract, and return what was written or which error was raised."""
    actors = folder / f"actors_of_{name}"
    actors.mkdir()
    try:
        extract_features_on_workers(
            folder / source,
            folder / name,
            *make_functions(actors, **functions),
            batch_size=4,
            num_actors=num_actors,
        )
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    ids, features = load_features(folder / name)
    return {
        "ids": ids.tolist(),
        "features": features.tolist(),
        "dtype": str(features.dtype),
        "actors": [p.name for p in actors.iterdir()],
        "threads": [p.read_text() for p in actors.iterdir()],
    }


def extract_and_kill(folder):
    """The same, but one actor is killed by its process id, in its third batch."""
    doomed = folder / "doomed.txt"

    def wait_for_death(number):
        if number == 3:
            try:
                with open(doomed, "x") as file:
                    file.write(f"{os.getpid()}\n")
            except FileExistsError:
                return
            time.sleep(600)

    def kill():
        while not (doomed.exists() and doomed.read_text().endswith("\n")):
            time.sleep(0.05)
        os.kill(int(doomed.read_text()), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    seen = extract(folder, "disturbed", do_in_batch=wait_for_death)
    return seen | {"killed": f"actor_{doomed.read_text().strip()}"}


def extract_and_die(folder):
    """The same with actors that die in every batch."""

    def die(number):
        os.kill(os.getpid(), signal.SIGKILL)

    return extract(folder, "dying", do_in_batch=die)


def run_seeds():
    def score_seed(seed):
        rng = np.random.default_rng(seed)
        return {"accuracy": rng.random(), "process": float(os.getpid())}

    scores = run_strategies({"a": score_seed, "b": score_seed}, SEEDS)
    return {n: {m: v.tolist() for m, v in s.items()} for n, s in scores.items()}


def try_to_connect():
    try:
        with connect_to_ray("auto"):
            return None
    except ValueError as error:
        return str(error)


def find_addresses(processes):
    """The addresses at which the processes listen or speak."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            found |= {c.laddr.ip for c in process.net_connections()}
    return sorted(found)


def read_environment():
    own = "RAY_CLIENT_MODE"  # which Ray sets and leaves
    return {k: v for k, v in os.environ.items() if k.startswith("RAY_") and k != own}


def run(folder):
    """All that the tests look at, with one start of Ray."""
    redirect_output(folder / "log.txt")
    warnings.simplefilter("error")
    write_pictures(folder)
    (folder / "broken").mkdir()
    (folder / "broken" / "a.png").write_bytes(b"no picture")
    (folder / ".undisturbed.partial").mkdir()
    (folder / ".undisturbed.partial" / "of_a_killed_run.parquet").write_text("half")
    environment, this = read_environment(), psutil.Process()
    with connect_to_ray(num_cpus=2):
        changed = environment.items() ^ read_environment().items()
        seen = {"changed_settings": sorted(name for name, _ in changed)}
        with connect_to_ray():
            seen["undisturbed"] = extract(folder, "undisturbed")
        seen["log"] = (folder / "log.txt").read_text()
        seen["from_parquet"] = extract(folder, "from_parquet", "pictures.parquet")
        seen["disturbed"] = extract_and_kill(folder)
        seen["dying"] = extract_and_die(folder)
        seen["broken"] = extract(folder, "of_broken", "broken")
        seen["too_many"] = extract(folder, "too_many", num_actors=3)
        seen["connected"] = try_to_connect()
        with joblib.parallel_config("ray", n_jobs=2):
            seen["seeds_by_ray"] = run_seeds()
        children = this.children(recursive=True)
        seen["processes"] = [[p.pid, p.create_time()] for p in children]
        seen["addresses"] = find_addresses([this, *children])
    with joblib.parallel_config("loky", n_jobs=2):
        seen["seeds_by_loky"] = run_seeds()
    # Its idle workers live on for five minutes; this process would wait for them.
    get_reusable_executor().shutdown()
    (folder / "seen.json").write_text(json.dumps(seen))


def run_on_cluster(folder, inside, outside, environment):
    """The same calls on a cluster that runs already, by both kinds of addresses."""
    os.environ.update(environment)  # this process comes from a server with its own
    redirect_output(folder / "log.txt")
    write_pictures(folder)
    (folder / "broken").mkdir()
    (folder / "broken" / "a.png").write_bytes(b"no picture")
    with connect_to_ray(inside):
        seen = {"inside": extract(folder, "inside")}
    with connect_to_ray(outside):
        seen["outside"] = extract(folder, "outside")
        seen["broken"] = extract(folder, "of_broken", "broken", num_actors=1)
        with joblib.parallel_config("ray", n_jobs=2):
            seen["seeds"] = run_seeds()
    (folder / "seen.json").write_text(json.dumps(seen))
