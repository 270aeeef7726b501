"""What each phase of a training stage keeps in memory, item by item."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rlhf.config import (
    DPOConfig,
    ModelConfig,
    PPOConfig,
    PretrainConfig,
    RewardConfig,
    SFTConfig,
    StageConfig,
)
from rlhf.memory import activations as a
from rlhf.memory import weights as m
from rlhf.memory.shapes import Shape

DEFAULT_OPTIM = "adamw_torch_fused"
"""Transformers', where ``trainer.optim`` does not say otherwise."""
_ADAM = 2 * m.FP32
"""What an optimizer that is not known here is taken to keep of each number."""

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Setup:
    """What a config does not say itself."""

    shape: Shape
    model: ModelConfig
    """How the base is stored and the policy tuned."""
    reward: ModelConfig | None = None
    """How the reward run was tuned, for PPO."""
    prompt_length: int | None = None
    """Longest prompt; what `data.max_length` leaves if not told."""
    on_gpu: bool = True
    attention: a.Attention = "sdpa"

    @property
    def compute(self) -> int:
        """Bytes of a number in the trunk's arithmetic; on a GPU 2 if nothing else is asked for."""
        if self.model.dtype == "auto":
            return 2 if self.on_gpu else 4
        return _BYTES[self.model.dtype]

    @property
    def weight(self) -> int:
        """Bytes of a number that is not quantised; full fine-tuning keeps fp32 weights."""
        is_full = self.model.tuning == "full" and self.model.dtype == "auto"
        return m.FP32 if is_full else self.compute


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the budget."""

    name: str
    bytes: int


PhaseName = Literal["loading", "sampling", "scoring", "training", "evaluation"]


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a stage, at the moment when it takes most."""

    name: PhaseName
    items: tuple[Item, ...]

    @property
    def total(self) -> int:
        """Bytes of all items."""
        return sum(item.bytes for item in self.items)


def phases(config: StageConfig, setup: Setup) -> tuple[Phase, ...]:
    """The phases of a stage, in the order in which they come."""
    found = _ppo(config, setup) if isinstance(config, PPOConfig) else _by_rows(config, setup)
    return (*_loading(setup), *found)


def _loading(setup: Setup) -> Iterator[Phase]:
    """Experts are loaded whole, all of them, before they are put into 4 bits."""
    shape = setup.shape
    if not shape.experts or setup.model.storage != "nf4":
        return
    linears = sum(m.weight_bytes(linear, "nf4", setup.weight) for linear in shape.linears)
    experts = sum(linear.numbers for linear in shape.experts)
    yield Phase(
        "loading",
        (
            Item("base in nf4", shape.layers * linears),
            Item(f"experts, {8 * setup.weight} bits", shape.layers * experts * setup.weight),
            Item("embeddings and output", shape.embeddings * setup.weight),
            Item("norms, biases", m.rest_bytes(shape, setup.weight)),
        ),
    )


def _by_rows(config: StageConfig, setup: Setup) -> tuple[Phase, ...]:
    rows = 2 if isinstance(config, RewardConfig | DPOConfig) else 1
    training = _pass(config, setup, rows * config.per_device_train_batch_size, learns=True)
    evaluation = _pass(config, setup, rows * config.per_device_eval_batch_size, learns=False)
    held = _held(config, setup)
    return (
        _worst(
            "training",
            [*held, *_learning(config, setup, training)],
            _moments(config, setup, training),
        ),
        _worst(
            "evaluation",
            [*held, Item("token ids", _ids(evaluation))],
            [[_forward(evaluation)], [_output(config, setup, evaluation, learns=False)]],
        ),
    )


def _moments(config: StageConfig, setup: Setup, one: a.Pass) -> list[list[Item]]:
    """What a training pass has over what it kept: at its output, and inside a block."""
    moments = [
        [_output(config, setup, one, learns=True)],
        [Item("a block, backwards", a.backward(one))],
    ]
    if isinstance(config, DPOConfig):  # the reference's pass, between the policy's two
        moments.append([Item("the reference's pass", a.forward(one))])
    return moments


def _output(config: StageConfig, setup: Setup, one: a.Pass, *, learns: bool) -> Item:
    """What becomes of the last states."""
    if isinstance(config, RewardConfig):
        return Item("scores", one.tokens * (one.shape.hidden + 1) * m.FP32)
    if isinstance(config, PretrainConfig):
        return Item("logits", a.whole_logits(one.shape, one.tokens))
    width, on_gpu = a.TRAINER_TILE, setup.on_gpu
    of = a.tiled_logits(one.shape, one.tokens, one.dtype, width, learns=learns, on_gpu=on_gpu)
    return Item("logits", of)


def _ppo(config: PPOConfig, setup: Setup) -> tuple[Phase, ...]:
    shape, e = setup.shape, setup.compute
    response = config.max_new_tokens
    prompt = setup.prompt_length or config.data.max_length - response
    length, size = prompt + response, config.rollout_batch_size
    held = _held(config, setup)
    rollout = Item("rollout", a.rollout(size, length, response))

    def rows(number: int, *, checkpointing: bool = False) -> a.Pass:
        return a.Pass(
            shape, setup.model, number, length, e,
            checkpointing=checkpointing, attention=setup.attention,
        )  # fmt: skip

    drawn = min(config.sampling_batch_size or size, size)
    prompts = replace(rows(drawn), length=prompt, masked=True)
    cache = m.cache_bytes(shape, drawn, prompt, response - 1, e)
    # a layer whose room is full: its keys put together, and new buffers for them and the values
    copied = 3 * cache // (2 * shape.layers) if response - 1 > m.CACHE_ROOM else 0
    sampling = _worst(
        "sampling",
        [*held, Item("token ids", a.sequences(size, length, 0)), _casts(prompts)],
        [
            [Item("KV cache", m.cache_bytes(shape, drawn, prompt, 0, e)), _forward(prompts)],
            [Item("KV cache", cache), Item("a layer's cache, copied", copied)],
            [Item("KV cache", cache), Item("logits", a.drawing(shape, drawn))],
        ],
    )
    judged = rows(min(config.per_device_eval_batch_size, size))
    tokens = judged.rows * response
    of_judged = a.logits(shape, tokens, e, learns=False, on_gpu=setup.on_gpu)
    scoring = _worst(
        "scoring",
        [*held, rollout, _casts(judged)],
        [[_forward(judged)], [Item("states", judged.tokens * shape.hidden * e),
                              Item("logits", of_judged)]],
    )  # fmt: skip
    learnt = rows(config.per_device_train_batch_size, checkpointing=config.gradient_checkpointing)
    tokens = learnt.rows * response
    of_learnt = a.logits(shape, tokens, e, learns=True, on_gpu=setup.on_gpu)
    training = _worst(
        "training",
        [*held, rollout, *_learning(config, setup, learnt)],
        [[Item("logits", of_learnt)], [Item("a block, backwards", a.backward(learnt))]],
    )
    return sampling, scoring, training


def _held(config: StageConfig, setup: Setup) -> list[Item]:
    """What stays from the first optimizer step on."""
    shape, storage = setup.shape, setup.model.storage
    stored = f"base in {storage}" if storage != "none" else f"base, {8 * setup.weight} bits"
    items = [
        Item(stored, m.trunk_bytes(shape, storage, setup.weight)),
        Item("embeddings and output", shape.embeddings * setup.weight),
        Item("norms, biases", m.rest_bytes(shape, setup.weight)),
    ]
    if isinstance(config, DPOConfig) and setup.model.tuning == "full":
        items.append(Item("reference model", sum(item.bytes for item in items)))
    items += [Item(f"adapter: {role}", size) for role, size in _adapters(config, setup)]
    heads = _heads(config)
    if heads:
        size = heads * sum(m.head_tensors(shape)) * m.FP32
        items.append(Item("score and value heads" if heads > 1 else "score head", size))
    trained = _trained(config, setup)
    optim = str(config.trainer.get("optim", DEFAULT_OPTIM))
    states = m.optimizer_bytes(trained, optim)
    items.append(Item(f"optimizer: {optim}", _ADAM * sum(trained) if states is None else states))
    return items


def _adapters(config: StageConfig, setup: Setup) -> Iterator[tuple[str, int]]:
    of_policy = m.adapter_bytes(setup.shape, setup.model)
    if not of_policy:
        return
    if isinstance(config, RewardConfig):
        yield "reward", of_policy
        return
    yield "policy", of_policy
    if isinstance(config, DPOConfig | PPOConfig):
        yield "reference", of_policy
    if isinstance(config, PPOConfig):
        of_reward = m.adapter_bytes(setup.shape, setup.reward or setup.model)
        yield "reward", of_reward
        if config.value_model == "adapter":
            yield "value", of_reward


def _heads(config: StageConfig) -> int:
    return 2 if isinstance(config, PPOConfig) else int(isinstance(config, RewardConfig))


def _trained(config: StageConfig, setup: Setup) -> list[int]:
    """Sizes of the tensors that an optimizer steps."""
    shape = setup.shape
    if setup.model.tuning == "full":
        sizes = [shape.parameters - (shape.vocab * shape.hidden if _scores(config, shape) else 0)]
    else:
        sizes = m.adapter_tensors(shape, setup.model)
    if isinstance(config, PPOConfig) and config.value_model == "adapter":
        sizes = sizes + m.adapter_tensors(shape, setup.reward or setup.model)
    return sizes + m.head_tensors(shape) * bool(_heads(config))


def _scores(config: StageConfig, shape: Shape) -> bool:
    """Whether the output embeddings are put aside for a score head, and are not the input's."""
    return isinstance(config, RewardConfig) and not shape.tied


def _learning(config: StageConfig, setup: Setup, one: a.Pass) -> Sequence[Item]:
    return (
        Item("gradients", sum(_trained(config, setup)) * m.FP32),
        Item("token ids", _ids(one)),
        _casts(one),
        Item("kept for the backward pass", a.kept(one)),
    )


def _pass(config: StageConfig, setup: Setup, rows: int, *, learns: bool) -> a.Pass:
    drops = learns and isinstance(config, SFTConfig | RewardConfig)
    return a.Pass(
        setup.shape,
        setup.model,
        rows,
        config.data.max_length,
        setup.compute,
        dropout=setup.model.lora.dropout if drops else 0.0,
        checkpointing=learns and config.gradient_checkpointing,
        attention=setup.attention,
        masked=True,
    )


def _forward(one: a.Pass) -> Item:
    return Item("a block, forwards", a.forward(one))


def _casts(one: a.Pass) -> Item:
    return Item("autocast's copies", a.casts(one))


def _ids(one: a.Pass) -> int:
    return a.sequences(one.rows, one.length, one.length)


def _worst(
    name: PhaseName,
    always: Sequence[Item],
    moments: Sequence[Sequence[Item]],
) -> Phase:
    """The phase at the moment when it takes most."""
    return max((Phase(name, (*always, *moment)) for moment in moments), key=lambda p: p.total)
