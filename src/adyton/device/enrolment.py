"""Who may store signals through which app: enrolled ad techs, allow-lists, delegation (protected-auction §2.1).

The enrolment file is JSON:

    {"ad_techs": [{"domain": "buyer.example", "protected_signals": true,
                   "verification_key": "<base64 Ed25519 public key>",
                   "acknowledgement_endpoint": "https://buyer.example/acknowledge"}],
     "apps": [{"package": "com.news", "uid": 10001, "ad_techs": ["buyer.example"]}]}

An ad tech that lets a partner create its signals signs a verification token for it: who, for which app, until when.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adyton.device.delegation import open_token
from adyton.device.errors import DelegationError, EnrolmentFileError, NotAllowedError, UpdateUriError
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import BuyerId


@dataclass(frozen=True)
class AdTech:
    """An enrolled ad tech.

    verification_key: raw Ed25519 public key of its delegation tokens; None if it delegates to nobody.
    acknowledgement_endpoint: if set, a partner's update is stored only after this URL said yes.
    """

    domain: BuyerId
    protected_signals: bool = True
    verification_key: bytes | None = None
    acknowledgement_endpoint: str | None = None


@dataclass(frozen=True)
class App:
    """An installed app. `ad_techs`: its allow-list, None for everyone.   `uid`: the process user it runs as."""

    package: str
    uid: int | None = None
    ad_techs: frozenset[str] | None = None


@dataclass(frozen=True)
class Enrolment:
    """The registry. With `is_enforced` False every host may act for itself."""

    ad_techs: Mapping[str, AdTech] = field(default_factory=dict)
    apps: Mapping[str, App] = field(default_factory=dict)
    is_enforced: bool = True

    @classmethod
    def of(cls, ad_techs: Iterable[AdTech], apps: Iterable[App] = ()) -> Enrolment:
        return cls(MappingProxyType({a.domain: a for a in ad_techs}), MappingProxyType({a.package: a for a in apps}))

    def ad_tech_of(self, uri: str) -> BuyerId:
        """The enrolled ad tech to which the host of `uri` belongs; without enforcement, the host itself.

        Raises UpdateUriError, NotAllowedError.
        """
        host = https_host(uri)
        if not self.is_enforced:
            return BuyerId(host)
        owners = [domain for domain in self.ad_techs if belongs_to(host, domain)]
        if not owners:
            raise NotAllowedError("the ad tech is not enrolled", where=host)
        return BuyerId(max(owners, key=len))

    def is_enrolled(self, buyer: str) -> bool:
        """Whether an ad tech may store signals."""
        return not self.is_enforced or (buyer in self.ad_techs and self.ad_techs[buyer].protected_signals)

    def is_allowed(self, buyer: str, package: str) -> bool:
        """Whether an app lets an ad tech store signals."""
        app = self.apps.get(package)
        return app is None or app.ad_techs is None or buyer in app.ad_techs

    def acknowledgement_endpoint(self, buyer: str) -> str | None:
        """Where an ad tech wants to be asked about its partners' updates; None if it does not."""
        ad_tech = self.ad_techs.get(buyer)
        return None if ad_tech is None else ad_tech.acknowledgement_endpoint

    def check_package(self, package: str, uid: int | None) -> None:
        """Raise NotAllowedError if `package` is not the app that runs as `uid` (None: the caller is trusted)."""
        check_package_name(package)
        app = self.apps.get(package)
        if uid is not None and (app is None or app.uid != uid):
            raise NotAllowedError("the caller's package name does not match its user id", where=package)

    def check_ad_tech(self, buyer: str, package: str) -> None:
        """Raise NotAllowedError unless the ad tech is enrolled and allowed by the app, BadInputError for no domain."""
        check_domain(buyer)
        if not self.is_enrolled(buyer):
            raise NotAllowedError("the ad tech is not enrolled for protected signals", where=buyer)
        if not self.is_allowed(buyer, package):
            raise NotAllowedError("the app does not allow this ad tech", where=f"{package}, {buyer}")

    def check_delegation(self, token: str, *, buyer: str, partner: str, package: str, now_ms: int) -> None:
        """Raise DelegationError unless `buyer` signed that `partner` may act for it in `package` now."""
        ad_tech = self.ad_techs.get(buyer)
        if ad_tech is None or ad_tech.verification_key is None:
            raise DelegationError("the ad tech delegates to nobody", where=buyer)
        grant = open_token(token, ad_tech.verification_key)
        if grant.ad_tech != buyer or grant.package != package or not belongs_to(partner, grant.partner):
            raise DelegationError("the verification token is for another ad tech, partner or app", where=buyer)
        if now_ms > grant.not_after_ms:
            raise DelegationError(
                "the verification token has expired", where=buyer, hint="ask the ad tech for a new one"
            )


_PACKAGE = re.compile(r"[A-Za-z0-9_.]{1,255}")
_URI_CHARACTERS = re.compile(r"[!-\[\]-~]+")
_MAX_DOMAIN_CHARACTERS = 253
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
OPEN_ENROLMENT = Enrolment(is_enforced=False)
"""No registry: for development and for tests of other things."""


def https_host(uri: str) -> str:
    """The host of an https URI, in lower case: letters, digits, dots and hyphens.

    Strict, since whoever opens the URI later must not see another host in it: no user part, backslash, space or
    character outside ASCII.   Raises UpdateUriError with the texts of §2.1.
    """
    if not uri:
        raise UpdateUriError("the URI should be specified")
    if not _URI_CHARACTERS.fullmatch(uri):
        raise UpdateUriError("the URI is malformed")
    try:
        parts = urlsplit(uri)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        raise UpdateUriError("the URI is malformed") from error
    if not host:
        raise UpdateUriError("the URI should have present host")
    if parts.scheme != "https":
        raise UpdateUriError("the URI should use HTTPS")
    if "@" in parts.netloc or not _HOST.fullmatch(host):
        raise UpdateUriError("the URI is malformed")
    return host


def check_package_name(package: str) -> None:
    """Raise BadInputError unless this is letters, digits, dots and underscores, at most 255, as Android names apps."""
    if not _PACKAGE.fullmatch(package):
        raise BadInputError("this is not the name of an app", hint="for instance com.news")


def check_domain(ad_tech: str) -> None:
    """Raise BadInputError unless this is a domain in lower case, as every message names an ad tech (§1)."""
    if not _HOST.fullmatch(ad_tech) or len(ad_tech) > _MAX_DOMAIN_CHARACTERS:
        raise BadInputError("this is not the domain of an ad tech", hint="for instance buyer.example")


def belongs_to(host: str, domain: str) -> bool:
    """Whether `host` is `domain` or a subdomain of it."""
    return host == domain or host.endswith(f".{domain}")


class _AdTechEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    domain: Annotated[str, Field(min_length=1, max_length=_MAX_DOMAIN_CHARACTERS)]
    protected_signals: bool = True
    verification_key: str | None = None
    acknowledgement_endpoint: str | None = None


class _AppEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    package: Annotated[str, Field(min_length=1)]
    uid: int | None = None
    ad_techs: list[str] | None = None


class _EnrolmentFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    ad_techs: list[_AdTechEntry]
    apps: list[_AppEntry] = []


def parse_enrolment(text: bytes | str) -> Enrolment:
    """The registry of an enrolment file.

    Raises EnrolmentFileError naming the first place that is wrong.
    """
    try:
        document = _EnrolmentFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise EnrolmentFileError(first["msg"], where=".".join(map(str, first["loc"])) or None) from error
    ad_techs = [
        AdTech(BuyerId(e.domain), e.protected_signals, _key(e.verification_key), e.acknowledgement_endpoint)
        for e in document.ad_techs
    ]
    for kind, names in (("ad_techs", [a.domain for a in ad_techs]), ("apps", [e.package for e in document.apps])):
        if len(set(names)) != len(names):
            raise EnrolmentFileError("the same name appears twice", where=kind)
    apps = [App(e.package, e.uid, None if e.ad_techs is None else frozenset(e.ad_techs)) for e in document.apps]
    return Enrolment.of(ad_techs, apps)


def _key(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        key = base64.b64decode(text, validate=True)
        Ed25519PublicKey.from_public_bytes(key)
    except (binascii.Error, ValueError) as error:
        raise EnrolmentFileError("verification_key must be the base64 of an Ed25519 public key") from error
    return key
