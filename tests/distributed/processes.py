"""Processes of the tests: how they start, where they listen, and that they end."""

import multiprocessing
import random
import socket
import time

# A server that imports TensorFlow once, and forks into each process.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["keras", "transfer_tutorial.distributed"])
# For a machine under heavy load; two idle cores need less than 30.
SECONDS_TO_FINISH = 300


def find_free_ports(number):
    """Ports below those that the system hands out by itself, so they stay free."""
    found = set()
    while len(found) < number:
        port = random.SystemRandom().randrange(20000, 30000)
        try:
            socket.create_server(("", port)).close()
        except OSError:
            continue
        found.add(port)
    return sorted(found)


def run_to_the_end(processes, awaited):
    """Run processes until those awaited have ended or one has failed; kill the rest.

    Returns the exit codes of those awaited, None for one that ran on. How soon a worker
    notices that another is dead does not matter.
    """
    deadline = time.monotonic() + SECONDS_TO_FINISH
    try:
        for process in processes:
            process.start()
        while None in [p.exitcode for p in awaited]:
            if time.monotonic() > deadline or any(p.exitcode for p in processes):
                break
            time.sleep(0.1)
        return [p.exitcode for p in awaited]
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()
