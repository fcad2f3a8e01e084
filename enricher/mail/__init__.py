"""Mails from a Redis stream: read, handled once, stored, or set aside.

What is listed here is promised. `Idempotency`, `Attempts` and `MailLetters` work without the rest.
"""

from enricher.mail.attempts import Attempts, mail_policy
from enricher.mail.idempotency import Idempotency
from enricher.mail.letters import MailLetter, MailLetters
from enricher.mail.message import parse_message
from enricher.mail.models import Attachment, Mail, Mailbox
from enricher.mail.processor import MailHandler
from enricher.mail.settings import MailSettings

__all__ = [
    "Attachment",
    "Attempts",
    "Idempotency",
    "Mail",
    "MailHandler",
    "MailLetter",
    "MailLetters",
    "MailSettings",
    "Mailbox",
    "mail_policy",
    "parse_message",
]
