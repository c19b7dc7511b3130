"""Trains yoio-tiny on one GPU, in stages bounded by the clock.

    python models/training/train.py --data .train --out .train/model \\
        --stages dense=200 long=150 index=60 joint=150 [--resume .train/model]

dense   the whole model but the indexer, every row reading the whole memory, 2K tokens
long    the same up to 64K tokens; the cross-decoder runs on sampled rows (its memory does not depend on it)
index   the indexer alone, towards the mean of the cross-decoder's dense attention
joint   everything, each row reading its top-k; the indexer keeps following the dense attention
"""

import argparse
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, IterableDataset

import evaluate
import tasks
from evaluate import clsa

TINY = clsa.Config(
    hidden_size=320,
    intermediate_size=896,
    num_hidden_layers=10,
    num_self_decoder_layers=5,
    num_attention_heads=4,
    num_key_value_heads=4,
    head_dim=64,
    vocab_size=4096,
    max_position_embeddings=163840,
    sliding_window=128,
    index_head_dim=64,
    index_topk=256,
)
INDEX_WEIGHT = 0.1  # of the indexer's loss beside the language model's
WARMUP_STEPS = 50


@dataclass(frozen=True)
class Shape:
    sequences: int
    length: int
    rows: int  # sampled for the cross-decoder, a sequence; 0: all
    index_rows: int = 0  # of those, how many teach the indexer
    most_facts: int = 32


@dataclass(frozen=True)
class Stage:
    shapes: tuple
    rates: tuple  # learning rate, first and last
    language: bool = True  # train the model as a language model
    sparse: bool = False  # each row reads its top-k
    index: bool = False  # train the indexer


SHAPES = (Shape(32, 4096, 1024, 256), Shape(8, 16384, 2048, 512), Shape(2, 65536, 4096, 512))
STAGES = {
    "dense": Stage((Shape(64, 2048, 0, most_facts=12),), (2e-3, 8e-4)),
    "long": Stage(SHAPES, (8e-4, 3e-4)),
    "index": Stage(SHAPES, (2e-3, 3e-4), language=False, index=True),
    "joint": Stage(SHAPES, (3e-4, 3e-5), sparse=True, index=True),
}


class Batches(IterableDataset):
    """Endless (tokens [B, L+1], loss weight of each next token [B, L], rows [B, R]) of a stage's shapes."""

    def __init__(self, corpus, shapes, seed):
        self.corpus, self.shapes, self.seed = corpus, shapes, seed

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([*self.seed, worker.id if worker else 0])
        while True:
            shape = self.shapes[rng.integers(len(self.shapes))]
            pairs = [
                tasks.training_sequence(self.corpus, rng, shape.length + 1, shape.most_facts)
                for _ in range(shape.sequences)
            ]
            tokens = torch.from_numpy(np.stack([t for t, _ in pairs]).astype(np.int64))
            weight = torch.from_numpy(np.stack([w[1:] for _, w in pairs]))
            rows = np.stack([self.pick(rng, w[1:], shape) for _, w in pairs])
            yield shape, tokens, weight, torch.from_numpy(rows)

    @staticmethod
    def pick(rng, weight, shape):
        """All rows; or first the rows that predict a token of an answer, then random ones."""
        if shape.rows == 0:
            return np.arange(shape.length)
        answers = np.flatnonzero(weight == tasks.ANSWER)
        others = rng.choice(np.flatnonzero(weight != tasks.ANSWER), shape.rows, replace=False)
        return np.concatenate([answers, others])[: shape.rows]


def initialise(model, seed):
    torch.manual_seed(seed)
    for name, p in model.named_parameters():
        if p.dim() == 2:
            std = 0.02 if "embed" in name else p.shape[1] ** -0.5
            torch.nn.init.normal_(p, std=std * (0.3 if "o_proj" in name or "down_proj" in name else 1))
        elif "cross_attn.q_norm" in name:
            p.data.fill_(1.5)


def top_mask(scores, top_k):
    """bool: the top_k highest scores of each row; all scores that tie with the last of them."""
    if scores.shape[-1] <= top_k:
        return scores > float("-inf")
    least = scores.topk(top_k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
    return (scores >= least) & (scores > float("-inf"))


def gather_rows(x, rows):
    return x.gather(1, rows[..., None].expand(-1, -1, x.shape[-1]))


@torch.no_grad()
def mean_attention(model, x, memory, causal, mask):
    """What the indexer imitates: dense cross-attention of the rows, mean over layers and heads [B, R, L]."""
    mean = 0
    for layer in model.cross_layers():
        q = layer.cross_attn.query(layer.input_layernorm(x))
        scores = clsa.exact_scores(q, memory.key) * q.shape[-1] ** -0.5
        mean = mean + scores.masked_fill_(~causal[:, None], float("-inf")).softmax(-1).mean(1)
        x = layer.forward(x, memory.key, memory.value, mask)  # not compiled: small
    return mean / len(model.cross_layers())


class Trainer:
    def __init__(self, model, corpus, device):
        self.model, self.corpus, self.device = model, corpus, device
        self.cross_entropy = self.next_token_loss
        if device == "cuda":
            torch._dynamo.config.cache_size_limit = 64
            for layer in model.model.layers:
                layer.compile(dynamic=False)  # layers of a kind share their compiled code
            self.cross_entropy = torch.compile(self.next_token_loss, dynamic=False)

    @staticmethod
    def next_token_loss(logits, target):
        return F.cross_entropy(logits.flatten(0, 1).float(), target.flatten(), reduction="none").view_as(target)

    def loss(self, stage, shape, tokens, weight, rows):
        """(loss, {name: tensor}) of one batch."""
        inputs, report, loss = tokens[:, :-1].contiguous(), {}, 0
        with torch.set_grad_enabled(stage.language):
            x, memory = self.model.self_decode(inputs)
        if not stage.language:
            memory = self.model.remember(x)  # again, with the indexer's gradient
        at_rows, causal, mask = x, None, None
        if shape.rows:
            at_rows, causal = gather_rows(x, rows), clsa.causal_mask(rows, shape.length)
            mask = causal
        if stage.sparse:
            with torch.no_grad():
                scores = clsa.exact_scores(gather_rows(memory.index_query, rows), memory.index_key)
                mask = top_mask(scores.masked_fill_(~causal, float("-inf")), self.model.config.index_topk)
                del scores
        if stage.language:
            logits = self.model.cross_decode(at_rows, memory, None if mask is None else mask[:, None])
            nll = self.cross_entropy(logits, tokens.gather(1, rows + 1))
            w = weight.gather(1, rows)
            loss = (nll * w).sum() / w.sum()
            for name, kind in (("text", tasks.TEXT), ("answer", tasks.ANSWER)):
                report[name] = (nll.detach() * (w == kind)).sum() / (w == kind).sum()
        if stage.index:
            n = shape.index_rows
            causal = causal[:, :n]
            target = mean_attention(self.model, at_rows[:, :n].detach(), memory, causal, mask[:, None, :n])
            scores = clsa.exact_scores(gather_rows(memory.index_query, rows[:, :n]), memory.index_key)
            log_index = scores.masked_fill(~causal, float("-inf")).log_softmax(-1).masked_fill(~causal, 0)
            cross = -(target * log_index).sum(-1).mean()
            entropy = -torch.special.xlogy(target, target).sum(-1).mean()
            report["index"] = cross.detach() - entropy
            loss = loss + (INDEX_WEIGHT if stage.language else 1.0) * cross
        return loss, report

    def run(self, name, stage, seconds, workers, seed):
        for parameter_name, p in self.model.named_parameters():
            p.requires_grad_(stage.index if "indexer" in parameter_name else stage.language)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.dim() == 2], "weight_decay": 0.1},
            {"params": [p for p in trained if p.dim() == 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), fused=self.device == "cuda")
        loader = DataLoader(
            Batches(self.corpus, stage.shapes, seed),
            batch_size=None,
            num_workers=workers,
            pin_memory=self.device == "cuda",
        )
        start = printed = time.monotonic()
        done = tokens_seen = 0
        for shape, *batch in loader:
            elapsed = time.monotonic() - start
            if elapsed > seconds:
                break
            high, low = stage.rates
            rate = low + (high - low) * (1 + math.cos(math.pi * elapsed / seconds)) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (done + 1) / WARMUP_STEPS)
            batch = [t.to(self.device, non_blocking=True) for t in batch]
            with torch.autocast(self.device, torch.bfloat16):
                loss, report = self.loss(stage, shape, *batch)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            done += 1
            tokens_seen += shape.sequences * shape.length
            if done <= 8 or done % 20 == 0 and time.monotonic() - printed > 10:
                printed = time.monotonic()
                speed = tokens_seen / (printed - start) / 1e6
                values = " ".join(f"{k} {v.item():.4f}" for k, v in report.items())
                print(f"{name} {printed - start:.0f} s step {done} {shape.length}: {values}"
                      f" norm {norm.item():.2f} {speed:.2f}M tokens/s", flush=True)
                if not math.isfinite(norm.item()):
                    sys.exit("the gradient is not finite")
        peak = torch.cuda.max_memory_allocated() / 2**30 if self.device == "cuda" else 0
        print(f"{name}: {done} steps, {tokens_seen / 1e6:.0f}M tokens, {peak:.0f} GiB at most", flush=True)


def glance(directory, corpus, device):
    """A few cells of the evaluation, of the checkpoint as saved."""
    model = evaluate.load_model(directory, device)
    nll = evaluate.perplexity(model, corpus, 4096, device, most_tokens=evaluate.BATCH_TOKENS)
    print("nats a token at 4K:", {k: round(v, 4) for k, v in nll.items()}, flush=True)
    for task in list(tasks.TASKS)[:5]:
        cells = [evaluate.recall(model, corpus, task, n, 32, device, seed=1) for n in evaluate.LENGTHS[:5]]
        print(f"{task}: of 32, dense/sparse/random:", *("/".join(map(str, c.values())) for c in cells), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, default=Path(__file__).parents[1] / "yoio-tiny")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stages", nargs="+", required=True, metavar="NAME=SECONDS")
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 1) - 3))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    corpus = evaluate.load_corpus(args.tokenizer, args.data / "train.txt.xz")
    held_out = evaluate.load_corpus(args.tokenizer, args.data / "heldout.txt.xz")
    print(f"{len(corpus.tokens) / 1e6:.1f}M tokens of text, {len(held_out.tokens) / 1e6:.2f}M held out", flush=True)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_float32_matmul_precision("high")
    model = clsa.load(args.resume) if args.resume else clsa.Clsa(TINY)
    if not args.resume:
        initialise(model, args.seed)
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    trainer = Trainer(model.to(device), corpus, device)
    for i, stage in enumerate(args.stages):
        name, seconds = stage.split("=")
        trainer.run(name, STAGES[name], float(seconds), args.workers, [args.seed, i])
        clsa.save(model, args.out)
    glance(args.out, held_out, device)


if __name__ == "__main__":
    main()
