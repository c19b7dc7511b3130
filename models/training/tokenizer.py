"""Trains the byte-level BPE tokenizer and writes tokenizer.json.

    python models/training/tokenizer.py --text .train/train.txt.xz --out models/yoio-tiny

Words, single digits, punctuation and white space never share a token except as the pattern below
lets them, so a number is always spelt digit by digit and a line break always ends a token.
"""

import argparse
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from data import read_packed

VOCABULARY = 4096
SPECIAL = ["<|endoftext|>", "<|pad|>"]
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    texts = read_packed(args.text)
    tokenizer = train(texts[::4])
    assert tokenizer.get_vocab_size() == VOCABULARY
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(args.out / "tokenizer.json"))
    sample = texts[1::100]
    tokens = sum(len(e.ids) for e in tokenizer.encode_batch(sample))
    print(f"{VOCABULARY} tokens, {sum(map(len, sample)) / tokens:.2f} bytes a token")


if __name__ == "__main__":
    main()
