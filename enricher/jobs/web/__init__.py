"""The screens of jobs: jobs, queues, schedules, workers, and the paths that Flower answers."""
