#!/usr/bin/env bash
# Plants one bug after another in a copy of the headers; every one has to be found by a test on the SIMT layer, or this
# fails. README.md in this folder lists them.
#
#   tests/cuda/plant.sh [NAME...]        the names of the bugs; all by default
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
compiler=${CXX:-g++}

# NAME | test that has to find it | header, or header:struct for that struct alone | what is there | what is planted
bugs=(
  "sync does nothing in a block|cuda/races|msg/exec/cuda_team.cuh|detail::sync_block();|(void)0;"
  "sync does nothing in a half-warp|cuda/races|msg/exec/cuda_team.cuh|detail::sync_threads_of(mask_);|(void)0;"
  "a whole block waits in a half-warp|cuda/team|msg/exec/cuda_team.cuh|detail::sync_threads_of(mask_);|detail::sync_block();"
  "mask of the lower half-warp for both|cuda/team|msg/exec/cuda_team.cuh|thread / lanes % 2 \\* lanes|0"
  "half of the tree|cuda/team|msg/exec/cuda_team.cuh|int distance = lanes / 2;|int distance = lanes / 4;"
  "wrong number of lanes|cuda/team|msg/exec/cuda_team.cuh|index i = rank_; i < n; i += lanes|index i = rank_; i < n; i += size_"
  "only the first warp knows a sum|cuda/team|msg/exec/cuda_team.cuh|if (size_ > lanes) {\$|if (size_ > 2 * lanes) {"
  "a sum is read before it is written|cuda/team|msg/exec/cuda_team.cuh|\\*known = lane; }|*known = lane; return lane; }"
  "no barrier after a sum is read|cuda/team|msg/exec/cuda_team.cuh|sync(); // the next fold writes there|;"
  "each() leaves out the last|cuda/team|msg/exec/cuda_team.cuh|index i = rank_; i < n; i += size_) { f|index i = rank_; i + 1 < n; i += size_) { f"
  "each() starts at the lane, not the rank|cuda/team|msg/exec/cuda_team.cuh|index i = rank_; i < n; i += size_) { f|index i = rank_ % lanes; i < n; i += size_) { f"
  "rows of the first grid only|cuda/team|msg/exec/cuda_team.cuh|row < rows; row +=|row < rows \\&\\& row == first; row +="
  "blocks share their rows|cuda/team|msg/exec/cuda_team.cuh|static_cast<index>(at.block) \\* teams|0 * teams"
  "teams share their scratch|cuda/team|msg/exec/cuda_team.cuh|thread / lanes \\* scratch_bytes|0 * scratch_bytes"
  "no barrier between rows with scratch|cuda/team|msg/exec/cuda_team.cuh|members.sync(); }|}"

  "the tail of packs starts one late|cuda/packs|msg/kernels/elements.hpp|done = packs \\* count;|done = packs * count + 1;"
  "one pack too many|cuda/packs|msg/kernels/elements.hpp|packs = n / count;|packs = (n + count - 1) / count;"
  "misaligned packs|cuda/packs|msg/kernels/elements.hpp|if ((columns.aligned() \\&\\& ...))|if (true)"
  "packs of the mask at the wrong place|cuda/packs|msg/kernels/elements.hpp|return {p.at\\[k\\]};|return {p.at[0]};"
  "rows of packs without their step|cuda/packs|msg/kernels/elements.hpp|count>\\*>(data + r \\* step + i)|count>*>(data + i)"

  "scale_row: tail|kernels/scale|msg/kernels/scale.hpp:scale_row|team, width,|team, width - 1,"
  "each_unit: tail of a head|kernels/scale|msg/kernels/scale.hpp|team, repeat, f|team, repeat - 1, f"
  "activation_forward: tail|kernels/activation|msg/kernels/activation.hpp:activation_forward|team, width,|team, width - 1,"
  "activation_backward: tail|kernels/activation|msg/kernels/activation.hpp:activation_backward|team, width,|team, width - 1,"
  "gated_forward: tail|kernels/activation|msg/kernels/activation.hpp:gated_forward|team, width,|team, width - 1,"
  "gated_backward: tail|kernels/activation|msg/kernels/activation.hpp:gated_backward|team, width,|team, width - 1,"
  "residual_forward: tail|kernels/blend|msg/kernels/blend.hpp:residual_forward|team, width,|team, width - 1,"
  "residual_backward: tail|kernels/blend|msg/kernels/blend.hpp:residual_backward|team, width,|team, width - 1,"
  "blend_forward: tail|kernels/blend|msg/kernels/blend.hpp:blend_forward|team, width,|team, width - 1,"
  "blend_backward: tail|kernels/blend|msg/kernels/blend.hpp:blend_backward|team, width,|team, width - 1,"
  "layer_norm_forward: sums' tail|kernels/norm|msg/kernels/norm.hpp:layer_norm_forward|fold<A>(width,|fold<A>(width - 1,"
  "layer_norm_forward: statistics by every second member|cuda/packs|msg/kernels/norm.hpp:layer_norm_forward|team.rank() == 0|team.rank() == 1"
  "layer_norm_backward: sums' tail|kernels/norm|msg/kernels/norm.hpp:layer_norm_backward|fold<A>(width,|fold<A>(width - 1,"
  "rms_norm_forward: sum's tail|kernels/norm|msg/kernels/norm.hpp:rms_norm_forward|fold<A>(width,|fold<A>(width - 1,"
  "rms_norm_backward: sum's tail|kernels/norm|msg/kernels/norm.hpp:rms_norm_backward|fold<A>(width,|fold<A>(width - 1,"
  "a norm's gradient: tail|kernels/norm|msg/kernels/norm.hpp|team, width, \\[=\\](index, auto weigh|team, width - 1, [=](index, auto weigh"
  "a norm's gradient is not added|kernels/norm|msg/kernels/norm.hpp|out = fused(scale, value(weigh, m, z, g, d), out)|out = scale * value(weigh, m, z, g, d)"
  "column_sum_partial: tail|kernels/column_sum|msg/kernels/column_sum.hpp:column_sum_partial|(team, width,|(team, width - 1,"
  "column_sum_partial: no barrier|cuda/races|msg/kernels/column_sum.hpp:column_sum_partial|team.sync();|;"
  "norm_gain_partial: tail|kernels/column_sum|msg/kernels/column_sum.hpp:norm_gain_partial|team, width,|team, width - 1,"
  "norm_gain_partial: no barrier|cuda/races|msg/kernels/column_sum.hpp:norm_gain_partial|team.sync();|;"
  "a chunk without its last row|kernels/column_sum|msg/kernels/column_sum.hpp|end < rows ? end : rows;|end < rows ? end : rows - 1;"
  "column_join: tail|kernels/column_sum|msg/kernels/column_sum.hpp:column_join|team, columns,|team, columns - 1,"
  "column_join: no barrier|kernels/column_sum|msg/kernels/column_sum.hpp:column_join|team.sync();|;"
  "column_join: last chunk|kernels/column_sum|msg/kernels/column_sum.hpp:column_join|each_four(1, chunks,|each_four(1, chunks - 1,"
  "update_row: tail|kernels/optimizer|msg/kernels/optimizer.hpp:update_row|update(team, from, count,|update(team, from, count - 1,"
  "update_row: tail with single ages|kernels/optimizer|msg/kernels/optimizer.hpp:update_row|update(team, begin, length,|update(team, begin, length - 1,"
  "update_row: tail of the last stretch|kernels/optimizer|msg/kernels/optimizer.hpp:update_row|length : size - begin|length : size - begin - 1"
  "update_row: a second moment of the plain gradient|kernels/optimizer|msg/kernels/optimizer.hpp:adamw_rule|fresh2 \\* g, g|fresh2 * g, gradient"
  "update_row: Nesterov without the gradient|kernels/optimizer|msg/kernels/optimizer.hpp:sgd_rule|direct \\* g|direct * m"
  "update_row: a sign of 0|kernels/optimizer|msg/kernels/optimizer.hpp:lion_rule|u > 0 ?|u >= 0 ?"
  "square_row: tail|kernels/optimizer|msg/kernels/optimizer.hpp:square_row|fold<double>(count,|fold<double>(count - 1,"
  "square_row: by the wrong member|cuda/optimizer|msg/kernels/optimizer.hpp:square_row|team.rank() == 0|team.rank() == 1"

  "grow: tail of a copy|cuda/growth|msg/kernels/grow.hpp|team, length,|team, length - 1,"
  "grow: tail of fresh cells|cuda/growth|msg/kernels/grow.hpp|team.each(length,|team.each(length - 1,"
  "grow: the kernel that match_row left is not used|cuda/growth|msg/cuda/plan.cuh:device_grow_row|(matched == nullptr ? kernel : \\*matched).template|kernel.template"
  "match_row: last filler|cuda/growth|msg/cuda/plan.cuh:match_row|f < count|f + 1 < count"
  "the plan's arrays of the host|cuda/growth|msg/cuda/plan.cuh|if (a.host == host) {|if (false) {"
  "set_mask: tail|cuda/growth|msg/cuda/mask.cuh:set_mask|team.each(size,|team.each(size - 1,"
  "a mask that forgets its sum|cuda/growth|msg/cuda/mask.cuh|kernel.total = mask.sum();|;"
  "set_ages: tail of positions|cuda/optimizer|msg/cuda/optimizer.cuh:set_ages|team.each(positions,|team.each(positions - 1,"
  "set_ages: tail of runs|cuda/optimizer|msg/cuda/optimizer.cuh:set_ages|team.each(run_count,|team.each(run_count - 1,"
  "set_clip: only with decay|cuda/optimizer|msg/cuda/optimizer.cuh:set_clip|i < 2;|i < 1;"
  "join_squares: last|cuda/optimizer|msg/cuda/squares.cuh:join_squares|i < count;|i + 1 < count;"
  "stale factors of ages|cuda/optimizer|msg/cuda/optimizer.cuh|stream.run(1, std::max(group_.size(), runs_.size()), kernel);|;"
  "decay for everybody|cuda/optimizer|msg/cuda/optimizer.cuh|spared.decay = false;|;"

  "head_tables: tail|kernels/attention_rows|transformer/attention_rows.hpp:head_tables|team.each(b.items(),|team.each(b.items() - 1,"
  "attention_weights: sum's tail|kernels/attention_rows|transformer/attention_rows.hpp:attention_weights|team.sum(r.seen,|team.sum(r.seen - 1,"
  "attention_weights: tail|kernels/attention_rows|transformer/attention_rows.hpp:attention_weights|team.each(seen,|team.each(seen - 1,"
  "attention_weights: tail of unseen keys|kernels/attention_rows|transformer/attention_rows.hpp:attention_weights|team.each(keys - seen,|team.each(keys - seen - 1,"
  "attention_weights: no barrier before dropout|kernels/attention_rows|transformer/attention_rows.hpp:attention_weights|team.sync();|;"
  "attention_gradients: sum's tail|kernels/attention_rows|transformer/attention_rows.hpp:attention_gradients|fold<T>(dim,|fold<T>(dim - 1,"
  "attention_gradients: tail|kernels/attention_rows|transformer/attention_rows.hpp:attention_gradients|team.each(seen,|team.each(seen - 1,"
  "attention_gradients: no barrier around dropout|kernels/attention_rows|transformer/attention_rows.hpp:attention_gradients|team.sync();|;"
  "scatter_within_chunk: last row|kernels/attention_rows|transformer/scatter_rows.hpp:scatter_within_chunk|r < end;|r + 1 < end;"
  "scatter_within_chunk: tail|kernels/attention_rows|transformer/scatter_rows.hpp:scatter_within_chunk|team.each(width,|team.each(width - 1,"
  "scatter_across_chunks: last row|kernels/attention_rows|transformer/scatter_rows.hpp:scatter_across_chunks|team.sum(count,|team.sum(count - 1,"
  "scatter_across_chunks: tail|kernels/attention_rows|transformer/scatter_rows.hpp:scatter_across_chunks|team.each(width,|team.each(width - 1,"
  "sum_all: tail|kernels/model_rows|transformer/scatter_rows.hpp:sum_all|team.sum(count,|team.sum(count - 1,"
  "row_maximum: tail|kernels/attention_rows|transformer/ops.hpp|n, \\[=\\](lane_type lane|n - 1, [=](lane_type lane"
  "cross_entropy_forward: sum's tail|kernels/attention_rows|transformer/ops.hpp:cross_entropy_forward|team.sum(classes,|team.sum(classes - 1,"
  "cross_entropy_backward: tail|kernels/attention_rows|transformer/ops.hpp:cross_entropy_backward|team.each(classes,|team.each(classes - 1,"
  "cross_entropy_backward: no barrier|kernels/attention_rows|transformer/ops.hpp:cross_entropy_backward|team.sync();|;"
  "logit_shift_row: tail|kernels/model_rows|transformer/ops.hpp:logit_shift_row|team.each(classes,|team.each(classes - 1,"
  "shift_logits: tail|kernels/model_rows|transformer/ops.hpp:shift_logits|team.each(classes,|team.each(classes - 1,"
  "embedding_forward: tail|kernels/model_rows|transformer/ops.hpp:embedding_forward|team.each(width,|team.each(width - 1,"
  "rotary_row: tail of a head|kernels/model_rows|transformer/ops.hpp:rotary_row|team.each(half,|team.each(half - 1,"
  "rotary_row: last head|kernels/model_rows|transformer/ops.hpp:rotary_row|h < heads;|h + 1 < heads;"
  "gather_row: tail|kernels/model_rows|transformer/ops.hpp:gather_row|team.each(width,|team.each(width - 1,"
  "scatter_row: tail|kernels/model_rows|transformer/ops.hpp:scatter_row|team.each(width,|team.each(width - 1,"
  "drop_row: tail|kernels/model_rows|transformer/dropout.hpp:drop_row|width, width);|width, width - 1);"
  "drop_row: one unit too many|kernels/model_rows|transformer/dropout.hpp|if (j < n) {|if (j <= n) {"
  "choose_experts: last expert|kernels/model_rows|transformer/experts.hpp:choose_experts|e < experts;|e + 1 < experts;"
  "choose_experts_backward: tail|kernels/model_rows|transformer/experts.hpp:choose_experts_backward|team.each(experts,|team.each(experts - 1,"
  "choose_experts_backward: no barrier|kernels/model_rows|transformer/experts.hpp:choose_experts_backward|team.sync();|;"
  "sum_slots: tail|kernels/model_rows|transformer/experts.hpp:sum_slots|team.each(width,|team.each(width - 1,"
  "sum_slots_backward: tail|kernels/model_rows|transformer/experts.hpp:sum_slots_backward|team.each(width,|team.each(width - 1,"
  "sum_slots_backward: sum's tail|kernels/model_rows|transformer/experts.hpp:sum_slots_backward|width, \\[=\\](A lane|width - 1, [=](A lane"
)

# Plants bug number $1 in a folder of its own and says in one line how that went.
try() {
  local name test place there planted header struct lines='' folder=$work/$1
  SECONDS=0
  IFS='|' read -r name test place there planted <<<"${bugs[$1]}"
  IFS=: read -r header struct <<<"$place"
  [[ -z $struct ]] || lines="/^struct $struct {/,/^};/"
  mkdir "$folder"
  cp -r "$work/include" "$folder"
  sed -i "$lines s#$there#$planted#" "$folder/include/$header"
  if cmp -s "$work/include/$header" "$folder/include/$header"; then
    echo "NOT PLANTED       $name: the text is not in $place any more"
    return
  fi
  local flags=(-std=c++20 -O1 -w -ffp-contract=off -DMSG_TEST_ON_SIMT)
  flags+=(-I"$root/tests/support/device" -I"$root/tests" -I"$folder/include")
  [[ $header != *elements.hpp ]] || flags+=(-fsanitize=undefined -fsanitize=address -fno-sanitize-recover=all)
  [[ $test != cuda/races ]] || flags+=(-fsanitize=thread)
  if ! "$compiler" "${flags[@]}" "$root/tests/${test}_test.cpp" "$work/main.o" -o "$folder/test" 2>"$folder/output"; then
    echo "DOES NOT COMPILE  $name: $(grep -m 1 error "$folder/output")"
    return
  fi
  local run=(timeout 300 "$folder/test" --abort)
  [[ $test != cuda/races ]] || run=(setarch -R "${run[@]}") # ThreadSanitizer and much address randomisation do not agree
  local status=0
  "${run[@]}" >"$folder/output" 2>&1 || status=$?
  case $status in
    0) echo "MISSED            $name, $SECONDS s" ;;
    124) echo "TOO SLOW          $name, $SECONDS s: the test found nothing in 300 s" ;;
    *) echo "found             $name, $SECONDS s" ;;
  esac
  rm -r "$folder"
}

chosen=()
for number in "${!bugs[@]}"; do
  for asked in "${@:-${bugs[number]%%|*}}"; do
    [[ $asked != "${bugs[number]%%|*}" ]] || chosen+=("$number")
  done
done
[[ ${#chosen[@]} -gt 0 ]] || { echo "$0: no bug has that name" >&2; exit 2; }

mkdir "$work/include"
cp -r "$root/include/msg" "$root/examples/transformer" "$work/include" # a header's path is as it is included
"$compiler" -std=c++20 -w -c "$root/tests/support/main_v2.cpp" -o "$work/main.o"

# As many at a time as there are processors; what they say, in the order of the table.
busy=0
shown=0
for number in "${chosen[@]}"; do
  ((++busy <= $(nproc))) || wait -n || true
  try "$number" >"$work/said.$number" &
  while [[ -s $work/said.${chosen[shown]:-} ]]; do cat "$work/said.${chosen[shown++]}"; done
done
wait
for number in "${chosen[@]:shown}"; do cat "$work/said.$number"; done
found=$(cat "$work"/said.* | grep -c '^found ' || true)
echo "${#chosen[@]} planted, $((${#chosen[@]} - found)) not found"
[[ $found -eq ${#chosen[@]} ]]
