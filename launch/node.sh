#!/usr/bin/env bash
# One node of a cluster joins Ray: the first one as its head, each other as a worker. See --help, and docs/multinode.md.
# shellcheck source-path=SCRIPTDIR
ROLE="${1:-}"
case "$ROLE" in head|worker) shift ;; --help|-h) ;; *) echo "error: say which: launch/node.sh head, on the first node, or launch/node.sh worker, on each other" >&2; exit 2 ;; esac
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"

usage() {
  cat <<TEXT
usage: launch/node.sh head [--profile NAME]… [--dry-run] [-- ARGUMENTS OF ray start]
       HEAD_IP=ADDRESS launch/node.sh worker [--profile NAME]… [--dry-run] [-- ARGUMENTS OF ray start]

Starts Ray with the profile's GPUs of one node, at the address by which the other nodes reach this one, after it has looked whether that
address, the GPUs, the paths and the shared folders are right. Keys (WANDB_API_KEY and such) are exported before it, on every node.
Every path in the settings must be there on every node; SHARED_DIR, with OUTPUT_DIR and DATA_DIR, must be one file system for all.
--block behind -- keeps it in the foreground; without it, the node is ended with: ray stop.

  HEAD_IP      the head's address (worker)
  NODE_IP      this node's own; default: that of IFACE, or on the way to HEAD_IP, or on the way out
  IFACE        its interface; default: the one that has NODE_IP. NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME, where they are not set
               already, and SLIME_HOST_IP follow
  RAY_PORT     6379; 6380 to 6384, 8265 and 25002 to 29999 are Ray's as well (docs/multinode.md lists all ports)
  SHARED_DIR   the folder above OUTPUT_DIR
TEXT
}
parse_options "$@"
: "${HEAD_IP:=}" "${NODE_IP:=}" "${IFACE:=}" "${RAY_PORT:=6379}"
whole_numbers RAY_PORT:1:65530                             # and the five behind it
: "${SHARED_DIR:=$(dirname "$OUTPUT_DIR")}"
absolute SHARED_DIR
MARK=.slime_tau2_head

# gpus: how many this node has
gpus() { if command -v nvidia-smi >/dev/null; then nvidia-smi -L | grep -c '^GPU ' || true; else python3 -c 'import torch; print(torch.cuda.device_count())'; fi; }

# marked DIRECTORY: what the head wrote there, a worker must be able to read
marked() {
  if [ "$ROLE" = head ]; then
    { mkdir -p "$1" && echo "$NODE_IP" > "$1/$MARK"; } 2>/dev/null || fail "$1 cannot be written to; name a folder that all nodes share as SHARED_DIR and DATA_DIR"
    return
  fi
  local fix="mount it from where the head has it; checkpoints would be scattered otherwise, and a resume would start anew"
  [ -d "$1" ] || fail "$1 does not exist on $NODE_IP: $fix"
  [ -f "$1/$MARK" ] || fail "$1 on $NODE_IP is not the head's folder, which has a file $MARK in it: $fix"
  [ "$(cat "$1/$MARK")" = "$HEAD_IP" ] || fail "$1/$MARK names the head $(cat "$1/$MARK"), and HEAD_IP is $HEAD_IP: another cluster's folder, or an old head's"
}

if [ "$ROLE" = worker ] && [ -z "$HEAD_IP" ]; then
  [ "$DRY_RUN" = 1 ] || fail "HEAD_IP is not set: the address that launch/node.sh head printed"
  HEAD_IP="\$HEAD_IP"
fi
if [ "$DRY_RUN" = 1 ]; then
  : "${NODE_IP:=\$NODE_IP}" "${IFACE:=\$IFACE}"
else
  port=""
  if [ "$ROLE" = worker ]; then port="$RAY_PORT"; fi
  FOUND=$(python3 -P "$ROOT/slime_tau2/doctor/network.py" "$IFACE" "$NODE_IP" "$HEAD_IP" "$port" 2>&1) || fail "$FOUND"
  read -r IFACE NODE_IP <<< "$FOUND"
  need_command ray "run this inside slime's container"
  GPUS=$(gpus)
  [ "$GPUS" -ge "$GPUS_PER_NODE" ] || fail "this node has $GPUS GPUs and the profile wants $GPUS_PER_NODE on each of $NODES; choose another --profile"
  need_directory SLIME_DIR "$SLIME_DIR" "slime v0.3.1 under the same path on every node"
  need_directory MEGATRON_DIR "$MEGATRON_DIR" "Megatron-LM under the same path on every node"
  need_directory MODEL_DIR "$MODEL_DIR" "bash launch/prepare.sh, on this node or on what all nodes mount"
  need_directory USER_MODEL_DIR "$USER_MODEL_DIR" "bash launch/prepare.sh, on this node or on what all nodes mount"
  PYTHONPATH="$ROOT:$MEGATRON_DIR:$SLIME_DIR:${PYTHONPATH:-}" python3 -c 'import slime_tau2.hooks.generate, slime' 2>/dev/null \
    || fail "slime_tau2 or slime cannot be imported on this node: bash launch/setup.sh"
  marked "$SHARED_DIR"
  marked "$DATA_DIR"
fi

# what differs from node to node must come from the node's own environment: a job's is the same everywhere
SETTINGS_OF_NODE=("SLIME_HOST_IP=$NODE_IP" "NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-$IFACE}" "GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-$IFACE}")
if [ -n "${http_proxy:-}${https_proxy:-}${HTTP_PROXY:-}${HTTPS_PROXY:-}" ]; then
  SETTINGS_OF_NODE+=("no_proxy=${no_proxy:+$no_proxy,}localhost,127.0.0.1,$NODE_IP${HEAD_IP:+,$HEAD_IP}")
fi
COMMAND=(
  env "${SETTINGS_OF_NODE[@]}" ray start --node-ip-address "$NODE_IP" --num-gpus "$GPUS_PER_NODE" --disable-usage-stats
  --node-manager-port "$((RAY_PORT + 1))" --object-manager-port "$((RAY_PORT + 2))" --runtime-env-agent-port "$((RAY_PORT + 3))"
  --dashboard-agent-grpc-port "$((RAY_PORT + 4))" --metrics-export-port "$((RAY_PORT + 5))" --min-worker-port 25002 --max-worker-port 29999
)
if [ "$ROLE" = head ]; then
  COMMAND+=(--head --port "$RAY_PORT" --dashboard-host 127.0.0.1)
  say "head at $NODE_IP on $IFACE; on each of $((NODES - 1)) other nodes: HEAD_IP=$NODE_IP bash launch/node.sh worker --profile ${PROFILES[0]}"
else
  COMMAND+=(--address "$HEAD_IP:$RAY_PORT")
  say "worker at $NODE_IP on $IFACE joins $HEAD_IP:$RAY_PORT"
fi
show_or_run "${COMMAND[@]}"
