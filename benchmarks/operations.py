"""Operations counted as they reach the kernels: a cost that does not depend on the machine."""

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

VIEWS = {
    *("alias", "as_strided", "detach", "diagonal", "expand", "lift_fresh", "permute", "select"),
    *("slice", "split", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view", "_unsafe_view"),
}


class Operations(TorchDispatchMode):
    """Counts what this thread and its backward passes run while the context is open."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401  # as torch has it
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Counts, and runs."""
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    @property
    def compute(self) -> int:
        """All that is not just another view of the same memory."""
        return sum(n for name, n in self.counts.items() if name not in VIEWS)
