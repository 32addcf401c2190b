// Loops over the elements of several arrays at once: plain loops on the CPU, 16 bytes a member at a time on a GPU.
#pragma once

#include <msg/config.hpp>
#include <msg/kernels/arithmetic.hpp>
#include <msg/tensor.hpp>

#include <cstddef>
#include <cstdint>

MSG_NAMESPACE_BEGIN

namespace detail {

// each_element(team, n, f, columns...) calls f(i, x...) for i in [0, n), x... being the columns' elements i: numbers in
// accumulate_t for what is read, references to such for what is written. All columns are read before any is written,
// so that a column may lie on another. A column offers
//   load(i), store(i, x)          one element
//   loads(i), stores(i, pack)     `count` elements from i on, where aligned() is true
//   get(pack, k), put(pack, k, x) one of them
//   smallest                      bytes of its element, which bound `count`; aligned(): to 16 bytes

inline constexpr int pack_bytes = 16;

template <class T, index count>
struct alignas(pack_bytes) pack {
  T at[count];
};
struct no_pack {};

[[nodiscard]] MSG_HOST_DEVICE inline bool is_aligned(const void* data) noexcept {
  return reinterpret_cast<std::uintptr_t>(data) % pack_bytes == 0;
}

/// An array that is read.
template <class T>
struct reads {
  using value = accumulate_t<T>;
  static constexpr int smallest = sizeof(T);
  const T* data;
  MSG_HOST_DEVICE explicit reads(const T* array) noexcept : data(array) {}
  [[nodiscard]] MSG_HOST_DEVICE reads from(index i) const noexcept { return reads(data + i); }
  [[nodiscard]] MSG_HOST_DEVICE bool aligned() const noexcept { return is_aligned(data); }
  [[nodiscard]] MSG_HOST_DEVICE value load(index i) const { return value(data[i]); }
  MSG_HOST_DEVICE void store(index, value) const noexcept {}
  template <index count>
  [[nodiscard]] MSG_HOST_DEVICE pack<T, count> loads(index i) const {
    return *reinterpret_cast<const pack<T, count>*>(data + i);
  }
  template <index count>
  MSG_HOST_DEVICE void stores(index, const pack<T, count>&) const noexcept {}
  template <index count>
  [[nodiscard]] MSG_HOST_DEVICE static value get(const pack<T, count>& p, index k) {
    return value(p.at[k]);
  }
  template <index count>
  MSG_HOST_DEVICE static void put(pack<T, count>&, index, value) noexcept {}
};

/// An array that is written, and read before if `updated`.
template <class T, bool updated>
struct written {
  using value = accumulate_t<T>;
  static constexpr int smallest = sizeof(T);
  T* data;
  MSG_HOST_DEVICE explicit written(T* array) noexcept : data(array) {}
  [[nodiscard]] MSG_HOST_DEVICE written from(index i) const noexcept { return written(data + i); }
  [[nodiscard]] MSG_HOST_DEVICE bool aligned() const noexcept { return is_aligned(data); }
  [[nodiscard]] MSG_HOST_DEVICE value load(index i) const {
    if constexpr (updated) { return value(data[i]); }
    return value(0);
  }
  MSG_HOST_DEVICE void store(index i, value x) const { data[i] = T(x); }
  template <index count>
  [[nodiscard]] MSG_HOST_DEVICE pack<T, count> loads(index i) const {
    if constexpr (updated) { return *reinterpret_cast<const pack<T, count>*>(data + i); }
    return {};
  }
  template <index count>
  MSG_HOST_DEVICE void stores(index i, const pack<T, count>& p) const {
    store_pack(reinterpret_cast<pack<T, count>*>(data + i), p);
  }
  template <index count>
  [[nodiscard]] MSG_HOST_DEVICE static value get(const pack<T, count>& p, index k) {
    if constexpr (updated) { return value(p.at[k]); }
    return value(0);
  }
  template <index count>
  MSG_HOST_DEVICE static void put(pack<T, count>& p, index k, value x) {
    p.at[k] = T(x);
  }

private:
  template <index count>
  MSG_HOST_DEVICE static void store_pack(pack<T, count>* to, const pack<T, count>& p) {
#ifdef __CUDA_ARCH__ // an assignment may become stores of 4 bytes
    for (std::size_t k = 0; k < sizeof(p) / pack_bytes; ++k) {
      uint4 bytes;
      memcpy(&bytes, reinterpret_cast<const unsigned char*>(&p) + k * pack_bytes, pack_bytes);
      __stwb(reinterpret_cast<uint4*>(to) + k, bytes);
    }
#else
    *to = p;
#endif
  }
};
template <class T>
using writes = written<T, false>;
template <class T>
using updates = written<T, true>;

/// `rows` rows of a matrix, `step` elements apart: f gets what holds their elements in `at`.
template <class T, index rows>
struct reads_rows {
  struct value {
    accumulate_t<T> at[rows];
  };
  static constexpr int smallest = sizeof(T);
  const T* data;
  index step;
  MSG_HOST_DEVICE reads_rows(const T* first, index apart) noexcept : data(first), step(apart) {}
  [[nodiscard]] MSG_HOST_DEVICE bool aligned() const noexcept {
    return is_aligned(data) && (rows == 1 || is_aligned(data + step));
  }
  [[nodiscard]] MSG_HOST_DEVICE value load(index i) const {
    value result;
    for (index r = 0; r < rows; ++r) { result.at[r] = accumulate_t<T>(data[r * step + i]); }
    return result;
  }
  MSG_HOST_DEVICE void store(index, const value&) const noexcept {}
  template <index count>
  struct packs {
    pack<T, count> row[rows];
  };
  template <index count>
  [[nodiscard]] MSG_HOST_DEVICE packs<count> loads(index i) const {
    packs<count> result;
    for (index r = 0; r < rows; ++r) { result.row[r] = *reinterpret_cast<const pack<T, count>*>(data + r * step + i); }
    return result;
  }
  template <class Packs>
  MSG_HOST_DEVICE void stores(index, const Packs&) const noexcept {}
  template <class Packs>
  [[nodiscard]] MSG_HOST_DEVICE static value get(const Packs& p, index k) {
    value result;
    for (index r = 0; r < rows; ++r) { result.at[r] = accumulate_t<T>(p.row[r].at[k]); }
    return result;
  }
  template <class Packs>
  MSG_HOST_DEVICE static void put(Packs&, index, const value&) noexcept {}
};

/// The same value for every element.
template <class Value>
struct constant {
  static constexpr int smallest = pack_bytes;
  Value held;
  MSG_HOST_DEVICE explicit constant(Value value) noexcept : held(value) {}
  [[nodiscard]] MSG_HOST_DEVICE constant from(index) const noexcept { return *this; }
  [[nodiscard]] MSG_HOST_DEVICE bool aligned() const noexcept { return true; }
  [[nodiscard]] MSG_HOST_DEVICE Value load(index) const { return held; }
  MSG_HOST_DEVICE void store(index, const Value&) const noexcept {}
  template <index count>
  [[nodiscard]] MSG_HOST_DEVICE no_pack loads(index) const {
    return {};
  }
  MSG_HOST_DEVICE void stores(index, no_pack) const noexcept {}
  [[nodiscard]] MSG_HOST_DEVICE Value get(no_pack, index) const { return held; }
  MSG_HOST_DEVICE static void put(no_pack, index, const Value&) noexcept {}
};

/// A mask, element by element: f gets a no_mask or a mask_value.
[[nodiscard]] MSG_HOST_DEVICE inline constant<no_mask> units_of(no_mask none) noexcept { return constant(none); }
struct masked_units : reads<float> {
  using value = mask_value;
  using reads<float>::reads;
  [[nodiscard]] MSG_HOST_DEVICE value load(index i) const { return {data[i]}; }
  MSG_HOST_DEVICE void store(index, value) const noexcept {}
  template <index count>
  [[nodiscard]] MSG_HOST_DEVICE static value get(const pack<float, count>& p, index k) {
    return {p.at[k]};
  }
  template <index count>
  MSG_HOST_DEVICE static void put(pack<float, count>&, index, value) noexcept {}
};
[[nodiscard]] MSG_HOST_DEVICE inline masked_units units_of(unit_mask units) noexcept {
  const masked_units result{units.value};
  return result;
}

template <class First, class... Rest>
[[nodiscard]] MSG_HOST_DEVICE constexpr index pack_count() noexcept {
  int least = First::smallest;
  ((least = Rest::smallest < least ? Rest::smallest : least), ...);
  return pack_bytes / least;
}

/// Element i of a column on its way to f and back.
template <class Column, class Value>
struct element {
  const Column& column;
  index i;
  Value x;
  MSG_HOST_DEVICE void put_back() const { column.store(i, x); }
};
template <class Column>
[[nodiscard]] MSG_HOST_DEVICE auto element_of(const Column& column, index i) {
  return element<Column, decltype(column.load(i))>{column, i, column.load(i)};
}

/// `count` elements of a column, and one of these.
template <class Column, class Pack>
struct elements {
  const Column& column;
  Pack loaded;
  MSG_HOST_DEVICE void put_back(index first) const { column.stores(first, loaded); }
};
template <index count, class Column>
[[nodiscard]] MSG_HOST_DEVICE auto elements_of(const Column& column, index first) {
  return elements<Column, decltype(column.template loads<count>(first))>{column, column.template loads<count>(first)};
}
template <class Elements, class Value>
struct packed_element {
  Elements& all;
  index k;
  Value x;
  MSG_HOST_DEVICE void put_back() const { all.column.put(all.loaded, k, x); }
};
template <class Elements>
[[nodiscard]] MSG_HOST_DEVICE auto packed_element_of(Elements& all, index k) {
  return packed_element<Elements, decltype(all.column.get(all.loaded, k))>{all, k, all.column.get(all.loaded, k)};
}

template <class Function, class... Elements>
MSG_HOST_DEVICE void call(const Function& f, index i, Elements... elements) {
  f(i, elements.x...);
  (elements.put_back(), ...);
}
template <index count, class Function, class... Elements>
MSG_HOST_DEVICE void call_for_each(const Function& f, index first, Elements... packs) {
#if defined(__CUDACC__)
#pragma unroll
#endif
  for (index k = 0; k < count; ++k) { call(f, first + k, packed_element_of(packs, k)...); }
  (packs.put_back(first), ...);
}

template <class Team, class Function, class... Columns>
MSG_HOST_DEVICE void each_element(const Team& team, index n, const Function& f, const Columns... columns) {
  if constexpr (requires { Team::moves_packs; }) {
    constexpr index count = pack_count<Columns...>();
    if ((columns.aligned() && ...)) {
      const index packs = n / count;
      team.each(packs, [=](index p) { call_for_each<count>(f, p * count, elements_of<count>(columns, p * count)...); });
      const index done = packs * count;
      team.each(n - done, [=](index i) { call(f, done + i, element_of(columns, done + i)...); });
      return;
    }
  }
  team.each(n, [=](index i) { call(f, i, element_of(columns, i)...); });
}

} // namespace detail

MSG_NAMESPACE_END
