"""Certificates that nobody vouches for: where traffic has to be encrypted and no authority is at hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address


def self_signed(name: str, days: int, address: str | None = None) -> tuple[bytes, bytes]:
    """A new private key and its certificate, both as PEM.

    Args:
        days: how long it is valid from now on, and an hour before, for clocks that are behind.
        address: what it is served at, of IP. A client that is given the certificate can then trust it, as the
            authority that it is for itself.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
    )
    if address is not None:
        served = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        authority = x509.BasicConstraints(ca=True, path_length=0)
        builder = builder.add_extension(served, critical=False).add_extension(authority, critical=True)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
