// What Python calls of `chain.h` and `chain_gradients.h`, and the node of the graph of gradients.
// `linops/kernels/chain.py` makes the tables and says what runs here.
//
// A module of Python, not operators of torch's dispatcher, whose calls take longer than these products do. `run`
// returns None wherever the dispatcher would do more than multiply and record: transform, trace, cast or count.

#include "chain_gradients.h"

#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/dynamo/compiled_autograd.h>

#include <ATen/EmptyTensor.h>
#include <ATen/Functions.h>
#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <functional>
#include <mutex>

namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

constexpr long MOST_LEAVES = 63;  // and x: which gradients are wanted is a number of 64 bits

inline bool within(c10::DispatchKeySet keys, c10::DispatchKeySet allowed) {
  return (keys.raw_repr() & ~allowed.raw_repr()) == 0;
}

// whether there is nothing about a tensor but numbers, and these are there: no lazy sign, no transformation, no tangent,
// no subclass
bool is_mere(const at::Tensor& tensor, at::ScalarType dtype) {
  constexpr c10::DispatchKeySet allowed{
      c10::DispatchKey::CPU, c10::DispatchKey::AutogradCPU, c10::DispatchKey::ADInplaceOrView,
      c10::DispatchKey::AutocastCPU};
  return within(tensor.key_set(), allowed) && tensor.scalar_type() == dtype && !tensor._fw_grad(0).defined() &&
         tensor.unsafeGetTensorImpl()->storage_initialized();
}

// whether nothing stands between a call of torch and its kernel
bool is_plain_now() {
  constexpr c10::DispatchKeySet usual{c10::DispatchKey::BackendSelect, c10::DispatchKey::ADInplaceOrView};
  const auto local = c10::impl::tls_local_dispatch_key_set();
  return within(local.included_, usual) && local.excluded_.has(c10::DispatchKey::AutocastCPU);
}

// MACs from which other threads of Python run meanwhile
constexpr long ALONE = 50000;
struct Released {
  PyThreadState* state = PyEval_SaveThread();
  ~Released() { PyEval_RestoreThread(state); }
};

template <class T> const T* numbers(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<const T*>(tensor.const_data_ptr()) : nullptr;
}

at::Tensor empty(at::IntArrayRef shape, at::ScalarType dtype) {
  return at::Tensor(at::detail::empty_cpu(shape, dtype, false, std::nullopt));
}

template <class Run> void by_dtype(at::ScalarType dtype, const Run& run) {
  dtype == at::kFloat ? run(float{}) : run(double{});
}

// ---------------------------------------------------------------- gradients

// What is asked of a chain's gradients.
struct Asked {
  std::shared_ptr<const Chain> chain;
  long k;
  bool rows;
  std::vector<std::vector<int64_t>> shapes;  // of x and leaves; nothing where none is wanted
  std::vector<bool> wanted;
  long first;  // the step to which gradients must come

  bool wants_at(long place) const { return wanted[1 + chain->steps[place].tensor]; }
  // whether gradients are wanted of what a step's operand depends on
  bool wants_before(long place) const { return place > first || wanted[0]; }
};

// The sum over axes of both tensors that the result has not. It is no `einsum`, which cannot be batched everywhere.
at::Tensor contracted(
    const std::string& own, const std::string& held, const std::string& after, const at::Tensor& a,
    const at::Tensor& x) {
  const auto has = [](const std::string& axes, char axis) { return axes.find(axis) != std::string::npos; };
  std::string blocks, rows, columns, rest;
  for (const char axis : own) (!has(held, axis) ? rows : has(after, axis) ? blocks : columns) += axis;
  for (const char axis : held)
    if (!has(own, axis)) rest += axis;
  const auto places = [](const std::string& from, const std::string& to) {
    std::vector<int64_t> found;
    for (const char axis : to) found.push_back(from.find(axis));
    return found;
  };
  const auto count = [&](const std::string& axes) {
    int64_t found = 1;
    for (const char axis : axes) found *= has(own, axis) ? a.size(own.find(axis)) : x.size(held.find(axis));
    return found;
  };
  const at::Tensor left = a.permute(places(own, blocks + rows + columns)),
                   right = x.permute(places(held, blocks + columns + rest));
  const at::Tensor y = at::bmm(
      left.reshape({count(blocks), count(rows), count(columns)}),
      right.reshape({count(blocks), count(columns), count(rest)}));
  std::vector<int64_t> shape;
  for (const char axis : blocks + rows + rest) shape.push_back(count(std::string(1, axis)));
  return y.reshape(shape).permute(places(blocks + rows + rest, after));
}

// The gradients by products of torch, which can be differentiated, transformed, cast and counted.
variable_list plain_gradients(
    const Asked& asked, const at::Tensor& given, const std::function<at::Tensor()>& x,
    const std::function<at::Tensor(long)>& leaf) {
  const Chain& chain = *asked.chain;
  const auto columns = [&](const at::Tensor& of, std::vector<int64_t> axes) {
    axes.push_back(asked.k);
    return (asked.rows ? of.t() : of).reshape(axes);
  };
  const auto leaf_of = [&](const Step& step) { return leaf(step.tensor).reshape(step.shape); };
  const long last = chain.steps.size() - 1;
  long furthest = last;
  while (furthest >= 0 && !asked.wants_at(furthest)) --furthest;
  variable_list between(1 + last), found(1 + chain.leaves);
  if (furthest >= 0) between[0] = columns(x(), chain.into);
  for (long place = 0; place < furthest; ++place) {
    const Step& step = chain.steps[place];
    between[place + 1] = contracted(step.own, step.held, step.after, leaf_of(step), between[place]);
  }
  at::Tensor g = columns(given, chain.out);
  for (long place = last; place >= asked.first; --place) {
    const Step& step = chain.steps[place];
    if (asked.wants_at(place)) {
      at::Tensor& sum = found[1 + step.tensor];
      const at::Tensor here = contracted(step.after, step.held, step.own, g, between[place]);
      sum = sum.defined() ? sum.add(here) : here;
    }
    if (asked.wants_before(place)) g = contracted(step.own, step.after, step.held, leaf_of(step), g);
  }
  if (asked.wanted[0]) {
    g = g.reshape({chain.n, asked.k});
    found[0] = asked.rows ? g.t() : g;
  }
  for (size_t place = 0; place < found.size(); ++place)
    if (found[place].defined()) found[place] = found[place].reshape(asked.shapes[place]);
  return found;
}

// The node of y: its gradients are one call too.
struct ChainBackward : torch::autograd::Node {
  std::shared_ptr<const Chain> chain;
  long k;
  bool rows;
  SavedVariable x, middle;  // there where a gradient is wanted of any leaf, of one that is not the first
  std::vector<SavedVariable> leaves;

  std::string name() const override { return "LinopsChainBackward"; }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    x.reset_data(), middle.reset_data();
    for (SavedVariable& leaf : leaves) leaf.reset_data();
  }

  variable_list apply(variable_list&& given) override {
    std::lock_guard<std::mutex> lock(mutex_);
    variable_list found(1 + chain->leaves);
    const at::Tensor& g = given[0];
    if (!g.defined()) return found;
    const Asked asked = what_is_asked();
    at::Tensor kept_x, kept_middle;  // each is unpacked once: checkpoints allow no more
    variable_list kept(chain->leaves);
    const auto dtype = input_metadata(0).dtype().toScalarType();
    bool quick = !at::GradMode::is_enabled() && is_plain_now() && is_mere(g, dtype);
    for (long place = chain->steps.size() - 1; quick && place >= asked.first; --place) {
      const long leaf = chain->steps[place].tensor;
      if (asked.wants_before(place))
        quick = is_mere(unpacked(leaves[leaf], kept[leaf]), dtype) && kept[leaf].is_contiguous();
      if (quick && asked.wants_at(place))
        quick = is_mere(place ? unpacked(middle, kept_middle) : unpacked(x, kept_x), dtype);
    }
    // what was kept may have other numbers by now: `.data` can be set without a new version
    quick = quick && g.numel() == chain->m * k && (!kept_x.defined() || kept_x.numel() == chain->n * k) &&
            (!kept_middle.defined() || kept_middle.numel() == chain->between * k);
    for (const Step& step : chain->steps)
      quick = quick && (!kept[step.tensor].defined() || kept[step.tensor].numel() == step.numbers);
    if (!quick)
      return plain_gradients(
          asked, g, [&] { return unpacked(x, kept_x); }, [&](long leaf) { return unpacked(leaves[leaf], kept[leaf]); });
    const at::Tensor g_in_order = g.contiguous(), x_in_order = kept_x.defined() ? kept_x.contiguous() : kept_x;
    for (long place = 0; place <= chain->leaves; ++place)
      if (asked.wanted[place]) found[place] = empty(asked.shapes[place], dtype);
    by_dtype(dtype, [&](auto zero) {
      using T = decltype(zero);
      const T* of[MOST_LEAVES];
      T* to[1 + MOST_LEAVES];
      for (long place = 0; place < chain->leaves; ++place) of[place] = numbers<T>(kept[place]);
      for (long place = 0; place <= chain->leaves; ++place)
        to[place] = found[place].defined() ? static_cast<T*>(found[place].mutable_data_ptr()) : nullptr;
      gradients<T>(
          *chain, of, numbers<T>(x_in_order), numbers<T>(kept_middle), numbers<T>(g_in_order), k, rows, to[0], to + 1);
    });
    return found;
  }

  // What compiled graphs of gradients (`torch._dynamo.compiled_autograd`) are told, and what they run.
  void compiled_args(torch::dynamo::autograd::CompiledNodeArgs& told) const override {
    told.collect(static_cast<uint64_t>(reinterpret_cast<uintptr_t>(chain.get())));
    told.collect(static_cast<uint64_t>(k)), told.collect(rows);
    told.collect(leaves, false), told.collect(x, false);
  }

  variable_list apply_with_saved(
      const variable_list& given, torch::dynamo::autograd::SwapSavedVariables& swapped) override {
    swapped.before(leaves), swapped.before(x);
    std::vector<at::IValue> operands;
    for (const SavedVariable& leaf : leaves) operands.emplace_back(leaf.unpack());
    if (const at::Tensor there = x.unpack(); there.defined()) operands.emplace_back(there);
    const std::vector<at::TypePtr> types(operands.size(), at::TensorType::get());
    const auto run = [asked = what_is_asked()](const variable_list& g, const std::vector<at::IValue>& of) {
      return plain_gradients(
          asked, g[0], [&] { return of.back().toTensor(); }, [&](long leaf) { return of[leaf].toTensor(); });
    };
    using namespace torch::dynamo::autograd;
    const auto& interface = getPyCompilerInterface();
    const bool gets_a_name_of_its_own = true;
    const auto bound =
        interface->bind_function(swapped.get_py_compiler(), name(), run, types, gets_a_name_of_its_own);
    const auto outputs = IValuePacker<std::vector<std::optional<torch::autograd::InputMetadata>>>::pack(
        get_input_metadata(next_edges()));
    variable_list found = interface->call_function(
        swapped.get_py_compiler(), "apply_functional", bound, given, operands, outputs);
    swapped.after(leaves), swapped.after(x);
    return found;
  }

 private:
  Asked what_is_asked() const {
    Asked asked{chain, k, rows, std::vector<std::vector<int64_t>>(1 + chain->leaves), {}, 0};
    for (long place = 0; place <= chain->leaves; ++place) {
      asked.wanted.push_back(task_should_compute_output(place));
      if (!asked.wanted.back()) continue;
      const auto& edge = next_edge(place);
      asked.shapes[place] =
          C10_AS_INTARRAYREF_SLOW(edge.function->input_metadata(edge.input_nr).shape_as_dim_vector()).vec();
    }
    const long last = chain->steps.size() - 1;
    while (!asked.wanted[0] && asked.first < last && !asked.wants_at(asked.first)) ++asked.first;
    return asked;
  }

  static const at::Tensor& unpacked(const SavedVariable& saved, at::Tensor& to) {
    if (!to.defined()) to = saved.unpack();
    return to;
  }
};

// ---------------------------------------------------------------- what Python calls

const std::shared_ptr<const Chain>* chain_of(PyObject* capsule) {
  return static_cast<const std::shared_ptr<const Chain>*>(PyCapsule_GetPointer(capsule, nullptr));
}

// wanted(x, leaves): of what gradients are to be recorded, a bit each, x first
PyObject* wanted(PyObject*, PyObject* const* given, Py_ssize_t count) {
  unsigned long bits = 0;
  if (count == 2 && PyTuple_Check(given[1]) && at::GradMode::is_enabled()) {
    const Py_ssize_t leaves = std::min(PyTuple_GET_SIZE(given[1]), Py_ssize_t(MOST_LEAVES));
    for (Py_ssize_t place = 0; place <= leaves; ++place) {
      PyObject* one = place ? PyTuple_GET_ITEM(given[1], place - 1) : given[0];
      if (THPVariable_CheckExact(one) && THPVariable_Unpack(one).requires_grad()) bits |= 1ul << place;
    }
  }
  return PyLong_FromUnsignedLong(bits);
}

// run(chain, x, leaves, rows): the product with a vector (n,), columns (…, k) or rows (k, n), or None
PyObject* run(PyObject*, PyObject* const* given, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  if (count != 4 || !PyTuple_Check(given[2])) {
    PyErr_SetString(PyExc_TypeError, "run: expected a chain, a tensor, a tuple of leaves, and whether it is rows");
    return nullptr;
  }
  const auto* shared = chain_of(given[0]);
  if (!shared) return nullptr;
  const Chain& chain = **shared;
  PyObject* operands = given[2];
  if (!THPVariable_CheckExact(given[1]) || PyTuple_GET_SIZE(operands) != chain.leaves || !is_plain_now() ||
      at::impl::torch_function_mode_enabled())
    Py_RETURN_NONE;
  const at::Tensor& x = THPVariable_Unpack(given[1]);
  const auto dtype = x.scalar_type();
  const bool may_record = at::GradMode::is_enabled(), rows = given[3] == Py_True;
  if ((dtype != at::kFloat && dtype != at::kDouble) || !is_mere(x, dtype)) Py_RETURN_NONE;
  const at::Tensor* leaves[MOST_LEAVES];
  bool of_leaves = false, of_later = false, is_inference = x.is_inference();
  for (long place = 0; place < chain.leaves; ++place) {
    PyObject* leaf = PyTuple_GET_ITEM(operands, place);
    if (!THPVariable_CheckExact(leaf)) Py_RETURN_NONE;
    leaves[place] = &THPVariable_Unpack(leaf);
    if (!is_mere(*leaves[place], dtype) || !leaves[place]->is_contiguous()) Py_RETURN_NONE;
    if (!may_record) continue;
    of_leaves = of_leaves || leaves[place]->requires_grad();
    is_inference = is_inference || leaves[place]->is_inference();
  }
  for (const Step& step : chain.steps) {
    if (leaves[step.tensor]->numel() != step.numbers) Py_RETURN_NONE;
    if (of_leaves && &step != &chain.steps[0]) of_later = of_later || leaves[step.tensor]->requires_grad();
  }
  const bool records = of_leaves || (may_record && x.requires_grad());
  if (records && is_inference) Py_RETURN_NONE;  // torch says what cannot be kept
  const long k = x.numel() / chain.n;
  if (k == 0 || k * chain.n != x.numel() || (x.dim() == 1 && k != 1)) Py_RETURN_NONE;
  const long one[1] = {chain.m}, columns[2] = {chain.m, k}, of_rows[2] = {k, chain.m};
  const at::IntArrayRef shape = x.dim() == 1 ? at::IntArrayRef(one, 1) : at::IntArrayRef(rows ? of_rows : columns, 2);
  at::Tensor y = empty(shape, dtype), middle;
  if (of_later) middle = empty({chain.between * k}, dtype);
  at::Tensor in = x;
  if (!in.is_contiguous()) {
    at::NoGradGuard without;
    in = x.contiguous();
  }
  by_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* of[MOST_LEAVES];
    for (long place = 0; place < chain.leaves; ++place) of[place] = numbers<T>(*leaves[place]);
    T *to = static_cast<T*>(y.mutable_data_ptr()),
      *between = of_later ? static_cast<T*>(middle.mutable_data_ptr()) : nullptr;
    if (k * chain.work >= ALONE) {
      Released others;
      multiply<T>(chain, of, numbers<T>(in), k, to, rows, between);
    } else {
      multiply<T>(chain, of, numbers<T>(in), k, to, rows, between);
    }
  });
  if (records) {
    auto node = c10::make_intrusive<ChainBackward>();
    node->chain = *shared, node->k = k, node->rows = rows;
    node->leaves.reserve(chain.leaves);
    torch::autograd::edge_list edges;
    edges.reserve(1 + chain.leaves);
    edges.push_back(torch::autograd::impl::gradient_edge(x));
    for (long place = 0; place < chain.leaves; ++place) {
      edges.push_back(torch::autograd::impl::gradient_edge(*leaves[place]));
      node->leaves.emplace_back(*leaves[place], false);
    }
    node->set_next_edges(std::move(edges));
    if (of_leaves) node->x = SavedVariable(x, false);
    if (of_later) node->middle = SavedVariable(middle, false);
    torch::autograd::set_history(y, node);
  }
  return THPVariable_Wrap(std::move(y));
  END_HANDLE_TH_ERRORS
}

template <class Number> bool read(PyObject* from, std::vector<Number>& to) {
  const Py_ssize_t size = PyTuple_Check(from) ? PyTuple_GET_SIZE(from) : 0;
  for (Py_ssize_t place = 0; place < size; ++place) to.push_back(Number(PyLong_AsLong(PyTuple_GET_ITEM(from, place))));
  return PyTuple_Check(from) && !PyErr_Occurred();
}

// make(m, n, most, leaves, into, out, steps): a chain of steps (tensor, its numbers, shape, axes of a, x and y, tables)
PyObject* make(PyObject*, PyObject* arguments) {
  auto chain = std::make_shared<Chain>();
  PyObject *steps, *into, *out, *shape, *tables[9];
  bool right = PyArg_ParseTuple(
      arguments, "llllOOO!", &chain->m, &chain->n, &chain->most, &chain->leaves, &into, &out, &PyTuple_Type, &steps);
  right = right && chain->leaves <= MOST_LEAVES && read(into, chain->into) && read(out, chain->out);
  for (Py_ssize_t place = 0; right && place < PyTuple_GET_SIZE(steps); ++place) {
    Step step;
    const char *own, *held, *after;
    right = PyArg_ParseTuple(
        PyTuple_GET_ITEM(steps, place), "llOsssOOOOOOOOO", &step.tensor, &step.numbers, &shape, &own, &held, &after,
        &tables[0], &tables[1], &tables[2], &tables[3], &tables[4], &tables[5], &tables[6], &tables[7], &tables[8]);
    Table* to[9] = {&step.ab, &step.ar, &step.ac, &step.xb, &step.xc, &step.xs, &step.yb, &step.yr, &step.ys};
    for (int each = 0; right && each < 9; ++each) right = read(tables[each], *to[each]) && !to[each]->empty();
    if (!right || !(right = read(shape, step.shape))) break;
    step.own = own, step.held = held, step.after = after;
    complete(step);
    chain->work += step.ab.size() * step.ar.size() * step.ac.size() * step.xs.size();
    chain->starts.push_back(chain->between);
    if (place) chain->between += step.ab.size() * step.ac.size() * step.xs.size();
    chain->back.push_back(turned(step));
    chain->steps.push_back(std::move(step));
  }
  if (!right) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "make: no chain");
    return nullptr;
  }
  return PyCapsule_New(new std::shared_ptr<const Chain>(std::move(chain)), nullptr, [](PyObject* capsule) {
    delete chain_of(capsule);
  });
}

PyMethodDef quick_method(const char* name, PyObject* (*function)(PyObject*, PyObject* const*, Py_ssize_t)) {
  return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function)), METH_FASTCALL, nullptr};
}
PyMethodDef METHODS[] = {
    {"make", make, METH_VARARGS, nullptr},
    quick_method("wanted", wanted),
    quick_method("run", run),
    {nullptr, nullptr, 0, nullptr}};
PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "chain", nullptr, -1, METHODS};

}  // namespace

#define NAMED(name) PyInit_##name
#define INIT(name) NAMED(name)
PyMODINIT_FUNC INIT(TORCH_EXTENSION_NAME)() { return PyModule_Create(&MODULE); }
