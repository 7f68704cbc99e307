#!/usr/bin/env bash
# Evaluates a served policy on the three domains' test split, or a checkpoint on val; resumes. See --help.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"

usage() {
  cat <<TEXT
usage: launch/evaluate.sh [--profile NAME]… [--dry-run] [-- OPTIONS OF slime-tau2 eval]

EVAL_ATTEMPTS attempts (default 4) at every task of EVAL_SPLIT (default test; val to choose a checkpoint by) of airline, retail and telecom,
against POLICY_URL (launch/serve_policy.sh) and the user at USER_URL; one run in
EVAL_DIR (default: OUTPUT_DIR/eval). EVAL_USER_MODEL names the user's model (default: USER_MODEL); with
USER_URL=https://api.openai.com/v1 and EVAL_USER_MODEL=gpt-4.1-mini it is the model card's, its key in OPENAI_API_KEY.
Protocol, limits and the rest are the profile's and TAU2_CONFIG's, as in training: name the profiles that the model was trained with.
RETAIL_BASIS is judge by default on tau2 v1.0.x (the judge's key: OPENAI_API_KEY), or communicate, no_judge.
TEXT
}
parse_options "$@"
need_options
: "${POLICY_URL:=http://127.0.0.1:30000}"
: "${EVAL_ATTEMPTS:=4}"
: "${EVAL_SPLIT:=test}"
: "${EVAL_DIR:=$OUTPUT_DIR/eval}"
: "${EVAL_USER_MODEL:=$USER_MODEL}"
: "${RETAIL_BASIS:=judge}"
whole_numbers EVAL_ATTEMPTS:1
resolve_options
if [ "$DRY_RUN" = 0 ]; then
  doctor --policy "$POLICY_URL" --user "$USER_URL" --user-model "$EVAL_USER_MODEL"
fi
evaluate "$(joined_domains)" "$EVAL_SPLIT" "$EVAL_ATTEMPTS" "$EVAL_USER_MODEL" "$RETAIL_BASIS" "$EVAL_DIR" \
  "${EVAL_TEMPERATURE:-$TEMPERATURE}" "$EVAL_TOP_K"
