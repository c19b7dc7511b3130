"""Recall tasks: facts hidden in text, and questions about them.

A fact is one line of its own, a question the beginning of one; the model goes on with the answer:

    Remember: the amber falcon code is 48213.
    Remember: the amber falcon code is the same as the ruby otter code.
    The amber falcon code is 48213.<|endoftext|>

`Corpus` holds the text as tokens; `training_sequence` and `case` weave tasks into spans of it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

DIGITS = 5
ADJECTIVES, NOUNS = (
    line.split(": ")[1].split()
    for line in (Path(__file__).parents[1] / "yoio-tiny" / "demo" / "words.txt").read_text().splitlines()
)
IGNORED, TEXT, ANSWER = 0.0, 1.0, 8.0  # loss weights


class Corpus:
    def __init__(self, tokenizer, tokens):
        self.tokenizer, self.tokens = tokenizer, tokens
        ends = [i for token, i in tokenizer.get_vocab().items() if token.endswith("Ċ")]  # Ċ: a line break
        self.lines = np.append(np.flatnonzero(np.isin(tokens, ends)) + 1, len(tokens))  # where a line begins
        self.eos = tokenizer.token_to_id("<|endoftext|>")

    @staticmethod
    def encode(tokenizer, texts):
        """The documents, each followed by end-of-text, as one array."""
        eos = tokenizer.token_to_id("<|endoftext|>")
        ids = [np.array(e.ids + [eos], dtype=np.uint16) for e in tokenizer.encode_batch(texts)]
        return Corpus(tokenizer, np.concatenate(ids))

    def piece(self, text, weight=IGNORED):
        ids = np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.uint16)
        return ids, np.full(len(ids), weight, dtype=np.float32)

    def fact(self, key, value):
        return self.piece(f"Remember: the {key} code is {value}.\n")

    def link(self, key, other):
        return self.piece(f"Remember: the {key} code is the same as the {other} code.\n")

    def question(self, key, value, start=""):
        """The question and its whole answer; only the answer has weight."""
        asked, answer = self.piece(f"{start}The {key} code is"), self.piece(f" {value}.<|endoftext|>", ANSWER)
        return join([asked, answer])

    def weave(self, rng, length, inserts):
        """A span of text with `inserts`, a list of (place in 0..1, piece), put where lines begin.

        Inserts keep their order where their places meet; a place of 1 is the very end.
        """
        body = length - sum(len(ids) for _, (ids, _) in inserts)
        start = self.lines[rng.integers(np.searchsorted(self.lines, len(self.tokens) - body))]
        text = self.tokens[start : start + body]
        parts, done = [], 0
        for place, piece in sorted(inserts, key=lambda insert: insert[0]):
            line = self.lines[np.searchsorted(self.lines, start + int(place * body))] - start
            at = body if place >= 1 else max(done, min(line, body))
            parts += [(text[done:at], np.full(at - done, TEXT, dtype=np.float32)), piece]
            done = at
        return join(parts + [(text[done:], np.full(body - done, TEXT, dtype=np.float32))])


def join(parts):
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([weight for _, weight in parts])


def draw_keys(rng, count, near=False):
    """Distinct two-word keys; near-duplicates share their first or second word with many others."""
    side = int(np.ceil(np.sqrt(count))) if near else len(ADJECTIVES)
    first, second = rng.permutation(len(ADJECTIVES))[:side], rng.permutation(len(NOUNS))[:side]
    picked = rng.choice(side * side, count, replace=False)
    return [f"{ADJECTIVES[first[i // side]]} {NOUNS[second[i % side]]}" for i in picked]


def draw_values(rng, count):
    return [str(v).zfill(DIGITS) for v in rng.integers(0, 10**DIGITS, count)]


def training_sequence(corpus, rng, length, most_facts):
    """Tokens [length] and the loss weight of each: text, often with facts asked for at random places."""
    if rng.random() < 0.2:
        return corpus.weave(rng, length, [])
    count = int(np.exp(rng.uniform(0, np.log(most_facts + 1))))
    keys = draw_keys(rng, count, near=rng.random() < 0.4)
    values, inserts, askable = draw_values(rng, count), [], []
    links = rng.random() < 0.5
    for i, (key, value) in enumerate(zip(keys, values)):
        place = rng.random()
        inserts.append((place, corpus.fact(key, value)))
        askable.append((key, value, place))
        if links and i < 4:
            other, at = draw_keys(rng, 1)[0], rng.random()
            if other not in keys:
                inserts.append((at, corpus.link(other, key)))
                askable += 2 * [(other, value, max(place, at))]
    for i in rng.permutation(len(askable))[:8]:
        key, value, place = askable[i]
        inserts.append((rng.uniform(place, 1), corpus.question(key, value)))
        if rng.random() < 0.5:
            inserts.append((1, corpus.question(key, value, start="\n")))
    return corpus.weave(rng, length, inserts)


@dataclass
class Case:
    tokens: np.ndarray  # [length + 1]: the document, the question and the whole answer
    answer: int  # how many tokens the answer " 48213." has


TASKS = {  # name: (facts, near-duplicate keys, two hops)
    "1 needle": (1, False, False),
    "4 needles": (4, False, False),
    "16 needles": (16, False, False),
    "near-duplicate keys": (16, True, False),
    "two hops": (4, False, True),
    "64 near-duplicate keys": (64, True, False),
    "256 near-duplicate keys": (256, True, False),
}
TOKENS_PER_FACT = 32  # more than any fact has


def case(corpus, rng, length, task):
    """A document that ends in a question about one of its facts, and the answer; the model reads `length`."""
    count, near, two_hops = TASKS[task]
    keys, values = draw_keys(rng, count + two_hops, near), draw_values(rng, count)
    inserts = [(rng.random() * 0.999, corpus.fact(k, v)) for k, v in zip(keys, values)]
    asked = keys[0]
    if two_hops:
        asked = keys[count]
        inserts.append((rng.random() * 0.999, corpus.link(asked, keys[0])))
    inserts.append((1, corpus.piece(f"\nThe {asked} code is")))
    answer, _ = corpus.piece(f" {values[0]}.")
    tokens, _ = corpus.weave(rng, length + 1 - len(answer), inserts)
    return Case(np.concatenate([tokens, answer]), len(answer))
