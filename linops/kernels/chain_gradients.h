// The gradients of a chain of contractions (`chain.h`). With the gradient g of y, that of x is a step too, with rows and
// columns of a in each other's place, and that of a is Σ_{s, k} g[b, r, s, k] x[b, c, s, k].

#pragma once

#include "chain.h"

namespace {

// R rows of g times C columns of x, along s and k
template <class T, int N, int R, int C>
inline void products(
    const Step& step, const T* g, const int* yr, const T* x, const int* xc, long k, T* a, const int* ar,
    const int* ac) {
  using V = vec<T, N>;
  V acc[R][C];
  T sums[R][C] = {};
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) acc[r][c] = V{};
  const long parts = step.flat ? 1 : step.xs.size(), length = step.flat ? step.xs.size() * k : k;
  for (long s = 0; s < parts; ++s) {
    const T *rows[R], *columns[C];
    for (int r = 0; r < R; ++r) rows[r] = g + (yr[r] + step.ys[s]) * k;
    for (int c = 0; c < C; ++c) columns[c] = x + (xc[c] + step.xs[s]) * k;
    long t = 0;
    for (; t + N <= length; t += N) {
      V column[C];
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) column[c] = load<V>(columns[c] + t);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const V row = load<V>(rows[r] + t);
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) acc[r][c] += row * column[c];
      }
    }
    for (; t < length; ++t)
      for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) sums[r][c] += rows[r][t] * columns[c][t];
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) a[ar[r] + ac[c]] = sums[r][c] + total<T, N>(acc[r][c]);
}

template <class T, int N, int R>
inline void rows_of(const Step& step, const T* g, const int* yr, const T* x, long k, T* a, const int* ar) {
  const int *xc = step.xc.data(), *ac = step.ac.data();
  const long count = step.ac.size();
  long c = 0;
  for (; c + 4 <= count; c += 4) products<T, N, R, 4>(step, g, yr, x, xc + c, k, a, ar, ac + c);
  if (c + 2 <= count) products<T, N, R, 2>(step, g, yr, x, xc + c, k, a, ar, ac + c), c += 2;
  if (c < count) products<T, N, R, 1>(step, g, yr, x, xc + c, k, a, ar, ac + c);
}

template <class T, int N> void along(const Step& step, const T* g, const T* x, long k, T* a) {
  const int *yr = step.yr.data(), *ar = step.ar.data();
  const long blocks = step.ab.size(), count = step.ar.size();
  for (long b = 0; b < blocks; ++b) {
    const T *from = g + step.yb[b] * k, *in = x + step.xb[b] * k;
    T* block = a + step.ab[b];
    long r = 0;
    for (; r + 4 <= count; r += 4) rows_of<T, N, 4>(step, from, yr + r, in, k, block, ar + r);
    if (r + 2 <= count) rows_of<T, N, 2>(step, from, yr + r, in, k, block, ar + r), r += 2;
    if (r < count) rows_of<T, N, 1>(step, from, yr + r, in, k, block, ar + r);
  }
}

// small blocks, of few numbers along s and k
template <class T, int R, int C> void small_along(const Step& step, const T* g, const T* x, long k, T* a) {
  const long blocks = step.ab.size(), rest = step.xs.size();
  for (long b = 0; b < blocks; ++b) {
    T sums[R][C] = {};
    for (long s = 0; s < rest; ++s) {
      const T *from = g + (step.yb[b] + step.ys[s]) * k, *in = x + (step.xb[b] + step.xs[s]) * k;
      for (long v = 0; v < k; ++v) {
        T row[C];
        for (int c = 0; c < C; ++c) row[c] = in[step.xc[c] * k + v];
        for (int r = 0; r < R; ++r)
          for (int c = 0; c < C; ++c) sums[r][c] += from[step.yr[r] * k + v] * row[c];
      }
    }
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < C; ++c) a[step.ab[b] + step.ar[r] + step.ac[c]] = sums[r][c];
  }
}

// g or x, with what it shares with a
template <class T> struct Side {
  const T* numbers;
  const Table &block, &own, &rest, &of_a;
};

// each number along s and k times columns side by side, in registers
template <class T> void outward(const Step& step, Side<T> rows, Side<T> columns, long k, T* a) {
  thread_local Step by;
  thread_local std::vector<T> packed, found;
  const long rest = step.xs.size(), length = rest * k, r = rows.own.size(), c = columns.own.size();
  const bool in_order = is_flat(columns.of_a), lies = length == 1 && is_flat(columns.own);
  by.ar.resize(r), by.yr.resize(r), by.ac.resize(length), by.xc.resize(length);
  for (long each = 0; each < r; ++each)
    by.ar[each] = rows.own[each] * k, by.yr[each] = in_order ? rows.of_a[each] : each * c;
  for (long t = 0; t < length; ++t) by.ac[t] = rows.rest[t / k] * k + t % k, by.xc[t] = t * c;
  T *laid = scratch(packed, length * c), *block_of_a = scratch(found, in_order ? 0 : r * c);
  for (size_t b = 0; b < step.ab.size(); ++b) {
    const T *from = rows.numbers + rows.block[b] * k, *in = columns.numbers + columns.block[b] * k;
    for (long each = 0; !lies && each < c; ++each)
      for (long s = 0; s < rest; ++s)
        for (long v = 0; v < k; ++v)
          laid[(s * k + v) * c + each] = in[(columns.own[each] + columns.rest[s]) * k + v];
    T* block = a + step.ab[b];
    across<T>(by, from, lies ? in : laid, 1, in_order ? block : block_of_a, c);
    for (long row = 0; !in_order && row < r; ++row)
      for (long each = 0; each < c; ++each) block[rows.of_a[row] + columns.of_a[each]] = block_of_a[row * c + each];
  }
}

template <class T> void gradient_of(const Step& step, const T* g, const T* x, long k, T* a) {
  constexpr int N = BYTES / sizeof(T);
  const long length = step.flat ? step.xs.size() * k : k, r = step.ar.size(), c = step.ac.size();
  // sums of registers take longer than to lay columns side by side, for few numbers along s and k
  const bool is_block = std::max(r, c) >= N && std::min(r, c) >= 4 && step.xs.size() * k <= 8 * N;
  if (length >= N && !is_block) return along<T, N>(step, g, x, k, a);
  if (r == 1 && c == 1) return small_along<T, 1, 1>(step, g, x, k, a);
  if (r == 2 && c == 2) return small_along<T, 2, 2>(step, g, x, k, a);
  if (r == 4 && c == 4) return small_along<T, 4, 4>(step, g, x, k, a);
  const Side<T> rows{g, step.yb, step.yr, step.ys, step.ar}, columns{x, step.xb, step.xc, step.xs, step.ac};
  // numbers that are laid side by side, and those that are taken to their places in a one by one
  const auto moved = [&](const Side<T>& side) {
    return side.own.size() * step.xs.size() * k + (is_flat(side.of_a) ? 0 : r * c);
  };
  const bool by_rows = (r >= N) == (c >= N) ? moved(rows) < moved(columns) : r >= N;
  by_rows ? outward<T>(step, columns, rows, k, a) : outward<T>(step, rows, columns, k, a);
}

// The gradients of x and leaves, of those that have a place, for g of y.
template <class T>
void gradients(
    const Chain& chain, const T* const* leaves, const T* x, const T* middle, const T* g, long k, bool rows, T* of_x,
    T* const* of_leaves) {
  thread_local std::vector<T> kept, again;
  const size_t size = (chain.most * k + 15) / 16 * 16;
  T* start = scratch(kept, 4 * size);
  T *between[2] = {start, start + size}, *row = start + 2 * size, *columns = start + 3 * size;
  rows = rows && k > 1;
  long first = 0, last = chain.steps.size() - 1;
  while (!of_x && first < last && !of_leaves[chain.steps[first].tensor]) ++first;  // further the gradient need not come
  if (rows) {
    turned(g, k, chain.m, between[last % 2]);
    g = between[last % 2];
    if (of_leaves[chain.steps[0].tensor]) turned(x, k, chain.n, columns), x = columns;
  }
  std::vector<bool> is_there(chain.leaves);
  for (long place = last; place >= first; --place) {
    const Step& step = chain.steps[place];
    if (T* of_leaf = of_leaves[step.tensor]) {
      const bool adds = is_there[step.tensor];
      if (adds) again.resize(step.numbers);
      gradient_of<T>(step, g, place ? middle + chain.starts[place] * k : x, k, adds ? again.data() : of_leaf);
      for (long each = 0; adds && each < step.numbers; ++each) of_leaf[each] += again[each];
      is_there[step.tensor] = true;
    }
    if (place == first && !of_x) break;
    T* to = place || rows ? between[(place + 1) % 2] : of_x;
    apply<T>(chain.back[place], leaves[step.tensor], g, k, to, row);
    g = to;
  }
  if (of_x && rows) turned(g, chain.n, k, of_x);
}

}  // namespace
