"""Which constitution a file of results was made with: results carry its digest, not its text."""

from __future__ import annotations

from collections.abc import Collection

from schemas.constitution import Constitution, available_constitutions, load_constitution
from schemas.errors import ContractError


def shipped_of(digest: str | None, asked: Collection[str]) -> Constitution | None:
    """The shipped constitution of that digest; None where no shipped one has it.

    Args:
        digest: Of the run's constitution, which may have selected principles of a shipped one.
        asked: Principles that the results speak of: the selection, where all were asked.
    """
    for name in available_constitutions():
        whole = load_constitution(name)
        if whole.digest == digest:
            return whole
        if asked and set(asked) <= set(whole.names):
            selected = whole.select(names=asked)
            if selected.digest == digest:
                return selected
    return None


def checked(constitution: Constitution, asked: Collection[str]) -> Constitution:
    """A constitution that a caller named.

    Raises:
        ContractError: It lacks a principle that the results speak of.
    """
    if unknown := sorted(set(asked) - set(constitution.names)):
        raise ContractError(
            f"constitution '{constitution.name}' has no principle {unknown[0]!r}, which the "
            "results speak of: name the constitution of the run"
        )
    return constitution
