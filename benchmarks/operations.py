"""Operations counted as they reach the kernels: a cost that does not depend on the machine."""

from collections import Counter
from collections.abc import Mapping, Sequence
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
        self.waits = 0
        """How often the host waited for a device, or would have on one that is not the host."""

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401  # as torch has it
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Counts, and runs."""
        name, given = func.overloadpacket.__name__, kwargs or {}
        self.counts[name] += 1
        self.waits += _waits(name, args, given)
        return func(*args, **given)

    @property
    def compute(self) -> int:
        """All that is not just another view of the same memory."""
        return sum(n for name, n in self.counts.items() if name not in VIEWS)


def _waits(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """A number is read, or a copy between devices must not go on behind the host's back."""
    match name:
        case "_local_scalar_dense":
            return True
        case "_to_copy":
            device = kwargs.get("device") or args[0].device
            return device.type != args[0].device.type and not kwargs.get("non_blocking")
        case "copy_":
            free = args[2] if len(args) > 2 else kwargs.get("non_blocking")
            return args[0].device.type != args[1].device.type and not free
    return False
