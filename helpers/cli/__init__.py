"""The `course` command: doctor, run, download, models.

It imports any package; none imports it, except the public names of `helpers`.
"""
