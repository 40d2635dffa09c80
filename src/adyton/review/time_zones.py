"""Where it is what time: offset of each market from UTC, for shifts that begin in the local morning.

Standard time of the zone where most people of the country live, no summer time: a shift plan, not an almanac.
"""

from __future__ import annotations

_HOURS = {
    "-6": "CR GT HN MX NI SV",
    "-5": "CA CO EC JM PA PE US",
    "-4": "BO CL DO PR PY VE",
    "-3": "AR BR UY",
    "0": "CI GB GH IE IS MA PT SN",
    "1": "AL AT BA BE CH CM CZ DE DK DZ ES FR HR HU IT LU ME MK MT NG NL NO PL RS SE SI SK TN",
    "2": "BG CY EE EG FI GR IL JO LB LT LV LY MD RO UA ZA",
    "3": "BH BY IQ KE KW QA RU SA TR TZ UG YE",
    "4": "AE AM AZ GE OM",
    "5": "KZ MV PK UZ",
    "5.5": "IN LK",
    "5.75": "NP",
    "6": "BD KG",
    "6.5": "MM",
    "7": "ID KH LA TH VN",
    "8": "BN CN HK MN MO MY PH SG TW",
    "9": "JP KR",
    "10": "AU",
    "12": "NZ",
}
_OFFSET_MINUTES = {market: round(60 * float(hours)) for hours, markets in _HOURS.items() for market in markets.split()}


def utc_offset_minutes(market: str) -> int:
    """Minutes that the market's clocks are ahead of UTC; 0 for one that is not known."""
    return _OFFSET_MINUTES.get(market, 0)
