"""Another process that answers questions, one at a time."""

import json
import os
import subprocess
import sys


class Worker:
    """A script run with `arguments`, and with variables beside those of this process.

    It reads a question a line from its input, answers each with a line of JSON, and
    ends when its input does.
    """

    def __init__(self, script, arguments, variables=None):
        command = [sys.executable, script, *arguments]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        environment = os.environ | (variables or {})
        self.process = subprocess.Popen(command, env=environment, **pipes)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.communicate()  # closes its input, which ends it

    def ask(self, question):
        """Send a line, wait for the answer."""
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())
