"""The `course` command: doctor, copies, models, run, download, pin, measure-gpu; each module registers its own.

It imports any package; none imports it, except the public names of `helpers`.
"""
