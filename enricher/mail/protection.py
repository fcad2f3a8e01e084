"""Signed and encrypted parts (S/MIME: RFC 8551, PGP/MIME: RFC 3156, and PGP in the text), named as such.

Nothing is verified or decrypted here.
"""

from __future__ import annotations

from enricher.mail.mime import Part

_ROLES = {
    "application/pkcs7-signature": "smime-signature",
    "application/pgp-signature": "pgp-signature",
    "application/pgp-encrypted": "pgp-version",
    "application/pgp-keys": "pgp-keys",
    "text/calendar": "calendar",
    "application/ics": "calendar",
    "message/delivery-status": "delivery-report",
    "message/global-delivery-status": "delivery-report",
    "message/feedback-report": "feedback-report",
    "message/disposition-notification": "read-receipt",
    "message/global-disposition-notification": "read-receipt",
    "message/rfc822": "message",
    "message/global": "message",
    "text/rfc822-headers": "message-header",
    "message/rfc822-headers": "message-header",
    "message/global-headers": "message-header",
    "application/ms-tnef": "tnef",
    "application/vnd.ms-tnef": "tnef",
}
_SMIME = {
    "enveloped-data": "smime-encrypted",
    "authenveloped-data": "smime-encrypted",
    "signed-data": "smime-signed",
    "certs-only": "smime-certificates",
    "compressed-data": "smime-compressed",
}
# The object identifiers that a CMS message begins with (RFC 5652): signedData and envelopedData.
_CMS = {
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02": "smime-signed",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03": "smime-encrypted",
}
_PROTECTED = {
    "smime-signature": "smime-signed",
    "smime-signed": "smime-signed",
    "smime-encrypted": "smime-encrypted",
    "pgp-signature": "pgp-signed",
    "pgp-signed": "pgp-signed",
    "pgp-encrypted": "pgp-encrypted",
}
_ENCRYPTED, _SIGNED = "-----BEGIN PGP MESSAGE-----", "-----BEGIN PGP SIGNED MESSAGE-----"


def role(part: Part) -> str | None:
    """What a part is for, where that is more than to be saved; None where it is not."""
    kind = part.kind.replace("/x-pkcs7", "/pkcs7")
    if kind == "application/pkcs7-mime":
        said = _SMIME.get(part.parameters.get("smime-type", "").lower())
        return said or next((name for oid, name in _CMS.items() if oid in part.data[:40]), "smime")
    known = _ROLES.get(kind)
    if known is None and part.data.lstrip()[: len(_ENCRYPTED)] == _ENCRYPTED.encode():
        return "pgp-encrypted"
    return known


def of_text(text: str) -> str | None:
    """What PGP made of a text, if anything."""
    start = text[:200].lstrip()
    if start.startswith(_ENCRYPTED):
        return "pgp-encrypted"
    return "pgp-signed" if start.startswith(_SIGNED) else None


def protection(of: str | None) -> str | None:
    """How a mail with a part of this role is protected."""
    return _PROTECTED.get(of or "")
