#!/usr/bin/env bash
# The `train_loss` that Transformers' Trainer reports at the end of a training on several processes
# depends on `logging_steps`: the steps since the last log are added from the first process alone,
# those before it as the mean over processes.
#
# Seen 2026-12-01 with transformers 5.23.0, accelerate 1.15.0, torch 2.13.0, two gloo processes. The
# loss is constant (nothing is learnt: rate 0), 0 on the rows of process 0 and 2 on those of process
# 1, so the mean is 1: logging each of the four steps reports train_loss 1.0, logging never reports
# 0.0, logging every third 0.75. Exits non-zero if this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 numpy==2.4.6
cat >"$work/train.py" <<'PY'
import sys

import torch
from transformers import Trainer, TrainingArguments


class Constant(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, loss):
        return {"loss": loss.mean() + 0 * self.weight.sum()}


class InOrder(Trainer):
    def _get_train_sampler(self, *args, **kwargs):
        return torch.utils.data.SequentialSampler(self.train_dataset)


# one row a process and step: the first process gets the even rows, the second the odd ones
rows = [{"loss": float(2 * (row % 2))} for row in range(8)]
args = TrainingArguments(
    sys.argv[1], use_cpu=True, max_steps=4, per_device_train_batch_size=1, learning_rate=0.0,
    logging_steps=int(sys.argv[2]), save_strategy="no", report_to=[], disable_tqdm=True,
)
trainer = InOrder(model=Constant(), args=args, train_dataset=rows)
result = trainer.train()
if trainer.is_world_process_zero():
    print(f"RESULT logging_steps={args.logging_steps}: train_loss {result.training_loss:.2f}")
PY
export OMP_NUM_THREADS=1
for steps in 1 3 100; do
    "$work/venv/bin/torchrun" --nproc_per_node 2 "$work/train.py" "$work/out" "$steps" 2>"$work/err" |
        grep '^RESULT' || { tail -n 20 "$work/err"; exit 1; }
done | tee "$work/seen"
grep -q 'logging_steps=1: train_loss 1.00' "$work/seen"
grep -q 'logging_steps=3: train_loss 0.75' "$work/seen"
grep -q 'logging_steps=100: train_loss 0.00' "$work/seen"
