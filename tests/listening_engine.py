"""A scripted engine that keeps its questions, for tests of what a model is shown."""

from __future__ import annotations

from workers.engines import ChooseRequest, Distribution
from workers.engines.scripted_engine import ScriptedEngine


class Listening(ScriptedEngine):
    """``heard`` holds the last message of each question of the last ``choose``."""

    def choose(self, requests: list[ChooseRequest]) -> list[Distribution]:
        self.heard = [request.messages[-1].content for request in requests]
        return super().choose(requests)
