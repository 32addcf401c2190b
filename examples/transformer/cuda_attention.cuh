// Where the heads of attention lie, for batched products: tables that a kernel fills in device memory.
#pragma once

#include "transformer/attention_rows.hpp"

#include <msg/config.hpp>
#include <msg/exec/cuda.cuh>

namespace reference {

/// Addresses of matrices by head, in device memory.
template <class T>
struct attention_tables {
  static constexpr int count = 9;
  const T **query, **key, **value, **out, **dquery, **dkey, **dvalue, **scores, **dscores; // (items)

  attention_tables(const T** memory, index items)
      : query(memory), key(memory + items), value(memory + 2 * items), out(memory + 3 * items),
        dquery(memory + 4 * items), dkey(memory + 5 * items), dvalue(memory + 6 * items), scores(memory + 7 * items),
        dscores(memory + 8 * items) {}

  /// The batch's queries on, keys from the sequence's start.
  ///
  /// rows_out  the output, or its gradient if `back`
  void fill(const msg::cuda::on& stream, const head_batch& b, const msg::mask_view& heads, const T* zeros, const T* qkv,
            bool back, const T* rows_out, const T* dqkv, const T* first_scores, const T* first_dscores) const {
    const attention_shape& s = b.shape;
    const index step = s.row_width();
    const index keys = s.width();
    const index values = keys + s.kv_heads * s.head_dim;
    const auto of = [&](const T** to, const T* start, bool shared, bool quiet) {
      return head_table<T>{to, start, s.tokens * step, s.head_dim, 0, shared, quiet};
    };
    const index tile = b.rows * b.keys();
    const index first = b.first;
    const head_tables<T, count> tables{
        b,
        heads,
        zeros,
        {of(query, qkv + first * step, false, true),
         of(key, qkv + keys, true, true),
         of(value, qkv + values, true, true),
         {out, rows_out + first * s.width(), s.tokens * s.width(), s.head_dim, 0, false, back},
         of(dquery, dqkv + first * step, false, false),
         of(dkey, dqkv + keys, true, false),
         of(dvalue, dqkv + values, true, false),
         {scores, first_scores, 0, 0, tile, false},
         {dscores, first_dscores, 0, 0, tile, false}}};
    stream.run(count, b.items(), tables);
  }
};

} // namespace reference
