"""The review queue over HTTP: JSON API, pages for moderator, lead, auditor and advertiser."""
