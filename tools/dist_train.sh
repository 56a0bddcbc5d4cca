#!/usr/bin/env bash
# Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT.
set -euo pipefail
: "${2:?Usage: tools/dist_train.sh CONFIG GPUS [arguments of train.py]}"

python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$2" \
    "$(dirname "$0")/train.py" "$1" --launcher pytorch "${@:3}"
