"""Runs a client's script where nothing of ours can be imported: ``python -I isolated.py FILE``."""

import runpy
import sys
from importlib.abc import MetaPathFinder

#: Our packages, and what only they need: a foreign system has none of it.
REFUSED = {"schemas", "producer", "workers", "analysis", "tests", "pydantic", "sqlalchemy"}


class Refusal(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in REFUSED:
            raise ImportError(f"a foreign system has no {fullname}")


sys.meta_path.insert(0, Refusal())
runpy.run_path(sys.argv[1], run_name="__main__")
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & REFUSED, loaded & REFUSED
