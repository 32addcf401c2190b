#!/usr/bin/env bash
# Plants one bug after another in a copy of the device code; every one has to be found by the tests on the SIMT layer, or
# this fails. README.md in this folder lists them.
#
#   tests/cuda/plant.sh [NAME...]        the names of the bugs; all by default
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
compiler=${CXX:-g++}

# NAME | test that has to find it | file | what is there | what is planted instead
bugs=(
  "sync does nothing in a block|races|exec/cuda_team.cuh|detail::sync_block();|(void)0;"
  "sync does nothing in a half-warp|races|exec/cuda_team.cuh|detail::sync_threads_of(mask_);|(void)0;"
  "a whole block waits in a half-warp|team|exec/cuda_team.cuh|detail::sync_threads_of(mask_);|detail::sync_block();"
  "mask of the lower half-warp for both|team|exec/cuda_team.cuh|thread / lanes % 2 \\* lanes|0"
  "half of the tree|team|exec/cuda_team.cuh|int distance = lanes / 2;|int distance = lanes / 4;"
  "wrong number of lanes|team|exec/cuda_team.cuh|index i = rank_; i < n; i += lanes|index i = rank_; i < n; i += size_"
  "only the first warp knows a sum|team|exec/cuda_team.cuh|if (size_ > lanes) {\$|if (size_ > 2 * lanes) {"
  "a sum is read before it is written|team|exec/cuda_team.cuh|\\*known = lane; }|*known = lane; return lane; }"
  "no barrier after a sum is read|team|exec/cuda_team.cuh|sync(); // the next fold writes there|;"
  "each() leaves out the last|team|exec/cuda_team.cuh|index i = rank_; i < n; i += size_) { f|index i = rank_; i + 1 < n; i += size_) { f"
  "each() starts at the lane, not the rank|team|exec/cuda_team.cuh|index i = rank_; i < n; i += size_) { f|index i = rank_ % lanes; i < n; i += size_) { f"
  "rows of the first grid only|team|exec/cuda_team.cuh|row < rows; row +=|row < rows \\&\\& row == first; row +="
  "blocks share their rows|team|exec/cuda_team.cuh|static_cast<index>(at.block) \\* teams|0 * teams"
  "teams share their scratch|team|exec/cuda_team.cuh|thread / lanes \\* scratch_bytes|0 * scratch_bytes"
  "no barrier between rows with scratch|team|exec/cuda_team.cuh|members.sync(); }|}"
  "the tail of packs starts one late|packs|kernels/elements.hpp|done = packs \\* count;|done = packs * count + 1;"
  "one pack too many|packs|kernels/elements.hpp|packs = n / count;|packs = (n + count - 1) / count;"
  "misaligned packs|packs|kernels/elements.hpp|if ((columns.aligned() \\&\\& ...))|if (true)"
  "packs of the mask at the wrong place|packs|kernels/elements.hpp|return {p.at\\[k\\]};|return {p.at[0]};"
  "rows of packs without their step|packs|kernels/elements.hpp|count>\\*>(data + r \\* step + i)|count>*>(data + i)"
  "no barrier between rows of a column sum|races|kernels/column_sum.hpp|team.sync();|;"
  "join without the last chunk|packs|kernels/column_sum.hpp|each_four(1, chunks,|each_four(1, chunks - 1,"
  "a norm's statistics by every second member|packs|kernels/norm.hpp|if (team.rank() == 0) {|if (team.rank() == 1) {"
  "squares by the wrong member|optimizer|kernels/optimizer.hpp|if (team.rank() == 0) { partial|if (team.rank() == 1) { partial"
  "the plan's arrays of the host|growth|cuda/plan.cuh|if (a.host == host) {|if (false) {"
  "a mask that forgets its sum|growth|cuda/mask.cuh|kernel.total = mask.sum();|;"
  "stale factors of ages|optimizer|cuda/optimizer.cuh|stream.run(1, std::max(group_.size(), runs_.size()), kernel);|;"
  "decay for everybody|optimizer|cuda/optimizer.cuh|spared.decay = false;|;"
)

missed=0
tried=0
"$compiler" -std=c++20 -w -c "$root/tests/support/main_v2.cpp" -o "$work/main.o"
for bug in "${bugs[@]}"; do
  IFS='|' read -r name test file there planted <<<"$bug"
  if [[ $# -gt 0 ]]; then
    wanted=
    for asked in "$@"; do [[ $asked != "$name" ]] || wanted=yes; done
    [[ -n $wanted ]] || continue
  fi
  ((++tried))
  rm -rf "$work/include"
  cp -r "$root/include" "$work/include"
  sed -i "s#$there#$planted#" "$work/include/msg/$file"
  if cmp -s "$root/include/msg/$file" "$work/include/msg/$file"; then
    echo "NOT PLANTED  $name: the text is not in $file any more"
    ((++missed))
    continue
  fi
  flags=(-std=c++20 -O1 -w -ffp-contract=off -DMSG_TEST_ON_SIMT -I"$root/tests/support/device" -I"$root/tests" -I"$work/include")
  [[ $file != *elements.hpp ]] || flags+=(-fsanitize=undefined -fsanitize=address -fno-sanitize-recover=all)
  [[ $test != races ]] || flags+=(-fsanitize=thread)
  "$compiler" "${flags[@]}" "$root/tests/cuda/${test}_test.cpp" "$work/main.o" -o "$work/test"
  run=(timeout 120 "$work/test" --abort)
  [[ $test != races ]] || run=(setarch -R "${run[@]}") # ThreadSanitizer and much address randomisation do not agree
  if "${run[@]}" >"$work/output" 2>&1; then
    echo "MISSED       $name"
    ((++missed))
  else
    echo "found        $name"
  fi
done
echo "$tried planted, $missed not found"
[[ $missed -eq 0 && $tried -gt 0 ]]
