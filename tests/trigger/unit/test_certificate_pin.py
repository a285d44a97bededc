"""A pinned certificate decides whether anything is sent to a server, whatever the environment says."""

import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.airflow_stand_in import PASSWORD, TOKEN, USERNAME
from trigger import errors
from trigger.airflow_client import Server, log_in, wait_until_healthy
from trigger.deadline import Deadline

_ANSWER = f'{{"access_token": "{TOKEN}"}}'.encode()


@dataclass(frozen=True)
class Certificate:
    pem: Path  # certificate and key
    sha256: str


def _make(folder: Path) -> Certificate:
    """Self-signed for 127.0.0.1, as Airflow's stack makes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "airflow")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = folder / "airflow.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return Certificate(pem, hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest())


class TlsServer:
    """Answers every request with a token, and keeps all bytes that it could decrypt; also a proxy, for CONNECT."""

    def __init__(self, certificate: Certificate) -> None:
        self.received = b""
        self.connects: list[bytes] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.pem)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(5)
            try:
                if connection.recv(7, socket.MSG_PEEK) == b"CONNECT":
                    self.connects.append(connection.recv(4096))
                    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                with self._context.wrap_socket(connection, server_side=True) as encrypted:
                    while not self.received.endswith(b"}"):
                        read = encrypted.recv(4096)
                        if not read:
                            break
                        self.received += read
                    encrypted.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n" % len(_ANSWER) + _ANSWER)
            except OSError:  # the client hung up, as it should when the certificate is not the one
                connection.close()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return _make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def server(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsServer]:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    running = TlsServer(certificate)
    yield running
    running.stop()


def try_to_log_in(server: TlsServer, *, pin: str) -> str:
    access = log_in(
        Server(url=f"https://{server.address}", certificate_sha256=pin), username=USERNAME, password=PASSWORD
    )
    return access.token


def test_server_with_the_pinned_certificate_is_talked_to(server: TlsServer, certificate: Certificate) -> None:
    assert try_to_log_in(server, pin=certificate.sha256) == TOKEN
    assert PASSWORD.encode() in server.received


def test_server_with_another_certificate_gets_nothing(server: TlsServer) -> None:
    with pytest.raises(errors.WrongApiError, match=r"not the pinned one.*Nothing was sent.*AIRFLOW_CERTIFICATE_SHA256"):
        try_to_log_in(server, pin="00" * 32)
    assert server.received == b""


def test_self_signed_certificate_without_a_pin_is_refused_and_gets_nothing(server: TlsServer) -> None:
    with pytest.raises(errors.WrongApiError, match=r"certificate is not trusted\. Nothing was sent"):
        try_to_log_in(server, pin="")
    assert server.received == b""


@pytest.mark.parametrize("pin", ["", "00" * 32], ids=["no pin", "pin"])
@pytest.mark.parametrize("last_words", [b"", b"\x15\x03\x03\x00\x02\x01\x00"], ids=["closed", "closed by TLS"])
def test_handshake_that_is_broken_off_is_no_untrusted_certificate_and_is_waited_for(
    last_words: bytes, pin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a proxy does, or an api-server that is still starting."""
    monkeypatch.setenv("NO_PROXY", "*")
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(url=f"https://127.0.0.1:{listener.getsockname()[1]}", certificate_sha256=pin)

    def break_off() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            connection.recv(4096)
            connection.sendall(last_words)
            connection.close()

    breaking = threading.Thread(target=break_off, daemon=True)
    breaking.start()
    with pytest.raises(errors.UnreachableError, match="the TLS handshake did not succeed"):
        log_in(server, username=USERNAME, password=PASSWORD)
    with pytest.raises(errors.NotReadyError, match=r"was not up in time .*the TLS handshake did not succeed"):
        wait_until_healthy(server, deadline=Deadline(at=time.monotonic()), wake=lambda: None)
    breaking.join()
    listener.close()


def test_authority_of_the_environment_does_not_outweigh_the_pin(
    server: TlsServer, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.pem))
    assert try_to_log_in(server, pin="") == TOKEN  # so the bundle does count without a pin
    server.received = b""
    with pytest.raises(errors.WrongApiError, match="not the pinned one"):
        try_to_log_in(server, pin="00" * 32)
    assert server.received == b""


def test_proxy_of_the_environment_does_not_outweigh_the_pin(
    server: TlsServer, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://{server.address}")
    with pytest.raises(errors.WrongApiError, match="not the pinned one"):
        try_to_log_in(server, pin="00" * 32)
    assert len(server.connects) == 1
    assert server.received == b""
    assert try_to_log_in(server, pin=certificate.sha256) == TOKEN
    assert len(server.connects) == 2
