#!/usr/bin/env python3
"""Records what llama.cpp writes after prompts, and its logits, for the tests of language models.

    npm pack @node-llama-cpp/linux-x64@3.22.1 && tar xzf node-llama-cpp-linux-x64-3.22.1.tgz
    MODELS=$PWD/.cache/kinds cargo test -p graphpool-candle --features candle,ggml write_kinds -- --ignored
    scripts/record_texts.py package/bins/linux-x64 .cache/kinds/NAME backends/candle/src/tests/llm/NAME.json

NAME is austen or smollm2; the second needs scripts/fetch_models.sh --all before. The test writes into the folder a GGUF
file for each type of weights: f16.gguf, q8_0.gguf and so on. The JSON file has `prompts`; the other parts of it are
written anew. `tokens` are those of each prompt. In `texts` are the tokens of the highest logits after them for the
types F16 and Q8_0: TEXT of them, or up to one that ends the text. In `logits`, for each type and the first LOGITS
prompts, are VALUES logits after the prompt and the TOP highest, each with its token.

llama.cpp runs on one thread, with keys and values in f32 and without its flash attention, so that nothing but the
products is rounded; with DEFAULT_CACHE=1 in the environment it has its own defaults. The library is that of llama.cpp
0.5.0; another one may have another layout of its parameters.
"""

import ctypes
import json
import os
import pathlib
import sys

TEXT = 72
LOGITS = 20
TOP = 3
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
            sys.exit(f"{path}: not loaded")
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

    def go_on(self, tokens, count):
        """The logits after these tokens, and `count` tokens more."""
        parameters = self.llama.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = 512
        parameters.n_threads = parameters.n_threads_batch = 1
        if not os.environ.get("DEFAULT_CACHE"):
            parameters.type_k = parameters.type_v = 0
            parameters.flash_attn_type = 0
        context = self.llama.llama_init_from_model(self.model, parameters)
        made, first = [], None
        while True:
            array = (ctypes.c_int32 * len(tokens))(*tokens)
            if self.llama.llama_decode(context, self.llama.llama_batch_get_one(array, len(tokens))):
                sys.exit("llama_decode failed")
            logits = self.llama.llama_get_logits_ith(context, -1)[: self.tokens]
            first = first or logits
            if len(made) == count or made and self.llama.llama_vocab_is_eog(self.vocabulary, made[-1]):
                break
            tokens = [max(range(self.tokens), key=logits.__getitem__)]
            made += tokens
        self.llama.llama_free(context)
        return first, made


def main(folder, models, record):
    llama = library(pathlib.Path(folder).resolve())
    record = pathlib.Path(record)
    prompts = json.loads(record.read_text("utf-8"))["prompts"]
    texts, all_logits = {}, {}
    for path in sorted(pathlib.Path(models).glob("*.gguf")):
        kind = path.stem.upper()
        model = Model(llama, path)
        tokens = [model.tokenize(prompt) for prompt in prompts]
        stride = -(-model.tokens // VALUES)
        made = [model.go_on(tokens[at], TEXT) for at in range(len(prompts))] if kind in ("F16", "Q8_0") else []
        firsts = [logits for logits, _ in made] or [model.go_on(tokens[at], 0)[0] for at in range(LOGITS)]
        if made:
            texts[kind] = [text for _, text in made]
            for prompt, text in zip(prompts[:3], texts[kind]):
                print(f"{kind}: {prompt}|{model.text(text)}")
        all_logits[kind] = []
        for logits in firsts[:LOGITS]:
            top = sorted(range(model.tokens), key=logits.__getitem__, reverse=True)[:TOP]
            chosen = sorted(set(top) | set(range(0, model.tokens, stride)))
            all_logits[kind].append([[token, round(logits[token], 4)] for token in chosen])
        model.close()

    def lines(rows):
        return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]"

    def parts(table):
        return "{\n" + ",\n".join(f"{json.dumps(kind)}: {lines(rows)}" for kind, rows in table.items()) + "\n}"

    record.write_text(
        f'{{\n"prompts": {lines(prompts)},\n"tokens": {lines(tokens)},\n"texts": {parts(texts)},\n'
        f'"logits": {parts(all_logits)}\n}}\n',
        "utf-8",
    )


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
