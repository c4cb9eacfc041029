#!/usr/bin/env python3
"""Prints what onnxruntime takes on one thread for the rows of a record.

    venv/bin/python scripts/time_models.py NAME

Three words: the median milliseconds of an inference, the most bytes of resident memory of a load and the inferences,
beyond what the process had before it (`-` where the system does not tell), and onnxruntime's version.

Called by `cargo run --release -p graphpool-candle --example real_models`, so that both are timed in the same run.
"""

import json
import pathlib
import sys
import time

import numpy as np
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parent.parent
TYPES = {"f32": np.float32, "f64": np.float64, "u8": np.uint8, "i32": np.int32, "i64": np.int64}
SECONDS = 1.0


def status(key):
    """A line of the process's status in bytes, on Linux."""
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), None)


def forget_peak():
    """Makes the largest resident memory the present one, on systems that can."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def open_session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def main(name):
    folder = ROOT / "examples" / "models" / name
    record = json.loads((folder / "record.json").read_text())
    model = folder / record["model"]["file"]
    if not model.is_file():
        model = ROOT / ".cache" / "models" / record["model"].get("of", name) / record["model"]["file"]
    feeds = [{} for _ in range(record["rows"])]
    for column in record["inputs"]:
        stored = column.get("stored")
        values = np.fromfile(folder / column["file"], np.uint8 if stored else TYPES[column["type"]])
        if stored:
            values = values.astype(np.float32) * np.float32(stored["scale"]) + np.float32(stored["shift"])
        rows = values.reshape(record["rows"], -1)
        # A row of fewer elements than its dimensions has them over and over.
        values = np.stack([np.resize(row, column["dims"]) for row in rows])
        for feed, row in zip(feeds, values):
            feed[column["index"]] = np.asarray(row)
    # Another model first, so that what is read of the libraries doesn't count.
    digits = open_session(ROOT / "examples" / "models" / "digits" / "digits.onnx")
    digits.run(None, {digits.get_inputs()[0].name: np.zeros((1, 1, 8, 8), np.float32)})
    before = status("VmRSS:")
    forget_peak()
    session = open_session(model)
    names = [value.name for value in session.get_inputs()]
    feeds = [{names[index]: value for index, value in feed.items()} for feed in feeds]
    for row in range(max(10, len(feeds))):
        session.run(None, feeds[row % len(feeds)])
    peak = status("VmHWM:")
    times = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        for feed in feeds:
            start = time.perf_counter()
            session.run(None, feed)
            times.append((time.perf_counter() - start) * 1e3)
    print(np.median(times), "-" if before is None or peak is None else peak - before, onnxruntime.__version__)


if __name__ == "__main__":
    main(sys.argv[1])
