#!/usr/bin/env python3
"""Records what builds of llama.cpp write after prompts, and their logits, for the tests of language models.

    npm pack @node-llama-cpp/linux-x64@3.22.1 && tar xzf node-llama-cpp-linux-x64-3.22.1.tgz
    MODELS=$PWD/.cache/kinds cargo test -p graphpool-candle --features candle,ggml write_kinds -- --ignored
    scripts/record_texts.py package/bins/linux-x64 .cache/kinds/NAME backends/candle/src/tests/llm/NAME.json

NAME is austen or smollm2; the second needs scripts/fetch_models.sh --all before. The test writes into the folder a GGUF
file for each type of weights (f16.gguf, q8_0.gguf and so on), and into NAME_exact the same weights in F32, for which
llama.cpp rounds no activations. The JSON file has `prompts`; the other parts of it are written anew:

* `builds`: llama.cpp has a library for each kind of processor. Of these, each is run alone; this machine's processor
  must have the instructions of all. The first is the one that the others are compared with.
* `tokens` of each prompt.
* `texts`, for the types F16 and Q8_0: the tokens of the highest logits after each prompt, as the first build has them:
  TEXT of them, or up to one that ends the text.
* `apart`, for each of these types and each other build: for each prompt the first token at which its text leaves that
  of the first build, and by how much its own token's logit is the higher one; or null where the texts are the same.
* `logits`, for each type and each build, and for `exact`, the weights in F32 in the first build: for each prompt the
  VALUES logits after it of tokens that are evenly spaced, from token 0, in 1000ths.

llama.cpp runs on one thread, with keys and values in f32 and without its flash attention, so that nothing but the
products is rounded; with DEFAULT_CACHE=1 in the environment it has its own defaults. The library is that of llama.cpp
0.5.0; another one may have another layout of its parameters.
"""

import ctypes
import json
import multiprocessing
import os
import pathlib
import sys
import tempfile

BUILDS = ["zen4", "haswell", "sse42"]
TEXT_TYPES = ["F16", "Q8_0"]
TEXT = 72
VALUES = 8


class ModelParameters(ctypes.Structure):
    """llama_model_params, of which none matters."""

    _fields_ = [("bytes", ctypes.c_uint8 * 80)]


class ContextParameters(ctypes.Structure):
    """llama_context_params, with names for what matters."""

    _fields_ = [
        ("n_ctx", ctypes.c_uint32),
        ("n_batch", ctypes.c_uint32),
        ("n_ubatch", ctypes.c_uint32),
        ("sequences", ctypes.c_uint32 * 4),
        ("n_threads", ctypes.c_int32),
        ("n_threads_batch", ctypes.c_int32),
        ("kinds", ctypes.c_int32 * 4),
        ("flash_attn_type", ctypes.c_int32),
        ("rope", ctypes.c_uint32 * 8),
        ("evaluation", ctypes.c_void_p * 2),
        ("type_k", ctypes.c_int32),
        ("type_v", ctypes.c_int32),
        ("rest", ctypes.c_void_p * 6),
    ]


class Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = [("n_tokens", ctypes.c_int32), ("arrays", ctypes.c_void_p * 6)]


def library(folder):
    for name in ["libggml-base.so", "libggml.v0.5.0.so"]:
        ggml = ctypes.CDLL(folder / name, mode=ctypes.RTLD_GLOBAL)
    llama = ctypes.CDLL(folder / "libllama.v0.5.0.so")
    pointer, number, flag, text = ctypes.c_void_p, ctypes.c_int32, ctypes.c_bool, ctypes.c_char_p
    for name, result, arguments in [
        ("model_default_params", ModelParameters, []),
        ("context_default_params", ContextParameters, []),
        ("model_load_from_file", pointer, [text, ModelParameters]),
        ("init_from_model", pointer, [pointer, ContextParameters]),
        ("model_get_vocab", pointer, [pointer]),
        ("tokenize", number, [pointer, text, number, pointer, number, flag, flag]),
        ("token_to_piece", number, [pointer, number, text, number, number, flag]),
        ("vocab_n_tokens", number, [pointer]),
        ("vocab_is_eog", flag, [pointer, number]),
        ("batch_get_one", Batch, [pointer, number]),
        ("decode", number, [pointer, Batch]),
        ("get_logits_ith", ctypes.POINTER(ctypes.c_float), [pointer, number]),
        ("free", None, [pointer]),
        ("model_free", None, [pointer]),
    ]:
        function = getattr(llama, f"llama_{name}")
        function.restype, function.argtypes = result, arguments
    llama.silent = ctypes.CFUNCTYPE(None, ctypes.c_int, text, pointer)(lambda *_: None)
    llama.llama_log_set(llama.silent, None)
    ggml.ggml_backend_load_all_from_path(str(folder).encode())
    llama.llama_backend_init()
    return llama


class Model:
    def __init__(self, llama, path):
        self.llama = llama
        self.model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
        if not self.model:
            raise OSError(f"{path}: not loaded")
        self.vocabulary = llama.llama_model_get_vocab(self.model)
        self.tokens = llama.llama_vocab_n_tokens(self.vocabulary)

    def close(self):
        self.llama.llama_model_free(self.model)

    def tokenize(self, prompt):
        prompt = prompt.encode()
        tokens = (ctypes.c_int32 * (len(prompt) + 8))()
        made = self.llama.llama_tokenize(self.vocabulary, prompt, len(prompt), tokens, len(tokens), True, True)
        return list(tokens[:made])

    def text(self, tokens):
        piece, text = ctypes.create_string_buffer(8192), b""
        for token in tokens:
            size = self.llama.llama_token_to_piece(self.vocabulary, token, piece, len(piece), 0, True)
            text += piece.raw[:size]
        return text.decode("utf-8", "replace")

    def go_on(self, tokens, count, text=None):
        """The logits after these tokens; `count` tokens more; and where they leave `text`, which is where they end."""
        parameters = self.llama.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = 512
        parameters.n_threads = parameters.n_threads_batch = 1
        if not os.environ.get("DEFAULT_CACHE"):
            parameters.type_k = parameters.type_v = 0
            parameters.flash_attn_type = 0
        context = self.llama.llama_init_from_model(self.model, parameters)
        made, first, apart = [], None, None
        while True:
            array = (ctypes.c_int32 * len(tokens))(*tokens)
            if self.llama.llama_decode(context, self.llama.llama_batch_get_one(array, len(tokens))):
                raise OSError("llama_decode failed")
            logits = self.llama.llama_get_logits_ith(context, -1)[: self.tokens]
            first = first or logits
            if len(made) == count or made and self.llama.llama_vocab_is_eog(self.vocabulary, made[-1]):
                break
            best = max(range(self.tokens), key=logits.__getitem__)
            if text and best != text[len(made)]:
                apart = [len(made), round(logits[best] - logits[text[len(made)]], 4)]
                break
            tokens = [best]
            made += tokens
        self.llama.llama_free(context)
        return first, made, apart


def measure(folder, models, prompts, texts):
    """What a build makes of the models in a folder. With `texts`, of each type, also where its own leave them."""
    llama = library(folder)
    measured = {"texts": {}, "apart": {}, "logits": {}}
    for path in sorted(models.glob("*.gguf")):
        kind = path.stem.upper()
        model = Model(llama, path)
        measured["tokens"] = tokens = [model.tokenize(prompt) for prompt in prompts]
        count = TEXT if texts is not None and kind in TEXT_TYPES else 0
        known = texts.get(kind) if texts and count else [None] * len(prompts)
        made = [model.go_on(prompt, count, text) for prompt, text in zip(tokens, known)]
        stride = -(-model.tokens // VALUES)
        measured["logits"][kind] = [[round(1000 * logit) for logit in logits[::stride]] for logits, _, _ in made]
        if count:
            measured["texts"][kind] = [text for _, text, _ in made]
            measured["apart"][kind] = [apart for _, _, apart in made]
            print(f"{kind}: {prompts[0]}|{model.text(made[0][1])}")
        model.close()
    return measured


def in_build(package, build, models, prompts, texts):
    """The same in a process of its own, which finds the library of this build alone."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for path in package.glob("*.so"):
            if not path.name.startswith("libggml-cpu-") or path.stem == f"libggml-cpu-{build}":
                (folder / path.name).symlink_to(path)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(measure, (folder, models, prompts, texts))


def main(package, models, record):
    package, models, record = pathlib.Path(package).resolve(), pathlib.Path(models).resolve(), pathlib.Path(record)
    prompts = json.loads(record.read_text("utf-8"))["prompts"]
    first = in_build(package, BUILDS[0], models, prompts, {})
    measured = {BUILDS[0]: first}
    for build in BUILDS[1:]:
        measured[build] = in_build(package, build, models, prompts, first["texts"])
    exact = in_build(package, BUILDS[0], models.with_name(models.name + "_exact"), prompts, None)

    def dumped(value, depth):
        """JSON, with a line for each element of what is `depth` deep."""
        if depth == 0:
            return json.dumps(value, ensure_ascii=False)
        if isinstance(value, dict):
            parts = [f"{json.dumps(key)}: {dumped(part, depth - 1)}" for key, part in value.items()]
            return "{\n" + ",\n".join(parts) + "\n}"
        return "[\n" + ",\n".join(dumped(part, depth - 1) for part in value) + "\n]"

    parts = {
        "prompts": dumped(prompts, 1),
        "builds": json.dumps(BUILDS),
        "tokens": dumped(first["tokens"], 1),
        "texts": dumped(first["texts"], 2),
        "apart": dumped({kind: {build: measured[build]["apart"][kind] for build in BUILDS[1:]}
                         for kind in first["apart"]}, 2),
        "logits": dumped({kind: {"exact": exact["logits"][kind]} | {build: measured[build]["logits"][kind]
                                                                   for build in BUILDS}
                          for kind in first["logits"]}, 2),
    }  # fmt: skip
    record.write_text("{\n" + ",\n".join(f'"{name}": {part}' for name, part in parts.items()) + "\n}\n", "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
