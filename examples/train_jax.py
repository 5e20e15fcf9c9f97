"""Train an operator in JAX: it is a pytree, so `jax.jit`, `jax.grad` and optax take it as it is."""

import jax
import jax.numpy as jnp
import optax

import linops as lo

operator = lo.btt(64, 64, rank=2).init(seed=0, backend="jax")
target = lo.monarch(64, 64).init(seed=1, backend="jax")

# one rate a leaf, from the structure
multipliers = jax.tree.unflatten(jax.tree.structure(operator), lo.lr_multipliers(operator).values())
optimizer = optax.adam(1e-3)
state = optimizer.init(operator)


@jax.jit
def step(operator, state, x):
    """One step of Adam on the mean squared difference from the target's outputs."""
    loss, gradient = jax.value_and_grad(lambda it: jnp.mean((it @ x - target @ x) ** 2))(operator)
    updates, state = optimizer.update(gradient, state)
    updates = jax.tree.map(lambda update, multiplier: update * multiplier, updates, multipliers)
    return optax.apply_updates(operator, updates), state, loss


key = jax.random.key(0)
for number in range(201):
    key, draw = jax.random.split(key)
    operator, state, loss = step(operator, state, jax.random.normal(draw, (64, 256)))
    if number % 50 == 0:
        print(f"step {number:3}  loss {loss:.4f}")
