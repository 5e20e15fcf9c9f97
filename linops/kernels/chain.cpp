// A chain of contractions with few vectors, in one call: each tensor in turn multiplies the operand,
//
//     y[b, r, s, k] = Σ_c a[b, r, c] x[b, c, s, k],
//
// where b, r, c, s are runs of axes and k counts vectors. Where the numbers of each index stand is a table of offsets,
// so that no operand is copied to another order. `linops/kernels/chain.py` makes the tables and says what runs here.
//
// A module of Python, not operators of torch's dispatcher, whose calls take longer than these products do. `run`
// returns None wherever the dispatcher would do more than multiply: record for gradients, transform, trace, cast or count.

#include <torch/csrc/autograd/python_variable.h>

#include <ATen/EmptyTensor.h>
#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>
#include <type_traits>
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

using Table = std::vector<int>;

struct Step {
  long tensor, numbers;  // which leaf it is, and how many numbers that has
  Table ab, ar, ac, xb, xc, xs, yb, yr, ys;
  long run;           // of the columns of a, so many at a time stand side by side
  bool flat, packed;  // whether s counts by one in x and y; whether c does in x
};

struct Chain {
  long m, n, most, leaves, work = 0;  // MACs of one vector
  std::vector<Step> steps;
};

long run_of(const Table& table) {
  long run = 1, size = table.size();
  while (run < size && table[run] == table[0] + run) ++run;
  for (long start = 0; start < size; start += run)  // each as long as the first
    for (long place = 0; place < run; ++place)
      if (start + place >= size || table[start + place] != table[start] + place) return 1;
  return run;
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
  for (; v + 2 * N <= count; v += 2 * N) rows<T, N, 2, 4>(step, a, x + v, k, y + v);
  if (v + N <= count) rows<T, N, 1, 8>(step, a, x + v, k, y + v), v += N;
  if constexpr (N > 8)
    if (v + 8 <= count) rows<T, 8, 1, 8>(step, a, x + v, k, y + v), v += 8;
  if constexpr (N > 4)
    if (v + 4 <= count) rows<T, 4, 1, 8>(step, a, x + v, k, y + v), v += 4;
  if (v + 2 <= count) rows<T, 2, 1, 8>(step, a, x + v, k, y + v), v += 2;
  for (; v < count; ++v) rows<T, 1, 1, 8>(step, a, x + v, k, y + v);
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
  for (int r = 0; r < R; ++r) {
    for (int i = 0; i < N; ++i) sums[r] += acc[r][i];
    y[yr[r]] = sums[r];
  }
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

template <class T> void apply(const Step& step, const T* a, const T* x, long k, T* y, T* row) {
  const long blocks = step.ab.size(), rest = step.xs.size(), r = step.ar.size(), c = step.ac.size();
  const bool wide = step.flat && rest >= 4;
  if (k == 1 && !wide) {
    if (r == 1 && c == 1) return small<T, 1, 1>(step, a, x, y);
    if (r == 2 && c == 2) return small<T, 2, 2>(step, a, x, y);
    if (r == 4 && c == 4) return small<T, 4, 4>(step, a, x, y);
    if (step.run >= 4) return inners<T>(step, a, x, y, row);
  }
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

template <class T>
void multiply(const Chain& chain, const void* const* leaves, const T* x, long k, T* y, bool rows) {
  thread_local std::vector<T> kept;
  const size_t size = chain.most * k;
  if (kept.size() < 3 * size) kept.resize(3 * size);
  T *between[2] = {kept.data(), kept.data() + size}, *row = kept.data() + 2 * size;
  rows = rows && k > 1;
  size_t place = 0;
  if (rows) {
    turned(x, k, chain.n, between[1]);
    x = between[1];
  }
  for (const Step& step : chain.steps) {
    T* to = place + 1 == chain.steps.size() && !rows ? y : between[place % 2];
    apply<T>(step, static_cast<const T*>(leaves[step.tensor]), x, k, to, row);
    x = to;
    ++place;
  }
  if (rows) turned(x, chain.m, k, y);
}

// ---------------------------------------------------------------- what Python calls

inline bool within(c10::DispatchKeySet keys, c10::DispatchKeySet allowed) {
  return (keys.raw_repr() & ~allowed.raw_repr()) == 0;
}

// whether there is nothing about a tensor but numbers, and these are there: no lazy sign, no transformation, no tangent,
// no subclass
bool is_mere(const at::Tensor& tensor, at::ScalarType dtype, bool records) {
  constexpr c10::DispatchKeySet allowed{
      c10::DispatchKey::CPU, c10::DispatchKey::AutogradCPU, c10::DispatchKey::ADInplaceOrView,
      c10::DispatchKey::AutocastCPU};
  return within(tensor.key_set(), allowed) && tensor.scalar_type() == dtype &&
         !(records && tensor.requires_grad()) && !tensor._fw_grad(0).defined() &&
         tensor.unsafeGetTensorImpl()->storage_initialized();
}

// whether nothing stands between a call of torch and its kernel
bool is_plain_now() {
  constexpr c10::DispatchKeySet usual{c10::DispatchKey::BackendSelect, c10::DispatchKey::ADInplaceOrView};
  const auto local = c10::impl::tls_local_dispatch_key_set();
  return within(local.included_, usual) && local.excluded_.has(c10::DispatchKey::AutocastCPU) &&
         !at::impl::torch_function_mode_enabled();
}

// MACs from which other threads of Python run meanwhile
constexpr long ALONE = 50000;
struct Released {
  PyThreadState* state = PyEval_SaveThread();
  ~Released() { PyEval_RestoreThread(state); }
};

template <class T>
PyObject* run_as(const Chain& chain, const at::Tensor& x, const void* const* leaves, long k, bool rows, at::Tensor y) {
  const T* from = static_cast<const T*>(x.const_data_ptr());
  T* to = static_cast<T*>(y.mutable_data_ptr());
  if (k * chain.work >= ALONE) {
    Released others;
    multiply<T>(chain, leaves, from, k, to, rows);
  } else {
    multiply<T>(chain, leaves, from, k, to, rows);
  }
  return THPVariable_Wrap(std::move(y));
}

constexpr long MOST_LEAVES = 64;

// run(chain, x, leaves, rows): the product with a vector (n,), columns (…, k) or rows (k, n), or None
PyObject* run(PyObject*, PyObject* const* given, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  if (count != 4 || !PyTuple_Check(given[2])) {
    PyErr_SetString(PyExc_TypeError, "run: expected a chain, a tensor, a tuple of leaves, and whether it is rows");
    return nullptr;
  }
  const auto* chain = static_cast<const Chain*>(PyCapsule_GetPointer(given[0], nullptr));
  if (!chain) return nullptr;
  PyObject* operands = given[2];
  if (!THPVariable_CheckExact(given[1]) || PyTuple_GET_SIZE(operands) != chain->leaves || !is_plain_now())
    Py_RETURN_NONE;
  at::Tensor x = THPVariable_Unpack(given[1]);
  const auto dtype = x.scalar_type();
  const bool records = at::GradMode::is_enabled(), rows = given[3] == Py_True;
  if ((dtype != at::kFloat && dtype != at::kDouble) || !is_mere(x, dtype, records)) Py_RETURN_NONE;
  const void* leaves[MOST_LEAVES];
  long counts[MOST_LEAVES];
  for (long place = 0; place < chain->leaves; ++place) {
    PyObject* leaf = PyTuple_GET_ITEM(operands, place);
    if (!THPVariable_CheckExact(leaf)) Py_RETURN_NONE;
    const at::Tensor& tensor = THPVariable_Unpack(leaf);
    if (!is_mere(tensor, dtype, records) || !tensor.is_contiguous()) Py_RETURN_NONE;
    leaves[place] = tensor.const_data_ptr();
    counts[place] = tensor.numel();
  }
  for (const Step& step : chain->steps)
    if (counts[step.tensor] != step.numbers) Py_RETURN_NONE;
  const long k = x.numel() / chain->n;
  if (k == 0 || k * chain->n != x.numel()) Py_RETURN_NONE;
  if (!x.is_contiguous()) x = x.contiguous();
  const long one[1] = {chain->m}, columns[2] = {chain->m, k}, of_rows[2] = {k, chain->m};
  const at::IntArrayRef shape = x.dim() == 1 ? at::IntArrayRef(one, 1) : at::IntArrayRef(rows ? of_rows : columns, 2);
  at::Tensor y(at::detail::empty_cpu(shape, dtype, false, std::nullopt));
  return dtype == at::kFloat ? run_as<float>(*chain, x, leaves, k, rows, std::move(y))
                             : run_as<double>(*chain, x, leaves, k, rows, std::move(y));
  END_HANDLE_TH_ERRORS
}

bool read(PyObject* from, Table& to) {
  const Py_ssize_t size = PyTuple_Check(from) ? PyTuple_GET_SIZE(from) : 0;
  for (Py_ssize_t place = 0; place < size; ++place) to.push_back(int(PyLong_AsLong(PyTuple_GET_ITEM(from, place))));
  return !PyErr_Occurred() && !to.empty();
}

// make(m, n, most, leaves, steps): a chain, of steps (tensor, its numbers, nine tables)
PyObject* make(PyObject*, PyObject* arguments) {
  auto* chain = new Chain;
  PyObject *steps, *tables[9];
  bool right = PyArg_ParseTuple(
      arguments, "llllO!", &chain->m, &chain->n, &chain->most, &chain->leaves, &PyTuple_Type, &steps);
  right = right && chain->leaves <= MOST_LEAVES;
  for (Py_ssize_t place = 0; right && place < PyTuple_GET_SIZE(steps); ++place) {
    Step step;
    right = PyArg_ParseTuple(
        PyTuple_GET_ITEM(steps, place), "llOOOOOOOOO", &step.tensor, &step.numbers, &tables[0], &tables[1], &tables[2],
        &tables[3], &tables[4], &tables[5], &tables[6], &tables[7], &tables[8]);
    Table* to[9] = {&step.ab, &step.ar, &step.ac, &step.xb, &step.xc, &step.xs, &step.yb, &step.yr, &step.ys};
    for (int each = 0; right && each < 9; ++each) right = read(tables[each], *to[each]);
    if (!right) break;
    step.run = run_of(step.ac);
    step.packed = run_of(step.xc) == long(step.xc.size()) && step.xc[0] == 0;
    step.flat = run_of(step.xs) == long(step.xs.size()) && run_of(step.ys) == long(step.ys.size());
    chain->work += step.ab.size() * step.ar.size() * step.ac.size() * step.xs.size();
    chain->steps.push_back(std::move(step));
  }
  if (!right) {
    delete chain;
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "make: no chain");
    return nullptr;
  }
  return PyCapsule_New(chain, nullptr, [](PyObject* capsule) {
    delete static_cast<Chain*>(PyCapsule_GetPointer(capsule, nullptr));
  });
}

PyMethodDef METHODS[] = {
    {"make", make, METH_VARARGS, nullptr},
    {"run", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(run)), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};
PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "chain", nullptr, -1, METHODS};

}  // namespace

#define NAMED(name) PyInit_##name
#define INIT(name) NAMED(name)
PyMODINIT_FUNC INIT(TORCH_EXTENSION_NAME)() { return PyModule_Create(&MODULE); }
