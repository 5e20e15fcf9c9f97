"""Checks of the expression as a value: copies, pickles, pytrees, moves between backends, specs, cost."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np

import linops.scaling as scaling
from linops import backends
from linops.backends.tree import flatten
from linops.plan import natural_order
from linops.specs import dtype_name, numpy_dtype
from linops.testing.check import BACKENDS, Subject, as_specs, check, error_of, holds, installed, require

BATCH = 6  # a matrix: torch counts no FLOPs of matrix-vector products


def _same_numbers(s: Subject, A: Any, B: Any) -> None:
    for (name, ours), (other, theirs) in zip(A.named_leaves(), B.named_leaves(), strict=True):
        require(name == other, f"leaf {name} became {other}")
        one, two = (backends.to_numpy(leaf) for leaf in (ours, theirs))
        require(one.dtype == two.dtype, f"leaf {name} of {one.dtype} became {two.dtype}")
        require(np.array_equal(one, two, equal_nan=not s.exact), f"leaf {name} changed its numbers")


@check()
def copies(s: Subject) -> None:
    """Pickles and copies are the same operator; a deep copy shares no memory."""
    A = s.operator
    for how, twin in (
        ("pickle", pickle.loads(pickle.dumps(A))),
        ("deepcopy", copy.deepcopy(A)),
        ("copy", copy.copy(A)),
    ):
        require(type(twin) is type(A), f"{how} gives a {type(twin).__name__}")
        require(twin.backend == A.backend, f"{how} has backend {twin.backend}, expected {A.backend}")
        require(repr(twin) == repr(A), f"{how} gives\n{twin!r}, expected\n{A!r}")
        require(twin.assumed == A.assumed, f"{how} forgets what is assumed")
        _same_numbers(s, A, twin)
        x = s.on(s.array(A.shape[1], 2)) if s.backend != "jax" else None  # JAX: the same expression, the same program
        if x is not None:
            s.close(f"product of a {how}", twin @ x, s.numpy(A @ x))
    if s.backend == "numpy":
        for ours, theirs in zip(s.leaves, (leaf for _, leaf in copy.deepcopy(A).named_leaves())):
            require(not np.shares_memory(ours, theirs), "a deep copy shares memory with the operator")


@check()
def identity(s: Subject) -> None:
    """Equality and hash are identity, and the operator is immutable."""
    A, twin = s.operator, copy.copy(s.operator)
    same, different = A == A, twin == A
    require(same is True and different is False, "A == A must be True, and A == another must be False")
    require(len({A, twin}) == 2, "two operators are one key of a dict")
    for name in (*(name for name, _ in A._fields), "anything"):
        try:
            setattr(A, name, None)
        except AttributeError:
            continue
        raise AssertionError(f"field {name} can be set")


def _no_pytrees(s: Subject) -> str | None:
    return "pytrees are of torch and JAX" if s.backend == "numpy" else None


@check(_no_pytrees)
def pytree(s: Subject) -> None:
    """It is a pytree of its leaves, which may carry anything in the place of an array."""
    A = s.operator
    if s.backend == "torch":
        from torch.utils import _pytree as tree

        leaves, structure = tree.tree_flatten(A)
        twin = tree.tree_unflatten(leaves, structure)
    else:
        from jax import tree_util as tree

        leaves, structure = tree.tree_flatten(A)
        twin = tree.tree_unflatten(structure, leaves)
    require(
        [id(leaf) for leaf in leaves] == [id(leaf) for leaf in s.leaves],
        "the pytree's leaves are not those of named_leaves()",
    )
    require(type(twin) is type(A) and repr(twin) == repr(A), f"the round trip gives\n{twin!r}, expected\n{A!r}")
    require(tree.tree_flatten(twin)[1] == structure, "the round trip has another structure")
    for _, node in A._nodes():
        _, context = flatten(node)
        require(
            error_of(lambda context=context: hash(context)) is None,
            f"a static field of {node._short()} has no hash: {context}",
        )
    _same_numbers(s, A, twin)
    doubled = tree.tree_map(lambda leaf: leaf + leaf, A)
    _same_numbers(s, s.other_numbers(), doubled)
    for item in (None, 1.0, "name", object()):
        mapped = tree.tree_map(lambda leaf, item=item: item, A)
        require(type(mapped) is type(A), f"with {item!r} for leaves it becomes a {type(mapped).__name__}")
        if item is not None:
            require(all(leaf is item for _, leaf in mapped.named_leaves()), f"leaves do not carry {item!r}")


@check()
def moves(s: Subject) -> None:
    """On every installed framework and in every dtype it is the same operator; numbers move exactly."""
    A = s.operator
    x = s.array(A.shape[1], 2)
    for target in filter(installed, BACKENDS):
        if not all(holds(target, numpy_dtype(leaf.dtype)) for leaf in s.leaves):
            continue  # JAX without x64 refuses; its users ask for another dtype
        moved = A.to(backend=target)
        require(
            moved.backend == (target if s.leaves else None), f"A.to(backend={target!r}) has backend {moved.backend!r}"
        )
        ours, theirs = (None if each.dtype is None else dtype_name(each.dtype) for each in (A, moved))
        require(ours == theirs, f"A.to(backend={target!r}) has dtype {theirs}, expected {ours}")
        _same_numbers(s, A, moved)
        _same_numbers(s, A, moved.to(backend=s.backend))
        if target == "jax" or (target == "torch" and s.kind == "b"):
            continue  # JAX compiles a program a shape, and has checks of its own; torch multiplies no booleans
        other = Subject(moved, s.matrix, target, s.dtype, s.rtol, 0)
        other.is_product(f"A.to(backend={target!r}) @ x", moved @ other.on(x), s.matrix, x)
    if not s.exact:
        _dtypes(s)


def _dtypes(s: Subject) -> None:
    for target in ("float32", "float64", "complex128") if s.kind == "f" else ("complex64", "complex128"):
        if not holds(s.backend, np.dtype(target)):
            continue
        moved = s.operator.to(dtype=target)
        require(moved.backend == s.operator.backend, f"A.to(dtype={target!r}) has backend {moved.backend!r}")
        for name, leaf in moved.named_leaves():
            require(dtype_name(leaf.dtype) == target, f"A.to(dtype={target!r}): leaf {name} has dtype {leaf.dtype}")
        if s.leaves:
            rtol = max(s.rtol, 80 * float(np.finfo(target).eps))
            moved = moved.to(backend="numpy")
            Subject(moved, s.matrix, "numpy", target, rtol, 0).close(
                f"A.to(dtype={target!r}) as a matrix", moved.to_dense(), s.matrix
            )


@check()
def symbolic(s: Subject) -> None:
    """With specs for leaves it has the same shape, dtype, cost, fans and structure, and so have T, H and conj."""
    A = s.operator
    twin = as_specs(A)
    expected = "spec" if s.leaves else None
    require(
        twin.backend == expected and twin.is_symbolic == bool(s.leaves),
        f"its backend is {twin.backend!r}, expected {expected!r}",
    )
    require(("symbolic" in repr(twin)) == bool(s.leaves), f"repr does not say that it is symbolic: {twin!r}")
    pairs = (("A", twin, A), ("T", twin.T, A.T), ("H", twin.H, A.H), ("conj", twin.conj(), A.conj()))
    for name, one, other in pairs:
        require(one.shape == other.shape, f"{name} has shape {one.shape}, expected {other.shape}")
        ours, theirs = (None if each.dtype is None else dtype_name(each.dtype) for each in (one, other))
        require(ours == theirs, f"{name} has dtype {ours}, expected {theirs}")
        with natural_order():
            costs = one.cost(batch=7), other.cost(batch=7)
        require(costs[0] == costs[1], f"{name} costs {costs[0]}, expected {costs[1]}")
        fans = scaling.fans(one), scaling.fans(other)
        require(fans[0] == fans[1], f"{name} has fans {fans[0]}, expected {fans[1]}")
    require(twin.num_params == A.num_params, f"it has {twin.num_params} parameters, expected {A.num_params}")
    names = [name for name, _ in twin.named_leaves()], [name for name, _ in A.named_leaves()]
    require(names[0] == names[1], f"it has leaves {names[0]}, expected {names[1]}")
    if s.backend == "torch":  # symbolic operators are planned as torch runs them
        tables = [text[text.index("\nstep") :] for text in (twin.explain(batch=7), A.explain(batch=7))]
        require(tables[0] == tables[1], "explain says something else")
    if s.leaves and not s.exact:
        first, again = twin.init(seed=1), twin.init(seed=1)
        _same_numbers(s, first, again)
        require(
            first.shape == A.shape and dtype_name(first.dtype) == dtype_name(A.dtype), f"init gives {first._short()}"
        )


@check()
def cost(s: Subject) -> None:
    """Parameters are the leaves' numbers; work is done once or for each vector; `explain` adds up; fans name leaves."""
    A = s.operator
    found = A.cost(batch=BATCH)
    with natural_order():
        # once: what is done whatever the batch, as of a spectrum
        many, one, once = A.cost(batch=BATCH), A.cost(), A.cost(batch=0)
    numbers = sum(int(np.prod(leaf.shape)) for leaf in s.leaves)
    require(
        found.num_params == A.num_params == numbers, f"{A.num_params} parameters, but its leaves have {numbers} numbers"
    )
    require(found.batch == BATCH, f"cost says batch {found.batch}, expected {BATCH}")
    for what in ("macs", "flops"):
        ours, of_one, of_none = (getattr(each, what) for each in (many, one, once))
        require(
            ours == of_none + BATCH * (of_one - of_none),
            f"{ours} {what} for {BATCH} vectors, {of_one} for one, {of_none} for none",
        )
    require(found.flops > once.flops or not found.flops, f"{found.flops} FLOPs, however many vectors")
    require(A.flops(batch=BATCH) == found.flops >= 2 * found.macs, f"{found.flops} FLOPs, but {found.macs} MACs")
    for work in (found.forward, found.backward):
        require(min(work.macs, work.flops, work.bytes_read, work.bytes_written) >= 0, f"negative work: {work}")
    if found.macs:
        itemsize = backends.itemsize(A.dtype)
        require(found.bytes_written >= itemsize * BATCH, f"it writes {found.bytes_written} bytes")
        require(found.bytes_read >= itemsize * BATCH, f"it reads {found.bytes_read} bytes")
    header, *_, total = A.explain(batch=BATCH).split("\n")
    expected = ["total", f"{found.macs:,}", f"{found.flops:,}", f"{found.bytes_read + found.bytes_written:,}"]
    require(total.split()[: len(expected)] == expected, f"explain adds up to {total.split()}, expected {expected}")
    require(f"{A.num_params:,} parameters" in header, f"explain does not say the parameters: {header}")
    fans, names = scaling.fans(A), [name for name, _ in A.named_leaves()]
    require(list(fans) == [name for name in names if name in fans], f"fans of {list(fans)}, leaves {names}")
    require(all(min(pair) >= 0 for pair in fans.values()), f"fans are {fans}")
    require(
        list(scaling.lr_multipliers(A)) == names, f"multipliers of {list(scaling.lr_multipliers(A))}, leaves {names}"
    )
