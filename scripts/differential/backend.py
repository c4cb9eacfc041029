"""The backend under test: the example onnx_conformance, which runs the cases that it is given on standard input."""

import json
import os
import selectors
import subprocess

from .case import dtype_of, raw

PATIENCE = 60.0  # seconds


class Failed(Exception):
    """The backend gave no outputs: `kind` is its error's, or Crashed, or Hung."""

    def __init__(self, kind, why):
        super().__init__(why)
        self.kind, self.why = kind, why


class Backend:
    def __init__(self, program):
        self.program, self.process = program, None

    def operators(self):
        return json.loads(subprocess.run([self.program, "--operators"], check=True, capture_output=True).stdout)

    def run(self, folder):
        """The outputs for the case in `folder`."""
        if self.process is None:
            self.process = subprocess.Popen([self.program, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=subprocess.DEVNULL)
        self.process.stdin.write(f"{folder}\n".encode())
        self.process.stdin.flush()
        line = self.line()
        answer = json.loads(line)
        if "refused" in answer:
            raise Failed(answer["kind"], answer["refused"])
        data = folder / "test_data_set_0"
        return [raw(data / f"found_{place}.bin", dtype_of(output["type"]), output["dims"])
                for place, output in enumerate(answer["outputs"])]

    def line(self):
        """One line of the process, which is killed if it doesn't come."""
        out, line = self.process.stdout.fileno(), b""
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                ready = selector.select(PATIENCE)
                more = os.read(out, 1 << 16) if ready else b""
                if not more:
                    self.end()
                    raise Failed("Hung" if not ready else "Crashed", "the process ended, or was ended after a minute")
                line += more
        return line

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
