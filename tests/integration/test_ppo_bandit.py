"""PPO against an optimum that is known in closed form."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlhf.model.roles import acting_as
from rlhf.model.scoring import response_logits, sequences
from rlhf.ppo.arguments import PPOArguments
from rlhf.ppo.trainer import PPOTrainer

pytestmark = pytest.mark.integration
ARMS = 12


@pytest.fixture
def bandit(tmp_path):
    """One prompt, twelve arms: a tokenizer of words, and a model that can prefer any of them."""
    words = {f"w{i}": i for i in range(ARMS - 1)} | {"<eos>": ARMS - 1}
    core = Tokenizer(models.WordLevel(vocab=words, unk_token="w0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<eos>", pad_token="<eos>", unk_token="w0"
    )
    tokenizer.chat_template = "{{ messages[0].content }}"
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=ARMS,
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            initializer_range=0.15,  # wide enough for logits of order 1
            eos_token_id=ARMS - 1,
            pad_token_id=ARMS - 1,
        )
    )
    model.save_pretrained(tmp_path / "bandit")
    tokenizer.save_pretrained(tmp_path / "bandit")
    base = LlamaForCausalLM.from_pretrained(tmp_path / "bandit")
    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(base, lora), tokenizer


def distribution(model: PeftModel, role) -> torch.Tensor:
    one = sequences([[1]], [[0]], pad_id=0, device=torch.device("cpu"))
    with torch.no_grad(), acting_as(model, role):
        return response_logits(model, one)[0, 0].softmax(-1)


@pytest.mark.parametrize("whiten", [True, False])
def test_ppo_reaches_the_optimum_of_a_bandit_and_not_just_its_best_arm(bandit, tmp_path, whiten):
    model, tokenizer = bandit
    kl_coef = 0.5
    worth = torch.linspace(0, 1, ARMS)

    def reward(completion_ids, **_):
        return [float(worth[ids[0]]) for ids in completion_ids]

    args = PPOArguments(
        output_dir=str(tmp_path / "out"),
        num_rollouts=150,
        rollout_batch_size=64,
        per_device_train_batch_size=64,
        num_ppo_epochs=2,
        num_mini_batches=1,
        max_new_tokens=1,
        kl_coef=kl_coef,
        whiten_advantages=whiten,
        learning_rate=1e-2,
        value_learning_rate=1e-2,
        value_warmup_rollouts=3,
        score_norm="none",
        missing_eos_penalty=0.0,
        report_to=[],
        save_strategy="no",
        logging_steps=50,
        disable_tqdm=True,
        use_cpu=True,
    )
    prompts = Dataset.from_dict({"prompt": ["w1"]})
    trainer = PPOTrainer(model, reward, args, prompts, processing_class=tokenizer)
    trainer.train()

    reference = distribution(model, "reference")
    best = reference * (worth / kl_coef).exp()
    best /= best.sum()
    reached = distribution(model, "policy")

    def apart(p, q):
        return 0.5 * float((p - q).abs().sum())

    assert apart(reference, best) > 0.2  # there was something to learn
    # 64 samples in each of 150 updates leave some noise (measured 0.004)
    assert apart(reached, best) < 0.03
