"""What every package uses and none owns: paths, validation, memory, locks.

It imports no other package of helpers; every package may import it.
"""
