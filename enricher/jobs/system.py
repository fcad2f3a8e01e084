"""Background jobs as a system: its section, its plan, its commands and its options of ``run``, by name."""

from enricher.system import Command, System

SYSTEM = System(
    name="jobs",
    settings="enricher.jobs.settings:JobSettings",
    plan="enricher.jobs.plan:plan",
    commands={
        "jobs": Command(
            "enricher.jobs.cli.commands:command", "List, show, enqueue, retry, cancel and delete jobs."
        ),
        "queues": Command("enricher.jobs.cli.queues:command", "Show, pause, resume and clear queues."),
        "schedules": Command(
            "enricher.jobs.cli.schedules:command", "Show which jobs recur, and run one of them now."
        ),
        "workers": Command("enricher.jobs.cli.workers:command", "Show who runs jobs, and what runs now."),
    },
    run_options="enricher.jobs.cli.options:run_options",
)
