"""`Chained`: operators whose product with few vectors may run in one compiled call."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.declaration import remembered
from linops.kernels.choice import mode
from linops.operator import LinearOperator
from linops.operators.choosing import has_sizes
from linops.plan.network import Graph, Network


class Chained(LinearOperator):
    """An operator of tensors that act on the operand one by one; where kernels are asked for, in one call.

    Its products ask `_compiled` first, where `linops.kernels.choice.STATE` says that kernels may be wanted.
    """

    def _compiled(self, x: Any, batch: Any, rows: bool) -> Any:
        """The product with few vectors in one compiled call (`linops.kernels.chain`); None where it runs as ever."""
        if self.backend != "torch" or type(batch) is not int or backends.is_compiling():
            return None
        way = mode()
        if way == "off" or (chain := self._chain) is None or batch > chain.most:
            return None
        return chain.product(way, self, self._leaves, x, rows)

    @remembered
    def _chain(self) -> Any:
        """The compiled chain of the structure, or None."""
        return self._find_chain()

    def _find_chain(self) -> Any:
        if not has_sizes(self):
            return None
        from linops.kernels.chain import chain_of  # an extra, which loads torch

        return chain_of(network_of(self), self._num_leaves)

    @remembered
    def _leaves(self) -> tuple[Any, ...]:
        """The leaves in the order of `named_leaves`."""
        return tuple([leaf for _, leaf in self.named_leaves()])


def network_of(operator: LinearOperator) -> Network | None:
    """An operator as a network of contractions.

    Args:
        operator: The operator.

    Returns:
        The network, or None if it is none, or one of no numbers.
    """
    graph = Graph()
    into = graph.axes(operator.shape[1])
    out = operator._trace(graph, into, 0)
    network = None if out is None else graph.network(into, out)
    return None if network is None or 0 in network.sizes.values() else network
