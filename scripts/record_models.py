#!/usr/bin/env python3
"""Records inputs and onnxruntime's outputs for the models of scripts/fetch_models.sh and scripts/make_models.py.

    scripts/fetch_models.sh --all
    venv/bin/python scripts/make_models.py
    venv/bin/python scripts/record_models.py

For each model: inputs that it was made for, made here from nothing but this script and the digits' record, so that
every run has the same ones. The records go to examples/models/NAME; they are small enough to be committed.
"""

import pathlib

import numpy as np
import onnxruntime

import record_format
from record_format import Column

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECORDS = ROOT / "examples" / "models"
RATE = 16_000  # samples a second
CHUNK, CONTEXT = 512, 64  # Silero VAD takes a chunk with the end of the one before


def open_model(name):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    model = (ROOT / ".cache" / "models" / name / "model.onnx").read_bytes()
    return model, onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def record(name, inputs, wanted=None, of=None):
    """Runs the model on `inputs` (name to stacked rows, or to u8 rows, scale and shift) and writes its record.

    `of` is the model's name where the record has another.
    """
    model, session = open_model(of or name)
    places = [value.name for value in session.get_inputs()]
    columns = []
    for input_name, values in inputs.items():
        rows, *stored = values if isinstance(values, tuple) else (values,)
        columns.append(Column(input_name, places.index(input_name), rows, f"{input_name}.bin", *stored))
    columns.sort(key=lambda column: column.index)
    places = [value.name for value in session.get_outputs()]
    wanted = wanted or places
    results = record_format.run(session, columns, wanted)
    outputs = [
        Column(output, places.index(output), values, f"out{places.index(output)}.bin")
        for output, values in zip(wanted, results)
    ]
    made_with = f"onnxruntime {onnxruntime.__version__}, numpy {np.__version__}"
    record_format.write(RECORDS / name, model, "model.onnx", columns, outputs, made_with, of=of)
    size = sum(file.stat().st_size for file in (RECORDS / name).iterdir())
    print(f"{name}: {len(columns[0].stored)} rows, {size} bytes")
    return results


# Audio.


def voice(seconds, random):
    """Something like a voice, after a moment of silence: the harmonics of a gliding pitch under moving formants."""
    t = np.arange(int(RATE * seconds)) / RATE
    pitch = 120 + 25 * np.sin(2 * np.pi * 3 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formant1 = 500 + 250 * np.sin(2 * np.pi * 2 * t)
    formant2 = 1500 + 500 * np.sin(2 * np.pi * 2.7 * t + 1)
    sound = np.zeros_like(t)
    for k in range(1, 40):
        f = k * pitch
        loudness = np.exp(-(((f - formant1) / 120) ** 2)) + 0.6 * np.exp(-(((f - formant2) / 180) ** 2))
        sound += (loudness + 0.3 * np.exp(-(((f - 2700) / 250) ** 2)) + 0.02) * np.sin(k * phase)
    syllables = np.clip(np.sin(2 * np.pi * 4 * (t - CHUNK / RATE)), 0, 1) * (t >= CHUNK / RATE)
    return (0.4 * sound / np.abs(sound).max() * syllables + 0.002 * random.standard_normal(len(t))).astype(np.float32)


def chunks(audio):
    """One row for each chunk of the audio, with the last samples of the chunk before."""
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), audio])
    return np.stack([padded[at : at + CONTEXT + CHUNK] for at in range(0, len(audio) - CHUNK + 1, CHUNK)])


def silero(name, rows, has_rate=True):
    """A stream: the state that a chunk leaves is an input of the next one. Some models take the sampling rate too."""
    _, session = open_model(name)
    audio = chunks(voice(0.5, np.random.default_rng(7)))[:rows, None]
    rates = {"sr": np.full(rows, RATE, np.int64)} if has_rate else {}
    states = [np.zeros((2, 1, 128), np.float32)]
    for row in range(rows - 1):
        rate = {name: np.asarray(rates[name][row]) for name in rates}
        states.append(session.run(["stateN"], {"input": audio[row], "state": states[row], **rate})[0])
    speech, _ = record(name, {"input": audio, "state": np.stack(states), **rates})
    print("  speech:", speech.ravel().round(3))


def silero_lstm(name, steps):
    """The same in one inference of so many steps."""
    zeros = np.zeros((1, 1, 1, 128), np.float32)
    audio = chunks(voice(0.5, np.random.default_rng(7)))[None, :steps]
    speech, _, _ = record(name, {"input": audio, "h": zeros, "c": zeros})
    print("  speech:", speech.ravel().round(3))


# Pictures.


def digit_images():
    """The digits' held-out images, dark ink on white, and what they show."""
    folder = RECORDS / "digits"
    pixels = np.fromfile(folder / "images.bin", np.uint8).reshape(-1, 8, 8)
    return 255 - pixels.astype(np.float64) * (255 / 16), np.fromfile(folder / "labels.bin", np.uint8)


def enlarged(image, times):
    """Bilinear."""
    for axis in (0, 1):
        size = image.shape[axis]
        at = np.clip((np.arange(size * times) + 0.5) / times - 0.5, 0, size - 1)
        low = np.minimum(at.astype(int), size - 2)
        share = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        image = np.take(image, low, axis) * (1 - share) + np.take(image, low + 1, axis) * share
    return image


def line_of_digits(text, height, width, times):
    """A white picture with the handwritten digits of `text` in a line across its middle, u8."""
    images, labels = digit_images()
    picture = np.full((height, width), 255.0)
    size = 8 * times
    top, left = (height - size) // 2, (width - size * len(text)) // 2
    for place, character in enumerate(text):
        digit = images[np.flatnonzero(labels == int(character))[0]]
        picture[top : top + size, left + place * size : left + (place + 1) * size] = enlarged(digit, times)
    return np.clip(picture.round(), 0, 255).astype(np.uint8)


def as_ocr_input(pictures):
    """Grey to three channels; the models take a pixel as `pixel / 127.5 - 1`."""
    return np.stack([np.broadcast_to(picture, (1, 3, *picture.shape)) for picture in pictures]), 2 / 255, -1.0


def ocr():
    line = line_of_digits("20413", 48, 192, 4)
    (upside_down,) = record("ocr-cls", {"x": as_ocr_input([line, line[::-1, ::-1]])})
    print("  upright, turned:", upside_down.round(3).tolist())
    (text_here,) = record("ocr-det", {"x": as_ocr_input([line_of_digits("407", 64, 64, 2)])})
    print(f"  text in {(text_here > 0.3).mean():.0%} of the picture")
    (characters,) = record("ocr-rec", {"x": as_ocr_input([line_of_digits("4", 48, 32, 4)])})
    print("  likeliest of each step:", characters[0, 0].argmax(-1), characters[0, 0].max(-1).round(3))


# Bytes and words.


def magika():
    """Files as Magika takes them: their first and last 1,024 bytes without outer white space, padded with 256."""
    rows = []
    for file in ("digits.onnx", "LICENSE"):
        content = (RECORDS / "digits" / file).read_bytes()
        first = list(content[:4096].lstrip()[:1024])
        last = list(content[-4096:].rstrip()[-1024:])
        rows.append(first + [256] * (1024 - len(first)) + [256] * (1024 - len(last)) + last)
    (kinds,) = record("magika", {"bytes": np.array(rows, np.int32)[:, None]})
    print("  kinds:", kinds[:, 0].argmax(-1), kinds[:, 0].max(-1).round(3))


def minilm():
    """Sentences as the token ids of BERT's uncased English vocabulary."""
    sentences = [
        [101, 2023, 2003, 1037, 3231, 102],  # this is a test
        [101, 7592, 2088, 102],  # hello world
        [101, 1996, 4248, 2829, 4419, 14523, 2058, 1996, 13971, 3899, 102],  # the quick brown fox …
    ]
    ids = np.zeros((len(sentences), 1, 16), np.int64)
    mask = np.zeros_like(ids)
    for row, sentence in enumerate(sentences):
        ids[row, 0, : len(sentence)] = sentence
        mask[row, 0, : len(sentence)] = 1
    (embeddings,) = record("minilm", {"input_ids": ids, "attention_mask": mask}, wanted=["461"])
    units = embeddings[:, 0] / np.linalg.norm(embeddings[:, 0], axis=-1, keepdims=True)
    print("  likeness:", (units @ units.T).round(3).tolist())
    # The same words over and over, as many as the model is often given: what it takes is what a text takes.
    long = np.resize([1996, 4248, 2829, 4419, 14523, 2058, 13971, 3899], 126)
    ids = np.concatenate([[101], long, [102]]).astype(np.int64)[None, None]
    record("minilm-128", {"input_ids": ids, "attention_mask": np.ones_like(ids)}, wanted=["461"], of="minilm")


# Models that scripts/make_models.py makes.


def made():
    """Digits as large as handwriting usually is, one and 32 at a time, and lines of them."""
    images, _ = digit_images()
    rows = np.stack([enlarged(image, 4)[2:30, 2:30].reshape(784) for image in images[:36]])
    rows = np.clip(rows.round(), 0, 255).astype(np.uint8)
    scale = (1 / 256, 0.0)
    record("mlp", {"image": (rows[32:, None], *scale)})
    record("mlp-32", {"image": (rows[None, :32], *scale)}, of="mlp")
    lines = [line_of_digits("407", 224, 224, 7), line_of_digits("39", 224, 224, 9)]
    pictures = np.stack([np.stack([line, line[::-1], line.T])[None] for line in lines])
    (logits, _) = record("squeezenet", {"image": (pictures, 2 / 255, -1.0)})
    print("  logits:", logits.min(), logits.max())


def main():
    silero("silero-vad", 6)
    silero("silero-vad-ifless", 3)
    silero("silero-vad-16k", 3)
    silero("silero-vad-half", 3, has_rate=False)
    silero("silero-vad-openvino", 3, has_rate=False)
    silero_lstm("silero-vad-lstm", 8)
    ocr()
    magika()
    minilm()
    made()


if __name__ == "__main__":
    main()
