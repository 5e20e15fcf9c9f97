"""Operators as layers of PyTorch."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import fx, nn

from linops import backends
from linops.nn.members import require_operator
from linops.nn.torch.kept import Keeping, reads_anew
from linops.nn.torch.leaves import draw_, excess, held, index_arrays, kinds
from linops.nn.torch.sharded import own, require_whole
from linops.operator import LinearOperator
from linops.scaling import initial_stds, require_scheme
from linops.specs import Spec, dtype_name
from linops.structure import Structure

backends.load("torch")  # a layer made from specs has seen no tensor yet


class Linear(Keeping):
    """``y = x @ A.T + bias`` with the leaves of an operator A as parameters: `torch.nn.Linear` for any structure.

    Each forward computes from the registered parameters, which have the flat names of `LinearOperator.named_leaves`;
    the structure itself holds no tensor. So `functional_call`, `load_state_dict(assign=True)`, `deepcopy`, `to_empty`,
    `torch.export`, `torch.compile` and sharding work as they do for `torch.nn.Linear`. Index arrays of permutations are
    buffers: they move with the module, and stay out of its state dict, as they are structure.

    Cost: that of the operator, and m additions a vector for the bias.

    Attributes:
        structure: The operator without its numbers; `structure.operator` has specs in the place of the leaves.
        in_features: n.
        out_features: m.
        bias: (m,) parameter, or None.
        weight_norm: Whether factors are normalised.
        scheme: How parameters are drawn.
        features_first: Whether outputs keep the layout that the product makes, which is often that of the transposed
            (m, vectors): that saves a copy where nothing but elementwise functions comes before the next structured
            layer. False by default: rows are contiguous.
        weight: The (m, n) matrix to be read, as models do of `torch.nn.Linear`; it is computed, and no parameter. Its
            dtype and device are free, `torch.nn.functional.linear` and products with it run by the structure, writing
            to it is an error.

    Args:
        operator: Any operator. Arrays become the parameters' initial values (copied); specs are initialised by
            `reset_parameters`.
        bias: Whether to add a bias, initially zero.
        device: The device of the parameters; None keeps that of the arrays, or takes torch's default.
        dtype: The dtype of the parameters; None keeps that of the operator.
        zero_init: Whether a symbolic operator starts at zero, by the factor nearest the output alone.
        weight_norm: Whether each factor G acts as γ · G / max(1, rms(G) / s), with s its structure-aware initial std
            and γ a learned scalar, initially one: the (1,) parameter ``<leaf>_gain`` (Qiu et al., "Compute Better
            Spent", ICML 2024, for transformers). It caps, and never raises; `fold_` multiplies it out.
        scheme: How specs are drawn, and by `reset_parameters` all: ``"mup"``, ``"spectral"`` or ``"orthogonal"``, as in
            `LinearOperator.init`.

    Shape:
        Input (…, n), output (…, m).

    Raises:
        TypeError: If it is no operator, or mixes arrays and specs.
        ValueError: If an operator that cannot be zero is to start at zero, or one with arrays is; or there is no such
            scheme.

    Example:
        >>> import linops as lo, torch
        >>> layer = lo.nn.torch.Linear(lo.btt(64, 16))
        >>> layer(torch.zeros(2, 3, 16)).shape
        torch.Size([2, 3, 64])
        >>> sorted(layer.state_dict())
        ['bias', 'cores_0', 'cores_1']
    """

    bias: nn.Parameter | None
    features_first = False

    def __init__(
        self,
        operator: LinearOperator,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        zero_init: bool = False,
        weight_norm: bool = False,
        scheme: str = "mup",
    ) -> None:
        super().__init__()
        require_operator("lo.nn.torch.Linear", operator, bias)
        require_scheme("Linear", scheme)
        leaves = list(operator.named_leaves())
        symbolic = [isinstance(leaf, Spec) for _, leaf in leaves]
        if any(symbolic) and not all(symbolic):
            raise TypeError(f"Linear({operator._short()}): some leaves are specs and some are arrays; call init first")
        if zero_init and not any(symbolic):
            raise ValueError(
                f"Linear({operator._short()}, zero_init=True): its arrays are its initial values; "
                "give a symbolic operator"
            )
        self.out_features: int = operator.shape[0]
        self.in_features: int = operator.shape[1]
        self._structure = operator._map(  # before its index arrays are moved: on the meta device they have no numbers
            lambda leaf: Spec(tuple(leaf.shape), dtype_name(dtype or leaf.dtype)), backends.to_numpy
        ).structure
        if not any(symbolic):
            operator = operator.to(backend="torch", dtype=dtype, device=device)
            leaves = list(operator.named_leaves())
        self.weight_norm: bool = weight_norm
        self.scheme: str = scheme
        self._names = [name for name, _ in leaves]
        self._starts: dict[str, float] = dict.fromkeys(operator._output_leaves() if zero_init else (), 0.0)
        if zero_init and not self._starts:
            raise ValueError(f"Linear({operator._short()}, zero_init=True): no factor of it can be zero")
        own_dtype = None if operator.dtype is None else backends.canonical_dtype(operator.dtype, "torch")
        kind = {"device": device, "dtype": dtype or own_dtype}
        for name, leaf in leaves:
            value = torch.empty(leaf.shape, **kind) if any(symbolic) else leaf.detach().clone()
            self.register_parameter(name, nn.Parameter(value))
        if leaves and not any(symbolic):
            kind["device"] = leaves[0][1].device
        self.register_parameter("bias", nn.Parameter(torch.zeros(self.out_features, **kind)) if bias else None)
        stds = initial_stds(self.structure.operator)
        self._scales = {name: std for name, std in stds.items() if std} if weight_norm else {}
        for name in self._scales:
            self.register_parameter(f"{name}_gain", nn.Parameter(torch.ones(1, **kind)))
        self._indices = [name for name, _ in index_arrays(self.structure.operator)]
        for name in self._indices:
            self.register_buffer(name, None, persistent=False)
        self._place_indices(next((parameter.device for parameter in self.parameters()), device))
        self._take_dtypes()
        if any(symbolic):
            self.reset_parameters()
        self._blank = any(parameter.is_meta for parameter in self.parameters())

    def reset_parameters(self) -> None:
        """Draw the parameters anew by the layer's scheme, of structure-aware scale; scalars are one, bias zero.

        What starts at zero and the scale of the layer that it replaced are kept, also by `lo.nn.save` and `load`.

        Sharded ones become what one process draws, if all ranks have one seed: each draws all and keeps its part.
        """
        self._draw(list(self._parameters))
        self._blank = any(parameter.is_meta for parameter in self.parameters())

    def _draw(self, names: list[str]) -> None:
        whole: dict[str, Any] = {}
        if self.scheme != "mup" and not all(self.get_parameter(name).is_meta for name in self._names):
            seed = int(torch.randint(2**62, (), device="cpu"))
            drawn = self.structure.operator.init(seed, "torch", device="cpu", scheme=self.scheme)
            whole = dict(drawn.named_leaves())
        with torch.no_grad():
            for name, std in initial_stds(self.structure.operator).items():
                if name in names:
                    draw_(self.get_parameter(name), std, self._starts.get(name, 1), whole.get(name))
            for name in self._scales:
                if f"{name}_gain" in names:
                    self.get_parameter(f"{name}_gain").fill_(1)
            if self.bias is not None and "bias" in names:
                self.bias.zero_()

    @property
    def structure(self) -> Structure:
        """The operator without its numbers; its `operator` has specs in the place of the leaves."""
        return self._structure

    @property
    def operator(self) -> Any:
        """The operator over the layer's parameters as they are now."""
        return self._over([*map(self._leaf, self._names)], held(self, self._indices))

    def _over(self, leaves: list[Any], indices: list[Any]) -> Any:
        """The operator over leaves and index arrays."""
        # functional_call may put tensors of other shapes and dtypes there; compilers make no plans
        alike = kinds(leaves) == self._kinds and not backends.is_compiling()
        return self._structure.fill(leaves, indices, alike=alike)

    def _leaf(self, name: str) -> torch.Tensor:
        leaf = getattr(self, name)
        if name not in self._scales:
            return leaf
        return leaf * (getattr(self, f"{name}_gain") / excess(leaf, self._scales[name]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """X @ A.T + bias over the last axis of x."""
        if not isinstance(x, torch.Tensor):
            if isinstance(x, fx.Proxy):
                return self._traced(x)
            structure = self.structure.operator._short().replace(", symbolic)", ")")
            raise TypeError(
                f"layer of {structure}: expected a torch tensor (…, {self.in_features}), got {type(x).__name__}"
            )
        operator, bias = self._acting()
        y = operator._linear(x)
        # as `torch.nn.Linear` gives it: on other layouts attention holds all pairs of tokens, and views fail
        rows = y if self.features_first else y.contiguous()
        if bias is None:
            return own(rows, x)
        bias = bias.to(y.dtype)  # under autocast, y is narrower
        return rows + bias if rows is y else rows.add_(bias)

    def _traced(self, x: Any) -> Any:
        """The layer as one node of a torch.fx graph: a call of the module, or if it is traced itself, of a function."""
        tracer = x.tracer
        if tracer.root is not self:
            return tracer.create_proxy("call_module", tracer.path_of_module(self), (x,), {})
        structure = tracer.create_proxy("get_attr", "_structure", (), {})
        leaves, indices = tuple(map(self._leaf, self._names)), tuple(held(self, self._indices))
        y = tracer.create_proxy("call_function", multiply, (structure, leaves, indices, x), {})
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def fold_(self) -> Linear:
        """Multiply the weight normalisation into the parameters, in place.

        Returns:
            The layer, without weight normalisation. Sharded parameters are a ValueError.
        """
        require_whole("fold_", self)
        with torch.no_grad():
            for name in self._scales:
                self.get_parameter(name).copy_(self._leaf(name))
        for name in self._scales:
            delattr(self, f"{name}_gain")
        self._scales, self.weight_norm = {}, False
        self._take_dtypes()
        return self

    def _uncap_(self) -> None:
        """Raise the gains of weight normalisation to what it takes off, so that the layer computes its parameters."""
        with torch.no_grad():
            for name, std in self._scales.items():
                self.get_parameter(f"{name}_gain").copy_(excess(self.get_parameter(name), std).reshape(1))

    def extra_repr(self) -> str:
        """Sizes and structure, for repr."""
        # the structure is symbolic, and its arrays are the layer's parameters
        structure = re.sub(" +symbolic$", "", repr(self.structure.operator), flags=re.MULTILINE).replace("\n", "\n  ")
        inner = f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        inner += ", weight_norm=True" if self.weight_norm else ""
        inner += f", scheme={self.scheme!r}" if self.scheme != "mup" else ""
        return f"{inner}\n{structure}" if "\n" in structure else f"{inner}, {structure}"

    def _place_indices(self, device: Any) -> None:
        """Put index buffers on a device, with the structure's numbers: `to_empty` and the meta device lose theirs."""
        for name, array in index_arrays(self.structure.operator):
            setattr(self, name, torch.from_numpy(array).to(device=device, dtype=torch.int64))

    def _leaves(self) -> list[Any]:
        own = self._parameters  # of which a replica of torch.nn.DataParallel has none
        return [own[name] for name in self._names] if own else held(self, self._names)

    @property
    def _gives_complex(self) -> bool:
        return self.structure.operator._is_complex

    def _complete(self, names: list[str]) -> None:
        self._draw(names)
        self._take_dtypes()  # those of a checkpoint
        for name in self._indices[:1]:
            # of parameters offloaded to disk, that of the indices
            devices = [one.device for one in (*self.parameters(), getattr(self, name)) if not one.is_meta]
            self._place_indices(devices[0] if devices else "meta")

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        self._take_dtypes()
        for name in self._indices[:1]:
            self._place_indices(getattr(self, name).device)
        return self

    def _take_dtypes(self) -> None:
        """Give the structure the dtypes of the parameters as they are now: its plans are of them."""
        leaves = held(self, self._names)
        specs = [Spec(tuple(leaf.shape), dtype_name(leaf.dtype)) for leaf in leaves]
        self._structure = self._structure.fill(specs).structure
        self._kinds = kinds(leaves)
        self._keeps, self._kept = None if self._scales or not reads_anew(self._structure) else Linear, None

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._take_dtypes()  # with assign=True the parameters may be of another dtype, on another device
        self._place_indices(next((parameter.device for parameter in self.parameters()), None))


def multiply(structure: Any, leaves: tuple[Any, ...], indices: tuple[Any, ...], x: torch.Tensor) -> torch.Tensor:
    """X Aᵀ of a structure and leaves: what a graph of torch.fx calls.

    Args:
        structure: The `Structure`.
        leaves: Its leaves, in the order of `LinearOperator.named_leaves`.
        indices: Its index arrays, in that order.
        x: Rows (…, n).

    Returns:
        Rows (…, m).
    """
    return structure.fill(leaves, indices)._linear(x)
