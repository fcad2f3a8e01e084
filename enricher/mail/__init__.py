"""Mails from a Redis stream: read, handled once, stored, or set aside.

What is listed here is promised. `Idempotency`, `Attempts` and `MailLetters` work without the rest.
"""

from typing import TYPE_CHECKING

from enricher.lazy_exports import at_first_use

if TYPE_CHECKING:
    from enricher.mail.attempts import Attempts, mail_policy
    from enricher.mail.idempotency import Idempotency
    from enricher.mail.letters import MailLetter, MailLetters
    from enricher.mail.message import parse_message
    from enricher.mail.models import Attachment, Mail, Mailbox
    from enricher.mail.processor import MailHandler
    from enricher.mail.settings import MailSettings
else:
    __getattr__, __dir__ = at_first_use(
        __name__,
        {
            "enricher.mail.attempts": "Attempts mail_policy",
            "enricher.mail.idempotency": "Idempotency",
            "enricher.mail.letters": "MailLetter MailLetters",
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
