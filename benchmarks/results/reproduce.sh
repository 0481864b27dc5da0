#!/usr/bin/env bash
# Trains and measures what the papers report, on all images: for a GPU, and patience.
#
#   benchmarks/results/reproduce.sh [--dry_run] [TARGET...]     all targets if none is named:
#     mcattn         MCAttn on CelebA (Kimura & Tanaka 2019), the default and the plain network
#     multitask_abn  multi-task ABN on CelebA (Fukui et al. 2019, table 4)
#     gcm_cifar10    GCM, GCM without negative contributions and the CNN (GCM paper, table 8)
#     gcm_svhn       the same on SVHN
#     abn_cifar100   ABN by depth and attention mechanism (Fukui et al. 2019, table 1)
#
# Start it again after an interruption: finished trainings are left out, the one that was broken off
# goes on. --dry_run prints all commands and runs none. From the environment it takes
#   CELEBA, CIFAR10, CIFAR100, SVHN   where the data are (docs/data.md); downloaded where not set
#   OUT      where the run directories are made (runs/published)
#   FLAGS    more flags for every training, such as "--precision mixed_bfloat16"
#   PYTHON   the interpreter (python)
# Paths are from the root of the repository on.
set -euo pipefail

OUT=${OUT:-runs/published}
PYTHON=${PYTHON:-python}
ALL=(mcattn multitask_abn gcm_cifar10 gcm_svhn abn_cifar100)
DRY=
TARGETS=()
for argument in "$@"; do
  if [ "$argument" = --dry_run ]; then
    DRY=1
  elif [[ " ${ALL[*]} " == *" $argument "* ]]; then
    TARGETS+=("$argument")
  else
    echo "error: expected --dry_run or one of ${ALL[*]}. Received: $argument" >&2
    exit 1
  fi
done

run() {
  echo "\$ $(printf '%q ' "$@")"
  [ -n "$DRY" ] || "$@"
}

done_before() { [ -z "$DRY" ] && [ -f "$OUT/$1" ]; }

# train NAME PLACE FLAG...: PLACE is where the data are, or nothing.
train() {
  local directory=$OUT/$1 flags=("${@:3}")
  done_before "$1/metrics.json" && return  # the last that train.py writes
  [ -z "$2" ] || flags+=(--data_dir "$2")
  if done_before "$1/config.json"; then flags+=(--resume); fi
  # shellcheck disable=SC2086  # FLAGS are several words
  run "$PYTHON" train.py "${flags[@]}" ${FLAGS:-} --noexport --checkpoint_minutes 10 \
    --out "$directory"
}

# measure FILE NAMES FLAG...: of the runs NAMES, unless the first has FILE already.
measure() {
  local name names=($2) runs=()
  done_before "${names[0]}/$1" && return
  for name in "${names[@]}"; do runs+=(--run "$OUT/$name"); done
  run "$PYTHON" evaluate.py "${runs[@]}" "${@:3}"
}

# paper_table NAMES TABLE: over finished runs
paper_table() {
  local name runs=()
  for name in $1; do runs+=(--run "$OUT/$name"); done
  run "$PYTHON" benchmarks/results/paper_tables.py "${runs[@]}" --table "$2"
}

mcattn() {
  train mcattn "${CELEBA:-}" --dataset celeba --preset paper
  train mcattn_default "${CELEBA:-}" --dataset celeba
  train baseline "${CELEBA:-}" --dataset celeba --preset paper --model baseline
  measure explanations.json mcattn --explanations
  measure explanations.json mcattn_default --explanations
  paper_table "mcattn mcattn_default baseline" attributes
}

multitask_abn() {
  train multitask_abn "${CELEBA:-}" --preset multitask-abn-celeba --strategy none
  paper_table multitask_abn attributes
}

gcm() {  # DATA PLACE PRESET
  train "$1_gcm" "$2" --preset "$3"
  train "$1_nonnegative" "$2" --preset "$3" --nonnegative
  train "$1_cnn" "$2" --preset "$3" --model cnn
  run "$PYTHON" -m mcattn_tf.commands.compare "$OUT/$1_cnn" "$OUT/$1_gcm" --table decline
}

gcm_cifar10() { gcm cifar10 "${CIFAR10:-}" gcm-cifar10; }
gcm_svhn() { gcm svhn "${SVHN:-}" gcm-svhn; }

abn_cifar100() {
  local name names=() depth mechanism
  for depth in 20 32 44 56 110; do
    for mechanism in none product residual; do
      name=cifar100_resnet${depth}_$mechanism
      train "$name" "${CIFAR100:-}" --preset abn-cifar100 --backbone "resnet$depth" \
        --attention_mechanism "$mechanism"
      names+=("$name")
    done
  done
  paper_table "${names[*]}" mechanisms
}

cd "$(dirname "$0")/../.."
[ ${#TARGETS[@]} -gt 0 ] || TARGETS=("${ALL[@]}")
for target in "${TARGETS[@]}"; do "$target"; done
