#!/usr/bin/env python3
"""Prints the median milliseconds of an inference by onnxruntime, on one thread, over the rows of a record.

    venv/bin/python scripts/time_models.py NAME

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


def main(name):
    folder = ROOT / "examples" / "models" / name
    record = json.loads((folder / "record.json").read_text())
    model = folder / record["model"]["file"]
    if not model.is_file():
        model = ROOT / ".cache" / "models" / record["model"].get("of", name) / record["model"]["file"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    feeds = [{} for _ in range(record["rows"])]
    for column in record["inputs"]:
        stored = column.get("stored")
        values = np.fromfile(folder / column["file"], np.uint8 if stored else TYPES[column["type"]])
        if stored:
            values = values.astype(np.float32) * np.float32(stored["scale"]) + np.float32(stored["shift"])
        values = values.reshape(record["rows"], *column["dims"])
        for feed, row in zip(feeds, values):
            feed[names[column["index"]]] = np.asarray(row)
    for feed in feeds[:3]:
        session.run(None, feed)
    times = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        for feed in feeds:
            start = time.perf_counter()
            session.run(None, feed)
            times.append((time.perf_counter() - start) * 1e3)
    print(np.median(times))


if __name__ == "__main__":
    main(sys.argv[1])
