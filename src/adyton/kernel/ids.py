"""Names for identifiers, so that a type checker tells an ad from a buyer."""

from __future__ import annotations

from typing import NewType

AdId = NewType("AdId", str)
"""An ad as review and auction know it."""
BuyerId = NewType("BuyerId", str)
"""A buyer's ad-tech domain, `buyer.example`, the same bytes in every message (protected-auction §1)."""
SellerId = NewType("SellerId", str)
ModeratorId = NewType("ModeratorId", str)
PartyName = NewType("PartyName", str)
"""A party of a clean-room contract."""
DatasetId = NewType("DatasetId", str)
ContractHash = NewType("ContractHash", str)
"""Lower-case hex SHA-256 of a contract's canonical bytes."""
JobId = NewType("JobId", str)
AdSelectionId = NewType("AdSelectionId", int)
"""Non-zero signed 64-bit number of one protected auction; its decimal string is the generation id."""
