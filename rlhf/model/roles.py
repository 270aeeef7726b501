"""Who acts on the one base: four adapters, of which one is active at a time."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal, cast
from weakref import WeakKeyDictionary

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

Role = Literal["policy", "reference", "reward", "value"]

ADAPTER_OF: dict[Role, str] = {
    "policy": "default",
    "reference": "ref",
    "reward": "reward",
    "value": "value",
}
"""PEFT's names; ``default`` and ``ref`` are what TRL looks for."""

TRAINABLE: tuple[Role, ...] = ("policy", "value")

_layers: WeakKeyDictionary[PeftModel, tuple[int, list[BaseTunerLayer]]] = WeakKeyDictionary()


def adapter_name(role: Role, which: int = 0) -> str:
    """PEFT's name for the adapter in ``role``; ``which`` tells several reward adapters apart."""
    return f"{ADAPTER_OF[role]}_{which}" if which else ADAPTER_OF[role]


@contextmanager
def acting_as(model: PeftModel, role: Role, which: int = 0) -> Generator[PeftModel]:
    """Give ``model`` the adapter of ``role`` for the length of a ``with`` block.

    Backpropagate a loss inside the block that computed it: a checkpointed forward is recomputed
    with whatever adapter is active then. Which tensors train is not touched, so that the optimizer
    and DDP still see them; PEFT's own ``set_adapter`` freezes every adapter that it leaves.
    """
    [before] = model.active_adapters
    name = adapter_name(role, which)
    assert name in model.peft_config, f"no adapter acts as {role}"
    _switch(model, name)
    try:
        yield model
    finally:
        _switch(model, before)


def only_trainable_train(model: PeftModel) -> None:
    """Make exactly the adapters of ``TRAINABLE`` trainable, whichever is active."""
    trained = {ADAPTER_OF[role] for role in TRAINABLE}
    model.set_requires_grad([n for n in model.peft_config if n not in trained], requires_grad=False)
    model.set_requires_grad([n for n in model.peft_config if n in trained], requires_grad=True)


def role_parameters(model: PeftModel, role: Role) -> list[nn.Parameter]:
    """The parameters of the adapter that acts in ``role``."""
    name = ADAPTER_OF[role]
    found: dict[int, nn.Parameter] = {}
    for module in _tuner_layers(model):
        for layer in module.adapter_layer_names:
            held = getattr(module, layer)
            if name in held:
                part = held[name]
                tensors = part.parameters() if isinstance(part, nn.Module) else [part]
                found.update((id(tensor), tensor) for tensor in tensors)
    return list(found.values())


def _switch(model: PeftModel, name: str) -> None:
    """Activate an adapter as PEFT does, without its walk over every module and every flag.

    That walk took a quarter of PPO's time on a small model.
    """
    for layer in _tuner_layers(model):
        layer._active_adapter = name  # pyright: ignore[reportPrivateUsage]
    model.active_adapter = name
    cast("Any", model.base_model).active_adapter = name


def _tuner_layers(model: PeftModel) -> list[BaseTunerLayer]:
    """The layers that hold adapters, found again whenever an adapter was added."""
    count, layers = _layers.get(model, (0, []))
    if count != len(model.peft_config):
        layers = list[BaseTunerLayer](
            module for module in model.modules() if isinstance(module, BaseTunerLayer)
        )
        _layers[model] = len(model.peft_config), layers
    return layers
