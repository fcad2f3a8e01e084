"""The mail as a system: its section, its plan, its command and its options of ``run``, by name."""

from enricher.system import Command, System

SYSTEM = System(
    name="mail",
    settings="enricher.mail.settings:MailSettings",
    plan="enricher.mail.plan:plan",
    commands={
        "mail": Command(
            "enricher.mail.cli:command", "Show the counts of the mail route: entries, claims, dead letters."
        )
    },
    run_options="enricher.mail.cli:run_options",
)
