"""Speaking to a TPM 2.0 directly: the few commands that an enclave needs, written out as bytes.

An enclave may start no other program and write no file, so tpm2-tools are of no use inside; `tpm_tools` sets a TPM up
from outside, and this module quotes, extends and counts. The TPM is a character device (`/dev/tpmrm0`) or the UNIX
socket of a software TPM, which both take one command and give one answer. All authorisations are the empty password.

Source: TCG TPM 2.0 Library, part 3 (commands), part 2 §6.5 (codes), §7.4 (permanent handles), §13.4 (TPMA_NV).
"""

from __future__ import annotations

import os
import select
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from adyton.cleanroom.attestation.byte_reader import ByteReader
from adyton.cleanroom.attestation.errors import EvidenceFormatError, TpmUnavailableError

ATTESTATION_KEY_HANDLE = 0x81010002
_OWNER = 0x40000001
_PLAIN, _WITH_SESSION = 0x8001, 0x8002
_NV_DEFINE, _NV_INCREMENT, _NV_READ = 0x12A, 0x134, 0x14E
_QUOTE, _READ_PUBLIC, _PCR_READ, _PCR_EXTEND = 0x158, 0x173, 0x17E, 0x182
_SHUTDOWN = 0x145
_SHA256, _NULL, _ECC, _ECDSA, _NIST_P256 = 0x000B, 0x0010, 0x0023, 0x0018, 0x0003
# NV_RATE, RETRY: the TPM asks to come again later.
_TRY_AGAIN = frozenset((0x920, 0x922))
# Owner and holder of the empty authorisation read and count; no lock-out; type counter.
_COUNTER_ATTRIBUTES = 0x2 | 0x4 | 1 << 4 | 1 << 17 | 1 << 18 | 1 << 25
_COUNTER_BYTES = 8
# One command's authorisation: the password session, no nonce, no attributes, an empty password.
_EMPTY_PASSWORD = bytes.fromhex("40000009 0000 00 0000")
_MOST_ANSWER_BYTES = 4096
_ANSWER_SECONDS = 30
_TRIES = 20


@dataclass(frozen=True)
class TpmWire:
    """A TPM by its address: `unix:/path` of a software TPM's socket, or a device's path."""

    address: str

    def quote(self, pcr: int, binding: bytes) -> tuple[bytes, bytes]:
        """TPMS_ATTEST over one SHA-256 PCR with `binding` (at most 64 bytes), and its TPMT_SIGNATURE."""
        parameters = _sized(binding) + _number(_NULL, 2) + _selection(pcr)
        answer = self._authorised(_QUOTE, [ATTESTATION_KEY_HANDLE], parameters)
        return answer.sized(2), answer.rest()

    def attestation_key(self) -> bytes:
        """The P-256 key that quotes are signed with, as DER SubjectPublicKeyInfo.

        Raises TpmUnavailableError if the TPM was not set up with one.
        """
        answer = self._call(_PLAIN, _READ_PUBLIC, _number(ATTESTATION_KEY_HANDLE, 4))
        try:
            key = _p256_key(answer.sized(2))
        except (EvidenceFormatError, ValueError) as error:
            raise TpmUnavailableError("the TPM's attestation key is not one of ours", where=self.address) from error
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def read_pcr(self, pcr: int) -> bytes:
        """The 32 bytes of a SHA-256 PCR."""
        answer = self._call(_PLAIN, _PCR_READ, _selection(pcr))
        answer.take(4)  # update counter
        answer.take(len(_selection(pcr)))
        if answer.number(4) != 1:
            raise TpmUnavailableError("the TPM has no such SHA-256 PCR", where=self.address)
        return answer.sized(2)

    def extend_pcr(self, pcr: int, digest: bytes) -> None:
        """Extend 32 bytes into a SHA-256 PCR."""
        self._authorised(_PCR_EXTEND, [pcr], _number(1, 4) + _number(_SHA256, 2) + digest)

    def shut_down(self) -> None:
        """Tell the TPM that its power is about to go. Without it three starts in a row look like an attack to it."""
        self._call(_PLAIN, _SHUTDOWN, _number(0, 2))

    def define_counter(self, index: int) -> None:
        """Make a monotonic counter. Raises TpmUnavailableError if the index is taken."""
        public = (
            *(_number(index, 4), _number(_SHA256, 2), _number(_COUNTER_ATTRIBUTES, 4)),
            *(_sized(b""), _number(_COUNTER_BYTES, 2)),
        )
        self._authorised(_NV_DEFINE, [_OWNER], _sized(b"") + _sized(b"".join(public)))

    def increment_counter(self, index: int) -> None:
        self._authorised(_NV_INCREMENT, [index, index], b"")

    def read_counter(self, index: int) -> int:
        """Raises TpmUnavailableError if there is no counter, or it was never incremented."""
        answer = self._authorised(_NV_READ, [index, index], _number(_COUNTER_BYTES, 2) + _number(0, 2))
        return int.from_bytes(answer.sized(2), "big")

    def _authorised(self, code: int, handles: list[int], parameters: bytes) -> ByteReader:
        """A command with one authorisation; the reader stands at the answer's parameters and ends with them."""
        head = b"".join(_number(handle, 4) for handle in handles)
        body = head + _number(len(_EMPTY_PASSWORD), 4) + _EMPTY_PASSWORD + parameters
        answer = self._call(_WITH_SESSION, code, body)
        return ByteReader(answer.sized(4), "TPM's answer", "big")

    def _call(self, tag: int, code: int, body: bytes) -> ByteReader:
        command = _number(tag, 2) + _number(10 + len(body), 4) + _number(code, 4) + body
        for attempt in range(_TRIES):
            answer = ByteReader(self._exchange(command), "TPM's answer", "big")
            try:
                answer.take(6)
                result = answer.number(4)
            except EvidenceFormatError as error:
                raise TpmUnavailableError("the TPM's answer is cut short", where=self.address) from error
            if result == 0:
                return answer
            if result not in _TRY_AGAIN:
                raise TpmUnavailableError(
                    f"the TPM refused command {code:#x} with code {result:#x}", where=self.address
                )
            time.sleep(0.01 * (attempt + 1))
        raise TpmUnavailableError("the TPM asks to come again later, for too long", where=self.address)

    def _exchange(self, command: bytes) -> bytes:
        try:
            descriptor = _open(self.address)
            try:
                os.write(descriptor, command)
                if not select.select([descriptor], [], [], _ANSWER_SECONDS)[0]:
                    raise TpmUnavailableError("the TPM does not answer", where=self.address)
                return os.read(descriptor, _MOST_ANSWER_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise TpmUnavailableError(f"the TPM cannot be reached: {error.strerror}", where=self.address) from error


def _p256_key(public_area: bytes) -> ec.EllipticCurvePublicKey:
    """The key in a TPMT_PUBLIC (part 2 §12.2.4). Raises EvidenceFormatError, ValueError."""
    public = ByteReader(public_area, "public area", "big")
    kind = public.number(2)
    public.take(6)  # name algorithm, attributes
    public.sized(2)  # policy
    symmetric, scheme = public.number(2), public.number(2)
    public.take(2)  # the scheme's hash
    curve = public.number(2)
    public.take(2)  # key derivation: none
    x, y = (int.from_bytes(public.sized(2), "big") for _ in range(2))
    if (kind, symmetric, scheme, curve) != (_ECC, _NULL, _ECDSA, _NIST_P256):
        raise EvidenceFormatError("not an ECDSA key on P-256")
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def _open(address: str) -> int:
    if not address.startswith("unix:"):
        return os.open(Path(address), os.O_RDWR | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(address.removeprefix("unix:"))
    except OSError:
        sock.close()
        raise
    return sock.detach()


def _number(value: int, n_bytes: int) -> bytes:
    return value.to_bytes(n_bytes, "big")


def _sized(data: bytes) -> bytes:
    return _number(len(data), 2) + data


def _selection(pcr: int) -> bytes:
    """TPML_PCR_SELECTION of one PCR of the SHA-256 bank."""
    return _number(1, 4) + _number(_SHA256, 2) + b"\x03" + (1 << pcr).to_bytes(3, "little")
