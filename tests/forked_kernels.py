"""Kernels that begin with the imports done: forks of a process that imported them.

Every notebook imports TensorFlow, Keras and scikit-learn, which takes seconds of
processor time each time; a fork of a process that has done so starts at once. Only the
modules are there already, no name in the notebook. The stored outputs come from kernels
that started from nothing (`tools/execute.py`), so nbval also compares the two.

As a program, this is that process: its arguments are the modules, one line of JSON on
its standard input forks one kernel, whose process id is the answer.
"""

import contextlib
import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from unittest import mock

LAUNCH = "jupyter_client.provisioning.local_provisioner.launch_kernel"
KERNEL = "ipykernel.kernelapp"
IMPORTED = (
    "matplotlib.pyplot",
    "sklearn.linear_model",
    "keras",
    "transfer_tutorial.evaluation",
    "transfer_tutorial.pretrained",
)


class ForkedKernel:
    """What `jupyter_client` asks of the process of a kernel, as of a `Popen`."""

    stdin = stdout = stderr = None  # the kernel's own lead nowhere

    def __init__(self, pid):
        self.pid = pid

    def poll(self):
        """`None` while it runs, then 0: how it ended, only its parent knows."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0

    def wait(self):
        while self.poll() is None:
            time.sleep(0.01)
        return 0

    def send_signal(self, number):
        with contextlib.suppress(ProcessLookupError):  # as `Popen`, once it has ended
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


class KernelServer:
    """Forks kernels. The imports see `environment`; each kernel is given its own."""

    def __init__(self, environment, imported=IMPORTED):
        self.command = [sys.executable, __file__, KERNEL, *imported]
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )

    def at_work(self):
        """A context in which `jupyter_client` has its kernels from here."""
        return mock.patch(LAUNCH, self.launch)

    def launch(self, command, *, cwd, env, **others):
        """As `jupyter_client.launcher.launch_kernel`; `others` are left to the fork.

        Raises:
            RuntimeError: If the process that forks has ended.
        """
        arguments = command[command.index("ipykernel_launcher") + 1 :]
        request = {"arguments": arguments, "folder": cwd, "environment": env}
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            return ForkedKernel(int(self.process.stdout.readline()))
        except (BrokenPipeError, ValueError) as error:
            raise RuntimeError(
                "The process that forks kernels has ended. To see why, run "
                f"`{shlex.join(self.command)}`."
            ) from error

    def close(self):
        """End the process; kernels that still run end by themselves soon after."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def bury_children(*_):
    """Take note of children that ended, or they stay as zombies."""
    with contextlib.suppress(ChildProcessError):  # there is none
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def wait_for_request():
    """In a fork: what was asked for. In the process itself: `None`, at the end."""
    signal.signal(signal.SIGCHLD, bury_children)
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return json.loads(line)


def run_kernel(arguments, folder, environment):
    """Be the kernel, in a session of its own, until it is told to end."""
    os.setsid()
    # Said by the kernel, not its parent: who knows it may signal the whole session.
    print(os.getpid(), flush=True)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # It ends when its parent does.
    arguments = [*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"]
    sys.argv = ["ipykernel_launcher", *arguments]
    sys.modules[KERNEL].launch_new_instance(arguments)


if __name__ == "__main__":
    del sys.path[0]  # the folder of the tests, which a notebook does not see
    # As `ipykernel` sets it, but in time for the import of matplotlib.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    for name in sys.argv[1:]:
        importlib.import_module(name)
    request = wait_for_request()
    if request is not None:
        run_kernel(**request)
