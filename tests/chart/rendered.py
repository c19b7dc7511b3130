"""What the chart renders: every set of values of helm/yoio/ci, with both Helms."""

import functools

import yaml

from programs import CHART, MAJORS, template

VALUE_SETS = sorted(file.name.removesuffix("-values.yaml") for file in (CHART / "ci").glob("*-values.yaml"))
EVERY = [(major, name) for major in MAJORS for name in VALUE_SETS]


def values_file(name):
    return CHART / "ci" / f"{name}-values.yaml"


def load(text):
    return [item for item in yaml.safe_load_all(text) if item]


@functools.cache
def objects(major, name):
    done = template(major, "-f", values_file(name))
    assert done.returncode == 0, done.stderr
    return load(done.stdout)


def one(items, kind, name=None):
    found = [o for o in items if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} objects of kind {kind}"
    return found[0]


def pod_templates(items):
    """(what it is, its metadata and spec) of every pod that the objects make."""
    for item in items:
        kind, spec = item["kind"], item.get("spec", {})
        if kind == "Pod":
            yield "test", item
        elif kind == "Deployment":
            yield "leader", spec["template"]
        elif kind == "LeaderWorkerSet":
            yield "leader", spec["leaderWorkerTemplate"]["leaderTemplate"]
            yield "follower", spec["leaderWorkerTemplate"]["workerTemplate"]


def containers(pod):
    return pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


def server(pod):
    return next(c for c in pod["spec"]["containers"] if c["name"] == "server")
