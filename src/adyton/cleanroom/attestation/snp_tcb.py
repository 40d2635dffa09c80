"""Versions of AMD's SEV-SNP firmware."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SnpTcb:
    """Security version numbers of the parts of AMD's firmware; larger is newer. `fmc` exists from Turin on."""

    bootloader: int
    tee: int
    snp: int
    microcode: int
    fmc: int | None = None

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
