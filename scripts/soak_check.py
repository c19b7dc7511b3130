"""Judges what scripts/soak.sh has measured: soak_check.py FOLDER SECONDS TOLERANCE. Exits 0 when all is well."""

import json
import os
import pathlib
import statistics
import sys

MOST_SCHEDULER_SECONDS = float(os.environ.get("SOAK_SCHEDULER_SECONDS", "1e-3"))


def read_json_lines(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def creep(samples, column, seconds):
    """By what ratio the median of the last third is above that of the first, the warm-up left out."""
    begin = samples[-1][0] - seconds
    values = [sample[column] for sample in samples if sample[0] >= begin]
    third = len(values) // 3
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    return first, last, last / first - 1


def problems(folder, seconds, tolerance):
    load = list(read_json_lines(folder / "load.json"))[-1]
    for error in load["errors"]:
        yield f"an error that nobody asked for: {error}"
    if load["cut_off"]:
        yield f"{load['cut_off']} streams never ended"
    if load["wrong_length"]:
        yield f"{load['wrong_length']} outputs of a wrong length"
    if not load["completed"]:
        yield "no request was completed"
    print(f"{load['sent']} requests, {load['output_tokens_per_second']:.0f} tokens/s")

    samples = [
        tuple(map(int, line.split())) for line in (folder / "samples.txt").read_text(encoding="utf-8").splitlines()
    ]
    for column, name in ((1, "resident kB"), (2, "threads"), (3, "open files")):
        first, last, ratio = creep(samples, column, seconds)
        print(f"{name}: {first:.0f}, then {last:.0f} ({ratio:+.2%})")
        if ratio > tolerance:
            yield f"{name} crept from {first:.0f} to {last:.0f}"

    for answer in read_json_lines(folder / "info.json"):
        if "total_blocks" not in answer:
            continue
        held = int(answer["total_blocks"]) - int(answer.get("free_blocks", 0))
        print(f"blocks held at the end: {held} of {answer['total_blocks']}")
        if held or int(answer.get("running", 0)) or int(answer.get("waiting", 0)):
            yield f"something is still held: {answer}"

    drained = [line for line in read_json_lines(folder / "server.log") if line.get("event") == "drained"]
    if len(drained) != 1:
        yield "the server did not say that it drained"
    for line in drained:
        print(f"drained: {line}")
        if line.get("scheduler_p99_s", 0) > MOST_SCHEDULER_SECONDS:
            yield f"the scheduler's own time reached {line['scheduler_p99_s']} s at p99"


def main(folder, seconds, tolerance):
    found = list(problems(pathlib.Path(folder), int(seconds), float(tolerance)))
    for problem in found:
        print(f"soak: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
