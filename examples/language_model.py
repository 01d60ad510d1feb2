"""A pretrained language model, read from a file without a hub, localized and folded: it tells the same story.

    python examples/language_model.py DATA/text

The folder holds stories260K.bin and tok512.bin, a Llama of 260,032 parameters that was trained on children's stories,
and its tokens (https://huggingface.co/karpathy/tinyllamas, folder stories260K). Without an argument it is the folder
"text" in the one that LOCALITY_PRIOR_DATA names. This example needs the library transformers.
"""

import os
import struct
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import locality_prior as lp

BEGIN = 1  # the token with which a story begins, and the next one after its end
BYTES = 3  # the token of the byte 0; those of the other bytes follow

TEXT = (
    "Tom had a small red boat. Every morning he took it to the pond near his house and watched the ducks swim around "
    'it. One day the wind was strong, and the boat went far away. Tom began to cry. "Don\'t worry," said an old frog '
    'who sat on a leaf. "I can swim and push it back to you." The frog jumped into the water and pushed the boat with '
    "his nose. Tom smiled and gave the frog a piece of his sandwich. From that day on, Tom and the frog were good "
    "friends, and they played at the pond until it was time for dinner."
)


def halved(weight, heads):
    """The rows of a projection of queries or keys, in the order in which transformers turns pairs of them.

    Position is told by turning pairs of a head's units. In llama2.c's files the units 2k and 2k + 1 of a head are such
    a pair. In transformers they are k and k + half.
    """
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def read_model(path):
    """The model in a file of llama2.c's version 0: seven int32, then float32 matrices, (out, in), kind by kind."""
    data = Path(path).read_bytes()
    width, hidden, depth, heads, pairs, words, length = struct.unpack_from("<7i", data)
    tied, words = words > 0, abs(words)
    values, at = np.frombuffer(data, "<f4", offset=28), 0

    def take(*shape):
        nonlocal at
        at += np.prod(shape)
        return torch.tensor(values[at - np.prod(shape) : at]).reshape(shape)

    size = width // heads  # of a head; there are fewer heads of keys and values (pairs) than of queries
    embedding = take(words, width)
    norm1 = take(depth, width)
    q, k, v = take(depth, width, width), take(depth, pairs * size, width), take(depth, pairs * size, width)
    out, norm2 = take(depth, width, width), take(depth, width)
    gate, down, up = take(depth, hidden, width), take(depth, width, hidden), take(depth, hidden, width)
    norm = take(width)
    take(2, length, size // 2)  # the cosines and sines of the turns, which transformers computes
    head = embedding if tied else take(words, width)
    if at != len(values):
        raise SystemExit(f"{path} holds {len(values):,} numbers, and its first line asks for {at:,}")

    config = LlamaConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        num_key_value_heads=pairs,
        max_position_embeddings=length,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
        bos_token_id=BEGIN,
        eos_token_id=BEGIN,
        pad_token_id=0,
    )
    state = {"model.embed_tokens.weight": embedding, "model.norm.weight": norm, "lm_head.weight": head}
    for n in range(depth):
        state |= {
            f"model.layers.{n}.{name}.weight": weight
            for name, weight in {
                "input_layernorm": norm1[n],
                "self_attn.q_proj": halved(q[n], heads),
                "self_attn.k_proj": halved(k[n], pairs),
                "self_attn.v_proj": v[n],
                "self_attn.o_proj": out[n],
                "post_attention_layernorm": norm2[n],
                "mlp.gate_proj": gate[n],
                "mlp.down_proj": down[n],
                "mlp.up_proj": up[n],
            }.items()
        }
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict(state)
    return model


class Tokens:
    """The tokens of a llama2.c tokenizer file: the length of the longest, then score, length and bytes of each."""

    def __init__(self, path):
        data, at = Path(path).read_bytes(), 4
        self.tokens, self.scores = [], []
        while at < len(data):
            score, length = struct.unpack_from("<fI", data, at)
            self.tokens.append(data[at + 8 : at + 8 + length])
            self.scores.append(score)
            at += 8 + length
        self.numbers = {token: n for n, token in enumerate(self.tokens) if n >= BYTES + 256}

    def encode(self, text):
        """The tokens of a text that begins a story: characters, of which the pair with the best score is joined."""
        found = [BEGIN]
        for character in f" {text}":
            coded = character.encode()
            found += [self.numbers[coded]] if coded in self.numbers else [BYTES + byte for byte in coded]
        while True:
            joined = [self.numbers.get(self.tokens[a] + self.tokens[b]) for a, b in pairwise(found)]
            best = max((n for n in joined if n is not None), key=lambda n: self.scores[n], default=None)
            if best is None:
                return torch.tensor([found])
            where = joined.index(best)
            found[where : where + 2] = [best]

    def decode(self, numbers):
        coded = [bytes([n - BYTES]) if BYTES <= n < BYTES + 256 else self.tokens[n] for n in numbers if n > BEGIN]
        return b"".join(coded).decode(errors="replace").removeprefix(" ")


def loss(model, numbers):
    """The mean of −log p over the tokens but the first, in nats."""
    with torch.no_grad():
        return model(numbers, labels=numbers).loss.item()


def story(model, tokens, start, length, cache=True):
    """How a story goes on, taking the likeliest token each time, with a cache of keys and values or without."""
    given = tokens.encode(start)
    with torch.no_grad():
        told = model.generate(given, max_new_tokens=length, do_sample=False, use_cache=cache)
    return tokens.decode(told[0].tolist())


def main(folder, length=200):
    """Read the model in ``folder``, and let it tell a story of so many tokens as it is, localized and folded."""
    for name in ("stories260K.bin", "tok512.bin"):
        if not (folder / name).is_file():
            raise SystemExit(f"{folder / name} is not there: see the first lines of {Path(__file__).name}")
    model, tokens = read_model(folder / "stories260K.bin"), Tokens(folder / "tok512.bin")
    print(f"loss {loss(model, tokens.encode(TEXT)):.2f} nats a token, of {len(tokens.tokens)} tokens")
    before = story(model, tokens, "Once upon a time", length)
    print(before)

    stream = lp.Grid(8, 8)  # the 64 units that the blocks read and write: also 8 heads of queries, a row each
    pairs = lp.Grid(4, 8)  # 4 heads of keys and of values: each row lies between the two of the queries that it serves
    targets = {"q_proj": stream, "o_proj": stream, "**.[kv]_proj": (stream, pairs)}
    targets |= {"gate_proj": (stream, None), "up_proj": (stream, None), "down_proj": (None, stream)}
    targets["lm_head"] = False  # it shares its weights with the embedding
    with warnings.catch_warnings(action="ignore"):  # of weight decay, and nothing is trained here
        lp.localize(model, targets, example=tokens.encode(TEXT))
    folded = lp.fold(model)
    for name, one in {"localized": model, "folded": folded}.items():
        same = all(story(one, tokens, "Once upon a time", length, cache) == before for cache in (True, False))
        tied = one.lm_head.weight is one.model.embed_tokens.weight
        print(f"{name}: the same story {same}; head and embedding still one {tied}")
    print(f"mean wire length {lp.mean_wire_length(model).item():.2f}")


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else Path(os.environ.get("LOCALITY_PRIOR_DATA", "data")) / "text"
    main(Path(given))
