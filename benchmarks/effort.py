"""How large and how long: what is published, and what only shows that it runs."""

from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Sizes and repetitions of all measurements."""

    small: Shape = (32, 1024)
    large: Shape = (8, 512, 1024)
    tall: tuple[Shape, ...] = ((1024, 256), (4096, 512))
    """For orthogonality: at least four times as many rows as columns."""
    rounds: int = 300
    """With small tensors."""
    large_rounds: int = 15
    blocks: int = 20
    """Of each mode where modes take turns in blocks."""
    block_steps: int = 50
    term_counts: tuple[int, ...] = (4, 16, 64)
    input_counts: tuple[int, ...] = (1, 4, 16, 64)
    layers: tuple[tuple[int, ...], ...] = ((512, 1024, 1024, 128), (32,) * 201)
    """Widths of perceptrons."""

    @property
    def steps(self) -> int:
        """Of each mode in all its blocks."""
        return self.blocks * self.block_steps


FULL = Effort()
QUICK = Effort(
    small=(4, 16),
    large=(2, 4, 16),
    tall=((16, 4),),
    rounds=2,
    large_rounds=2,
    blocks=2,
    block_steps=3,
    term_counts=(2, 4),
    input_counts=(1, 2),
    layers=((4, 8, 2), (3, 3)),
)
