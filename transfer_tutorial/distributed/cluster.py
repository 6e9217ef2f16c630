"""The cluster that `TF_CONFIG` describes, checked before TensorFlow waits for it."""

import json
import os
import re
import socket


def read_tf_config():
    """Read the environment variable `TF_CONFIG`, and refuse what would not work.

    TensorFlow waits for minutes, or for ever, for a worker that a wrong address or a
    wrong index keeps from joining. For two machines the variable is, on the second,

        {"cluster": {"worker": ["10.0.0.1:4000", "10.0.0.2:4000"]},
         "task": {"type": "worker", "index": 1}}

    Returns:
        `(addresses, position)`: the list of the `"host:port"` of all workers, in the
        same order on each of them, and the place of this worker in it. The first is
        the chief.

    Raises:
        ValueError: If the variable is not JSON of this form, it lists other jobs than
            `"worker"` and `"chief"`, an address lacks its port or occurs twice, or the
            task is not one of the cluster.
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        jobs, task = dict(config["cluster"]), config["task"]
        job, index = str(task["type"]), int(task["index"])
        if not all(isinstance(listed, list) for listed in jobs.values()):
            raise TypeError("addresses must be in a list")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            '`TF_CONFIG` must be JSON such as {"cluster": {"worker": ["host:port"]}, '
            '"task": {"type": "worker", "index": 0}}. '
            f"Received: {text!r} ({error!r})."
        ) from error
    addresses = [str(a) for a in (*jobs.get("chief", []), *jobs.get("worker", []))]
    ports = [re.fullmatch(r".+:([0-9]{1,5})", address) for address in addresses]
    rules = {
        "list workers, and at most one chief, and no other jobs": (
            set(jobs) <= {"chief", "worker"} and len(jobs.get("chief", [])) < 2
        ),
        'give each address as "host:port", with a port in 1...65535': all(
            port and 0 < int(port[1]) < 65536 for port in ports
        ),
        "give each worker an address of its own": len(set(addresses)) == len(addresses),
        "name a task of its cluster, with an index that counts from 0": (
            0 <= index < len(jobs.get(job, []))
        ),
    }
    if broken := [rule for rule, is_kept in rules.items() if not is_kept]:
        raise ValueError(f"`TF_CONFIG` must {broken[0]}. Received: {text!r}.")
    return addresses, addresses.index(jobs[job][index])


def check_cluster():
    """Refuse a wrong `TF_CONFIG`, and one whose port is taken on this machine.

    Call it before `tf.distribute.MultiWorkerMirroredStrategy()`, which takes the port
    and then waits for the other workers. If it waits although all is well here, look at
    the variables `http_proxy` and `https_proxy`: the workers reach each other through
    the proxy that they name, unless `no_proxy` lists the hosts.

    Raises:
        ValueError: If `TF_CONFIG` is wrong, see `read_tf_config`.
        OSError: If the port of this worker cannot be opened.
    """
    addresses, position = read_tf_config()
    port = int(addresses[position].rpartition(":")[2])
    try:
        # On all interfaces, as TensorFlow opens it.
        socket.create_server(("", port)).close()
    except OSError as error:
        raise OSError(
            error.errno,
            "`TF_CONFIG` must give this worker a port that is free; another program, "
            "or a worker of an earlier run, may still hold it. "
            f"Received: {addresses[position]!r} ({error.strerror}).",
        ) from error
