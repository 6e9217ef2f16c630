"""Ray, started on this machine or found on a cluster."""

import contextlib
import logging
import os
import secrets
import shutil
import tempfile
import warnings

TOKEN = secrets.token_hex(32)  # one a process, since Ray remembers it


@contextlib.contextmanager
def connect_to_ray(address=None, *, num_cpus=None):
    """Connect this process to Ray for the length of a `with` block.

    With an address, Ray must be running there. Without one it is started on this
    machine and stopped at the end: it listens on 127.0.0.1 alone, sends no usage
    statistics, shows no dashboard and deletes its files. What the block does stays the
    same. In a process that is connected already, nothing is started or stopped.

    Inside, joblib knows the backend `"ray"`, so that a loop over seeds can run on all
    machines::

        with connect_to_ray(address), joblib.parallel_config("ray", n_jobs=8):
            scores = run_strategies(strategies, seeds=range(5))

    Args:
        address: `"auto"` on a machine of the cluster, `"ray://<host>:10001"` from
            outside, with the cluster's versions of Ray and Python, or None for this
            machine.
        num_cpus: How many processes may compute at the same time, where Ray is started;
            None for one a core.

    Raises:
        ImportError: If Ray is not installed.
        ValueError: If there is an address, and this process is connected already.
        ConnectionError: If no cluster answers at the address.

    Reference:
        Moritz, Nishihara, Wang, Tumanov, Liaw, Liang, Elibol, Yang, Paul, Jordan and
        Stoica, 2018, "Ray: A Distributed Framework for Emerging AI Applications".
    """
    settings = {"RAY_USAGE_STATS_ENABLED": "0"}  # read when Ray starts
    if address is None:
        # As on macOS and Windows: no other machine can join, all is on 127.0.0.1.
        settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # Or Ray would put one into the home folder. Other users' programs lack it.
        settings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    with _set_environment(settings):
        ray = _import_ray()
        started = not ray.is_initialized()
        if not started and address is not None:
            raise ValueError(
                "`address` must be None in a process that is connected to Ray already. "
                f"Received: address={address!r}."
            )
        folder = _start_ray(ray, address, num_cpus) if started else None
    try:
        yield
    finally:
        if started:
            ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _set_environment(settings):
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _import_ray():
    disabled = logging.root.manager.disable
    try:
        # In a notebook without widgets, Ray would complain that there are none.
        logging.disable(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray.data
            from ray.util.joblib import register_ray
    except ImportError as error:
        message = 'Ray is needed: pip install "transfer-tutorial[scale]".'
        raise ImportError(message) from error
    finally:
        logging.disable(disabled)
    register_ray()
    return ray


def _start_ray(ray, address, num_cpus):
    """Connect, or start; return the folder to delete at the end, or None."""
    options = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is not None:
        ray.init(address, **options)
        return None
    # Not the system's folder, which may have a long name: sockets want a short one.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp" if os.name == "posix" else None)
    options |= {"include_dashboard": False, "_temp_dir": folder}
    try:
        ray.init("local", num_cpus=num_cpus, **options)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder
