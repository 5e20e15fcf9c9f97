// The products and gradients of a chain of contractions with few vectors: each tensor in turn multiplies the operand,
//
//     y[b, r, s, k] = Σ_c a[b, r, c] x[b, c, s, k],
//
// where b, r, c, s are runs of axes and k counts vectors. Where the numbers of each index stand is a table of offsets,
// so that no operand is copied to another order. With the gradient g of y, that of x is a step too, with rows and
// columns of a in each other's place, and that of a is Σ_{s, k} g[b, r, s, k] x[b, c, s, k].

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

// ---------------------------------------------------------------- gradients of a

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

// ---------------------------------------------------------------- the whole chain

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
  while (!of_x && !of_leaves[chain.steps[first].tensor]) ++first;  // further the gradient need not come
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
