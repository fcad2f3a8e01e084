"""Classes of jobs as programs have them that come from Celery: in a package, found by its name.

What a job did shows in its result and in files of a folder that it is given, so that a test can look from
another process.
"""
