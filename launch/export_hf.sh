#!/usr/bin/env bash
# Converts the newest (or the named) Megatron checkpoint of a run to a Hugging Face model; needs no GPU. See --help.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"

usage() {
  cat <<TEXT
usage: launch/export_hf.sh [--dry-run] [-- OPTIONS OF slime-tau2 export-hf]

CHECKPOINT (default: OUTPUT_DIR/checkpoints, whose tracker file names the newest) with MODEL_DIR's configuration and tokenizer, to
EXPORT_DIR (default: OUTPUT_DIR/hf).
TEXT
}
parse_options "$@"
: "${CHECKPOINT:=$OUTPUT_DIR/checkpoints}"
: "${EXPORT_DIR:=$OUTPUT_DIR/hf}"
if [ "$DRY_RUN" = 0 ]; then
  need_directory CHECKPOINT "$CHECKPOINT" "train first, or set CHECKPOINT"
  need_file "$MODEL_DIR/config.json" "MODEL_DIR must be the model that training started from"
  doctor --output "$(dirname "$EXPORT_DIR")" --disk 10
fi
show_or_run slime-tau2 export-hf "$CHECKPOINT" --hf-config "$MODEL_DIR" --output "$EXPORT_DIR"
