"""Who acts on the one base: four adapters, of which one is active at a time."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

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


def adapter_name(role: Role, which: int = 0) -> str:
    """PEFT's name for the adapter in ``role``; ``which`` tells several reward adapters apart."""
    return f"{ADAPTER_OF[role]}_{which}" if which else ADAPTER_OF[role]


@contextmanager
def acting_as(model: PeftModel, role: Role, which: int = 0) -> Generator[PeftModel]:
    """Give ``model`` the adapter of ``role`` for the length of a ``with`` block.

    PEFT freezes the adapters it switches away from, and a checkpointed forward is recomputed with
    whatever adapter is active then: backpropagate a loss inside the block that computed it. Every
    switch, in and out, makes policy and value trainable again and nothing else, so that the
    optimizer and DDP still see them.
    """
    [before] = model.active_adapters
    _switch(model, adapter_name(role, which))
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
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            for layer in module.adapter_layer_names:
                held = getattr(module, layer)
                if name in held:
                    part = held[name]
                    tensors = part.parameters() if isinstance(part, nn.Module) else [part]
                    found.update((id(tensor), tensor) for tensor in tensors)
    return list(found.values())


def _switch(model: PeftModel, name: str) -> None:
    model.set_adapter(name)
    only_trainable_train(model)
