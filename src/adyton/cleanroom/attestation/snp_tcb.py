"""Versions of AMD's SEV-SNP firmware."""

from __future__ import annotations

from dataclasses import dataclass

from adyton.cleanroom.attestation.errors import ExpectationError


@dataclass(frozen=True)
class SnpTcb:
    """Security version numbers of the parts of AMD's firmware; larger is newer. `fmc` exists from Turin on."""

    bootloader: int
    tee: int
    snp: int
    microcode: int
    fmc: int | None = None

    @classmethod
    def parse(cls, text: str) -> SnpTcb:
        """From `BOOTLOADER.TEE.SNP.MICROCODE`, or `FMC.` before it (Turin): decimal numbers up to 255.

        Raises ExpectationError.
        """
        parts = text.split(".")
        if len(parts) not in (4, 5) or not all(part.isascii() and part.isdigit() and int(part) < 256 for part in parts):
            raise ExpectationError(
                "an SEV-SNP floor is BOOTLOADER.TEE.SNP.MICROCODE", where=text[:32], hint="for example 3.0.8.115"
            )
        *fmc, bootloader, tee, snp, microcode = map(int, parts)
        return cls(bootloader, tee, snp, microcode, fmc[0] if fmc else None)

    def at_least(self, floor: SnpTcb) -> bool:
        return (
            self.bootloader >= floor.bootloader
            and self.tee >= floor.tee
            and self.snp >= floor.snp
            and self.microcode >= floor.microcode
            and (self.fmc or 0) >= (floor.fmc or 0)
        )

    def __str__(self) -> str:
        fmc = "" if self.fmc is None else f"fmc {self.fmc}, "
        return f"{fmc}bootloader {self.bootloader}, tee {self.tee}, snp {self.snp}, microcode {self.microcode}"
