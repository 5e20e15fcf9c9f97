"""A mixture of experts over the ranks of a BTT, and the loss that keeps its experts in use."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import fx, nn

from linops.nn.nonlinear import Mixture, btt_mixture
from linops.nn.routing import placed, sizes
from linops.nn.torch.nonlinear import Nonlinear


class BTTMixture(Nonlinear):
    """y = Σ_e g_e(x) A_e x + bias over the k experts that x scores highest, each a BTT.

    It is what ``replace_linear_(model, "btt_mixture")`` puts in. A BTT of rank r is a sum of r BTTs of rank 1, so this
    is a BTT of rank `experts` of which every vector uses `active` ranks: parameters grow with the number of experts,
    MACs but by the scores. g is the softmax of the k highest scores G x. Add `lo.nn.balance_loss` to the loss, or
    experts may fall out of use.

    All rows of a call are routed together, by sizes that do not depend on where they go, so that `torch.compile` and
    `torch.export` take the layer whole (`linops.nn.routing`).

    Sources: Potapczynski, Qiu et al., "Searching for Efficient Linear Layers over a Continuous Space of Structured
    Matrices" (NeurIPS 2024) for the mixture; Fedus, Zoph, Shazeer, "Switch Transformers" (2022) for the balance.

    Cost: that of `active` experts, of which a quarter more runs as padding, and in_features · experts MACs for the
    scores. A forward pass copies the leaves of experts up to 5 times.

    Attributes:
        nonlinear: What it computes, without numbers: `linops.nn.nonlinear.Mixture`.
        gate: G, an (experts, n) parameter.
        bias: (m,) parameter, or None.

    Args:
        out_features: m.
        in_features: n.
        experts: Their number.
        active: How many of them a vector uses.
        balance: The factor of the balance loss; 0 for none.
        bias: Whether to add a bias, initially zero.
        device: The device of the parameters.
        dtype: The dtype of the parameters.
        zero_init: Whether it starts at zero, as at the end of a residual branch.
        nonlinear: What it is to compute, where that is at hand; it stands for sizes and options.
        **options: Of `lo.nn.btt_mixture`, as ``rank=2``.

    Shape:
        Input (…, n), output (…, m). Each leaf of the BTT is a parameter with a first axis of experts.

    Raises:
        ValueError: If it costs more than dense, or fewer experts than one are active, or more than all.

    Example:
        >>> import torch
        >>> layer = BTTMixture(64, 16, experts=4, active=2)
        >>> layer(torch.zeros(2, 3, 16)).shape, layer.nonlinear.macs
        (torch.Size([2, 3, 64]), 832)
        >>> {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
        {'cores_0': (4, 4, 8, 4), 'cores_1': (4, 8, 8, 4), 'gate': (4, 16), 'bias': (64,)}
    """

    gate: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        out_features: int,
        in_features: int,
        experts: int = 8,
        active: int = 2,
        balance: float = 0.01,
        bias: bool = True,
        *,
        device: Any = None,
        dtype: Any = None,
        zero_init: bool = False,
        nonlinear: Mixture | None = None,
        **options: Any,
    ) -> None:
        if nonlinear is None:
            nonlinear = btt_mixture(out_features, in_features, experts, active, balance, **options)
        super().__init__(nonlinear, bias, device, dtype, zero_init)
        self._balance: Any = None
        self._has_warned = self._was_missing = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The weighted outputs of the active experts, and the bias, over the last axis of x."""
        if isinstance(x, fx.Proxy):  # one node of a graph of torch.fx
            return x.tracer.create_proxy("call_module", x.tracer.path_of_module(self), (x,), {})  # type: ignore
        return super().forward(x)

    def _mapped(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, self.in_features)
        scores = nn.functional.linear(rows, self.gate)
        highest, chosen = scores.topk(self.nonlinear.active, dim=-1)
        y, counts = self._experts(rows, chosen)
        if self.training and self.nonlinear.balance and torch.is_grad_enabled() and not torch.compiler.is_exporting():
            self._keep(balance_of(self.nonlinear, scores, counts))
        y = (y * highest.softmax(-1)[..., None].to(y.dtype)).sum(1)
        return y.reshape(*x.shape[:-1], self.out_features)

    def _experts(self, rows: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The outputs of the experts chosen for each row, (rows, k, m), and how many rows each expert has."""
        count, experts = chosen.numel(), self.nonlinear.experts
        if torch.compiler.is_exporting() and not isinstance(count, int):
            # for any number of rows: of blocks of a symbolic size too little is known, so all experts run
            every = torch.stack([self._expert(list(one), rows) for one in zip(*self._experts_leaves())], 1)
            at = chosen[..., None].expand(-1, -1, self.out_features)
            return every.gather(1, at), chosen.new_zeros(experts)
        size, blocks = sizes(count, experts)
        numbers, order = (torch.arange(one, device=rows.device) for one in (experts, blocks))
        places, owners, counts = placed(chosen.reshape(-1), numbers, size, order)
        given = rows[:, None].expand(-1, chosen.shape[1], -1).reshape(count, self.in_features)
        cut = rows.new_zeros(blocks * size, self.in_features).index_copy(0, places, given)
        leaves = [leaf.index_select(0, owners) for leaf in self._experts_leaves()]
        y = torch.func.vmap(self._expert)(leaves, cut.view(blocks, size, self.in_features))
        y = y.reshape(blocks * size, self.out_features).index_select(0, places)
        return y.view(*chosen.shape, self.out_features), counts

    def _experts_leaves(self) -> list[torch.Tensor]:
        return [getattr(self, name) for name in self._names]

    def _expert(self, leaves: list[torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        """The product of the expert of these leaves."""
        return self.nonlinear.structure.fill(leaves)._linear(rows)

    def _keep(self, loss: torch.Tensor) -> None:
        """Keep the balance loss of this forward pass for `balance_loss`."""
        if not torch.compiler.is_compiling():
            if torch._C._current_graph_task_id() != -1:  # what an activation checkpoint computes again
                return
            if self._balance is not None and not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"{self._called} is a mixture that runs again before lo.nn.balance_loss(model) has taken its "
                    "balance loss, which is lost: add it to every loss that is trained on, or give balance=0",
                    stacklevel=2,
                )
        self._balance = loss

    def _take(self) -> Any:
        loss, self._balance = self._balance, None
        return None if loss is None or _is_left(loss) else loss

    def train(self, mode: bool = True) -> Any:
        """As of `torch.nn.Module`; in evaluation no balance loss is kept, nor its graph."""
        if not mode:
            self._balance = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_balance": None}  # which belongs to a graph, and cannot be copied


def _is_left(loss: torch.Tensor) -> bool:
    """Whether a tensor is of a transform of torch.func that has ended."""
    functorch = getattr(torch._C, "_functorch")  # noqa: B009 - not in its stubs
    if torch.compiler.is_compiling():
        return False
    return functorch.is_dead_tensor_wrapper(loss) or functorch.maybe_get_level(loss) > (
        functorch.maybe_current_level() or -1
    )


def balance_of(mixture: Mixture, scores: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """The loss  balance · E · Σ_e f_e p_e  of E experts; f_e is the share routed to e, p_e its mean chance.

    Args:
        mixture: The mixture.
        scores: (rows, experts).
        counts: How often each expert is chosen.

    Returns:
        A scalar, zero without rows; its gradient is that of p.
    """
    rows = max(scores.shape[0], 1)
    means = scores.float().softmax(-1).sum(0) / rows
    return mixture.balance * mixture.experts * (counts / (rows * mixture.active) * means).sum()


def balance_loss(model: nn.Module) -> torch.Tensor:
    """The sum of the balance losses of a model's mixtures in its last forward pass in training: add it to the loss.

    Of each mixture it is  balance · E · Σ_e f_e p_e  of its E experts: f_e is the share of an expert in what is routed,
    p_e its mean probability, and the gradient is that of p. It is least, `balance`, where all experts are used alike. A
    layer that runs several times in a pass counts by the last. What was found is taken: each forward pass is counted
    once.

    Source: Fedus, Zoph, Shazeer, "Switch Transformers" (2022), with the k chosen experts in the place of one.

    Args:
        model: Any model; wrapped ones (`torch.compile`, DDP) too. Under DDP each rank balances its own rows.

    Returns:
        A scalar; zero for a model without such layers, or where each has ``balance=0``.

    Raises:
        TypeError: If it is no `torch.nn.Module`.
        RuntimeError: If there are mixtures, and none has run in training mode with gradients since the last call; what
            ran within a transform of `torch.func` counts within that alone.

    Warns:
        UserWarning: If some mixtures in training mode have not run so, which the sum lacks; once a mixture.

    Example:
        >>> import linops as lo, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU(), torch.nn.Linear(64, 10))
        >>> report = lo.nn.replace_linear_(model, "btt_mixture:experts=4", where="0")
        >>> y = model(torch.randn(32, 64))
        >>> loss = y.square().mean() + lo.nn.balance_loss(model)
        >>> loss.backward()
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"balance_loss({type(model).__name__}): expected a torch.nn.Module; see with_balance_loss of "
            "lo.nn.flax and lo.nn.equinox for JAX"
        )
    layers = [one for one in model.modules() if isinstance(one, BTTMixture) and one.nonlinear.balance]
    if not layers:
        return torch.zeros((), device=next((one.device for one in model.parameters()), None))
    losses = [layer._take() for layer in layers]
    found = [loss for loss in losses if loss is not None]
    if not found:
        raise RuntimeError(
            f"balance_loss: none of the model's {len(layers)} mixtures has run in training mode with gradients since "
            "the last call: call it once after each forward pass, of torch.func within the function transformed; of "
            "activation checkpoints take use_reentrant=False"
        )
    if not torch.compiler.is_compiling():
        _warn_of_missing([layer for layer, loss in zip(layers, losses) if loss is None and layer.training])
    return torch.stack([loss.to(found[0].device) for loss in found]).sum()


def _warn_of_missing(layers: list[BTTMixture]) -> None:
    """Warn of mixtures whose balance loss is not in the sum, once of each."""
    new = [layer for layer in layers if not layer._was_missing]
    for layer in new:
        layer._was_missing = True
    if new:
        more = f" (and {len(new) - 1} others)" if len(new) > 1 else ""
        warnings.warn(
            f"balance_loss: {new[0]._called}{more} is a mixture in training mode that has not run with gradients since "
            "the last call, so its loss is not in the sum: it was not called, or ran under an activation checkpoint "
            "(take use_reentrant=False), without gradients or within torch.func",
            stacklevel=3,
        )
