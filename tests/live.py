"""The bytes of tensors: of those that modules hold, and of all that are alive, on any device."""

import weakref
from collections.abc import Iterator
from typing import Any, cast

from bitsandbytes.nn.modules import Linear8bitLt, Params4bit
from bitsandbytes.nn.parametrize import Bnb4bitParametrization
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


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
        self._look(args, is_new=False)
        if kwargs:
            self._look(tuple(kwargs.values()), is_new=False)
        result = func(*args, **(kwargs or {}))
        self._look(result, is_new=True)
        return result

    def restart(self) -> None:
        """Forget the peak so far; what is alive stays counted."""
        self.peak = self.now

    def _look(self, found: object, *, is_new: bool) -> None:
        """At a tensor, or at all in a list."""
        if isinstance(found, Tensor):
            self._see(found, is_new=is_new)
        elif isinstance(found, tuple | list):
            for part in found:
                self._look(part, is_new=is_new)

    def _see(self, tensor: Tensor, *, is_new: bool) -> None:
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


def stored(*modules: nn.Module) -> int:
    """Bytes of every storage that modules hold, quantisation state included, each once."""
    found: dict[int, int] = {}
    for module in modules:
        for tensor in _held(module):
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(found.values())


def _held(module: nn.Module) -> Iterator[Tensor]:
    for tensor in [*module.parameters(), *module.buffers()]:
        yield tensor
        if isinstance(tensor, Params4bit):
            state: Any = tensor.quant_state
            yield from (state.absmax, state.code, state.offset)
            yield from (state.state2.absmax, state.state2.code)
    for layer in module.modules():
        if isinstance(layer, Bnb4bitParametrization):  # experts
            state = cast("Any", layer.quant_state)
            yield from (state.absmax, state.code, state.offset)
            yield from (state.state2.absmax, state.state2.code)
        if isinstance(layer, Linear8bitLt):
            # a first forward moves it from the weight to the layer
            scale = cast("Any", layer.weight).SCB
            yield cast("Tensor", layer.state.SCB if scale is None else scale)
