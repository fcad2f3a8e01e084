"""Mails from a Redis stream: read, handled once, stored, or set aside.

What is listed here is promised. `Idempotency`, `Attempts` and `MailLetters` work without the rest.
"""

from typing import TYPE_CHECKING

from enricher.lazy_exports import at_first_use

if TYPE_CHECKING:
    from enricher.adapters.redis.claims import Idempotency
    from enricher.adapters.redis.dead_letters.mail import MailLetter, MailLetters
    from enricher.mail.attempts import Attempts, mail_policy
    from enricher.mail.message import parse_message
    from enricher.mail.models import Attachment, Mail, Mailbox
    from enricher.mail.processor import MailHandler
    from enricher.mail.settings import MailSettings
else:
    __getattr__, __dir__ = at_first_use(
        __name__,
        {
            "enricher.adapters.redis.claims": "Idempotency",
            "enricher.adapters.redis.dead_letters.mail": "MailLetter MailLetters",
            "enricher.mail.attempts": "Attempts mail_policy",
            "enricher.mail.message": "parse_message",
            "enricher.mail.models": "Attachment Mail Mailbox",
            "enricher.mail.processor": "MailHandler",
            "enricher.mail.settings": "MailSettings",
        },
    )

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
