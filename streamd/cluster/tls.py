"""Certificates of routes: both sides show one, and check the other's against the same authorities."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamd.config.cluster import ClusterTls


class Tls:
    """The contexts of both directions. Errors: OSError (ssl.SSLError is one) for files that can't be used."""

    def __init__(self, config: ClusterTls) -> None:
        self.timeout_seconds = config.timeout_ns / 1e9
        self.accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.dialing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for context in (self.accepting, self.dialing):
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(config.cert_file, config.key_file)
            if config.ca_file is not None:
                context.load_verify_locations(config.ca_file)
            else:
                context.load_default_certs()
        self.accepting.verify_mode = ssl.CERT_REQUIRED
        self.dialing.check_hostname = not config.insecure
        self.dialing.verify_mode = ssl.CERT_NONE if config.insecure else ssl.CERT_REQUIRED
