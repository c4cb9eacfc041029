#!/usr/bin/env python3
"""Records inputs and onnxruntime's outputs for the models of scripts/fetch_models.sh and scripts/make_models.py.

    scripts/fetch_models.sh --all
    venv/bin/python scripts/make_models.py
    venv/bin/python scripts/record_models.py

For each model, or for those that are named: inputs that it was made for, from scripts/record_inputs.py. The records go
to examples/models/NAME; they are small enough to be committed.
"""

import pathlib

import numpy as np
import onnxruntime

import record_format
from record_format import Column
from record_inputs import CHUNK, RATE, bytes_of, digit_images, enlarged, line_of_digits, log_mel, pieces, voice

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECORDS = ROOT / "examples" / "models"
CONTEXT = 64  # samples: Silero VAD takes a chunk with the end of the one before


def open_model(name):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    model = (ROOT / ".cache" / "models" / name / "model.onnx").read_bytes()
    return model, onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def record(name, inputs, wanted=None, of=None, tolerance=None):
    """Runs the model on `inputs` (name to stacked rows, or to u8 rows, scale, shift and perhaps the dimensions of a row
    that has them over and over) and writes its record.

    `of` is the model's name where the record has another.
    """
    model, session = open_model(of or name)
    places = [value.name for value in session.get_inputs()]
    columns = []
    for input_name, values in inputs.items():
        rows, *stored = values if isinstance(values, tuple) else (values,)
        # Not every system has file names with a colon.
        file = input_name.replace(":", "_") + ".bin"
        columns.append(Column(input_name, places.index(input_name), rows, file, *stored))
    columns.sort(key=lambda column: column.index)
    places = [value.name for value in session.get_outputs()]
    wanted = wanted or places
    results = record_format.run(session, columns, wanted)
    outputs = [
        Column(output, places.index(output), values, f"out{places.index(output)}.bin")
        for output, values in zip(wanted, results)
    ]
    made_with = f"onnxruntime {onnxruntime.__version__}, numpy {np.__version__}"
    record_format.write(RECORDS / name, model, "model.onnx", columns, outputs, made_with, of=of, tolerance=tolerance)
    size = sum(file.stat().st_size for file in (RECORDS / name).iterdir())
    print(f"{name}: {len(columns[0].stored)} rows, {size} bytes")
    return results


# Audio.


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


# Speech and music.


def speech_scores():
    """How good a call sounds: from its samples, its spectrum, or the spectra of what was sent, heard and kept."""
    random = np.random.default_rng(11)
    sound, scale, shift = bytes_of(voice(144_160 / 4 / RATE, random))
    (scores,) = record("dnsmos", {"input_1": (sound[None, None], scale, shift, [1, 144_160])})
    print("  speech, background, overall:", scores.ravel().round(3))

    audio = voice(2, random)
    # A tenth is lost: 20 ms here and there.
    heard = audio * np.repeat(random.random(100) > 0.1, 320)
    spectrum = np.abs(np.fft.rfft(pieces(heard, 512, 256) * np.hamming(513)[:-1]))
    spectrum = bytes_of(np.log(np.maximum(spectrum, 1e-6)) / 20)
    raters = random.standard_normal((1, 1, 64)).astype(np.float32)
    heard = (spectrum[0][None, None, None], *spectrum[1:])
    (score,) = record("plcmos", {"degraded_audio": heard, "rater_embed": raters})
    print("  concealed losses:", score.ravel().round(3))

    echo = 0.3 * np.roll(audio, 800)
    sounds = [audio, echo + 0.002 * random.standard_normal(len(audio)), 0.05 * echo]
    bands = np.stack([10 * log_mel(sound, 512, 256, 160) for sound in sounds])
    bands = (np.maximum(bands - bands.max((1, 2), keepdims=True), -80) + 40) / 40
    # Two markers after the sound tell that only the far end speaks.
    markers = np.zeros((3, 40, 160))
    markers[0, :20] = 1
    bands, scale, shift = bytes_of(np.concatenate([bands, markers], axis=1))
    zeros = np.zeros((1, 4, 1, 64), np.float32)
    (scores,) = record("aecmos", {"input": (bands[None, None], scale, shift), "h0": zeros})
    print("  echo, other degradations:", scores.ravel().round(3))


def smart_turn():
    """Whether someone has said all that they want to: the last 8 seconds, as Whisper takes them."""
    audio = np.concatenate([np.zeros(RATE * 3), voice(4.5, np.random.default_rng(5)), np.zeros(RATE // 2)])
    audio = np.pad((audio - audio.mean()) / np.sqrt(audio.var() + 1e-7), 200, mode="reflect")
    bands = log_mel(audio, 400, 160, 80)[:-1].T
    bands, scale, shift = bytes_of((np.maximum(bands, bands.max() - 8) + 4) / 4)
    # Quantized and dequantized after each operator: where a value is between two integers, the last bit decides.
    (turn,) = record("smart-turn", {"input_features": (bands[None, None], scale, shift)}, tolerance=0.01)
    print("  the turn is over:", turn.ravel().round(3))


def mel_spectra():
    """What speech recognizers begin with: STFT, DFT in a Scan, and others."""
    sound, scale, shift = bytes_of(voice(1, np.random.default_rng(3)))
    inputs = {"waveforms": (sound[None, None], scale, shift), "waveforms_lens": np.array([[RATE]])}
    for name in ("mel-nemo", "mel-kaldi", "mel-wespeaker"):
        features, _ = record(name, inputs)
        print("  features:", features.shape[2:], features.min().round(3), features.max().round(3))


def basic_pitch():
    """Two seconds of a melody: each note a few harmonics that fade."""
    rate, samples = 22_050, 43_844
    t = np.arange(samples) / rate
    melody = np.zeros(samples)
    for start, key in ((0.1, 60), (0.5, 64), (0.9, 67), (1.3, 72), (1.3, 48)):
        hertz, since = 440 * 2 ** ((key - 69) / 12), np.maximum(t - start, 0)
        for k in range(1, 6):
            melody += (t > start) * np.exp(-4 * since) / k * np.sin(2 * np.pi * k * hertz * since)
    sound, scale, shift = bytes_of(0.3 * melody)
    # Notes and their onsets; the contours of the pitch are three times as large.
    name = "serving_default_input_2:0"
    outputs = ["StatefulPartitionedCall:1", "StatefulPartitionedCall:2"]
    notes, _ = record("basic-pitch", {name: (sound[None, None, :, None], scale, shift)}, outputs)
    print("  keys:", 21 + np.flatnonzero(notes[0, 0].max(0) > 0.5))


# Pages and captchas.


def pages():
    """Pictures of many lines: the same few over and over, in all channels."""
    lines = np.concatenate([line_of_digits(text, 40, 224, 4) for text in ("20413", "975")] + [np.full((32, 224), 255)])
    pictures = np.stack([lines, lines[::-1, ::-1]])[:, None, None].astype(np.uint8)
    (turned,) = record("orientation", {"x": (pictures, 1 / 57.12, -2.12, [1, 3, 224, 224])})
    print("  upright, a quarter, half and three quarters round:", turned[:, 0].round(3).tolist())
    texts = ("20413975204139752", "97520413975204139", "04139752041397520")
    block = np.concatenate([*[line_of_digits(text, 32, 608, 4) for text in texts], np.full((4, 608), 255)])
    inputs = {"image": (block[None, None, None].astype(np.uint8), 1 / 57.12, -2.12, [1, 3, 800, 608])}
    # What the two coarser of the four grids see: classes, and distances to the edges.
    names = [f"transpose_{place}.tmp_0" for place in (4, 6, 7)]
    _, classes, _ = record("layout", inputs, names)
    print("  likeliest class:", classes[0, 0].max(0).argmax(), classes.max().round(2))
    line = line_of_digits("4", 64, 32, 4)
    (text,) = record("captcha", {"input1": (line[None, None, None], 2 / 255, -1.0)})
    print("  likeliest of each step:", text[0, :, 0].argmax(-1))
    strip = line_of_digits("20413", 52, 416, 4)
    (boxes,) = record("captcha-det", {"images": (strip[None, None, None], 1.0, 0.0, [1, 3, 416, 416])})
    print("  surest box:", (boxes[0, 0, :, 4] * boxes[0, 0, :, 5]).max().round(2))
    page = line_of_digits("407", 32, 160, 3)
    (text_here,) = record("ocr6-det", {"x": (page[None, None, None], 2 / 255, -1.0, [1, 3, 160, 160])})
    print(f"  text in {(text_here > 0.3).mean():.0%} of the picture")
    (characters,) = record("ocr6-rec", {"x": as_ocr_input([line_of_digits("4", 48, 32, 4)])})
    print("  likeliest of each step:", characters[0, 0].argmax(-1), characters[0, 0].max(-1).round(3))


# Letters and words.


def chars2vec():
    """Words as one row for each letter, padded to the longest."""
    letters = "!\"#$%&'()*+,-./0123456789:;<=>?@_abcdefghijklmnopqrstuvwxyz"
    words = ["language", "langauge", "graph"]
    rows = np.zeros((len(words), 1, 8, len(letters)), np.uint8)
    for row, word in enumerate(words):
        for place, letter in enumerate(word):
            rows[row, 0, place, letters.index(letter)] = 1
    (vectors,) = record("chars2vec", {"lstm_input": (rows, 1.0, 0.0)})
    units = vectors[:, 0] / np.linalg.norm(vectors[:, 0], axis=-1, keepdims=True)
    print("  likeness:", (units @ units.T).round(3).tolist())


def tashkeel():
    """The vowels of an Arabic sentence, which is written without: `the student wrote the lesson in the book`."""
    sentence = "كتب الطالب الدرس في الكتاب، ثم قرأ الكتاب في البيت"
    letters = "ءآأؤإئابةتثجحخدذرزسشصضطظعغـفقكلمنهوي .,،"
    ids = np.array([[4 + letters.index(letter) if letter in letters else 1 for letter in sentence]])
    # The results of Tanh are quantized. One that is near the middle between two integers is rounded to the other one if
    # it differs in its last bit, as onnxruntime's own does where Tanh is written as a Sigmoid: its logits, which reach
    # 22, then differ by 0.006.
    (marks,) = record("tashkeel", {"input_ids": ids[None]}, tolerance=0.02)
    print("  marks:", marks[0, 0].argmax(-1))
    # The other model has the hamza as a mark of its own.
    letters = "،؛؟ءابةتثجحخدذرزسشصضطظعغـفقكلمنهوىي"
    ids = [3 if letter == " " else 145 + letters.index(letter) for letter in sentence.replace("أ", "ا")]
    presence, _ = record("rawi", {"input": np.array([[ids]])})
    print("  marked:", (presence[0, 0] > 0).astype(int))


def title_encoder():
    """A sentence as the token ids of T5: `Fix the tests that fail when the file is empty`."""
    ids = np.array([[[14269, 8, 794, 7, 24, 5124, 116, 8, 1042, 19, 6364, 1]]])
    record("title-encoder", {"input_ids": ids, "attention_mask": np.ones_like(ids)})


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
    speech_scores()
    smart_turn()
    mel_spectra()
    basic_pitch()
    pages()
    chars2vec()
    tashkeel()
    title_encoder()


if __name__ == "__main__":
    main()
