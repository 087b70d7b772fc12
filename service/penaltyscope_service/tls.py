"""Certificates, for HTTP and gRPC alike."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penaltyscope_service.renewal import Renewal

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

    def renewal(self, context: ssl.SSLContext) -> Renewal:
        """Lets handshakes from now on show the certificate that the files hold by then."""

        def load() -> None:
            # First elsewhere: what fails half-way would leave the context without a key.
            self.check()
            context.load_cert_chain(self.certificate, self.key)

        return Renewal(f"the certificate {self.certificate}", self._own_files, load)

    def grpc_credentials(self) -> "grpc.ServerCredentials":
        """For a port of gRPC, which looks at the files at each handshake."""
        import grpc  # an extra

        roots = self.client_ca.read_bytes() if self.client_ca else None
        read: list[grpc.ServerCertificateConfiguration] = []

        def load() -> None:
            self.check()
            pair = (self.key.read_bytes(), self.certificate.read_bytes())
            read[:] = [grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)]

        def fetch() -> "grpc.ServerCertificateConfiguration | None":
            renewal.look()
            return read.pop() if read else None

        renewal = Renewal(f"the certificate {self.certificate} (gRPC)", self._own_files, load)
        load()
        return grpc.dynamic_ssl_server_credentials(
            read.pop(),
            fetch,  # type: ignore[arg-type]  # which may return None: nothing is new
            require_client_authentication=self.client_ca is not None,
        )

    @property
    def _own_files(self) -> tuple[Path, Path]:
        return self.certificate, self.key
