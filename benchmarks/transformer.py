"""A transformer to train, with penalties on what it predicts."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import penaltyscope as ps


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of the model and of its batch."""

    width: int = 1024
    layers: int = 8
    vocabulary: int = 4096
    batch: int = 8
    tokens: int = 512


ABOUT_10_MS = Sizes()
"""On an H100, in bfloat16."""
TINY = Sizes(width=16, layers=1, vocabulary=32, batch=2, tokens=4)


def language_model(sizes: Sizes) -> nn.Sequential:
    """Tokens ``[batch, tokens]`` to logits ``[batch, tokens, vocabulary]``; the head comes last."""
    layer = nn.TransformerEncoderLayer(
        sizes.width, max(sizes.width // 64, 1), 4 * sizes.width, dropout=0.0, batch_first=True
    )
    encoder = nn.TransformerEncoder(layer, sizes.layers, enable_nested_tensor=False)
    parts = nn.Embedding(sizes.vocabulary, sizes.width), encoder
    return nn.Sequential(*parts, nn.Linear(sizes.width, sizes.vocabulary))


class Transformer:
    """One batch, trained on again and again; nothing in a step waits for the device."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        torch.manual_seed(0)
        half = torch.bfloat16 if device.type == "cuda" else torch.float32
        self._model = language_model(sizes).to(device, half)
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=1e-4)
        shape = (sizes.batch, sizes.tokens)
        self._tokens = torch.randint(sizes.vocabulary, shape, device=device)
        self._teacher = torch.randn(*shape, sizes.vocabulary, device=device).log_softmax(-1)

    def step(self, pipeline: ps.Pipeline) -> Tensor:
        """Forward, penalties, backward and update; returns the loss, which nobody reads."""
        self._optimizer.zero_grad()
        inputs = self.predictions()
        # Shifted by one it would be a language model; for the cost it makes no difference.
        base = nn.functional.nll_loss(inputs["student"].flatten(0, 1), self._tokens.flatten())
        loss: Tensor = pipeline(**inputs, base=base).loss
        loss.backward()
        self._optimizer.step()
        return loss

    def predictions(self) -> Mapping[str, Tensor]:
        """Log-probabilities ``[batch, tokens, vocabulary]`` of the model and of its teacher."""
        return {
            "student": self._model(self._tokens).float().log_softmax(-1),
            "teacher": self._teacher,
        }
