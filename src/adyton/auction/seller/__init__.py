"""The seller: front end rules, chaff, scoring and reporting."""
