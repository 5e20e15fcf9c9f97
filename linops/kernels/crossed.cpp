// Two products of blocks with the middle in cache, and their gradients, a tile of vectors at a time:
//
//     z[i, jρ, k] = Σ_n first[j, ρ m + i, n] x[j, n, k],    y[i, o, k] = Σ_jρ second[i, o, jρ] z[i, jρ, k].
//
// Every product in it is one micro-kernel: a tile of registers, to which a column of scalars times a row of vectors is
// added. Numbers are computed with as C (float or double) and stored as S (C, or bfloat16). `linops/kernels/crossed.py`
// calls `linops_forward_*` and `linops_backward_*`; it has checked all sizes.

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr long BYTES = 64, ROWS = 8;  // of a vector; of a tile of registers
#elif defined(__AVX2__)
constexpr long BYTES = 32, ROWS = 6;
#else
constexpr long BYTES = 16, ROWS = 6;
#endif

template <class C> struct Vector { typedef C type __attribute__((vector_size(BYTES), aligned(sizeof(C)), may_alias)); };
template <class C> using vec = typename Vector<C>::type;
template <class C> constexpr long W = BYTES / sizeof(C);
template <class C> inline vec<C> load(const C* from) { return *reinterpret_cast<const vec<C>*>(from); }
template <class C> inline void store(C* to, vec<C> v) { *reinterpret_cast<vec<C>*>(to) = v; }
inline long up(long n, long to) { return (n + to - 1) / to * to; }

struct bf16 {
  uint16_t bits;
  operator float() const { uint32_t wide = uint32_t(bits) << 16; float x; std::memcpy(&x, &wide, 4); return x; }
  bf16() = default;
  bf16(float x) {  // to the nearest, ties to even
    uint32_t wide;
    std::memcpy(&wide, &x, 4);
    bits = x != x ? 0x7fc0 : uint16_t((wide + 0x7fff + ((wide >> 16) & 1)) >> 16);
  }
};

template <class C> struct Buffer {
  C* data;
  explicit Buffer(long count) : data(static_cast<C*>(std::aligned_alloc(64, up(std::max(count, 1L) * sizeof(C), 64)))) {
    if (!data) throw std::bad_alloc();
  }
  ~Buffer() { std::free(data); }
  Buffer(const Buffer&) = delete;
  operator C*() const { return data; }
};

// c[r, v] (+)= Σ_s Σ_t a[s, t, r] b[s, t, v] for R rows r and V vectors v
struct Sum { long s, t, as, at, ar, bs, bt; };

template <class C, int R, int V>
inline void micro(const Sum& sum, const C* a, const C* b, C* c, long cr, bool add) {
  vec<C> acc[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[r][v] = vec<C>{};
  for (long s = 0; s < sum.s; ++s) {
    const C *at = a + s * sum.as, *bt = b + s * sum.bs;
    for (long t = 0; t < sum.t; ++t, at += sum.at, bt += sum.bt) {
      vec<C> row[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) row[v] = load(bt + v * W<C>);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const C scalar = at[r * sum.ar];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[r][v] += scalar * row[v];
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      C* to = c + r * cr + v * W<C>;
      store(to, add ? acc[r][v] + load(to) : acc[r][v]);
    }
}

template <class C, int V, int R>
inline void few(long rows, const Sum& sum, const C* a, const C* b, C* c, long cr, bool add) {
  if constexpr (R > 0) {
    if (rows == R) micro<C, R, V>(sum, a, b, c, cr, add);
    else few<C, V, R - 1>(rows, sum, a, b, c, cr, add);
  }
}

template <class C, int V>
inline void panel(long rows, const Sum& sum, const C* a, const C* b, C* c, long cr, bool add) {
  long r = 0;
  for (; r + ROWS <= rows; r += ROWS) micro<C, ROWS, V>(sum, a + r * sum.ar, b, c + r * cr, cr, add);
  few<C, V, ROWS - 1>(rows - r, sum, a + r * sum.ar, b, c + r * cr, cr, add);
}

// columns is a multiple of a vector
template <class C>
void product(long rows, long columns, const Sum& sum, const C* a, const C* b, C* c, long cr, bool add) {
  long v = 0;
  for (; v + 2 * W<C> <= columns; v += 2 * W<C>) panel<C, 2>(rows, sum, a, b + v, c + v, cr, add);
  if (v < columns) panel<C, 1>(rows, sum, a, b + v, c + v, cr, add);
}

// the same for a b in panels of at most two vectors, one after the other; see `panelled`. So many terms at a time that
// what is read again stays in the nearest cache.
template <class C>
void product_panels(long rows, long columns, long terms, long at, long ar, const C* a, const C* b, C* c, long cr) {
  constexpr long SOME = 128;
  for (long v = 0; v < columns; v += 2 * W<C>) {
    const long width = std::min(2 * W<C>, columns - v);
    for (long t = 0; t < terms; t += SOME) {
      const Sum sum{1, std::min(SOME, terms - t), 0, at, ar, 0, width};
      const C* from = b + v * terms + t * width;
      if (width == 2 * W<C>) panel<C, 2>(rows, sum, a + t * at, from, c + v, cr, t > 0);
      else panel<C, 1>(rows, sum, a + t * at, from, c + v, cr, t > 0);
    }
  }
}

// ---------------------------------------------------------------- layouts

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector) && !defined(LINOPS_OLD_SHUFFLE)
#define LINOPS_SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#endif
#endif
#ifndef LINOPS_SHUFFLE  // GCC before 12
template <class C> struct Places {
  typedef std::conditional_t<sizeof(C) == 4, int32_t, int64_t> place;
  typedef place type __attribute__((vector_size(BYTES)));
};
#define LINOPS_SHUFFLE(x, y, ...) __builtin_shuffle(x, y, typename Places<C>::type{__VA_ARGS__})
#endif

template <class C, long H, size_t... L> inline void swap_halves(vec<C>& x, vec<C>& y, std::index_sequence<L...>) {
  constexpr long N = W<C>;
  const vec<C> low = LINOPS_SHUFFLE(x, y, ((L & H) ? long(N + L - H) : long(L))...);
  y = LINOPS_SHUFFLE(x, y, ((L & H) ? long(N + L) : long(L + H))...);
  x = low;
}

template <class C, long H> inline void transpose(vec<C>* rows) {  // W × W, in registers
  if constexpr (H > 0) {
#pragma GCC unroll 16
    for (long r = 0; r < W<C>; ++r)
      if (!(r & H)) swap_halves<C, H>(rows[r], rows[r + H], std::make_index_sequence<W<C>>());
    transpose<C, H / 2>(rows);
  }
}

template <class S, class C> inline void line(const S* from, C* to, long count) {
  if constexpr (std::is_same_v<S, C>) {
    long i = 0;
    for (; i + W<C> <= count; i += W<C>) store(to + i, load(from + i));
    for (; i < count; ++i) to[i] = from[i];
  } else {
    for (long i = 0; i < count; ++i) to[i] = C(from[i]);
  }
}

// to[c, r] = from[r, c]; to's lines are filled up with zeros to `padded` numbers
template <class S, class D>
void turned(long rows, long columns, const S* from, long fr, D* to, long tc, long padded) {
  using C = std::conditional_t<std::is_same_v<S, bf16>, D, S>;
  constexpr long N = W<C>;
  for (long r = 0; r < padded; r += N)
    for (long c = 0; c < columns; c += N) {
      if (c + N <= columns && r + N <= rows) {
        vec<C> tile[N];
        if constexpr (std::is_same_v<S, C>) {
#pragma GCC unroll 16
          for (long i = 0; i < N; ++i) tile[i] = load(from + (r + i) * fr + c);
        } else {
          C wide[N];
          for (long i = 0; i < N; ++i) line(from + (r + i) * fr + c, wide, N), tile[i] = load(wide);
        }
        transpose<C, N / 2>(tile);
        if constexpr (std::is_same_v<D, C>) {
#pragma GCC unroll 16
          for (long i = 0; i < N; ++i) store(to + (c + i) * tc + r, tile[i]);
        } else {
          C wide[N];
          for (long i = 0; i < N; ++i) store(wide, tile[i]), line(wide, to + (c + i) * tc + r, N);
        }
      } else {
        for (long i = c; i < std::min(c + N, columns); ++i)
          for (long k = r; k < std::min(r + N, padded); ++k)
            to[i * tc + k] = k < rows ? D(C(from[k * fr + i])) : D(C(0));
      }
    }
}

// to[r, c] = from[r, c], each line filled up with zeros to `padded` numbers
template <class S, class D> void copied(long rows, long columns, const S* from, long fr, D* to, long tr, long padded) {
  for (long r = 0; r < rows; ++r) {
    line(from + r * fr, to + r * tr, columns);
    for (long c = columns; c < padded; ++c) to[r * tr + c] = D(0.0f);
  }
}

// ---------------------------------------------------------------- the products

struct Sizes {
  long batch, b, n, m, r, p;  // first (b, r m, n), second (m, p, b r)
  long x_stride, x_rows;      // between vectors where x_rows, else between features
  long y_stride, y_rows;      // the same of y
  long swapped;               // whether y's features are in the order (o, i)
  long gx_stride;             // of the gradient of x, laid out as x
  long tile, chunk;           // vectors at a time, a multiple of 2 W; how many i at a time
};

// An array of features × vectors, in memory either way round, between it and a tile of numbers
template <class S> struct Matrix {
  S* data;
  long stride, rows;
  S* at(long feature, long vector) const { return rows ? data + vector * stride + feature : data + feature * stride + vector; }
  template <class C> void features_first(long feature, long count, long k, long vectors, C* to, long pitch) const {
    if (rows) turned(vectors, count, at(feature, k), stride, to, pitch, pitch);
    else copied(count, vectors, at(feature, k), stride, to, pitch, pitch);
  }
  template <class C> void as_rows(long feature, long count, long k, long vectors, C* to, long pitch) const {
    if (rows) copied(vectors, count, at(feature, k), stride, to, pitch, pitch);
    else turned(count, vectors, at(feature, k), stride, to, pitch, pitch);
  }
  template <class C> void put_rows(long feature, long count, long k, long vectors, const C* from, long pitch) const {
    if (rows) copied(vectors, count, from, pitch, at(feature, k), stride, count);
    else turned(vectors, count, from, pitch, at(feature, k), stride, vectors);
  }
};

// The second's block (p, terms), turned, in panels of at most two vectors of its rows
template <class S, class C> void panelled(long p, long terms, const S* from, C* to) {
  const long padded = up(p, W<C>);
  for (long v = 0; v < padded; v += 2 * W<C>) {
    const long width = std::min(2 * W<C>, padded - v);
    turned(std::min(width, p - v), terms, from + v * terms, terms, to + v * terms, width, width);
  }
}

// Weights as numbers to compute with: those of the caller where they are that already
template <class S, class C> struct Weights {
  Buffer<C> made;
  const C* data;
  Weights(long count, const S* from) : made(std::is_same_v<S, C> ? 0 : count) {
    if constexpr (std::is_same_v<S, C>) data = from;
    else {
      data = made;
      at::parallel_for(0, count, 1 << 16, [&](long start, long stop) { line(from + start, made + start, stop - start); });
    }
  }
};

inline void ahead(const void* from, long bytes) {
  for (long i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(from) + i, 0, 2);
}

// z of some i: (i, jρ, tile), with `pitch` numbers from one i to the next
template <class C>
void middle(const Sizes& z, long i, long count, const C* first, const C* x, C* to, long pitch) {
  for (long j = 0; j < z.b; ++j)
    for (long rho = 0; rho < z.r; ++rho) {
      const C* a = first + ((j * z.r + rho) * z.m + i) * z.n;
      ahead(a + z.m * z.n, count * z.n * sizeof(C));
      product<C>(count, z.tile, Sum{1, z.n, 0, 1, z.n, 0, z.tile}, a, x + j * z.n * z.tile,
                 to + (j * z.r + rho) * z.tile, pitch, false);
    }
}

template <class S, class C> void forward(const Sizes& z, const S* x, const S* a, const S* c, S* y) {
  const long br = z.b * z.r, tiles = (z.batch + z.tile - 1) / z.tile, pp = up(z.p, W<C>);
  const Matrix<const S> in{x, z.x_stride, z.x_rows};
  const Matrix<S> out{y, z.y_stride, z.y_rows};
  const bool swap = z.y_rows && z.swapped, rows = z.y_rows && !swap, direct = std::is_same_v<S, C> && rows && pp == z.p;
  const Weights<S, C> first(z.b * z.r * z.m * z.n, a), second(rows ? 0 : z.m * z.p * br, c);
  Buffer<C> panels(rows ? z.m * br * pp : 0);
  if (rows)
    at::parallel_for(0, z.m, 1, [&](long from, long to) {
      for (long i = from; i < to; ++i) panelled(z.p, br, c + i * z.p * br, panels + i * br * pp);
    });
  at::parallel_for(0, tiles, 1, [&](long from, long to) {
    const long pitch = br * z.tile + 5 * W<C>;  // blocks of a power of two would share few lines of a cache
    Buffer<C> xt(z.b * z.n * z.tile), mid(z.chunk * pitch), block(z.tile * pp), whole(swap ? z.m * z.p * z.tile : 0);
    for (long number = from; number < to; ++number) {
      const long k = number * z.tile, vectors = std::min(z.tile, z.batch - k);
      in.features_first(0, z.b * z.n, k, vectors, xt.data, z.tile);
      for (long start = 0; start < z.m; start += z.chunk) {
        const long count = std::min(z.chunk, z.m - start);
        middle<C>(z, start, count, first.data, xt, mid, pitch);
        for (long i = start; i < start + count; ++i) {
          const C* values = mid + (i - start) * pitch;
          if (rows) {
            C* to = direct ? reinterpret_cast<C*>(out.at(i * z.p, k)) : block.data;
            product_panels<C>(vectors, pp, br, z.tile, 1, values, panels + i * br * pp, to, direct ? z.y_stride : pp);
            if (!direct) out.put_rows(i * z.p, z.p, k, vectors, block.data, pp);
          } else {
            const Sum sum{1, br, 0, 1, br, 0, z.tile};
            C* to = swap ? whole + i * z.tile : block.data;
            product<C>(z.p, z.tile, sum, second.data + i * z.p * br, values, to, swap ? z.m * z.tile : z.tile, false);
            if (!swap)
              copied(z.p, vectors, block.data, z.tile, out.at(z.swapped ? i : i * z.p, k),
                     z.swapped ? z.m * z.y_stride : z.y_stride, vectors);
          }
        }
      }
      if (swap) turned(z.m * z.p, vectors, whole.data, z.tile, out.at(0, k), z.y_stride, z.m * z.p);
    }
  });
}

// Lines of `count` numbers as C, filled up with zeros to vectors; those of the caller where they are that already
template <class S, class C> struct Lines {
  Buffer<C> made;
  const C* data;
  Lines(long lines, long count, const S* from, long padded)
      : made(std::is_same_v<S, C> && padded == count ? 0 : lines * padded) {
    if constexpr (std::is_same_v<S, C>)
      if (padded == count) { data = from; return; }
    data = made;
    at::parallel_for(0, lines, 1 << 8, [&](long start, long stop) {
      copied(stop - start, count, from + start * count, count, made + start * padded, padded, padded);
    });
  }
};

// Gradients of x, first and second; a null pointer where none is asked for. The middle is computed anew.
template <class S, class C>
void backward(const Sizes& z, const S* x, const S* a, const S* c, const S* gy, S* gx, S* ga, S* gc) {
  const long br = z.b * z.r, tiles = (z.batch + z.tile - 1) / z.tile, np = up(z.n, W<C>), pp = up(z.p, W<C>);
  const Matrix<const S> in{x, z.x_stride, z.x_rows}, out{gy, z.y_stride, z.y_rows};
  const Matrix<S> of_x{gx, z.gx_stride, z.x_rows};
  const bool swap = z.y_rows && z.swapped, rows = z.y_rows && !swap;
  const Lines<S, C> first(br * z.m, z.n, a, np);
  const Weights<S, C> narrow(np == z.n ? 0 : br * z.m * z.n, a), second(z.m * z.p * br, c);
  const C* lines = np == z.n ? first.data : narrow.data;
  const long firsts = br * z.m * np, seconds = z.m * br * pp, most = at::get_num_threads();
  std::vector<std::unique_ptr<Buffer<C>>> of_first(most), of_second(most);  // of each thread
  const bool in_place = std::is_same_v<S, C> && np == z.n;                   // the first thread adds up where it stays
  at::parallel_for(0, tiles, 1, [&](long from, long to) {
    const long pitch = br * z.tile + 5 * W<C>, thread = at::get_thread_num();
    Buffer<C> xt(z.b * z.n * z.tile), xr(ga ? z.b * np * z.tile : 0), gxr(gx ? z.b * np * z.tile : 0);
    Buffer<C> mid(z.chunk * pitch), of_mid(z.chunk * pitch), gyt(z.p * z.tile * (swap ? z.m : 1)), gyr(z.tile * pp);
    if (ga && !(in_place && thread == 0)) of_first[thread] = std::make_unique<Buffer<C>>(firsts);
    if (gc) of_second[thread] = std::make_unique<Buffer<C>>(seconds);
    C* const sum_first = of_first[thread] ? of_first[thread]->data : reinterpret_cast<C*>(ga);
    C* const sum_second = of_second[thread] ? of_second[thread]->data : nullptr;
    for (long number = from; number < to; ++number) {
      const long k = number * z.tile, vectors = std::min(z.tile, z.batch - k);
      if (gc) in.features_first(0, z.b * z.n, k, vectors, xt.data, z.tile);
      for (long j = 0; ga && j < z.b; ++j) {
        in.as_rows(j * z.n, z.n, k, vectors, xr + j * z.tile * np, np);
        std::fill_n(xr + (j * z.tile + vectors) * np, (z.tile - vectors) * np, C(0));
      }
      if (swap) out.features_first(0, z.m * z.p, k, vectors, gyt.data, z.tile);
      for (long start = 0; start < z.m; start += z.chunk) {
        const long count = std::min(z.chunk, z.m - start);
        if (gc) middle<C>(z, start, count, lines, xt, mid, pitch);
        for (long i = start; i < start + count; ++i) {
          const C* columns = swap ? gyt + i * z.tile : gyt.data;
          const long line = swap ? z.m * z.tile : z.tile;
          if (!z.y_rows && z.swapped)
            copied(z.p, vectors, out.at(i, k), z.m * z.y_stride, gyt.data, z.tile, z.tile);
          else if (!swap)
            out.features_first(i * z.p, z.p, k, vectors, gyt.data, z.tile);
          if (gc) {
            if (rows) {
              out.as_rows(i * z.p, z.p, k, vectors, gyr.data, pp);
              std::fill_n(gyr + vectors * pp, (z.tile - vectors) * pp, C(0));
            } else {
              turned(z.p, z.tile, columns, line, gyr.data, pp, pp);
            }
            product<C>(br, pp, Sum{1, z.tile, 0, 1, z.tile, 0, pp}, mid + (i - start) * pitch, gyr,
                       sum_second + i * br * pp, pp, number > from);
          }
          if (ga || gx)
            product<C>(br, z.tile, Sum{1, z.p, 0, br, 1, 0, line}, second.data + i * z.p * br, columns,
                       of_mid + (i - start) * pitch, z.tile, false);
        }
        for (long j = 0; j < z.b; ++j) {
          const C* values = of_mid + j * z.r * z.tile;
          const long row = j * z.r * z.m + start;
          for (long rho = 0; ga && rho < z.r; ++rho)
            product<C>(count, np, Sum{1, z.tile, 0, 1, pitch, 0, np}, values + rho * z.tile, xr + j * z.tile * np,
                       sum_first + (row + rho * z.m) * np, np, number > from);
          if (gx)
            product<C>(z.tile, np, Sum{z.r, count, z.tile, pitch, 1, z.m * np, np}, values, first.data + row * np,
                       gxr + j * z.tile * np, np, start > 0);
        }
      }
      for (long j = 0; gx && j < z.b; ++j) of_x.put_rows(j * z.n, z.n, k, vectors, gxr + j * z.tile * np, np);
    }
  });
  const auto total = [&](auto& parts, C* sum, long start, long stop) {  // in the order of threads, so always the same
    for (auto& part : parts) {
      if (!part) continue;
      if (sum) for (long i = start; i < stop; ++i) sum[i] += part->data[i];
      else sum = part->data;
    }
    return sum;
  };
  if (ga)
    at::parallel_for(0, br * z.m, 1 << 8, [&](long start, long stop) {
      const C* sum = total(of_first, in_place ? reinterpret_cast<C*>(ga) : nullptr, start * np, stop * np);
      if (!in_place) copied(stop - start, z.n, sum + start * np, np, ga + start * z.n, z.n, z.n);
    });
  if (gc)
    at::parallel_for(0, z.m, 1, [&](long start, long stop) {
      const C* sum = total(of_second, nullptr, start * br * pp, stop * br * pp);
      for (long i = start; i < stop; ++i) turned(br, z.p, sum + i * br * pp, pp, gc + i * z.p * br, br, br);
    });
}

template <class S> void roomy(S* data, long count) {  // glibc gives large arrays back: their pages are always fresh
#ifdef __linux__
  const uintptr_t from = up(reinterpret_cast<uintptr_t>(data), 4096), to = reinterpret_cast<uintptr_t>(data + count);
  if (data && to > from + (1 << 23)) madvise(reinterpret_cast<void*>(from), (to - from) / 4096 * 4096, MADV_HUGEPAGE);
#endif
}

}  // namespace

#define LINOPS_KERNELS(NAME, S, C)                                                                               \
  extern "C" int linops_forward_##NAME(const Sizes* z, const S* x, const S* a, const S* c, S* y) {              \
    try {                                                                                                        \
      roomy(y, z->batch * z->m * z->p);                                                                          \
      forward<S, C>(*z, x, a, c, y);                                                                             \
      return 0;                                                                                                  \
    } catch (...) { return 1; }                                                                                  \
  }                                                                                                              \
  extern "C" int linops_backward_##NAME(const Sizes* z, const S* x, const S* a, const S* c, const S* gy, S* gx, \
                                        S* ga, S* gc) {                                                          \
    try {                                                                                                        \
      roomy(gx, z->batch * z->b * z->n);                                                                         \
      backward<S, C>(*z, x, a, c, gy, gx, ga, gc);                                                               \
      return 0;                                                                                                  \
    } catch (...) { return 1; }                                                                                  \
  }

LINOPS_KERNELS(float32, float, float)
LINOPS_KERNELS(float64, double, double)
LINOPS_KERNELS(bfloat16, bf16, float)
