"""A class: many learners, one shared engine, results.

`replica` makes one call, `door` lets learners in and keeps them in line, `engine` runs both on Ray Serve. It stands
above `helpers`, which knows of it only the address in COURSE_POOL.
"""
