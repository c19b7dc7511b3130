"""Writes the demo document: held-out pages of the PostgreSQL manual (PostgreSQL licence).

    python models/training/demo.py --text .train/heldout.txt.xz --out models/yoio-tiny
"""

import argparse
from pathlib import Path

from tokenizers import Tokenizer

from data import read_packed

TITLES = ("34.3. Command Execution Functions", "20.11. Client Connection Defaults")
LEAST_TOKENS = 19_000


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    held_out = read_packed(args.text)
    pages = [next(t for t in held_out if t.startswith(title)) for title in TITLES]
    text, tokens = "", 0
    for paragraph in "\n\n".join(pages).split("\n\n"):
        if tokens >= LEAST_TOKENS:
            break
        text += paragraph + "\n\n"
        tokens += len(tokenizer.encode(paragraph + "\n\n").ids)
    path = args.out / "demo" / "document.txt"
    path.write_text(text.rstrip() + "\n")
    print(path, len(text), "bytes,", len(tokenizer.encode(text).ids), "tokens")


if __name__ == "__main__":
    main()
