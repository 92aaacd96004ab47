"""What processes of ``torch.distributed`` say to each other."""

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Messages(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Every collective operation meanwhile: its name, and the bytes of its tensors.

    Operations reach the dispatcher also from C++, from DistributedDataParallel's reducer.

    Attributes:
        sent: Names and bytes, in order.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.sent: list[tuple[str, int]] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), settings: Any = None
    ) -> Any:
        """Note an operation, and do it."""
        if operation.namespace == "c10d":
            tensors = [leaf for leaf in tree_leaves(arguments) if hasattr(leaf, "nbytes")]
            name = operation.overloadpacket.__name__.strip("_")
            self.sent.append((name, sum(tensor.nbytes for tensor in tensors)))
        return operation(*arguments, **(settings or {}))

    def counted(self) -> dict[str, int]:
        """Return how many operations there were of each name, and all their ``"bytes"``."""
        counts = Counter(name for name, _ in self.sent)
        return {**counts, "bytes": sum(size for _, size in self.sent)}
