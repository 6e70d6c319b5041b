"""Putting jobs in and asking how they stand, from anyone's process.

Imports neither torch nor a Postgres driver: what a door needs beyond pydantic is loaded when
the door is opened.
"""

import schemas

if getattr(schemas, "__preceptor__", None) is not True:
    _found = schemas.__file__ or next(iter(schemas.__path__))
    raise ImportError(
        f"'import schemas' found {_found}, which hides Preceptor's package of that name. "
        "Rename it or take its folder off sys.path; or use a door that imports nothing of "
        "ours: POST the jobs to Preceptor's HTTP intake, or run 'preceptor submit'."
    )

from producer.client import Client
from producer.handle import JobHandle
from producer.submission import Submission

__all__ = ["Client", "JobHandle", "Submission"]
