"""The reference that both engines' tests compare with, loaded once."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def plain() -> Any:
    """Model and tokenizer as any user of transformers loads them."""
    from tests.acceptance.plain_model import load_plain, model_folder

    return load_plain(model_folder())
