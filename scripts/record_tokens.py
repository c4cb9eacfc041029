#!/usr/bin/env python3
"""Records the tokens that llama.cpp makes of random texts, for the tests of tokenizers.

    scripts/fetch_vocabularies.sh
    npm pack @node-llama-cpp/linux-x64@3.22.1 && tar xzf node-llama-cpp-linux-x64-3.22.1.tgz
    scripts/record_tokens.py package/bins/linux-x64 [TEXTS]

For each vocabulary in .cache/vocabularies it writes two files beside it. NAME.random has a line for each of TEXTS texts
(3,000 by default): 1 if special tokens are parsed, the text in hexadecimal digits, and its tokens. NAME.pieces has a
line for each token: its bytes with special tokens written and without, and 1 if it ends an answer. The texts are the
same at each run. The library is that of llama.cpp 0.5.0; another one may have another layout of its parameters.
"""

import ctypes
import pathlib
import random
import struct
import sys
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".cache" / "vocabularies"
# Code points from which characters are drawn.
RANGES = [
    (0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x5D0, 0x6FF), (0x900, 0xDFF),
    (0xE00, 0xFFF), (0x10A0, 0x13FF), (0x1E00, 0x20CF), (0x2100, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3), (0xFF00, 0xFFEF), (0x10400, 0x104FF), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (1, 0x10FFFF),
]
PARTS = [
    "  ", " ", "\n", "\n\n", "\r\n", "\t", "'s", "'RE", "'ll", " the", "Hello", "123", "12345", "...", "!!", "/", "_",
    "=", "{", "\u2581", "\u00a0", "\u3000", "\u2028", "\u0085", "\x0b", "\x1c", "\u01c5", "\u00df", "\u4e2d\u6587",
    "\uac00\ub098",
]


class Parameters(ctypes.Structure):
    """llama_model_params, of which one byte matters."""

    VOCAB_ONLY = 72
    _fields_ = [("bytes", ctypes.c_uint8 * 80)]


def library(folder):
    for name in ["libggml-base.so", "libggml.v0.5.0.so"]:
        ctypes.CDLL(folder / name, mode=ctypes.RTLD_GLOBAL)
    llama = ctypes.CDLL(folder / "libllama.v0.5.0.so")
    pointer, number, flag = ctypes.c_void_p, ctypes.c_int32, ctypes.c_bool
    llama.llama_model_default_params.restype = Parameters
    llama.llama_model_load_from_file.restype = pointer
    llama.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Parameters]
    llama.llama_model_get_vocab.restype = pointer
    llama.llama_model_get_vocab.argtypes = [pointer]
    llama.llama_model_free.argtypes = [pointer]
    llama.llama_tokenize.argtypes = [pointer, ctypes.c_char_p, number, pointer, number, flag, flag]
    llama.llama_token_to_piece.argtypes = [pointer, number, ctypes.c_char_p, number, number, flag]
    llama.llama_vocab_n_tokens.argtypes = [pointer]
    llama.llama_vocab_is_eog.argtypes = [pointer, number]
    llama.llama_vocab_is_eog.restype = flag
    llama.silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, pointer)(lambda *_: None)
    llama.llama_log_set(llama.silent, None)
    llama.llama_backend_init()
    return llama


def metadata(path):
    """The keys and values of a GGUF file."""
    data, at = path.read_bytes(), 24
    forms = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values

    def value(kind):
        if kind == 8:
            return take(f"{take('Q')[0]}s")[0]
        if kind == 9:
            kind, count = take("IQ")
            return [value(kind) for _ in range(count)] if kind in (8, 9) else take(f"{count}{forms[kind]}")
        return take(forms[kind])[0]

    (count,) = struct.unpack_from("<Q", data, 16)
    return {take(f"{take('Q')[0]}s")[0].decode(): value(take("I")[0]) for _ in range(count)}


def texts(special, count):
    """Random texts: cut out of others, or made of characters, runs, words and special tokens."""
    draw = random.Random(5)
    known = (FOLDER / "ggml-vocab-gpt-2.gguf.inp").read_text("utf-8").split("\n__ggml_vocab_test__\n")
    long = "\n".join((ROOT / name).read_text("utf-8") for name in ["README.md", "CONTRIBUTING.md", "src/table.rs"])

    def character():
        while True:
            number = draw.randint(*draw.choice(RANGES))
            # What has no category yet may have one in another version of Unicode.
            if unicodedata.category(chr(number)) not in ("Cn", "Cs"):
                return chr(number)

    def cut(text, longest):
        start = draw.randrange(len(text) + 1)
        return text[start : start + draw.randint(1, longest)]

    makers = [
        character,
        lambda: draw.choice(PARTS),
        lambda: draw.choice([" ", "\n", "a", "A", "1", "!"]) * draw.randint(1, 40),
        lambda: cut(long, 12),
        lambda: draw.choice(special) if special else "",
    ]
    for _ in range(count):
        kind = draw.random()
        if kind < 0.25:
            yield cut(long, 200)
        elif kind < 0.4:
            yield cut(draw.choice(known), 80)
        else:
            yield "".join(draw.choice(makers)() for _ in range(draw.randint(1, 14))).replace("\0", "")


def record(llama, path, count):
    parameters = llama.llama_model_default_params()
    parameters.bytes[Parameters.VOCAB_ONLY] = 1
    model = llama.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        sys.exit(f"{path}: not loaded")
    vocabulary = llama.llama_model_get_vocab(model)
    keys = metadata(path)
    kinds = zip(keys["tokenizer.ggml.tokens"], keys.get("tokenizer.ggml.token_type", ()))
    special = [text.decode("utf-8", "replace") for text, kind in kinds if kind in (2, 3, 4)]
    tokens = (ctypes.c_int32 * 65536)()
    with path.with_suffix(".random").open("w") as file:
        for number, text in enumerate(texts(special, count)):
            text, parse = text.encode(), number % 2 == 0
            made = llama.llama_tokenize(vocabulary, text, len(text), tokens, len(tokens), False, parse)
            file.write(f"{int(parse)} {text.hex()} {' '.join(map(str, tokens[:made]))}\n")
    piece = ctypes.create_string_buffer(8192)
    with path.with_suffix(".pieces").open("w") as file:
        for token in range(llama.llama_vocab_n_tokens(vocabulary)):
            for written in (True, False):
                made = llama.llama_token_to_piece(vocabulary, token, piece, len(piece), 0, written)
                file.write(f"{piece.raw[:made].hex()} ")
            file.write(f"{int(llama.llama_vocab_is_eog(vocabulary, token))}\n")
    llama.llama_model_free(model)
    print(f"{path.name}: {count} texts")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    llama = library(pathlib.Path(sys.argv[1]).resolve())
    for path in sorted(FOLDER.glob("ggml-vocab-*.gguf")):
        record(llama, path, int(sys.argv[2]) if len(sys.argv) == 3 else 3000)
