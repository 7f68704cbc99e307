#!/usr/bin/env bash
# Rejection fine-tuning: sample the SFT model on the train tasks, keep what is worth imitating, train on it. See --help.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"

usage() {
  cat <<TEXT
usage: launch/rft.sh sample|train [--profile NAME]… [--dry-run] [-- ARGUMENTS]

sample   plays RFT_ATTEMPTS attempts at every train task against POLICY_URL (launch/serve_policy.sh with the SFT model) and the user
         at USER_URL, then selects (reward 1, else the best partial score of at least 0.6); resumes where it was
train    SFT on the selection, from INIT_DIR
TEXT
}
STAGE="${1:-}"
case "$STAGE" in
  sample|train) shift ;;
  --help|-h) ;;
  *) fail "say which half: launch/rft.sh sample, or launch/rft.sh train" ;;
esac
parse_options "$@"
: "${POLICY_URL:=http://127.0.0.1:30000}"
: "${RFT_ATTEMPTS:=8}"
whole_numbers RFT_ATTEMPTS:1
DATA="$OUTPUT_DIR/rft.jsonl"

if [ "$STAGE" = train ]; then
  FORWARD=()
  for name in "${PROFILES[@]}"; do FORWARD+=(--profile "$name"); done
  for name in ${SETTINGS[@]+"${SETTINGS[@]}"}; do FORWARD+=(--set "$name"); done
  if [ "$DRY_RUN" = 1 ]; then FORWARD+=(--dry-run); else need_file "$DATA" "run launch/rft.sh sample first"; fi
  export SFT_DATA="$DATA" SLIME_DIR MEGATRON_DIR MODEL_DIR DATA_DIR OUTPUT_DIR RAY_ADDRESS
  exec bash "$HERE/sft.sh" "${FORWARD[@]}" ${EXTRA[@]+-- "${EXTRA[@]}"}
fi

need_options
resolve_options
if [ "$DRY_RUN" = 0 ]; then
  doctor --policy "$POLICY_URL" --user "$USER_URL" --user-model "$USER_MODEL"
fi
SELECT=(slime-tau2 rft)
for domain in "${DOMAINS[@]}"; do
  evaluate "$domain" train "$RFT_ATTEMPTS" "$USER_MODEL" communicate "$OUTPUT_DIR/rft/$domain" "$TEMPERATURE" -1
  SELECT+=("$OUTPUT_DIR/rft/$domain/attempts.jsonl")
done
EXTRA=()
show_or_run "${SELECT[@]}" --output "$DATA"
