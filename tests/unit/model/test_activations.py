"""What passes take beside the weights, held to what autograd keeps and what is alive at once."""

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf.config import LoraConfig, ModelConfig
from rlhf.memory import activations
from rlhf.memory.activations import Pass
from rlhf.memory.shapes import Shape, read_shape
from rlhf.model import scoring
from rlhf.model.adapters import new_adapter
from rlhf.model.load import BaseSpec, load_base
from rlhf.model.scoring import Sequences, logprobs, response_states, sequences, token_logprobs
from tests import tiny
from tests.live import Live

PROMPT, RESPONSE, ROWS = 40, 56, 4
LENGTH, RANK = PROMPT + RESPONSE, 4
_WIDE: dict[str, Any] = {
    "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3,
    "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32,
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "as Llama": {},
    "a wide MLP": {"intermediate_size": 1024},
    "wide attention": {"intermediate_size": 128, "num_attention_heads": 16},
    "wide states": {"hidden_size": 384, "intermediate_size": 256},
}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Shape]]:
    """Bases in which activations outweigh everything else."""
    root = tmp_path_factory.mktemp("wide")

    def make(family: str = "llama", **changes: Any) -> tuple[Path, Shape]:
        folder = root / f"{family}-{hash(str(changes))}"
        if not folder.exists():
            own = (tiny.ARCHITECTURES | tiny.MIXTURES)[family] | _WIDE | changes
            if family == "mistral":
                own["sliding_window"] = None
            ends = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 1}
            config = AutoConfig.for_model(family, **(own | ends))
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
            tiny.tokenizer().save_pretrained(folder)
        return folder, read_shape(str(folder))

    return make


def loaded(folder: Path, **keys: Any) -> tuple[PeftModel, ModelConfig]:
    dtype = keys.pop("dtype", "float32")
    config = ModelConfig(base=str(folder), lora=LoraConfig(rank=RANK), **keys)
    model = new_adapter(
        load_base(BaseSpec(str(folder), storage=config.storage, dtype=dtype)), config
    )
    return model, config


def batch() -> Sequences:
    """Rows of PPO's shape, one of them whole and the others padded."""
    responses = [[7] * (RESPONSE - 2 * (row > 0)) for row in range(ROWS)]
    return sequences([[5] * PROMPT] * ROWS, responses, pad_id=1, device=torch.device("cpu"))


@contextmanager
def kept_by_autograd(model: torch.nn.Module):
    """Bytes of the unique storages that autograd keeps, parameters left out."""
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in known and place not in found:
            found[place] = tensor.untyped_storage().nbytes()
            alive.append(tensor)  # so that its place is nobody else's
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_autograd_keeps_of_each_block_exactly_what_is_planned(wide, family, changes):
    """The bytes that another block adds, so that what is not of a block falls out."""
    by_layers: list[int] = []
    for layers in (2, 4):
        folder, shape = wide(family, **changes, num_hidden_layers=layers)
        model, config = loaded(folder)
        with kept_by_autograd(model.train()) as found:
            logprobs(model, batch())
        by_layers.append(sum(found.values()))
    one = Pass(shape, config, ROWS, LENGTH, 4)
    assert (by_layers[1] - by_layers[0]) / 2 == activations.layer_kept(one)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "family",
    [*["llama", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "mixtral", "qwen3_moe", "gpt_oss"]],
)
def test_autograd_keeps_within_a_fifth_of_what_is_planned(wide, family, checkpointing):
    folder, shape = wide(family)
    model, config = loaded(folder)
    one = Pass(shape, config, ROWS, LENGTH, 4, checkpointing=checkpointing)
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    with kept_by_autograd(model.train()) as found:
        states = response_states(model, batch())
    assert sum(found.values()) == pytest.approx(activations.kept(one), rel=0.2)
    assert states.requires_grad


def peaks(model: PeftModel, *, learns: bool, autocast: bool = False) -> dict[str, int]:
    """The most bytes alive at once: in the trunk, with the logits, and backwards."""
    rows = batch()
    with Live() as live, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        with torch.set_grad_enabled(learns):
            states = response_states(model, rows)
            found = {"trunk": live.peak, "kept": live.now}
            live.restart()
            loss = token_logprobs(model, states, rows).sum()
            found["logits"] = live.peak
        del states
        if learns:
            live.restart()
            loss.backward()
            found["backward"] = live.peak
    return found


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_forward_pass_takes_within_a_tenth_of_what_is_planned(wide, family, changes):
    folder, shape = wide(family, **changes)
    model, config = loaded(folder)
    one = Pass(shape, config, ROWS, LENGTH, 4)
    # weights out of their 4 bits are inside an operator here, where nobody sees them
    planned = activations.forward(one) - activations.scratch(one)
    assert peaks(model.eval(), learns=False)["trunk"] == pytest.approx(planned, rel=0.1)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
def test_a_training_step_takes_within_a_fifth_of_what_is_planned(wide, checkpointing, changes):
    folder, shape = wide(**changes)
    model, config = loaded(folder)
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    one = Pass(shape, config, ROWS, LENGTH, 4, checkpointing=checkpointing)
    planned = activations.kept(one) + max(
        activations.backward(one), activations.logits(shape, ROWS * RESPONSE, 4, learns=True)
    )
    peaks(model.train(), learns=True)
    model.zero_grad()
    found = peaks(model, learns=True)
    assert max(found.values()) == pytest.approx(planned, rel=0.2)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """PEFT asks whether autocast is on for a GPU, and casts the inputs of its adapters if not."""
    asked = torch.is_autocast_enabled
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind="cpu": asked(kind))


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_in_16_bits_a_training_step_takes_within_a_fifth_of_what_is_planned(wide, checkpointing):
    folder, shape = wide(intermediate_size=512)
    model, config = loaded(folder, dtype="bfloat16")
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    one = Pass(shape, config, ROWS, LENGTH, 2, checkpointing=checkpointing)
    planned = (
        activations.kept(one)
        + activations.casts(one)
        + max(activations.backward(one), activations.logits(shape, ROWS * RESPONSE, 2, learns=True))
    )
    found = peaks(model.train(), learns=True, autocast=True)
    assert max(found.values()) == pytest.approx(planned, rel=0.2)


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("many", [1 << 25, 0], ids=["whole", "in pieces"])
def test_logits_take_within_a_fifth_of_what_is_planned(wide, monkeypatch, many, learns):
    # so many words that the logits outweigh the trunk
    folder, shape = wide(vocab_size=16384, num_hidden_layers=1)
    model, _ = loaded(folder)
    monkeypatch.setattr(activations, "MANY_LOGITS", many)
    monkeypatch.setattr(scoring, "_MANY_LOGITS", many)
    found = peaks(model.train(learns), learns=learns)
    planned = activations.logits(shape, ROWS * RESPONSE, 4, learns=learns, on_gpu=False)
    taken = found["backward" if learns else "logits"] - found["kept"]
    # scoring plans for the entropy too, which takes two copies more of logits that are whole
    spared = 0 if learns or not many else 2 * ROWS * RESPONSE * shape.vocab * 4
    assert taken == pytest.approx(planned - spared, rel=0.2)


def test_the_limits_of_scoring_are_those_that_are_planned_with():
    import trl.kernels.chunked_logprob
    import trl.trainer.utils

    assert activations.MANY_LOGITS == scoring._MANY_LOGITS
    assert activations.SCORING_TILE == scoring._CHUNK
    assert activations.TRAINER_TILE == trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE
    assert activations._TILE_ROWS == trl.kernels.chunked_logprob.TOKEN_CHUNK_SIZE


def test_eager_attention_keeps_the_scores_of_every_head(wide):
    folder, shape = wide()
    model, config = loaded(folder)
    base: Any = model.get_base_model()
    base.set_attn_implementation("eager")
    one = Pass(shape, config, ROWS, LENGTH, 4, attention="eager")
    with kept_by_autograd(model.train()) as found:
        response_states(model, batch())
    assert sum(found.values()) == pytest.approx(activations.kept(one), rel=0.2)
    planned = activations.forward(one) - activations.scratch(one)
    assert peaks(model.eval(), learns=False)["trunk"] == pytest.approx(planned, rel=0.2)


@pytest.mark.parametrize("tuning", ["full", "lora", "dora", "ia3"])
def test_other_ways_of_tuning_keep_within_a_fifth_of_what_is_planned(wide, tuning):
    folder, shape = wide()
    config = ModelConfig(base=str(folder), tuning=tuning, lora=LoraConfig(rank=RANK))
    model: Any = load_base(BaseSpec(str(folder), storage="none", dtype="float32"))
    if tuning != "full":
        model = new_adapter(model, config)
    with kept_by_autograd(model.train()) as found:
        response_states(model, batch())
    assert sum(found.values()) == pytest.approx(
        activations.kept(Pass(shape, config, ROWS, LENGTH, 4)), rel=0.2
    )


def test_attention_that_is_told_of_padding_keeps_keys_and_values_of_every_head(wide):
    """As TRL's trainers tell it, and sampling, which pads on the left."""
    by_layers: list[int] = []
    for layers in (2, 4):
        folder, shape = wide(num_hidden_layers=layers)
        model, config = loaded(folder)
        rows = batch()
        with kept_by_autograd(model.train()) as found:
            scoring.trunk(model)(
                input_ids=rows.ids, attention_mask=rows.mask.long(), use_cache=False
            )
        by_layers.append(sum(found.values()))
    one = Pass(shape, config, ROWS, LENGTH, 4, masked=True)
    assert (by_layers[1] - by_layers[0]) / 2 == activations.layer_kept(one)


def test_a_block_at_work_needs_two_gradients_as_wide_as_its_mlp(wide):
    """By what the backward pass of a wider MLP takes more than its forward pass kept more."""
    taken: list[int] = []
    planned: list[int] = []
    for width in (1024, 2048):
        folder, shape = wide(intermediate_size=width, num_hidden_layers=1)
        model, config = loaded(folder)
        peaks(model.train(), learns=True)
        model.zero_grad()
        found = peaks(model, learns=True)
        one = Pass(shape, config, ROWS, LENGTH, 4)
        taken.append(found["backward"] - found["kept"])
        planned.append(activations.backward(one) - activations.scratch(one))
    # a weight out of its 4 bits is there too, in the backward pass
    weight = 128 * 1024 * 4
    assert taken[1] - taken[0] == pytest.approx(planned[1] - planned[0] + weight, rel=0.2)
