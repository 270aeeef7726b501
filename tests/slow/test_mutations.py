"""Every oracle fails on a copy of the code that is broken where the oracle looks."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutation:
    """``old`` in a file becomes ``new``, and the tests named ``killer`` are to see it."""

    file: str
    old: str
    new: str
    killer: str
    tests: str = "tests/unit/ppo"


VLLM = "tests/integration/test_vllm.py"
PPO, BANDIT = "tests/integration/test_ppo.py", "tests/integration/test_ppo_bandit.py"
OBJECTIVES, COLLECTOR, TRAINER = "ppo/objectives.py", "rollouts/collector.py", "ppo/trainer.py"
NORMALISER, REWARDS = "rollouts/normaliser.py", "tests/integration/test_rewards.py"
ROLLOUT, SCORING, GENERATE = "rollouts/rollout.py", "model/scoring.py", "model/engine/generate.py"

MUTATIONS = {
    # GAE
    "lambda is forgotten": Mutation(
        OBJECTIVES, "gamma * lam * advantage).where", "gamma * advantage).where", "gae"
    ),
    "gamma is forgotten": Mutation(
        OBJECTIVES, "+ gamma * next_value - values", "+ next_value - values", "gae"
    ),
    "a gap cuts the episode": Mutation(
        OBJECTIVES,
        "next_value = values[:, t].where(counts, next_value)",
        "next_value = values[:, t].where(counts, 0.0)",
        "gap or gae",
    ),
    "a gap's reward counts": Mutation(
        OBJECTIVES, ".where(counts, advantage)\n", "\n", "gap or gae"
    ),
    "returns use the policy's lambda": Mutation(
        OBJECTIVES, "lam_value != lam:", "lam_value == lam:", "gae or lambda_one"
    ),
    # rewards
    "the score lands a token early": Mutation(
        OBJECTIVES, "mask & (to_come == 1)", "mask & (to_come == 2)", "score or rewards"
    ),
    "the KL is paid, not charged": Mutation(
        OBJECTIVES, "(-kl_coef * (logprobs", "(kl_coef * (logprobs", "score or rewards"
    ),
    "k1 becomes its absolute value": Mutation(
        OBJECTIVES,
        "(-kl_coef * (logprobs - ref_logprobs))",
        "(-kl_coef * (logprobs - ref_logprobs).abs())",
        "bandit",
        BANDIT,
    ),
    "the price of KL is halved": Mutation(
        TRAINER,
        "kl_coef=self.kl_coef,\n            gamma",
        "kl_coef=self.kl_coef / 2,\n            gamma",
        "bandit",
        BANDIT,
    ),
    # whitening and means
    "whitening counts padding": Mutation(
        OBJECTIVES,
        "scale = (masked_mean(centred.square(), mask)",
        "scale = (centred.square().mean()",
        "whiten",
    ),
    "whitening keeps the mean": Mutation(
        OBJECTIVES, "return (centred * scale", "return (x * scale", "whiten"
    ),
    "a piece divides by its own tokens": Mutation(
        OBJECTIVES, "if num_tokens is None else num_tokens", "", "pieces"
    ),
    # the losses
    "the surrogate takes the larger": Mutation(
        OBJECTIVES, "surrogate = torch.minimum(", "surrogate = torch.maximum(", "policy_loss"
    ),
    "the policy's sign": Mutation(
        OBJECTIVES, "return -masked_mean(surrogate", "return masked_mean(surrogate", "policy_loss"
    ),
    "the upper bound is the lower one": Mutation(
        OBJECTIVES,
        "high = clip_range if clip_range_high is None else clip_range_high",
        "high = clip_range",
        "policy_loss",
    ),
    "the dual clip bounds good actions": Mutation(
        OBJECTIVES, ".where(advantages < 0, surrogate)", ".where(advantages > 0, surrogate)",
        "policy_loss",
    ),
    "the value's half": Mutation(
        OBJECTIVES, "return 0.5 * masked_mean(error", "return masked_mean(error", "value_loss"
    ),
    "the value's clip takes the smaller": Mutation(
        OBJECTIVES, "error = torch.maximum(error", "error = torch.minimum(error", "value_loss"
    ),
    # the controller
    "the controller runs away": Mutation(
        OBJECTIVES, "(1 + error * num", "(1 - error * num", "coefficient or coef"
    ),
    "the controller is not clipped": Mutation(
        OBJECTIVES, "min(max(kl / target - 1, -0.2), 0.2)", "kl / target - 1", "coefficient or coef"
    ),
    "a cut-off response goes free": Mutation(
        OBJECTIVES, "torch.where(finished, into, 1.0)", "into", "penalty"
    ),
    # logprobs, sampling, scores
    "logprobs forget the temperature": Mutation(
        SCORING, "at_temperature(next_logits(model, states), temperature)",
        "next_logits(model, states)",
        "temperature", PPO,
    ),
    "sampling forgets the temperature": Mutation(
        GENERATE, "at_temperature(logits, temperature).softmax", "logits.softmax", "drawn_as_often",
        "tests/unit/model/test_generate.py",
    ),
    "noise is by the batch": Mutation(
        GENERATE, "chances[chunk].to(", "chances[: len(chunk)].to(", "shares_the_batch",
        "tests/unit/model/test_generate.py",
    ),
    "states are read a token late": Mutation(
        SCORING, "(batch.where - 1).clamp(min=0)", "batch.where", "temperature or noted", PPO
    ),
    "positions ignore the padding": Mutation(
        GENERATE, "positions = (mask.cumsum(dim=1) - 1).clamp(min=0)",
        "positions = torch.arange(ids.shape[1])[None].expand(ids.shape)", "shares_the_batch",
        "tests/unit/model/test_generate.py",
    ),
    "the score is read before the last token": Mutation(
        SCORING, "head(states[rows, batch.last])", "head(states[rows, batch.last - 1])",
        "score_in_ppo or score_is_read", PPO + " tests/integration/test_model.py",
    ),
    "the score is in other units": Mutation(
        NORMALISER, "(raw - self.mean) / self.std", "raw / self.std", "frozen_units", PPO
    ),
    # samples of another engine
    "weights have no cap": Mutation(
        OBJECTIVES, "ratio.clamp(max=cap).where", "ratio.where", "importance_weights"
    ),
    "weights are upside down": Mutation(
        OBJECTIVES,
        "ratio = probability_ratio(logprobs.where(mask, 0.0), sampler_logprobs.where(mask, 0.0))",
        "ratio = probability_ratio(sampler_logprobs.where(mask, 0.0), logprobs.where(mask, 0.0))",
        "importance_weights or weighted_mean",
    ),
    "the policy's loss is not weighed": Mutation(
        "ppo/losses.py", "dual_clip=knobs.dual_clip,\n        weights=inputs.weights,",
        "dual_clip=knobs.dual_clip,", "a_weight_multiplies", VLLM,
    ),
    "the server keeps the first policy": Mutation(
        COLLECTOR, "if not evaluates or first == 0:", "if first == 0:", "as_it_is_now", VLLM
    ),
    "the server is sent the reference": Mutation(
        "model/engine/vllm.py",
        'self.name, ADAPTER_OF["policy"])',
        'self.name, ADAPTER_OF["reference"])',
        "as_it_is_now", VLLM,
    ),
    # who learns
    "the reference learns": Mutation(
        "model/roles.py", '] = ("policy", "value")', '] = ("policy", "value", "reference")',
        "only_policy_and_value", PPO,
    ),
    "the policy is its own reference": Mutation(
        COLLECTOR, 'of_reference, "reference")', 'of_reference, "policy")',
        "only_policy_and_value", PPO,
    ),
    "the policy scores itself": Mutation(
        "rollouts/rewards.py", 'read, "reward", self.which)', 'read, "policy")',
        "score_in_ppo", PPO,
    ),
    # what is not judged, and units
    "what is not judged counts as 0": Mutation(
        ROLLOUT, "self.mask & self.judged[:, None]", "self.mask", "leaves_out", REWARDS
    ),
    "a constant rollout fixes the units": Mutation(
        NORMALISER, "self.is_frozen, self.scores = has_spread, []", "self.is_frozen = True",
        "fitted_again", "tests/unit/ppo",
    ),
    "the value forgets the other rewards": Mutation(
        COLLECTOR, "others.nanmean().item()", "0.0", "others_mean", REWARDS
    ),
    "the value's gradient is the policy's": Mutation(
        TRAINER, 'with acting_as(peft, "value"), self.compute_loss',
        'with acting_as(peft, "policy"), self.compute_loss', "move or warms_up", PPO,
    ),
    "the value moves the policy's states": Mutation(
        TRAINER, "states.detach(), inputs", "states, inputs", "reads_the_policys_states", PPO
    ),
    "the backward comes after the switch": Mutation(
        TRAINER,
        """                    self.accelerator.backward(of_policy)
            with acting_as(peft, "value"), self.compute_loss_context_manager():
""",
        """            with acting_as(peft, "value"), self.compute_loss_context_manager():
                self.accelerator.backward(of_policy)
""",
        "gradient_on_nf4", PPO,
    ),
    "the policy never rests": Mutation(
        TRAINER, "self.knobs.stop_kl is not None and kl > self.knobs.stop_kl", "False",
        "rests_until", PPO,
    ),
    "tokens are counted per piece": Mutation(
        "ppo/losses.py", "num_tokens=num_tokens,", "num_tokens=int(rollout.mask[rows].sum()),",
        "size_of_a_piece", PPO,
    ),
    "the KL coefficient is not kept": Mutation(
        TRAINER, 'self.kl_coef = state["kl_coef"]\n', "pass\n", "half_and_half", PPO
    ),
    "the score's units are not kept": Mutation(
        TRAINER, 'self.collector.normaliser = RewardNormaliser(**state["normaliser"])', "pass",
        "half_and_half", PPO,
    ),
    "the value's head is not kept": Mutation(
        "ppo/checkpoints.py", "value_head.load_state_dict(head.state_dict())", "pass",
        "half_and_half", PPO
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The project, with a package of its own to be broken."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("configs", "data", "labeling_ui", "pyproject.toml", "constraints.txt"):
        (root / name).symlink_to(ROOT / name)
    for name in ("rlhf", "tests"):
        shutil.copytree(ROOT / name, root / name)
    return root


@pytest.mark.parametrize("what", MUTATIONS)
def test_an_oracle_sees_that(what, copy):
    mutation = MUTATIONS[what]
    place = copy / "rlhf" / mutation.file
    whole = place.read_text(encoding="utf-8")
    assert whole.count(mutation.old) == 1, "the code has changed; change the mutation too"
    place.write_text(whole.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        done = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider",
                "-k", mutation.killer, *mutation.tests.split(),
            ],
            cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    finally:
        place.write_text(whole, encoding="utf-8")
    # 1 is "tests failed"; 5 would be "no tests were run", 2 an error of collection
    assert done.returncode == 1, done.stdout[-2000:]
