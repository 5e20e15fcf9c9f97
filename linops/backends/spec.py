"""Specs: the primitives that transposing, conjugating and reshaping a symbolic operator needs."""

from __future__ import annotations

from typing import Any

from linops.backends import primitives as p
from linops.specs import Spec


@p.permute.dispatch
def _permute(x: Spec, order: tuple):
    return Spec(tuple(x.shape[axis] for axis in order), x.dtype)


@p.conj.dispatch
def _conj(x: Spec):
    return x


@p.same_array.dispatch
def _same_array(a: Spec, b: Spec):
    return False


@p.indices_beside.dispatch
def _indices_beside(like: Spec, indices: Any):
    return indices


@p.device_of.dispatch
def _device_of(x: Spec):
    return None


@p.any_nonzero.dispatch
def _any_nonzero(x: Spec):
    return None


@p.differentiates.dispatch
def _differentiates(x: Spec):
    return True
