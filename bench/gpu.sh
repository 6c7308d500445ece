#!/usr/bin/env bash
# bash bench/gpu.sh [FOLDER]: the benches that suit a GPU, one JSON file each, in at most ten minutes.
#
# From a checkout after `make setup`, or with LORABANK=/path/to/lorabank. Elsewhere and small:
#   DEVICE=cpu FACTS=8 BENCHES="recall fleet" BASE=smollm2-135m MINUTES=5 bash bench/gpu.sh
# A bench that fails or finds no time left is named at the end, and the exit status is 1.
set -u
folder=${1:-out/bench-gpu}
device=${DEVICE:-cuda}
lorabank=${LORABANK:-.venv/bin/lorabank}
end=$((SECONDS + ${MINUTES:-10} * 60))
mkdir -p "$folder" || exit 1
failed=""
for bench in ${BENCHES:-train recall fleet generate prefix activated distill context}; do
  facts=()
  case $bench in
    train | recall | fleet | prefix | distill | context) [ -n "${FACTS:-}" ] && facts=(--facts "$FACTS") ;;
  esac
  left=$((end - SECONDS))
  if [ "$left" -le 0 ]; then
    failed="$failed $bench(no time left)"
    continue
  fi
  file="$folder/$(date -u +%F)-$device-$bench.json"
  echo "$bench …" >&2
  timeout "$left" "$lorabank" bench "$bench" --pairs "${PAIRS:-1}" --device "$device" \
    --base "${BASE:-smollm2-135m}" --out "$file" ${facts[@]+"${facts[@]}"} || failed="$failed $bench"
done
[ -z "$failed" ] || { echo "not measured:$failed" >&2; exit 1; }
