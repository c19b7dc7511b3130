"""Makes certificates with the openssl command, for servers and clients of one test."""

import subprocess
from pathlib import Path

import grpc


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Identity:
    """A certificate, its key, and the files they are in."""

    def __init__(self, directory, name):
        self.cert, self.key = Path(directory) / f"{name}.crt", Path(directory) / f"{name}.key"

    def read(self):
        return self.key.read_bytes(), self.cert.read_bytes()


class Authority(Identity):
    """Signs certificates."""

    def __init__(self, directory, name="ca"):
        super().__init__(directory, name)
        self.directory = Path(directory)
        self.made = 0
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        self.curve = curve
        subject = ["-subj", f"/CN={name}", "-days", "2"]
        openssl("req", "-x509", *curve, "-keyout", self.key, "-out", self.cert, *subject)

    def sign(self, name, common_name="localhost", names="DNS:localhost,IP:127.0.0.1", expired=False):
        """An identity in files called `name`, which are replaced if they are there."""
        identity = Identity(self.directory, name)
        request = self.directory / "request.csr"
        extensions = self.directory / "extensions"
        extensions.write_text(f"subjectAltName={names}\n")
        openssl(
            "req", "-new", *self.curve, "-keyout", identity.key, "-out", request, "-subj", f"/CN={common_name}"
        )
        self.made += 1
        openssl(
            *("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-extfile", extensions),
            *("-set_serial", self.made, "-days", -1 if expired else 2, "-out", identity.cert),
        )
        return identity


def open_channel(address, authority, client=None):
    """A TLS channel that trusts `authority` and shows the identity `client`."""
    key, cert = client.read() if client else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.cert.read_bytes(), key, cert)
    return grpc.secure_channel(address, credentials)


def serial_of(address):
    """The serial number of the certificate that the server shows to a new connection."""
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", address, "-alpn", "h2"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    serial = subprocess.run(
        ["openssl", "x509", "-noout", "-serial"], input=shown.stdout, capture_output=True, check=True
    )
    return int(serial.stdout.decode().strip().split("=")[1], 16)
