import json
import os
import time

import pytest
from jupyter_client.manager import start_new_kernel

from forked_kernels import KernelServer

# What a notebook could notice; `argv` and the parent's number are the launcher's own.
LOOK = """
import json, os, signal, sys
import matplotlib
seen = dict(
    names=sorted(globals()), path=sys.path, folder=os.getcwd(), filters=sys.warnoptions,
    variables={k: v for k, v in os.environ.items() if k != "JPY_PARENT_PID"},
    backend=matplotlib.get_backend(), child=str(signal.getsignal(signal.SIGCHLD)),
    interrupt=str(signal.getsignal(signal.SIGINT)), leads=os.getpid() == os.getsid(0),
)
print(json.dumps(seen))
"""
LIMIT = 60  # seconds


def run(client, code):
    """What the code printed."""
    printed = []
    client.execute_interactive(
        code,
        output_hook=lambda message: printed.append(message["content"].get("text", "")),
        timeout=LIMIT,
    )
    return "".join(printed)


def wait_until(condition):
    end = time.monotonic() + LIMIT
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def make_environment():
    """This one's, but for matplotlib's backend: kernels choose one of their own."""
    return {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}


@pytest.fixture(scope="module")
def server():
    environment = {**make_environment(), "ONLY_THE_SERVER": "yes"}
    server = KernelServer(environment, imported=["matplotlib.pyplot"])
    yield server
    server.close()


@pytest.fixture
def start(tmp_path):
    """Function that starts a kernel, ordinary or a server's fork."""
    started = []

    def start(server=None):
        environment = {**make_environment(), "ONLY_THIS_KERNEL": "yes"}
        where = {"cwd": str(tmp_path), "env": environment}
        if server is None:
            found = start_new_kernel(**where)
        else:
            with server.at_work():
                found = start_new_kernel(**where)
        started.append(found)
        return found

    yield start
    for manager, client in started:
        client.stop_channels()
        client.context.term()
        manager.shutdown_kernel(now=True)
        manager.context.term()


def test_a_fork_looks_like_an_ordinary_kernel(server, start):
    (_, ordinary), (_, forked) = start(), start(server)
    expected, seen = (json.loads(run(one, LOOK)) for one in (ordinary, forked))
    assert seen["variables"]["ONLY_THIS_KERNEL"] == "yes"
    assert seen == expected


def test_modules_are_there_but_no_names(server, start):
    _, forked = start(server)
    code = (
        "import sys; print('matplotlib.pyplot' in sys.modules, 'pyplot' in globals())"
    )
    assert run(forked, code) == "True False\n"


def test_forks_share_no_state(server, start):
    _, one = start(server)
    run(one, "import matplotlib; matplotlib.mark = found = 1")
    _, two = start(server)
    assert (
        run(two, "import matplotlib; print(hasattr(matplotlib, 'mark'))") == "False\n"
    )


def test_a_child_of_a_fork_is_waited_for(server, start):
    _, forked = start(server)
    code = "import subprocess; print(subprocess.call(['sh', '-c', 'exit 3']))"
    assert run(forked, code) == "3\n"


def test_an_error_is_answered_and_a_shutdown_ends_the_process(server, start):
    manager, client = start(server)
    pid = int(run(client, "import os; print(os.getpid())"))
    assert client.execute_interactive("1 / 0", timeout=LIMIT)["content"]["ename"] == (
        "ZeroDivisionError"
    )
    manager.shutdown_kernel()
    assert not manager.is_alive()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_kernels_end_with_their_server(start):
    server = KernelServer(make_environment(), imported=[])
    manager, _ = start(server)
    kernel = manager.provisioner.process
    assert kernel.poll() is None
    server.close()
    assert wait_until(lambda: kernel.poll() == 0)


def test_a_server_that_ended_is_named():
    server = KernelServer(make_environment(), imported=["no_such_module"])
    command = ["python", "-m", "ipykernel_launcher", "-f", "connection.json"]
    with pytest.raises(RuntimeError, match=r"has ended.*no_such_module"):
        server.launch(command, cwd=".", env={})
    server.process.kill()
    server.close()
