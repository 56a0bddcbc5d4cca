#!/usr/bin/env bash
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS say what srun asks for.
set -euo pipefail
: "${4:?Usage: tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]}"

# SRUN_ARGS may hold several arguments.
# shellcheck disable=SC2086
srun -p "$1" \
    --job-name="$2" \
    --gres="gpu:${GPUS_PER_NODE:-8}" \
    --ntasks="${GPUS:-8}" \
    --ntasks-per-node="${GPUS_PER_NODE:-8}" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    python -u "$(dirname "$0")/test.py" "$3" "$4" \
    --launcher slurm "${@:5}"
