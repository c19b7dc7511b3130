"""Collects freely licensed English text from Debian's documentation packages.

    python models/training/data.py --out .train

Needs a Debian system with apt-get and dpkg-deb. Writes train.txt.xz and heldout.txt.xz: documents
separated by a NUL, ASCII only. Two percent of the documents are held out, whole, chosen by hash.
"""

import argparse
import gzip
import hashlib
import html
import lzma
import re
import subprocess
import unicodedata
from pathlib import Path

# Package, licence of its documentation, most megabytes of text taken.
PACKAGES = [
    ("apache2-doc", "Apache-2.0", 3),
    ("bash-doc", "GPL-3+ and GFDL", 2),
    ("bind9-doc", "MPL-2.0", 2),
    ("cmake-doc", "BSD-3-Clause", 4),
    ("debian-handbook", "CC-BY-SA-3.0 or GPL-2+", 3),
    ("debian-policy", "GPL-2+", 2),
    ("debian-reference-en", "GPL-2+", 2),
    ("developers-reference", "GPL-2+", 1),
    ("dict-foldoc", "GFDL", 5),
    ("dict-gcide", "GPL-2+", 9),
    ("dict-jargon", "public domain", 2),
    ("dict-wn", "WordNet", 8),
    ("erlang-doc", "Apache-2.0", 4),
    ("fortunes", "BSD-3-Clause", 3),
    ("freebsd-manpages", "BSD", 3),
    ("git-doc", "GPL-2", 4),
    ("libboost1.74-doc", "BSL-1.0", 7),
    ("libreoffice-help-en-us", "MPL-2.0", 4),
    ("linux-doc-6.1", "GPL-2", 11),
    ("manpages", "GPL-2+ and the man-pages copyleft", 3),
    ("manpages-dev", "GPL-2+ and the man-pages copyleft", 6),
    ("nodejs-doc", "MIT", 4),
    ("perl-doc", "GPL-1+ or Artistic", 8),
    ("postfix-doc", "EPL-2.0 or IPL-1.0", 3),
    ("postgresql-doc-15", "PostgreSQL", 7),
    ("python-django-doc", "BSD-3-Clause", 5),
    ("python-sqlalchemy-doc", "MIT", 5),
    ("python3.11-doc", "PSF-2.0", 10),
    ("tcl8.6-doc", "Tcl/Tk", 3),
    ("vim-runtime", "Vim", 5),
    ("zsh-doc", "Zsh", 3),
]

PLAIN = {".txt", ".rst", ".pod", ".md", ".dict.dz"}
BLOCK = re.compile(r"(?i)</?(?:p|div|li|ul|ol|dl|dt|dd|tr|table|h[1-6]|pre|br|hr|section|blockquote)\b[^>]*>")
HIDDEN = re.compile(r"(?is)<(script|style|head|nav|svg)\b.*?</\1>|<!--.*?-->")
QUOTES = str.maketrans("\u2018\u2019\u201c\u201d\u2013\u2014\u2010\u2011\u00a0\u2022", "''\"\"---- *")


def from_html(text):
    return html.unescape(re.sub(r"<[^>]+>", "", BLOCK.sub("\n", HIDDEN.sub("", text))))


def from_roff(text):
    text = re.sub(r'(?m)^[.\'](?:\\"|TH|so|ds|if|ie|el|de|nr|in|ti|ta|ft|\.).*$', "", text)
    text = re.sub(r"(?m)^\.S[HS] *", "\n", text)
    text = re.sub(r"(?m)^\.[A-Za-z]{1,3} ?", "", text)
    text = re.sub(r"\\f.|\\[&|^/,%:]", "", text).replace("\\-", "-").replace("\\(bu", "*").replace("\\ ", " ")
    return re.sub(r"(?m)^(?:[.'].*|.*\\.*)\n", "", text)  # what is left of the markup


def read(path):
    """The plain text of one file, or None for a kind of file that is not taken."""
    data = path.read_bytes()
    name = path.name
    if name.endswith((".gz", ".dz")):
        data = gzip.decompress(data)
        name = name.removesuffix(".gz")
    text = data.decode("utf-8", errors="ignore")
    if name.endswith((".html", ".htm")):
        return from_html(text)
    if "/man/man" in str(path):
        return from_roff(text)
    if name.endswith(tuple(PLAIN)) or "fortunes" in str(path) and "." not in name:
        return text
    return None


def tidy(text):
    """ASCII with single blank lines, or None for text that is not English enough."""
    if len(text.translate(QUOTES).encode("ascii", "ignore")) < 0.99 * len(text):
        return None
    text = unicodedata.normalize("NFKD", text.translate(QUOTES)).encode("ascii", "ignore").decode()
    text = text.replace("\r", "").replace("\t", "    ").replace("\0", "")
    text = re.sub(r"[^\n -~]", "", text)
    text = re.sub(r"(?m) +$", "", text)
    text = re.sub(r"([^\w\s])\1{8,}", lambda m: m[1] * 8, text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def documents(root, limit):
    """Documents under `root` in an order independent of the file system, at most `limit` bytes."""
    paths = [p for p in root.rglob("*") if p.is_file() and not p.is_symlink() and "copyright" not in p.name]
    paths.sort(key=lambda p: hashlib.sha256(str(p.relative_to(root)).encode()).digest())
    total, seen = 0, set()
    for path in paths:
        text = read(path)
        text = text and tidy(text)
        if not text or len(text) < 1000:
            continue
        for start in range(0, len(text), 200_000):
            part = text[start : start + 200_000]
            digest = hashlib.sha256(part.encode()).digest()
            if digest in seen:
                continue
            seen.add(digest)
            yield part, digest
            total += len(part)
            if total >= limit:
                return


def write(path, texts):
    with lzma.open(path, "wt", encoding="ascii", preset=6) as file:
        file.write("\0".join(texts))
    print(path, len(texts), "documents,", sum(map(len, texts)), "bytes,", path.stat().st_size, "packed")


def read_packed(path):
    with lzma.open(path, "rt", encoding="ascii") as file:
        return file.read().split("\0")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    debs = out / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    if missing := [name for name, _, _ in PACKAGES if not list(debs.glob(f"{name}_*.deb"))]:
        subprocess.run(["apt-get", "download", *missing], cwd=debs, check=True)
    train, held_out = [], []
    for name, _, megabytes in PACKAGES:
        root = out / "unpacked" / name
        if not root.exists():
            subprocess.run(["dpkg-deb", "-x", next(debs.glob(f"{name}_*.deb")), root], check=True)
        before = len(train), len(held_out), sum(map(len, train))
        for text, digest in documents(root, megabytes * 1_000_000):
            (held_out if digest[0] < 5 else train).append(text)
        print(f"{name}: {len(train) - before[0]} + {len(held_out) - before[1]} documents,"
              f" {sum(map(len, train)) - before[2]} bytes", flush=True)
    write(out / "train.txt.xz", train)
    write(out / "heldout.txt.xz", held_out)


if __name__ == "__main__":
    main()
