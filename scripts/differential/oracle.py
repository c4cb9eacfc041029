"""What the outputs should be: by onnxruntime, or else by ONNX's reference evaluator, in a process of their own.

Of their own because onnxruntime ends its process on some models; the one that asked then gets an error, and the next
question starts another process.
"""

import multiprocessing
import warnings

import numpy as np
import onnx
import onnx.reference

PATIENCE = 60.0  # seconds


class Refused(Exception):
    """The oracle has no answer, for this reason."""


class Oracle:
    def __init__(self):
        self.process = None

    def ask(self, which, model, feed):
        """The outputs by `which`, "onnxruntime" or "reference"."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.connection, other = context.Pipe()
            self.process = context.Process(target=serve, args=(other,), daemon=True)
            self.process.start()
            other.close()
        try:
            self.connection.send((which, model, feed))
            if not self.connection.poll(PATIENCE):
                raise EOFError
            answer = self.connection.recv()
        except (EOFError, OSError):
            self.end()
            raise Refused("the process ended") from None
        if isinstance(answer, str):
            raise Refused(answer)
        return answer

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = None


def serve(connection):
    """Answers questions until nobody asks any more."""
    import onnxruntime

    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    # The operators themselves are asked, not what a fusion makes of them.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    while True:
        try:
            which, model, feed = connection.recv()
        except EOFError:
            return
        try:
            if which == "onnxruntime":
                session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
                outputs = session.run(None, feed)
            else:
                outputs = onnx.reference.ReferenceEvaluator(onnx.load_from_string(model)).run(None, feed)
            connection.send([np.asarray(output) for output in outputs])
        except Exception as error:  # Whatever it is, it is no answer.
            connection.send(f"{type(error).__name__}: {str(error)[:300]}")
