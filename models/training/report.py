"""Prints the tables of the model card from what evaluate.py measured.

    python models/training/report.py models/training/results.json
"""

import json
import math
import sys
from pathlib import Path

MODES = ("dense", "sparse", "random")


def wilson(hits, count, z=1.96):
    """The 95% Wilson score interval of a rate."""
    rate, spread = hits / count, z * z / count
    middle = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(rate * (1 - rate) / count + spread / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def percent(hits, count):
    low, high = wilson(hits, count)
    return f"{100 * hits / count:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |")


def main():
    results = json.loads(Path(sys.argv[1]).read_text())
    row("tokens", *MODES, "sparse against dense")
    row(*["---"] * 5)
    for r in results["perplexity"]:
        row(r["length"], *(f"{r[m]:.3f}" for m in MODES), f"{100 * (r['sparse'] / r['dense'] - 1):+.2f}%")
    print()
    row("task", "tokens", "cases", *MODES)
    row(*["---"] * 6)
    for task in dict.fromkeys(r["task"] for r in results["recall"]):
        for r in results["recall"]:
            if r["task"] == task:
                row(task, f"{r['length'] // 1024}K", r["cases"], *(percent(r[m], r["cases"]) for m in MODES))


if __name__ == "__main__":
    main()
