"""Envoy itself takes the guard's configuration."""

import subprocess

import pytest

from programs import envoy_binary
from rendered import objects, one

GUARDED = ["guard", "guard-mutual-tls"]


def write_configuration(name, folder):
    """The guard's files as the ConfigMap lays them, with its paths moved below `folder`."""
    for file, text in one(objects(4, name), "ConfigMap", "release-yoio")["data"].items():
        moved = text.replace("/etc/envoy", str(folder)).replace("/etc/yoio", str(folder))
        (folder / file).write_text(moved, encoding="utf-8")
    return folder / "envoy.yaml"


def make_certificates(folder):
    for directory in ("tls", "client-ca"):
        (folder / directory).mkdir()
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            + ["-subj", "/CN=yoio", "-keyout", folder / directory / "tls.key", "-out", folder / directory / "tls.crt"],
            check=True,
            capture_output=True,
        )
    (folder / "client-ca" / "ca.crt").write_bytes((folder / "client-ca" / "tls.crt").read_bytes())


@pytest.mark.parametrize("name", GUARDED)
def test_envoy_takes_the_configuration(name, tmp_path):
    make_certificates(tmp_path)
    configuration = write_configuration(name, tmp_path)
    done = subprocess.run(
        [envoy_binary(), "--mode", "validate", "--config-path", configuration, "--disable-hot-restart"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stdout + done.stderr


def test_answers_may_take_as_long_as_they_take(tmp_path):
    text = write_configuration("guard", tmp_path).read_text(encoding="utf-8")
    assert "timeout: 0s" in text and "stream_idle_timeout: 0s" in text
