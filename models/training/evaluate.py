"""Measures a checkpoint: held-out perplexity, and recall by task and length, each run three ways.

    python models/training/evaluate.py --model models/yoio-tiny --text .train/heldout.txt.xz \\
        --out models/training/results.json

`dense` reads the whole memory, `sparse` the index's top-k, `random` as many positions drawn at random
from the past: the control that shows what the index is worth. On a GPU products are bf16, norms, softmax, the
index's scores and the residual fp32; on a CPU all is fp32.

A recall case counts when every token of the answer is the argmax given the document, the question and
the answer's earlier tokens; if all are, greedy decoding writes exactly that answer, and if not, it does not.
Only the answer's rows enter the cross-decoder: the memory does not depend on it.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import tasks
from data import read_packed

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
import clsa

MODES = ("dense", "sparse", "random")
LENGTHS = (1024, 4096, 16384, 32768, 65536, 131072)
BATCH_TOKENS = 131072  # in one pass of the self-decoder
ROW_SCORES = 2**26  # rows times length in one pass of the cross-decoder


def mask_for(mode, memory, rows, top_k, generator):
    """bool [B, 1, R, L]: what each row reads."""
    batch, length = memory.index_key.shape[:2]
    causal = clsa.causal_mask(rows, length)
    if mode == "dense":
        return causal.expand(batch, 1, -1, -1)
    if mode == "sparse":
        scores = clsa.index_scores(memory, rows)
    else:
        scores = torch.rand(batch, *causal.shape, device=rows.device, generator=generator)
        scores = scores.masked_fill(~causal, float("-inf"))
    return clsa.mask_of(clsa.top_positions(scores, top_k), length)[:, None]


def arithmetic(device):
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")


@torch.no_grad()
def perplexity(model, corpus, length, device, most_tokens=None):
    """Per mode, the loss of every token of the text but each window's first: {mode: nats a token}."""
    generator = torch.Generator(device).manual_seed(0)
    count = len(corpus.tokens[:most_tokens]) // length
    windows = torch.from_numpy(corpus.tokens[: count * length].astype(np.int64)).view(count, length)
    total, top_k = dict.fromkeys(MODES, 0.0), model.config.index_topk
    for tokens in batches_of(windows, max(1, BATCH_TOKENS // length)):
        tokens = tokens.to(device)
        with arithmetic(device):
            x, memory = model.self_decode(tokens)
        for i in range(min(len(tokens), count)):
            one = clsa.Memory(*(t[i : i + 1] for t in memory))
            for rows in torch.arange(length - 1, device=device).split(max(1, ROW_SCORES // length)):
                for mode in MODES:
                    mask = mask_for(mode, one, rows, top_k, generator)
                    with arithmetic(device):
                        logits = model.cross_decode(x[i : i + 1, rows], one, mask)[0]
                    total[mode] += F.cross_entropy(logits.float(), tokens[i, rows + 1], reduction="sum").double()
        count -= len(tokens)
    return {mode: nll.item() / (len(windows) * (length - 1)) for mode, nll in total.items()}


def batches_of(rows, size):
    """`rows` in batches of exactly `size`, so that one shape is compiled; the last is filled up with a copy."""
    for batch in rows.split(size):
        yield torch.cat([batch, batch[:1].expand(size - len(batch), -1)])


@torch.no_grad()
def recall(model, corpus, task, length, count, device, seed=0):
    """Per mode, how many of `count` cases are answered exactly: {mode: hits}."""
    rng = np.random.default_rng([seed, length, list(tasks.TASKS).index(task)])
    generator = torch.Generator(device).manual_seed(seed)
    hits, top_k = dict.fromkeys(MODES, 0), model.config.index_topk
    cases = [tasks.case(corpus, rng, length, task) for _ in range(count)]
    rows = torch.arange(length - cases[0].answer, length, device=device)
    sequences = torch.from_numpy(np.stack([c.tokens for c in cases]).astype(np.int64))
    done = 0
    for tokens in batches_of(sequences, max(1, BATCH_TOKENS // length)):
        tokens = tokens.to(device)
        with arithmetic(device):
            x, memory = model.self_decode(tokens[:, :-1].contiguous())
            for mode in MODES:
                mask = mask_for(mode, memory, rows, top_k, generator)
                logits = model.cross_decode(x[:, rows], memory, mask)
                right = (logits.argmax(-1) == tokens[:, rows + 1]).all(-1)
                hits[mode] += right[: count - done].sum()
        done += len(tokens)
    return {mode: int(n) for mode, n in hits.items()}


def load_model(directory, device):
    model = clsa.load(directory).to(device).eval()
    if device == "cuda":
        for layer in model.self_layers():
            layer.compile(dynamic=False)
    return model


def load_corpus(tokenizer_directory, text):
    tokenizer = Tokenizer.from_file(str(Path(tokenizer_directory) / "tokenizer.json"))
    return tasks.Corpus.encode(tokenizer, read_packed(text))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=200, help="a cell; half as many beyond 32K")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--tasks", nargs="*", choices=tasks.TASKS, default=list(tasks.TASKS))
    parser.add_argument("--perplexity", type=int, nargs="*", default=(4096, 16384), help="window lengths")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(args.model, device)
    corpus = load_corpus(args.model, args.text)
    results = {"perplexity": [], "recall": []}
    start = time.monotonic()
    for length in args.perplexity:
        nll = perplexity(model, corpus, length, device)
        results["perplexity"].append({"length": length, **{m: math.exp(v) for m, v in nll.items()}})
        print(results["perplexity"][-1], f"{time.monotonic() - start:.0f} s", flush=True)
        args.out.write_text(json.dumps(results, indent=1))
    for length in args.lengths:
        count = args.cases if length <= 32768 else args.cases // 2
        for task in args.tasks:
            if tasks.TASKS[task][0] * tasks.TOKENS_PER_FACT > length:
                continue
            hits = recall(model, corpus, task, length, count, device)
            results["recall"].append({"length": length, "task": task, "cases": count, **hits})
            print(results["recall"][-1], f"{time.monotonic() - start:.0f} s", flush=True)
            args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
