"""Enforces who may include whom (docs/architecture.md, the ladder), and where a backend may be chosen."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# folder -> folders of this project whose headers its files may include, besides its own.
LADDER = {
    "base": set(),
    "kernels": {"base"},
    "engine": {"kernels", "base"},
    "proto": set(),
    "server": {"proto", "engine", "base"},
    "client": {"proto", "base"},
    "bench": {"kernels", "engine", "server", "client", "proto", "base", "tests"},
    "tests": {"kernels", "engine", "server", "client", "proto", "base"},
}

# Headers of a library -> the paths that may include them.
LIBRARIES = {
    r"(grpc|grpcpp|google/protobuf)/": ("proto/", "server/", "client/", "bench/", "tests/"),
    r"(cuda\w*|cublas\w*)\.h$": ("kernels/cuda/", "engine/comm/nccl", "tests/kernels/cuda/"),
    r"nccl\.h$": ("kernels/cuda/", "engine/comm/nccl", "bench/comm_bench.cc"),
    r"cblas\.h$": ("kernels/cpu/", "bench/"),
    r"hwy/": ("kernels/cpu/", "tests/support/"),
}

# The two places that choose an implementation.
FACTORIES = ("kernels/backend.cc", "engine/comm/factory.cc")

# Who may include headers of one device from outside its folder: the factory, its own tests, the probe that
# benchmarks measure it by, and the communicator that runs on its streams.
KNOWS_DEVICES = {
    "kernels/cpu/": ("kernels/backend.cc",),
    "kernels/cuda/": (
        "kernels/backend.cc",
        "tests/kernels/cuda/",
        "bench/gpu_bandwidth_cuda.cc",
        "engine/comm/nccl",
        "tests/engine/nccl",
    ),
}

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
CONDITION = re.compile(r"^\s*#\s*(?:if|ifdef|ifndef|elif)\b(.*)$", re.MULTILINE)
BACKEND_WORD = re.compile(r"\b\w*(?:CUDA|NCCL)\w*\b")
GENERATED = re.compile(r"^(proto/)?yoio/(internal/)?v1/")


def folder_of(include):
    """The folder of this project that a quoted include names, or None for a library's header."""
    if GENERATED.match(include):
        return "proto"
    first = include.split("/")[0]
    return first if first in LADDER else None


def include_errors(path, include, quoted):
    folder = path.split("/")[0]
    target = folder_of(include) if quoted else None
    if target is None:
        if quoted and (ROOT / path).parent.joinpath(include).exists():
            yield f"includes '{include}': write the path from the root of the repository"
        for pattern, allowed in LIBRARIES.items():
            if re.match(pattern, include) and not path.startswith(allowed):
                yield f"includes <{include}>, which belongs in {', '.join(allowed)}"
        return
    if target != folder and target not in LADDER[folder]:
        yield f"includes '{include}': {folder} may include {', '.join(sorted(LADDER[folder])) or 'nothing'}"
    for device, knowing in KNOWS_DEVICES.items():
        if include.startswith(device) and not path.startswith((device, *knowing)):
            yield f"includes '{include}': only {', '.join(knowing)} may know this device"
    if include.startswith("engine/comm/") and include.endswith(("_communicator.h", "nccl.h")):
        if not path.startswith(("engine/comm/", "tests/")):
            yield f"includes '{include}': only the communicator factory knows the communicators"


def errors(path, text):
    """What is wrong with one source file; `path` is relative to the root."""
    for quoted, angled in INCLUDE.findall(text):
        yield from include_errors(path, quoted or angled, bool(quoted))
    if path in FACTORIES:
        return
    for condition in CONDITION.findall(text):
        for word in BACKEND_WORD.findall(condition):
            generation = word.startswith("__CUDA_ARCH") and path.startswith("kernels/cuda/")  # of one device, no choice
            if not word.endswith(("_H_", "_CUH_")) and not generation:
                yield f"'#if {word}': only {' and '.join(FACTORIES)} choose a backend"


def sources():
    for folder in LADDER:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".h", ".cc", ".cu", ".cuh"):
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


class RepositoryTest(unittest.TestCase):
    def test_every_source_keeps_to_the_ladder(self):
        checked = 0
        for path, text in sources():
            checked += 1
            for error in errors(path, text):
                with self.subTest(path=path):
                    self.fail(f"{path} {error}")
        self.assertGreater(checked, 20, "the sources were not found")


class RulesTest(unittest.TestCase):
    """The check itself can fail."""

    def assert_fails(self, path, text, words):
        found = list(errors(path, text))
        self.assertEqual(len(found), 1, found)
        self.assertIn(words, found[0])

    def assert_passes(self, path, text):
        self.assertEqual(list(errors(path, text)), [])

    def test_ladder(self):
        self.assert_passes("server/a.cc", '#include "engine/request.h"\n#include "base/check.h"\n')
        self.assert_passes("server/a.cc", '#include "yoio/v1/inference.pb.h"\n#include <grpcpp/grpcpp.h>\n')
        self.assert_passes("engine/a.cc", '#include "kernels/ops.h"\n#include "absl/status/status.h"\n')
        self.assert_fails("engine/a.cc", '#include "server/flags.h"\n', "engine may include")
        self.assert_fails("server/a.cc", '#include "kernels/ops.h"\n', "server may include")
        self.assert_fails("client/a.h", '#  include "engine/request.h"\n', "client may include")
        self.assert_fails("base/a.h", '#include "kernels/ops.h"\n', "base may include nothing")
        self.assert_fails("engine/a.cc", '#include "proto/yoio/v1/inference.pb.h"\n', "engine may include")
        self.assert_fails("engine/a.cc", '#include "yoio/internal/v1/followers.pb.h"\n', "engine may include")

    def test_libraries(self):
        self.assert_fails("engine/a.cc", "#include <grpcpp/grpcpp.h>\n", "belongs in")
        self.assert_fails("engine/model/a.cc", "#include <cuda_runtime.h>\n", "belongs in")
        self.assert_passes("kernels/cuda/a.cu", "#include <cuda_runtime.h>\n#include <nccl.h>\n")

    def test_backends(self):
        self.assert_passes("kernels/backend.cc", '#include "kernels/cpu/cpu_backend.h"\n#if YOIO_WITH_CUDA\n')
        self.assert_passes("kernels/cuda/a.h", "#ifndef YOIO_KERNELS_CUDA_A_H_\n")
        self.assert_passes("tests/kernels/cuda/a_test.cc", '#include "kernels/cuda/a.h"\n')
        self.assert_fails("kernels/cpu/a.cc", '#include "kernels/cuda/a.h"\n', "only kernels/backend.cc")
        self.assert_fails("bench/a.cc", '#include "kernels/cuda/a.h"\n', "only kernels/backend.cc")
        self.assert_fails("engine/a.cc", '#include "kernels/cpu/cpu_ops.h"\n', "only kernels/backend.cc")
        self.assert_fails("engine/a.cc", "#if defined(YOIO_WITH_CUDA)\n", "choose a backend")
        self.assert_fails("engine/comm/b.cc", "#ifdef YOIO_WITH_NCCL\n", "choose a backend")

    def test_includes_start_at_the_root(self):
        self.assert_fails("base/check.cc", '#include "check.h"\n', "from the root")


if __name__ == "__main__":
    unittest.main()
