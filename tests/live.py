"""The bytes of all tensors that are alive: measured, on any device."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Live(TorchDispatchMode):
    """Watches every storage that an operation makes, until nothing refers to it any more.

    ``peak`` is the most bytes that were alive at once, over those from before the block; it is what
    ``torch.cuda.max_memory_allocated`` counts, without what an operator needs inside itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            self._see(tensor, is_new=False)
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            self._see(tensor, is_new=True)
        return result

    def restart(self) -> None:
        """Forget the peak so far; what is alive stays counted."""
        self.peak = self.now

    def _see(self, tensor: object, *, is_new: bool) -> None:
        if not isinstance(tensor, torch.Tensor):
            return
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known.add(storage)
        if is_new:
            size = storage.nbytes()
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.now -= size
