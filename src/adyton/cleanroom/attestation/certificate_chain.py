"""X.509 paths from a leaf to a pinned root, the dates on them, and revocation lists.

A path is built from certificates that anybody may have supplied; only the pinned root is trusted. Each issuer must be a
certificate authority, its name and signature must fit, and the root must sign itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtensionOID, NameOID

from adyton.cleanroom.attestation.checks import CheckName, Findings
from adyton.cleanroom.attestation.errors import EvidenceFormatError

MAX_PATH = 8
MAX_CERTIFICATES = 32
MAX_CERTIFICATE_BYTES = 64 << 10
MIN_RSA_BITS = 2048
# RFC 5280 §4.2: a critical extension that is not processed refuses its certificate. Names of leaves are not used.
_UNDERSTOOD = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)
_PEM_MARK = b"-----BEGIN"
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def load_certificates(files: Iterable[bytes]) -> tuple[x509.Certificate, ...]:
    """All certificates of PEM or DER files. Raises EvidenceFormatError."""
    found: list[x509.Certificate] = []
    for data in files:
        if len(data) > MAX_CERTIFICATE_BYTES:
            raise EvidenceFormatError("a certificate file is too long")
        try:
            # AMD's VCEKs have serial number 0, which the library warns about at every parse (cleanroom §2.3).
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CryptographyDeprecationWarning)
                warnings.simplefilter("ignore", UserWarning)
                if _PEM_MARK in data:
                    found += x509.load_pem_x509_certificates(data)
                else:
                    found.append(x509.load_der_x509_certificate(data))
                for certificate in found:
                    _read_whole(certificate)
        except _UNREADABLE as error:
            raise EvidenceFormatError("a certificate cannot be read") from error
    if len(found) > MAX_CERTIFICATES:
        raise EvidenceFormatError(f"more than {MAX_CERTIFICATES} certificates")
    return tuple(found)


def _read_whole(certificate: x509.Certificate) -> None:
    """The library parses fields when they are first read; read them all here, so that nothing fails later."""
    _ = (certificate.subject, certificate.issuer, certificate.extensions, certificate.public_key())
    _ = (certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.serial_number)
    _ = certificate.signature_hash_algorithm


def find_path(
    leaf: x509.Certificate, pool: Sequence[x509.Certificate], is_root: Callable[[x509.Certificate], bool]
) -> tuple[x509.Certificate, ...] | None:
    """Leaf first, pinned root last; None if there is no such path. A root by itself is no path."""
    return _extend((leaf,), pool, is_root)


def _extend(
    path: tuple[x509.Certificate, ...], pool: Sequence[x509.Certificate], is_root: Callable[[x509.Certificate], bool]
) -> tuple[x509.Certificate, ...] | None:
    if len(path) >= MAX_PATH:
        return None
    for issuer in pool:
        if issuer in path or not _issued(path[-1], issuer, below=len(path) - 1):
            continue
        longer = (*path, issuer)
        if is_root(issuer):
            if _issued(issuer, issuer, below=None):
                return longer
            continue
        found = _extend(longer, pool, is_root)
        if found is not None:
            return found
    return None


def _issued(certificate: x509.Certificate, issuer: x509.Certificate, *, below: int | None) -> bool:
    """Whether `issuer` is an authority that signed `certificate`, with `below` authorities already under it."""
    try:
        if certificate.issuer != issuer.subject or not _may_issue(issuer, below) or _is_weak(certificate, issuer):
            return False
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _may_issue(issuer: x509.Certificate, below: int | None) -> bool:
    try:
        constraints = issuer.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS).value
    except x509.ExtensionNotFound:
        return False
    assert isinstance(constraints, x509.BasicConstraints), "the extension has this type"
    if not constraints.ca or (
        below is not None and constraints.path_length is not None and constraints.path_length < below
    ):
        return False
    try:
        usage = issuer.extensions.get_extension_for_oid(ExtensionOID.KEY_USAGE).value
    except x509.ExtensionNotFound:
        return True
    assert isinstance(usage, x509.KeyUsage), "the extension has this type"
    return usage.key_cert_sign


def _may_sign(leaf: x509.Certificate) -> bool:
    """Whether the key of a leaf may sign evidence: it is no authority's, and its use is not restricted to other things.

    AMD's leaves carry neither extension; where one is there, it counts.
    """
    try:
        constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        is_authority = False
    else:
        is_authority = constraints.ca
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return not is_authority
    return usage.digital_signature and not is_authority


def _is_weak(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether a signature is of a hash or key that can be forged, or an extension that must be understood is not."""
    key, hashed = issuer.public_key(), certificate.signature_hash_algorithm
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        return True
    if hashed is not None and not isinstance(hashed, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
        return True
    return any(
        extension.critical and not isinstance(extension.value, _UNDERSTOOD)
        for one in (certificate, issuer)
        for extension in one.extensions
    )


def common_name(name: x509.Name) -> str:
    """The CN of a name, or the whole name where it has none."""
    names = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else name.rfc4514_string()


def describe(path: Sequence[x509.Certificate]) -> str:
    """`leaf <- issuer <- root` by common names."""
    return " <- ".join(common_name(certificate.subject) for certificate in path)


def check_chain(
    findings: Findings,
    leaf: x509.Certificate,
    pool: Sequence[x509.Certificate],
    is_root: Callable[[x509.Certificate], bool],
    root_name: str,
) -> tuple[x509.Certificate, ...] | None:
    """`chain`: the leaf leads to the pinned root. Gives the path."""
    may_sign = _may_sign(leaf)
    path = find_path(leaf, pool, is_root) if may_sign else None
    found = describe(path) if path else f"{common_name(leaf.subject)} (issuer {common_name(leaf.issuer)})"
    if path is None:
        why = f"does not lead to {root_name}" if may_sign else "is not for signing evidence"
        findings.add(CheckName.CHAIN, False, f"{found} {why}")
    else:
        findings.add(CheckName.CHAIN, True, found)
    return path


def check_validity(findings: Findings, path: Sequence[x509.Certificate], at_ms: int) -> None:
    """`validity`: every certificate of the path holds at `at_ms`."""
    at = moment(at_ms)
    for certificate in path:
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not start <= at <= end:
            name = common_name(certificate.subject)
            findings.add(
                CheckName.VALIDITY, False, f"{name} is valid from {start:%F %T} to {end:%F %T}, not at {at:%F %T}"
            )
            return
    end = min(certificate.not_valid_after_utc for certificate in path)
    findings.add(
        CheckName.VALIDITY, True, f"all {len(path)} certificates hold at {at:%F %T}, the first until {end:%F %T}"
    )


def check_revocation(
    findings: Findings,
    path: Sequence[x509.Certificate],
    listed: Sequence[x509.Certificate],
    lists: Iterable[bytes],
    at_ms: int,
) -> None:
    """`revocation`: none of `listed`, certificates of `path`, is on a genuine, current list of its issuer."""
    at, loaded = moment(at_ms), _load_lists(lists)
    if not loaded:
        findings.not_asked(CheckName.REVOCATION, "no revocation list was given")
        return
    for certificate in listed:
        issuer = path[path.index(certificate) + 1]
        name = common_name(certificate.subject)
        current = [crl for crl in loaded if _is_current(crl, issuer, at)]
        if not current:
            what = f"no current list signed by {common_name(issuer.subject)} that would name {name}"
            findings.add(CheckName.REVOCATION, False, what)
            return
        for crl in current:
            if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
                findings.add(CheckName.REVOCATION, False, f"{name} is revoked by {common_name(issuer.subject)}")
                return
    names = ", ".join(common_name(certificate.subject) for certificate in listed)
    findings.add(CheckName.REVOCATION, True, f"not on a revocation list: {names}")


def _is_current(crl: x509.CertificateRevocationList, issuer: x509.Certificate, at: datetime) -> bool:
    key = issuer.public_key()
    if crl.issuer != issuer.subject or not isinstance(
        key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
    ):
        return False
    try:
        genuine = crl.is_signature_valid(key)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    until = crl.next_update_utc
    # A critical extension says that the list is of some certificates or reasons only, or of what changed.
    whole = not any(extension.critical for extension in crl.extensions)
    return genuine and whole and crl.last_update_utc <= at and until is not None and at <= until


def _load_lists(lists: Iterable[bytes]) -> list[x509.CertificateRevocationList]:
    loaded = []
    for data in lists:
        try:
            pem = _PEM_MARK in data
            crl = x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data)
            _ = (crl.issuer, crl.extensions, crl.last_update_utc, crl.next_update_utc, crl.signature_hash_algorithm)
            loaded.append(crl)
        except _UNREADABLE as error:
            raise EvidenceFormatError("a revocation list cannot be read") from error
    return loaded


def pem_of(certificates: Iterable[x509.Certificate]) -> bytes:
    """The canonical PEM text of certificates."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def moment(at_ms: int) -> datetime:
    """`at_ms` as a date."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise EvidenceFormatError("a time is out of range") from error


def latest_start_ms(certificates: Iterable[x509.Certificate]) -> int | None:
    """The first moment at which all certificates hold, milliseconds since the epoch; None without certificates."""
    starts = [certificate.not_valid_before_utc for certificate in certificates]
    return int(max(starts).timestamp() * 1000) if starts else None
