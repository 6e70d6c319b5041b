"""The acceptance tests' systems, to be broken here."""

from tests.acceptance.conftest import open_system

__all__ = ["open_system"]
