#!/usr/bin/env python3
"""Trains the language model of examples/models/austen on the novels of Jane Austen.

    apt-get install python3-torch python3-venv libopenblas0-pthread
    apt-get download r-cran-janeaustenr=1.0.0-1
    /usr/bin/python3 -m venv --system-site-packages venv && venv/bin/pip install -r scripts/train_austen.txt
    venv/bin/python scripts/train_austen.py r-cran-janeaustenr_1.0.0-1_all.deb

The text is that of a Debian package, of which no code is run. It becomes a tokenizer of 1,024 tokens, a network of the
llama family with 1.3 million parameters, and a GGUF file with these in blocks of Q8_0. The training took 34 minutes on
one core with instructions for bf16; without them it takes three times as long. Numbers are drawn from a fixed seed,
but another processor or another version of PyTorch rounds otherwise, so its weights are not the same.

What is made on the way lies in .cache/austen: text.txt, tokenizer.json and weights.safetensors. A part that is there
is not made again, so that the parts can run on several machines.
"""

import argparse
import hashlib
import io
import json
import lzma
import math
import pathlib
import re
import tarfile
import time
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
SEED = 20261128
TEXT_SUM = "b86b2e9a3ca3f6424964bf1c9142995896062bf6b762be47107d915a6c79c5d2"
# In the order of the package's records, which are its novels' names in alphabetical order.
NOVELS = ["Emma", "Mansfield Park", "Northanger Abbey", "Persuasion", "Pride and Prejudice", "Sense and Sensibility"]
# Each twentieth chapter is kept for the test.
HELD_OUT = 20
# How paragraphs begin that the author did not write.
EDITORS = r"[\[(].*(edition|End of)|Vide |Finis|Northanger Abbey was written in"
WANTED_BITS = 1.50  # for each byte of the held-out chapters

TOKENS = 1024
END = "<|endoftext|>"  # ends a chapter, and begins each sequence
CONTEXT = 512
WIDTH = 256
LAYERS = 3
HEADS = 8
KEY_VALUE_HEADS = 2
HEAD = WIDTH // HEADS
INNER = 256
EPSILON = 1e-5
ROPE_BASE = 10000.0

STEPS = 7000
STEP_TOKENS = 2048
# Most of the steps see short sequences, which cost less; the last ones see those of a whole context.
SHORT = 128
SHORT_STEPS = 0.8
RATE = 3e-3
WEIGHT_DECAY = 0.1


# The text.


def novels(package):
    """The lines of each novel in the Debian package."""
    data, at = pathlib.Path(package).read_bytes(), 8
    members = {}
    while at < len(data):
        name, size = data[at : at + 16].decode().strip(), int(data[at + 48 : at + 58])
        members[name] = data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(members["data.tar.xz"]))) as tar:
        records = tar.extractfile("./usr/lib/R/site-library/janeaustenr/data/Rdata.rdb").read()
    # Each record is its length and a compressed vector of strings, as R writes it: 22 bytes of versions, the name of an
    # encoding, the kind 16, the number of strings; then for each its encoding and kind, its length and its bytes.
    while records:
        unpack = zlib.decompressobj()
        vector = unpack.decompress(records[4:])
        records = unpack.unused_data
        at = 18 + int.from_bytes(vector[14:18])
        assert vector[:2] == b"X\n" and vector[at + 3] == 16, vector[:40]
        count = int.from_bytes(vector[at + 4 : at + 8])
        at += 8
        lines = []
        for _ in range(count):
            size = int.from_bytes(vector[at + 4 : at + 8])
            lines.append(vector[at + 8 : at + 8 + size].decode())
            at += 8 + size
        yield lines


def chapters(lines):
    """The chapters of a novel, a paragraph a line."""
    text = re.sub(r"[_*]", "", "\n".join(lines))
    for part in re.split(r"(?mi)^CHAPTER [0-9IVXLC]+\b.*$", text)[1:]:
        paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", part)]
        # Without what editors wrote: notes, and where a volume ends.
        told = [line for line in paragraphs if re.search("[a-z]", line) and not re.match(EDITORS, line)]
        yield "\n".join(told) + "\n"


def make_text(package, path):
    """Writes the chapters of all novels, with END after each."""
    text = "".join(chapter + END for lines in novels(package) for chapter in chapters(lines))
    found = hashlib.sha256(text.encode()).hexdigest()
    assert found == TEXT_SUM, f"the text has another checksum: {found}"
    path.write_text(text, "utf-8")


def make_tokenizer(text, path):
    """Byte-level byte pair encoding, with the words of GPT-2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENS, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(text.replace(END, "").splitlines(keepends=True), trainer)
    assert tokenizer.get_vocab_size() == TOKENS and tokenizer.token_to_id(END) == 0
    tokenizer.save(str(path))


def sequences(text, tokenizer):
    """The tokens to learn from and those that are held out, and where in each a paragraph begins."""
    learned, held_out = ([], []), ([], [])
    for number, chapter in enumerate(text.split(END)[:-1]):
        tokens, starts = held_out if number % HELD_OUT == HELD_OUT // 2 else learned
        for line in chapter.splitlines(keepends=True):
            starts.append(len(tokens))
            tokens.extend(tokenizer.encode(line).ids)
        tokens.append(0)
    return learned, held_out


# The network.


def new_parameters(torch, device):
    generator = torch.Generator().manual_seed(SEED)

    def matrix(rows, columns, scale=1.0):
        return torch.randn(rows, columns, generator=generator) * scale / math.sqrt(columns)

    into_sum = 1 / math.sqrt(2 * LAYERS)
    parameters = {"token_embd": matrix(TOKENS, WIDTH, 0.5), "output_norm": torch.ones(WIDTH)}
    for layer in range(LAYERS):
        parameters |= {
            f"blk.{layer}.attn_norm": torch.ones(WIDTH),
            f"blk.{layer}.attn_q": matrix(HEADS * HEAD, WIDTH),
            f"blk.{layer}.attn_k": matrix(KEY_VALUE_HEADS * HEAD, WIDTH),
            f"blk.{layer}.attn_v": matrix(KEY_VALUE_HEADS * HEAD, WIDTH),
            f"blk.{layer}.attn_output": matrix(WIDTH, HEADS * HEAD, into_sum),
            f"blk.{layer}.ffn_norm": torch.ones(WIDTH),
            f"blk.{layer}.ffn_gate": matrix(INNER, WIDTH),
            f"blk.{layer}.ffn_up": matrix(INNER, WIDTH),
            f"blk.{layer}.ffn_down": matrix(WIDTH, INNER, into_sum),
        }
    return {name: value.to(device).requires_grad_() for name, value in parameters.items()}


class Network:
    """The llama family: RMSNorm, rotary positions of neighbouring pairs, grouped-query attention, SwiGLU."""

    def __init__(self, torch, device, parameters):
        self.torch, self.parameters = torch, parameters
        rates = ROPE_BASE ** (-torch.arange(0, HEAD, 2, device=device) / HEAD)
        angles = torch.arange(CONTEXT, device=device)[:, None] * rates
        self.cos, self.sin = angles.cos(), angles.sin()
        self.mask = torch.full((CONTEXT, CONTEXT), -1e9, device=device).triu(1)

    def norm(self, x, name):
        return x * (x.square().mean(-1, keepdim=True) + EPSILON).rsqrt() * self.parameters[name]

    def heads(self, x, name, count):
        """[batch, length, WIDTH] to [batch, count, length, HEAD]."""
        batch, length, _ = x.shape
        return (x @ self.parameters[name].T).view(batch, length, count, HEAD).transpose(1, 2)

    def turned(self, x):
        even, odd = x[..., 0::2], x[..., 1::2]
        cos, sin = self.cos[: x.shape[2]], self.sin[: x.shape[2]]
        return self.torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)

    def attention(self, x, block):
        batch, length, _ = x.shape
        group = HEADS // KEY_VALUE_HEADS
        query = self.turned(self.heads(x, f"{block}.attn_q", HEADS))
        key = self.turned(self.heads(x, f"{block}.attn_k", KEY_VALUE_HEADS))
        value = self.heads(x, f"{block}.attn_v", KEY_VALUE_HEADS)
        # The rows of all heads of a group are rows of one product.
        query = query.reshape(batch, KEY_VALUE_HEADS, group * length, HEAD)
        scores = (query @ key.transpose(-1, -2) / math.sqrt(HEAD)).view(batch, KEY_VALUE_HEADS, group, length, length)
        weights = (scores + self.mask[:length, :length]).softmax(-1)
        mixed = weights.view(batch, KEY_VALUE_HEADS, group * length, length) @ value
        mixed = mixed.view(batch, HEADS, length, HEAD).transpose(1, 2).reshape(batch, length, HEADS * HEAD)
        return mixed @ self.parameters[f"{block}.attn_output"].T

    def logits(self, tokens):
        p, silu = self.parameters, self.torch.nn.functional.silu
        x = p["token_embd"][tokens]
        for layer in range(LAYERS):
            block = f"blk.{layer}"
            x = x + self.attention(self.norm(x, f"{block}.attn_norm"), block)
            y = self.norm(x, f"{block}.ffn_norm")
            y = (silu(y @ p[f"{block}.ffn_gate"].T) * (y @ p[f"{block}.ffn_up"].T)) @ p[f"{block}.ffn_down"].T
            x = x + y
        return self.norm(x, "output_norm") @ p["token_embd"].T

    def loss(self, windows, reduction="mean"):
        """The cross entropy of each token after the first, with the tokens before it: nats."""
        # Products in bf16, all else in f32.
        with self.torch.autocast(windows.device.type, self.torch.bfloat16):
            logits = self.logits(windows[:, :-1]).float()
        cross_entropy = self.torch.nn.functional.cross_entropy
        return cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction=reduction)


def held_out_loss(torch, parameters, tokens, length):
    """The mean loss of the tokens, in sequences of that length: nats."""
    network, nats = Network(torch, tokens.device, parameters), 0.0
    rows = torch.nn.functional.pad(tokens[: len(tokens) // length * length].view(-1, length), (1, 0))
    with torch.no_grad():
        for some in rows.split(8192 // length):
            nats += network.loss(some, "sum").item()
    return nats / rows[:, 1:].numel()


def train(text, tokenizer, path, options):
    import torch
    from safetensors.torch import save_file

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(SEED)
    (tokens, starts), (held_out, _) = sequences(text, tokenizer)
    size = len(tokenizer.decode(held_out).encode())
    bits_a_nat = len(held_out) / size / math.log(2)
    held_out = torch.tensor(held_out, device=device)
    tokens = torch.tensor(tokens, device=device)
    starts = torch.tensor([start for start in starts if 0 < start <= len(tokens) - CONTEXT], device=device)

    def rows(length):
        """Sequences to learn from: half of them begin with a paragraph, after END, the others anywhere."""
        count = STEP_TOKENS // length
        anywhere = torch.randint(1, len(tokens) - length + 1, (count,), device=device)
        chosen = starts[torch.randint(len(starts), (count,), device=device)]
        begins = torch.arange(count, device=device) % 2 == 0
        at = torch.where(begins, chosen, anywhere)
        rows = tokens[at[:, None] + torch.arange(-1, length, device=device)]
        rows[begins, 0] = 0
        return rows

    parameters = new_parameters(torch, device)
    network = Network(torch, device, parameters)
    count = sum(value.numel() for value in parameters.values())
    print(f"{device}: {count:,} parameters, {len(tokens):,} tokens, {len(held_out):,} held out", flush=True)
    matrices = [value for value in parameters.values() if value.dim() == 2]
    norms = [value for value in parameters.values() if value.dim() == 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": norms, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95))
    begun = shown = time.monotonic()

    def save():
        weights = {name: value.detach().half().cpu().contiguous() for name, value in parameters.items()}
        fresh = path.with_suffix(".fresh")
        save_file(weights, str(fresh))
        fresh.replace(path)

    step = 0
    while True:
        elapsed = time.monotonic() - begun
        done = max(step / options.steps, elapsed / options.seconds)
        if done >= 1:
            break
        rate = RATE * min(1.0, done / 0.02) * (0.5 + 0.5 * math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        length = SHORT if done < SHORT_STEPS else CONTEXT
        loss = network.loss(rows(length))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(matrices + norms, 1.0)
        optimizer.step()
        step += 1
        if time.monotonic() - shown > options.every:
            shown = time.monotonic()
            # A part of what is held out, as it takes a while.
            held = held_out_loss(torch, parameters, held_out[:8192], length)
            print(f"{elapsed:4.0f} s, step {step}, {done:.0%}: loss {loss.item():.3f}, held out {held:.3f}", flush=True)
            save()
    save()
    bits = held_out_loss(torch, parameters, held_out, CONTEXT) * bits_a_nat
    print(f"{step} steps in {time.monotonic() - begun:.0f} s: {bits:.3f} bits for each byte held out", flush=True)
    if options.seconds == math.inf:
        assert bits < WANTED_BITS, f"more than the wanted {WANTED_BITS}"


# The file.


def write(weights, tokenizer, path):
    """Writes a GGUF file with matrices in blocks of Q8_0."""
    import gguf
    import numpy as np

    kind = gguf.GGMLQuantizationType.Q8_0
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Austen")
    writer.add_description("Continues a text in the manner of Jane Austen. Trained by scripts/train_austen.py.")
    writer.add_license("MIT OR Apache-2.0")
    writer.add_languages(["en"])
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_vocab_size(TOKENS)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = sorted(model["vocab"], key=model["vocab"].get)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    kinds = [gguf.TokenType.CONTROL if token == END else gguf.TokenType.NORMAL for token in vocabulary]
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    for name, value in weights.items():
        value = np.asarray(value, np.float32)
        if value.ndim == 2:
            writer.add_tensor(f"{name}.weight", gguf.quantize(value, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", nargs="?", help="the Debian package, if there is no text yet")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / ".cache" / "austen", help="for what is made")
    parser.add_argument("--weights", default="weights.safetensors", help="name of the file of weights in it")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the training")
    parser.add_argument("--seconds", type=float, default=math.inf, help="ends the training early")
    parser.add_argument("--every", type=float, default=60, help="seconds between reports")
    parser.add_argument("--only-train", action="store_true", help="write no GGUF file")
    options = parser.parse_args()
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)

    text_path, tokenizer_path, weights_path = (
        folder / name for name in ("text.txt", "tokenizer.json", options.weights)
    )
    if not text_path.exists():
        make_text(options.package or parser.error("there is no text yet: name the package"), text_path)
    text = text_path.read_text("utf-8")
    if not tokenizer_path.exists():
        make_tokenizer(text, tokenizer_path)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    if not weights_path.exists() or options.only_train:
        train(text, tokenizer, weights_path, options)
    if options.only_train:
        return
    from safetensors.numpy import load_file

    weights = load_file(str(weights_path))
    target = ROOT / "examples" / "models" / "austen"
    target.mkdir(parents=True, exist_ok=True)
    write(weights, tokenizer, target / "austen.gguf")


if __name__ == "__main__":
    main()
