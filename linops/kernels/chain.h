// The products of a chain of contractions with few vectors: each tensor in turn multiplies the operand,
//
//     y[b, r, s, k] = Σ_c a[b, r, c] x[b, c, s, k],
//
// where b, r, c, s are runs of axes and k counts vectors. Where the numbers of each index stand is a table of offsets,
// so that no operand is copied to another order.

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr long BYTES = 64;
#elif defined(__AVX2__)
constexpr long BYTES = 32;
#else
constexpr long BYTES = 16;
#endif

// N numbers of a register, wherever they stand
template <class T, int N> struct Vector {
  typedef T type __attribute__((vector_size(N * sizeof(T)), aligned(sizeof(T)), may_alias));
};
template <class T> struct Vector<T, 1> { typedef T type; };
template <class T, int N> using vec = typename Vector<T, N>::type;
template <class V, class T> inline V load(const T* from) { return *reinterpret_cast<const V*>(from); }

// so many numbers that a thread keeps, from the border of a register on: loads across lines of the cache take longer
template <class T> T* scratch(std::vector<T>& kept, size_t size) {
  constexpr size_t N = BYTES / sizeof(T);
  if (kept.size() < size + N) kept.resize(size + N);
  return kept.data() + (N - reinterpret_cast<uintptr_t>(kept.data()) / sizeof(T) % N) % N;
}

using Table = std::vector<int>;

struct Step {
  long tensor, numbers;  // which leaf it is, and how many numbers that has
  std::string own, held, after;  // axes of a, x and y, of one letter each
  std::vector<int64_t> shape;    // of a
  Table ab, ar, ac, xb, xc, xs, yb, yr, ys;
  long run;           // of the columns of a, so many at a time stand side by side
  bool flat, packed;  // whether s counts by one in x and y; whether c does in x
  std::shared_ptr<Step> lanes;  // for one vector, where rows of a stand side by side: those as vectors, s as rows
};

struct Chain {
  long m, n, most, leaves, work = 0, between = 0;  // MACs of one vector, and numbers between all steps
  std::vector<Step> steps, back;  // and those of the gradient of x
  std::vector<long> starts;       // of the operand of each step among the numbers between
  std::vector<int64_t> into, out;  // the shapes of x and y without vectors
};

long run_of(const Table& table) {
  long run = 1, size = table.size();
  while (run < size && table[run] == table[0] + run) ++run;
  for (long start = 0; start < size; start += run)  // each as long as the first
    for (long place = 0; place < run; ++place)
      if (start + place >= size || table[start + place] != table[start] + place) return 1;
  return run;
}

inline bool is_flat(const Table& table) { return run_of(table) == long(table.size()); }

void complete(Step& step) {
  step.run = run_of(step.ac);
  step.packed = is_flat(step.xc);
  step.flat = is_flat(step.xs) && is_flat(step.ys);
  if (step.run >= 4 || step.ar.size() < 4 || !is_flat(step.ar)) return;
  step.lanes = std::make_shared<Step>();
  step.lanes->ac = step.xc, step.lanes->xc = step.ac;
  step.lanes->packed = is_flat(step.yr);
  step.lanes->ar = step.lanes->packed ? step.xs : Table{0};
  step.lanes->yr = step.lanes->packed ? step.ys : Table{0};
}

// the step of the gradient of x
Step turned(const Step& step) {
  Step back = step;
  std::swap(back.ar, back.ac), std::swap(back.xb, back.yb), std::swap(back.xc, back.yr), std::swap(back.xs, back.ys);
  back.lanes.reset();
  complete(back);
  return back;
}

// R rows times P registers of N vectors
template <class T, int N, int P, int R>
inline void tile(const Step& step, const T* a, const int* ar, const T* x, long k, T* y, const int* yr) {
  using V = vec<T, N>;
  V acc[R][P];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) acc[r][p] = V{};
  const T* rows[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) rows[r] = a + ar[r];
  const int *ac = step.ac.data(), *xc = step.xc.data();
  const long columns = step.ac.size();
  for (long c = 0; c < columns; ++c) {
    const T* from = x + xc[c] * k;
    const long at = ac[c];
    V row[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) row[p] = load<V>(from + p * N);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const T scalar = rows[r][at];
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) acc[r][p] += scalar * row[p];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) *reinterpret_cast<V*>(y + yr[r] * k + p * N) = acc[r][p];
}

template <class T, int N, int P, int R>
inline void rows(const Step& step, const T* a, const T* x, long k, T* y) {
  const int *ar = step.ar.data(), *yr = step.yr.data();
  const long count = step.ar.size();
  long r = 0;
  for (; r + R <= count; r += R) tile<T, N, P, R>(step, a, ar + r, x, k, y, yr + r);
  if constexpr (R > 4)
    if (r + 4 <= count) tile<T, N, P, 4>(step, a, ar + r, x, k, y, yr + r), r += 4;
  if (r + 2 <= count) tile<T, N, P, 2>(step, a, ar + r, x, k, y, yr + r), r += 2;
  for (; r < count; ++r) tile<T, N, P, 1>(step, a, ar + r, x, k, y, yr + r);
}

// so many numbers that stand side by side in x and y
template <class T> void across(const Step& step, const T* a, const T* x, long k, T* y, long count) {
  constexpr int N = BYTES / sizeof(T);
  long v = 0;
  if (step.ar.size() == 1)
    for (; v + 4 * N <= count; v += 4 * N) rows<T, N, 4, 1>(step, a, x + v, k, y + v);
  for (; v + 2 * N <= count; v += 2 * N) rows<T, N, 2, 4>(step, a, x + v, k, y + v);
  if (v + N <= count) rows<T, N, 1, 8>(step, a, x + v, k, y + v), v += N;
  if constexpr (N > 8)
    if (v + 8 <= count) rows<T, 8, 1, 8>(step, a, x + v, k, y + v), v += 8;
  if constexpr (N > 4)
    if (v + 4 <= count) rows<T, 4, 1, 8>(step, a, x + v, k, y + v), v += 4;
  if (v + 2 <= count) rows<T, 2, 1, 8>(step, a, x + v, k, y + v), v += 2;
  if (count == 1)
    rows<T, 1, 1, 8>(step, a, x, k, y);
  else if (v < count)  // the one before it anew: a single number takes ten times as long
    rows<T, 2, 1, 8>(step, a, x + count - 2, k, y + count - 2);
}

// one vector times small blocks
template <class T, int R, int C> void small(const Step& step, const T* a, const T* x, T* y) {
  long from[R][C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) from[r][c] = step.ar[r] + step.ac[c];
  const long blocks = step.ab.size(), rest = step.xs.size();
  for (long b = 0; b < blocks; ++b) {
    T block[R][C];
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < C; ++c) block[r][c] = a[step.ab[b] + from[r][c]];
    for (long s = 0; s < rest; ++s) {
      const T* in = x + step.xb[b] + step.xs[s];
      T *out = y + step.yb[b] + step.ys[s], row[C];
      for (int c = 0; c < C; ++c) row[c] = in[step.xc[c]];
      for (int r = 0; r < R; ++r) {
        T sum = 0;
        for (int c = 0; c < C; ++c) sum += block[r][c] * row[c];
        out[step.yr[r]] = sum;
      }
    }
  }
}

// small blocks times N numbers side by side, from one place on
template <class T, int N, int R, int C>
inline void piece(const T (&block)[R][C], const T* const (&from)[C], T* const (&to)[R], long place) {
  using V = vec<T, N>;
  V row[C];
  for (int c = 0; c < C; ++c) row[c] = load<V>(from[c] + place);
  for (int r = 0; r < R; ++r) {
    V sum{};
    for (int c = 0; c < C; ++c) sum += block[r][c] * row[c];
    *reinterpret_cast<V*>(to[r] + place) = sum;
  }
}

template <class T, int R, int C> void small_across(const Step& step, const T* a, const T* x, long k, T* y) {
  constexpr int N = BYTES / sizeof(T);
  const long blocks = step.ab.size(), rest = step.xs.size(), parts = step.flat ? 1 : rest;
  const long length = step.flat ? rest * k : k;
  for (long b = 0; b < blocks; ++b) {
    T block[R][C];
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < C; ++c) block[r][c] = a[step.ab[b] + step.ar[r] + step.ac[c]];
    for (long s = 0; s < parts; ++s) {
      const T* from[C];
      T* to[R];
      for (int c = 0; c < C; ++c) from[c] = x + (step.xb[b] + step.xs[s] + step.xc[c]) * k;
      for (int r = 0; r < R; ++r) to[r] = y + (step.yb[b] + step.ys[s] + step.yr[r]) * k;
      long v = 0;
      for (; v + N <= length; v += N) piece<T, N, R, C>(block, from, to, v);
      if constexpr (N > 8)
        if (v + 8 <= length) piece<T, 8, R, C>(block, from, to, v), v += 8;
      if constexpr (N > 4)
        if (v + 4 <= length) piece<T, 4, R, C>(block, from, to, v), v += 4;
      for (; v < length; ++v) piece<T, 1, R, C>(block, from, to, v);
    }
  }
}

template <class T, int N> inline T total(const vec<T, N>& numbers) {
  if constexpr (N == 1) {
    return numbers;
  } else {
    const T* half = reinterpret_cast<const T*>(&numbers);
    return total<T, N / 2>(load<vec<T, N / 2>>(half) + load<vec<T, N / 2>>(half + N / 2));
  }
}

// R inner products with one vector, whose numbers stand side by side
template <class T, int R>
inline void inner(const Step& step, const T* a, const int* ar, const T* x, T* y, const int* yr) {
  constexpr int N = BYTES / sizeof(T);
  using V = vec<T, N>;
  V acc[R];
  T sums[R] = {};
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) acc[r] = V{};
  const long columns = step.ac.size(), run = step.run;
  for (long start = 0; start < columns; start += run) {
    const T *from = a + step.ac[start], *in = x + start;
    long c = 0;
    for (; c + N <= run; c += N) {
      const V row = load<V>(in + c);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[r] += load<V>(from + ar[r] + c) * row;
    }
    for (; c < run; ++c)
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sums[r] += from[ar[r] + c] * in[c];
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) y[yr[r]] = sums[r] + total<T, N>(acc[r]);
}

template <class T> void inners(const Step& step, const T* a, const T* x, T* y, T* row) {
  const long blocks = step.ab.size(), rest = step.xs.size(), count = step.ar.size(), columns = step.xc.size();
  const int *ar = step.ar.data(), *yr = step.yr.data();
  for (long b = 0; b < blocks; ++b)
    for (long s = 0; s < rest; ++s) {
      const T *in = x + step.xb[b] + step.xs[s], *block = a + step.ab[b];
      T* out = y + step.yb[b] + step.ys[s];
      if (!step.packed) {
        for (long c = 0; c < columns; ++c) row[c] = in[step.xc[c]];
        in = row;
      }
      long r = 0;
      for (; r + 4 <= count; r += 4) inner<T, 4>(step, block, ar + r, in, out, yr + r);
      for (; r < count; ++r) inner<T, 1>(step, block, ar + r, in, out, yr + r);
    }
}

template <class T> void in_lanes(const Step& step, const T* a, const T* x, T* y, T* row) {
  const long blocks = step.ab.size(), rest = step.xs.size(), count = step.ar.size();
  for (long b = 0; b < blocks; ++b) {
    const T *block = a + step.ab[b], *in = x + step.xb[b];
    T* out = y + step.yb[b];
    if (step.lanes->packed) {
      across<T>(*step.lanes, in, block, 1, out, count);
      continue;
    }
    for (long s = 0; s < rest; ++s) {
      across<T>(*step.lanes, in + step.xs[s], block, 1, row, count);
      for (long r = 0; r < count; ++r) out[step.ys[s] + step.yr[r]] = row[r];
    }
  }
}

template <class T> void apply(const Step& step, const T* a, const T* x, long k, T* y, T* row) {
  const long blocks = step.ab.size(), rest = step.xs.size(), r = step.ar.size(), c = step.ac.size();
  const bool wide = step.flat && rest >= 4;
  if (k == 1 && !wide) {
    if (r == 1 && c == 1) return small<T, 1, 1>(step, a, x, y);
    if (r == 2 && c == 2) return small<T, 2, 2>(step, a, x, y);
    if (r == 4 && c == 4) return small<T, 4, 4>(step, a, x, y);
    if (step.run >= 4) return inners<T>(step, a, x, y, row);
    if (step.lanes) return in_lanes<T>(step, a, x, y, row);
  }
  if (r == 2 && c == 2) return small_across<T, 2, 2>(step, a, x, k, y);
  if (r == 4 && c == 4) return small_across<T, 4, 4>(step, a, x, k, y);
  for (long b = 0; b < blocks; ++b) {
    const T *block = a + step.ab[b], *in = x + step.xb[b] * k;
    T* out = y + step.yb[b] * k;
    if (step.flat)
      across<T>(step, block, in, k, out, rest * k);
    else
      for (long s = 0; s < rest; ++s) across<T>(step, block, in + step.xs[s] * k, k, out + step.ys[s] * k, k);
  }
}

// (rows, columns) of numbers side by side to (columns, rows)
template <class T> void turned(const T* from, long rows, long columns, T* to) {
  for (long start = 0; start < columns; start += 16)
    for (long r = 0; r < rows; ++r)
      for (long c = start; c < std::min(start + 16, columns); ++c) to[c * rows + r] = from[r * columns + c];
}

// y, of rows where so it is said, and what lies between the steps where there is a place for it
template <class T>
void multiply(const Chain& chain, const T* const* leaves, const T* x, long k, T* y, bool rows, T* middle) {
  thread_local std::vector<T> kept;
  const size_t size = (chain.most * k + 15) / 16 * 16;
  T* start = scratch(kept, 3 * size);
  T *between[2] = {start, start + size}, *row = start + 2 * size;
  rows = rows && k > 1;
  size_t place = 0;
  if (rows) {
    turned(x, k, chain.n, between[0]);
    x = between[0];
  }
  for (const Step& step : chain.steps) {
    const bool last = ++place == chain.steps.size();
    T* to = last && !rows ? y : middle && !last ? middle + chain.starts[place] * k : between[place % 2];
    apply<T>(step, leaves[step.tensor], x, k, to, row);
    x = to;
  }
  if (rows) turned(x, chain.m, k, y);
}

}  // namespace
