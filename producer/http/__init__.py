"""The HTTP door: jobs in, results out, for whatever speaks HTTP.

Every module but ``cli`` needs the extra ``http``. Rows are written by ``schemas``, as for every
door; here stand only requests, answers, keys and limits.
"""
