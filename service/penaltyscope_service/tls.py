"""Certificates, for HTTP and gRPC alike."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import grpc


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """What the service proves itself with, and whom it believes."""

    certificate: Path
    """PEM, those of its authorities after it."""
    key: Path
    """PEM, without a password."""
    client_ca: Path | None = None
    """PEM; where it is given, clients need a certificate that it has signed."""

    def check(self) -> None:
        """Raises OSError (ssl.SSLError among them) if a file cannot be used."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.client_ca)
        context.load_cert_chain(self.certificate, self.key)

    def uvicorn_options(self) -> dict[str, Any]:
        """Of ``uvicorn.Config``; TLS 1.2 is the oldest version that Python's defaults let in."""
        options: dict[str, Any] = {
            "ssl_certfile": self.certificate,
            "ssl_keyfile": self.key,
        }
        if self.client_ca is not None:
            options |= {"ssl_ca_certs": self.client_ca, "ssl_cert_reqs": ssl.CERT_REQUIRED}
        return options

    def grpc_credentials(self) -> "grpc.ServerCredentials":
        """For a port of gRPC."""
        import grpc  # an extra

        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.certificate.read_bytes())],
            root_certificates=self.client_ca.read_bytes() if self.client_ca else None,
            require_client_auth=self.client_ca is not None,
        )
