"""A language model's last layer in float32, whatever precision the rest is computed in.

Half precision rounds a logit of 16 to the next eighth: two choices are then often exactly even.
Only the layer's arithmetic changes; what a model does with its logits follows as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

#: Weights of a part: 64 MiB in float32, since a whole copy of a large head may not fit.
_PART_WEIGHTS = 2**24
#: A head of at most so many weights is copied once and kept, 256 MiB: reading it is much faster.
_KEPT_WEIGHTS = 2**26


class ExactHead:
    """The head of one model. A head that is no plain linear layer, e.g. a quantised one, stays
    as it is; so does one in float32.
    """

    def __init__(self, model: Any) -> None:
        """Copy nothing yet.

        Args:
            model: A causal language model of transformers.
        """
        head = model.get_output_embeddings()
        self._head: nn.Linear | None = None
        if type(head) is nn.Linear and head.weight.dtype != torch.float32:
            self._head = head
        self._kept: Tensor | None = None

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within, the model's logits are float32. Not for two threads at once."""
        head = self._head
        if head is None:
            yield
            return
        # An attribute of the instance wins over the class's method, and is gone once deleted.
        head.forward = lambda input: self._logits(head, input)  # type: ignore[method-assign]
        try:
            yield
        finally:
            del head.forward

    def _logits(self, head: nn.Linear, hidden: Tensor) -> Tensor:
        """``[..., width]`` to ``[..., vocabulary]``."""
        parts = [linear(hidden.float(), part) for part in self._parts(head.weight)]
        logits = torch.cat(parts, dim=-1)
        return logits if head.bias is None else logits + head.bias.float()

    def _parts(self, weight: Tensor) -> Iterable[Tensor]:
        if weight.numel() > _KEPT_WEIGHTS:
            rows = max(1, _PART_WEIGHTS // weight.shape[1])
            return (part.float() for part in torch.split(weight, rows))
        if self._kept is None:
            self._kept = weight.detach().float()
        return (self._kept,)
