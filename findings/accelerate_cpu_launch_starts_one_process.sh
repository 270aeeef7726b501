#!/usr/bin/env bash
# `accelerate launch --cpu --num_processes 2` starts one process, with a success status and no
# warning that a second was asked for; torchrun, asked for the same, starts two.
#
# Seen 2026-12-01 with accelerate 1.15.0 and torch 2.13.0 on Linux, CPU only:
#   accelerate launch --cpu --num_processes 2: world size 1
#   torchrun --nproc_per_node 2:               world size 2, world size 2
# With --cpu the launcher takes its path for a single process before it looks at the count. A script
# that splits its batch over processes then trains with half the batch that was meant.
# Exits non-zero if this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 accelerate==1.15.0 numpy==2.4.6
cat >"$work/say.py" <<'PY'
from accelerate import PartialState

print("world size", PartialState(cpu=True).num_processes)
PY
export OMP_NUM_THREADS=1
bin=$work/venv/bin
echo "accelerate launch --cpu --num_processes 2:"
"$bin/accelerate" launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no \
    --dynamo_backend no "$work/say.py" | tee "$work/launched"
echo "torchrun --nproc_per_node 2:"
ACCELERATE_USE_CPU=1 "$bin/torchrun" --nproc_per_node 2 "$work/say.py" | tee "$work/run"
test "$(grep -c 'world size 1' "$work/launched")" = 1
test "$(grep -c 'world size' "$work/launched")" = 1
test "$(grep -o 'world size 2' "$work/run" | wc -l)" = 2
