"""PPO whose responses come from a vLLM server; a fake one here, which samples as we do."""

import socket
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from datasets import Dataset
from peft.tuners.lora import LoraLayer
from safetensors.torch import load as load_bytes
from torch.testing import assert_close

from rlhf.config import LoraConfig, ModelConfig
from rlhf.errors import ModelError
from rlhf.model.adapters import new_adapter
from rlhf.model.engine import vllm
from rlhf.model.engine.vllm import VLLM
from rlhf.model.load import load_base, load_tokenizer
from rlhf.model.roles import role_parameters
from rlhf.model.start import Start
from rlhf.ppo.arguments import PPOArguments
from rlhf.ppo.trainer import PPOTrainer
from tests.trained import random_run
from tests.vllm_server import FakeVLLM, serving

pytestmark = pytest.mark.integration

PROMPTS = [{"prompt": f"where is order {i}?"} for i in range(6)]


@pytest.fixture(scope="module")
def runs(make_base, tmp_path_factory) -> Path:
    """A folder with a policy run ``sft`` and a reward run ``reward`` on one nf4 base."""
    root = tmp_path_factory.mktemp("runs")
    for stage in ("sft", "reward"):
        random_run(root / stage, make_base(), stage, quantization="nf4")
    return root


@pytest.fixture
def server(runs) -> Generator[FakeVLLM]:
    start = Start.of_run(runs / "sft")
    with serving(FakeVLLM(start, root=start.spec.path)) as fake:
        yield fake


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(vllm, "_PAUSE", 0.01)


def trainer(runs: Path, folder: Path, **keys: Any) -> Any:
    made: dict[str, Any] = {
        "output_dir": str(folder),
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "num_rollouts": 2,
        "rollout_batch_size": 8,
        "per_device_train_batch_size": 2,
        "num_mini_batches": 2,
        "max_new_tokens": 8,
        "value_warmup_rollouts": 0,
        "learning_rate": 1e-2,
    }
    rows = Dataset.from_list(PROMPTS)
    args = PPOArguments(**made | keys)
    return PPOTrainer(runs / "sft", runs / "reward", args, rows, Dataset.from_list(PROMPTS[:3]))


def served(runs: Path, folder: Path, server: FakeVLLM, **keys: Any) -> Any:
    return trainer(runs, folder, rollout_engine="vllm", vllm_url=server.url, **keys)


def completions(server: FakeVLLM) -> list[dict[str, Any]]:
    return [body for path, body in server.asked if path == "/v1/completions"]


def base_of(model: Any) -> dict[str, torch.Tensor]:
    named = model.named_parameters()
    return {n: p.detach().clone() for n, p in named if "lora_" not in n and "value_head" not in n}


def test_the_server_samples_from_the_policy_as_it_is_now_and_is_sent_its_adapter_alone(
    runs, tmp_path, server
):
    ours = served(runs, tmp_path, server)
    before = base_of(ours.model)
    ours.train()
    # two rollouts, each under a name of its own; then the policy that they have made
    rollout, metrics = ours.collector.collect(PROMPTS, 100)
    names = list(server.sent)
    assert [name.rpartition("-")[2] for name in names] == ["1", "2", "3"]
    assert list(server.held) == names[-1:]
    assert sorted(p.name for p in (tmp_path / "served").iterdir()) == names[-1:]
    weights = []
    for files in server.sent.values():
        assert files.keys() == {"adapter_config.json", "adapter_model.safetensors"}
        weights.append(load_bytes(files["adapter_model.safetensors"]))
        assert all("lora_" in name for name in weights[-1])
    for name in weights[0]:
        if "lora_B" in name:
            assert not torch.equal(weights[0][name], weights[1][name])
    # what the server says of its tokens is what the trained policy says of them here
    asked = ours.collector._read_policy(rollout.sequences)["logprobs"]
    assert_close(rollout.sampler_logprobs, asked.where(rollout.mask, 0.0), rtol=0, atol=1e-3)
    assert (rollout.logprobs - rollout.ref_logprobs).abs().max() > 0.05
    assert metrics["sampling/kl"] < 1e-5
    assert rollout.weights(2.0)[rollout.mask].mean() == pytest.approx(1, abs=1e-3)
    # nothing was ever merged
    layers = [m for m in ours.model.modules() if isinstance(m, LoraLayer)]
    assert layers
    assert not any(layer.merged_adapters for layer in layers)
    after = base_of(ours.model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_with_the_same_noise_a_server_answers_as_this_process_does_and_teaches_the_same(
    runs, tmp_path, server
):
    there, here = served(runs, tmp_path / "there", server), trainer(runs, tmp_path / "here")
    far, _ = there.collector.collect(PROMPTS, 16)
    near, _ = here.collector.collect(PROMPTS, 16)
    assert near.sampler_logprobs is None
    assert torch.equal(far.sequences.ids, near.sequences.ids)
    assert_close(far.logprobs, near.logprobs, rtol=0, atol=1e-4)
    there.train()
    here.train()
    ends = [dict(t.model.named_parameters()) for t in (there, here)]
    for name, tensor in ends[0].items():
        # Adam divides by the gradient's size: where that is rounding, so is the step
        assert_close(tensor, ends[1][name], rtol=1e-2, atol=2e-3, msg=lambda m, n=name: f"{n}: {m}")
    logs = [line for line in there.state.log_history if "sampling/kl" in line]
    assert len(logs) == 2
    assert "sampling/kl" not in set().union(*here.state.log_history)


def test_a_request_says_everything_that_shapes_the_distribution(runs, tmp_path, server):
    ours = served(runs, tmp_path, server, temperature=0.7, seed=5)
    ours.collector.collect(PROMPTS, 40)
    bodies = completions(server)
    assert {type(t) for body in bodies for t in body["prompt"]} == {int}
    assert sorted(body["seed"] for body in bodies) == [5 << 32 | 40 + i for i in range(6)]
    plain = {"temperature": 0.7, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "n": 1, "max_tokens": 8}
    for body in bodies:
        assert plain.items() <= body.items()
        assert body["logprobs"] == 0
        assert body["return_token_ids"] is True


def test_an_evaluation_in_pieces_sends_one_adapter(runs, tmp_path, server):
    ours = served(runs, tmp_path, server, rollout_batch_size=2, num_mini_batches=1)
    found = ours.evaluate()
    assert len(server.sent) == 1
    assert len(completions(server)) == 3
    assert found["eval_sampling/kl"] < 1e-5


def test_a_run_that_was_killed_is_taken_up_and_its_adapters_leave_the_server(
    runs, tmp_path, server
):
    keys = {"num_rollouts": 3, "save_strategy": "steps", "save_steps": 4}
    whole = served(runs, tmp_path / "run", server, **keys)
    whole.train()
    left = list(server.held)
    server.held["somebody-elses"] = "/elsewhere"
    rest = served(runs, tmp_path / "run", server, **keys)
    assert len(left) == 1
    assert list(server.held) == ["somebody-elses"]
    rest.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    ends = [dict(t.model.named_parameters()) for t in (whole, rest)]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_a_server_that_lies_about_logprobs_is_caught(runs, tmp_path, server, factor, caplog):
    server.factor = factor
    served(runs, tmp_path, server, num_rollouts=1).train()
    [said] = [r.message for r in caplog.records if "nats per token" in r.message]
    assert "samples come from another policy" in said
    assert "processed_logprobs" in said


def test_a_weight_multiplies_a_tokens_part_of_the_policys_gradient(runs, tmp_path, server):
    server.factor = 100.0  # the sampler finds every token so unlikely that every weight is capped
    ours = served(runs, tmp_path, server, importance_weight_cap=1.25)
    grads = []
    for cap in (1.25, None):
        ours.knobs = replace(ours.knobs, importance_weight_cap=cap)
        piece = next(ours.rollout_batches())
        ours.model.zero_grad()
        ours.training_step(ours.model, piece)
        grads.append(
            [cast("torch.Tensor", p.grad).clone() for p in role_parameters(ours.model, "policy")]
        )
    assert any(grad.abs().max() > 0 for grad in grads[0])
    for weighted, plain in zip(*grads, strict=True):
        assert_close(weighted, 1.25 * plain)


def test_a_sampler_of_16_bits_in_this_process_is_weighed_too(runs, tmp_path):
    ours = trainer(runs, tmp_path, bf16=True)
    rollout, metrics = ours.collector.collect(PROMPTS, 0)
    assert 0 < metrics["sampling/kl"] < 0.01
    want = (rollout.logprobs - rollout.sampler_logprobs).exp().clamp(max=2.0)
    assert_close(rollout.weights(2.0), want.where(rollout.mask, 0.0))
    ours.train()
    assert ours.state.global_step == 2 * 2 * 2


def test_a_busy_server_is_asked_again(runs, tmp_path, server):
    ours = served(runs, tmp_path, server)
    server.broken = 2
    ours.collector.collect(PROMPTS, 0)
    assert len(completions(server)) == len(PROMPTS) + 2


def says(words: str) -> Any:
    return pytest.raises(ModelError, match=words)


def test_each_failure_is_one_sentence_with_its_remedy(runs, tmp_path, server):
    ours = served(runs, tmp_path, server).collector
    server.broken = 10**6
    with says("does not answer a prompt: The engine is busy"):
        ours.collect(PROMPTS, 0)
    server.broken = 0
    for field in ("token_ids", "prompt_token_ids"):
        server.drops = (field,)
        with says("token ids as they are; serve with vLLM 0.10.2"):
            ours.collect(PROMPTS, 0)
    server.drops = ("logprobs",)
    with says("gives no logprob for each token"):
        ours.collect(PROMPTS, 0)
    server.drops = ()
    server.max_lora_rank = 2
    with says(r"rank 4 is greater than max_lora_rank 16.*; add --max-lora-rank 8"):
        ours.collect(PROMPTS, 0)
    server.sees = False
    with says("No adapter found for .*; let it see .*served under this path"):
        ours.collect(PROMPTS, 0)
    server.enable_lora = False
    with says("LoRA is not enabled.*; add --enable-lora"):
        ours.collect(PROMPTS, 0)
    server.allows_updates = False
    with says("Not Found.*; set VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"):
        ours.collect(PROMPTS, 0)


def test_a_server_that_is_not_there_or_serves_another_base_is_refused_at_once(
    runs, tmp_path, server, make_base
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    with says(r"no answer \(.*refused.*start a server with `VLLM_ALLOW.*--max-lora-rank 8"):
        trainer(runs, tmp_path, rollout_engine="vllm", vllm_url=nobody)
    models = server.models
    for strange in ({"object": "list"}, "hello"):
        server.models = lambda s=strange: s
        with says("is no vLLM server; set vllm_url to one"):
            served(runs, tmp_path, server)
    server.models = models
    server.root = "somebody/else"
    with says("serves somebody/else and the policy's base is"):
        served(runs, tmp_path, server)
    server.root = str(make_base(seed=1))
    with says("and the policy's base is"):
        served(runs, tmp_path, server)


def test_the_same_base_in_another_folder_is_the_same_base(runs, tmp_path, server, make_base):
    copy = tmp_path / "copy"
    copy.symlink_to(make_base())
    server.root = str(copy)
    served(runs, tmp_path, server)


def test_what_vllm_cannot_add_to_a_base_is_refused(make_base, tmp_path, server):
    base = str(make_base())
    for tuning in ("dora", "ia3"):
        config = ModelConfig(base=base, tuning=tuning, lora=LoraConfig(rank=4))
        policy = new_adapter(load_base(Start.of_config(config).spec), config)
        with says("take a policy of tuning: lora, qlora or rslora"):
            VLLM(server.url, policy, load_tokenizer(base), tmp_path, "")


def test_arguments_that_cannot_be_meant_are_refused(tmp_path):
    refused: list[tuple[dict[str, Any], str]] = [
        ({"rollout_engine": "vlm"}, "`rollout_engine`: Input should be 'transformers' or 'vllm'"),
        ({"vllm_url": "localhost:8000"}, "must be an address like http://127.0.0.1:8000"),
        (
            {"importance_weight_cap": 0.5},
            "should be greater than or equal to 1",
        ),
    ]
    for wrong, words in refused:
        with pytest.raises(ValueError, match=words):
            PPOArguments(str(tmp_path), **wrong)
