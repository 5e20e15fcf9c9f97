"""The table of cases: each `case_*` takes a maker of random arrays and returns (operator, its dense matrix).

The matrix is built from the definition, by other means than the operator's own: loops, np.kron, einsum over the formula.
"""

import numpy as np

import linops as lo


def axes_matrix(dims, order):
    """The matrix of y = x.reshape(dims).transpose(order).ravel(), column by column."""
    n = int(np.prod(dims))
    matrix = np.zeros((n, n))
    for column in range(n):
        unit = np.zeros(n)
        unit[column] = 1
        matrix[:, column] = unit.reshape(dims).transpose(order).ravel()
    return matrix


def index_matrix(indices):
    """The matrix of y[i] = x[indices[i]], entry by entry."""
    matrix = np.zeros((len(indices), len(indices)))
    for row, column in enumerate(indices):
        matrix[row, column] = 1
    return matrix


def block_matrix(blocks):
    """Blocks along the diagonal."""
    rows, columns = sum(len(block) for block in blocks), sum(block.shape[1] for block in blocks)
    matrix = np.zeros((rows, columns), np.result_type(*blocks))
    i = j = 0
    for block in blocks:
        p, q = block.shape
        matrix[i : i + p, j : j + q] = block
        i, j = i + p, j + q
    return matrix


def pad_matrix(m, n):
    """Ones on the diagonal."""
    matrix = np.zeros((m, n))
    for i in range(min(m, n)):
        matrix[i, i] = 1
    return matrix


def kron_matrix(*factors):
    """np.kron of any number of factors."""
    matrix = np.ones((1, 1))
    for factor in factors:
        matrix = np.kron(matrix, factor)
    return matrix.astype(np.result_type(*factors))


# ---------------------------------------------------------------- dense, diagonal, constants


def case_dense_square(array):
    a = array(4, 4)
    return lo.Dense(a), a


def case_dense_tall(array):
    a = array(7, 3)
    return lo.Dense(a), a


def case_dense_wide(array):
    a = array(2, 6)
    return lo.Dense(a), a


def case_dense_transposed_memory(array):
    a = array(5, 3).T
    return lo.Dense(a), a


def case_diagonal(array):
    d = array(5)
    return lo.Diagonal(d), np.diag(d)


def case_identity(array):
    return lo.Identity(4), np.eye(4)


def case_zero_square(array):
    return lo.Zero(3, 3), np.zeros((3, 3))


def case_zero_tall(array):
    return lo.Zero(5, 2), np.zeros((5, 2))


def case_zero_wide(array):
    return lo.Zero(2, 5), np.zeros((2, 5))


def case_pad_pads(array):
    return lo.Pad(5, 3), pad_matrix(5, 3)


def case_pad_crops(array):
    return lo.Pad(3, 5), pad_matrix(3, 5)


def case_pad_square(array):
    return lo.Pad(3, 3), pad_matrix(3, 3)


# ---------------------------------------------------------------- permutations


def case_permute_indices(array):
    indices = [3, 0, 2, 1, 4]
    return lo.Permute(indices), index_matrix(indices)


def case_permute_random(array):
    indices = np.random.default_rng(5).permutation(7)
    return lo.Permute.random(7, seed=5), index_matrix(indices)


def case_permute_two_axes(array):
    return lo.Permute.axes((2, 3), (1, 0)), axes_matrix((2, 3), (1, 0))


def case_permute_three_axes(array):
    return lo.Permute.axes((2, 3, 4), (2, 0, 1)), axes_matrix((2, 3, 4), (2, 0, 1))


def case_permute_four_axes(array):
    return lo.Permute.axes((2, 1, 3, 2), (3, 1, 0, 2)), axes_matrix((2, 1, 3, 2), (3, 1, 0, 2))


# ---------------------------------------------------------------- block diagonal, low rank


def case_block_diag_square(array):
    blocks = array(3, 2, 2)
    return lo.BlockDiag(blocks), block_matrix(blocks)


def case_block_diag_tall(array):
    blocks = array(2, 4, 3)
    return lo.BlockDiag(blocks), block_matrix(blocks)


def case_block_diag_wide(array):
    blocks = array(4, 1, 3)
    return lo.BlockDiag(blocks), block_matrix(blocks)


def case_block_diag_one_block(array):
    blocks = array(1, 3, 2)
    return lo.BlockDiag(blocks), blocks[0]


def case_block_diag_list(array):
    a, b = array(2, 3), array(4, 1)
    return lo.BlockDiag([a, lo.Dense(b)]), block_matrix([a, b])


def case_block_diag_of_operators(array):
    d, p, q = array(3), array(2, 2, 1), array(2, 4)
    operator = lo.BlockDiag([lo.Diagonal(d), lo.BlockDiag(p), lo.Identity(2), lo.Zero(1, 2), q])
    return operator, block_matrix([np.diag(d), block_matrix(p), np.eye(2), np.zeros((1, 2)), q])


def case_block_diag_of_views(array):
    operator = lo.BlockDiag([lo.Permute.axes((2, 3), (1, 0)), lo.Pad(2, 3)])
    return operator, block_matrix([axes_matrix((2, 3), (1, 0)), pad_matrix(2, 3)])


def case_low_rank_square(array):
    u, v = array(5, 2), array(2, 5)
    return lo.LowRank(u, v), np.einsum("ir,rj->ij", u, v)


def case_low_rank_tall(array):
    u, v = array(7, 2), array(2, 3)
    return lo.LowRank(u, v), np.einsum("ir,rj->ij", u, v)


def case_low_rank_wide(array):
    u, v = array(2, 3), array(3, 6)
    return lo.LowRank(u, v), np.einsum("ir,rj->ij", u, v)


# ---------------------------------------------------------------- Kronecker


def case_kronecker_square(array):
    a, b = array(2, 2), array(3, 3)
    return lo.Kronecker(a, b), np.kron(a, b)


def case_kronecker_tall(array):
    a, b = array(3, 2), array(4, 3)
    return lo.Kronecker(a, b), np.kron(a, b)


def case_kronecker_wide(array):
    a, b = array(1, 3), array(2, 4)
    return lo.Kronecker(a, b), np.kron(a, b)


def case_kronecker_one_factor(array):
    a = array(3, 2)
    return lo.Kronecker(a), a


def case_kronecker_three_factors(array):
    a, b, c = array(3, 1), array(1, 4), array(2, 2)
    return lo.Kronecker(a, b, c), kron_matrix(a, b, c)


def case_kronecker_four_factors(array):
    factors = array(2, 3), array(3, 1), array(1, 2), array(2, 2)
    return lo.Kronecker(*factors), kron_matrix(*factors)


def case_kronecker_of_operators(array):
    d, blocks, a = array(2), array(2, 1, 2), array(3, 2)
    operator = lo.Kronecker(lo.Diagonal(d), lo.BlockDiag(blocks), a)
    return operator, kron_matrix(np.diag(d), block_matrix(blocks), a)


def case_kronecker_with_identities(array):
    a = array(3, 2)
    return lo.Kronecker(lo.Identity(2), a, lo.Identity(3)), kron_matrix(np.eye(2), a, np.eye(3))


def case_kronecker_of_views(array):
    operator = lo.Kronecker(lo.Identity(2), lo.Permute.axes((2, 2), (1, 0)), lo.Pad(2, 3))
    return operator, kron_matrix(np.eye(2), axes_matrix((2, 2), (1, 0)), pad_matrix(2, 3))


def case_kronecker_of_identities(array):
    return lo.Kronecker(lo.Identity(2), lo.Identity(3)), np.eye(6)


def case_kronecker_of_low_rank_and_products(array):
    u, v, a, b = array(2, 1), array(1, 3), array(2, 3), array(3, 2)
    return lo.kron(lo.LowRank(u, v), lo.Dense(a) @ lo.Dense(b)), np.kron(u @ v, a @ b)


# ---------------------------------------------------------------- tensor trains


def case_tensor_train_one_core(array):
    (core,) = (array(1, 4, 3, 1),)
    return lo.TensorTrain([core]), core[0, :, :, 0]


def case_tensor_train_two_cores_square(array):
    a, b = array(1, 2, 3, 2), array(2, 3, 2, 1)
    return lo.TensorTrain([a, b]), np.einsum("aijb,bklc->ikjl", a, b).reshape(6, 6)


def case_tensor_train_two_cores_tall(array):
    a, b = array(1, 4, 2, 3), array(3, 3, 2, 1)
    return lo.TensorTrain([a, b]), np.einsum("aijb,bklc->ikjl", a, b).reshape(12, 4)


def case_tensor_train_two_cores_wide(array):
    a, b = array(1, 2, 5, 2), array(2, 1, 3, 1)
    return lo.TensorTrain([a, b]), np.einsum("aijb,bklc->ikjl", a, b).reshape(2, 15)


def case_tensor_train_three_cores(array):
    a, b, c = array(1, 2, 3, 2), array(2, 3, 1, 3), array(3, 2, 2, 1)
    return lo.TensorTrain([a, b, c]), np.einsum("aijb,bklc,cmnd->ikmjln", a, b, c).reshape(12, 6)


def case_tensor_train_four_cores(array):
    a, b, c, d = array(1, 2, 1, 2), array(2, 1, 2, 3), array(3, 2, 2, 2), array(2, 2, 3, 1)
    return lo.TensorTrain([a, b, c, d]), np.einsum("aijb,bklc,cmnd,dopq->ikmojlnp", a, b, c, d).reshape(8, 12)


def btt_two_cores(array, m1, m2, n2, n1, r):
    """W[(i1, i2), (j2, j1)] = Σ_ρ G1[ρ; i1; j1 j2] G2[ρ; i1 i2; j2], with the cores as the docstring says they are stored."""
    first, second = array(n2, r * m1, n1), array(m1, m2, n2 * r)
    g1, g2 = first.reshape(n2, r, m1, n1), second.reshape(m1, m2, n2, r)
    matrix = np.zeros((m1, m2, n2, n1), first.dtype)
    for i1, i2, j2, j1 in np.ndindex(matrix.shape):
        matrix[i1, i2, j2, j1] = sum(g1[j2, rank, i1, j1] * g2[i1, i2, j2, rank] for rank in range(r))
    return lo.BlockTensorTrain([first, second]), matrix.reshape(m1 * m2, n2 * n1)


def case_block_tensor_train_square(array):
    return btt_two_cores(array, m1=2, m2=3, n2=3, n1=2, r=1)


def case_block_tensor_train_tall_rank_two(array):
    return btt_two_cores(array, m1=3, m2=4, n2=2, n1=3, r=2)


def case_block_tensor_train_wide_rank_three(array):
    return btt_two_cores(array, m1=2, m2=2, n2=3, n1=4, r=3)


def case_block_tensor_train_one_core(array):
    core = array(1, 3, 4)
    return lo.BlockTensorTrain([core], (3,), (4,)), core[0]


def btt_three_cores(array, out, into, ranks):
    """W[(i1 i2 i3), (j3 j2 j1)] = Σ G1[ρ1; i1; j1 j2 j3] G2[ρ1 ρ2; i1 i2; j2 j3] G3[ρ2; i1 i2 i3; j3]."""
    (m1, m2, m3), (n3, n2, n1), (r1, r2) = out, into, ranks
    cores = array(n3 * n2, r1 * m1, n1), array(m1 * n3, r2 * m2, n2 * r1), array(m1 * m2, m3, n3 * r2)
    # a, b, c = i1, i2, i3;  z, y, x = j3, j2, j1;  r, s = ρ1, ρ2
    g1 = cores[0].reshape(n3, n2, r1, m1, n1)
    g2 = cores[1].reshape(m1, n3, r2, m2, n2, r1)
    g3 = cores[2].reshape(m1, m2, m3, n3, r2)
    matrix = np.einsum("zyrax,azsbyr,abczs->abczyx", g1, g2, g3).reshape(m1 * m2 * m3, n3 * n2 * n1)
    return lo.BlockTensorTrain(cores, out, into), matrix


def case_block_tensor_train_three_cores(array):
    return btt_three_cores(array, (2, 2, 2), (2, 2, 2), (1, 1))


def case_block_tensor_train_three_cores_tall(array):
    return btt_three_cores(array, (2, 3, 4), (3, 2, 2), (2, 3))


def case_block_tensor_train_three_cores_wide(array):
    return btt_three_cores(array, (2, 1, 3), (4, 2, 3), (3, 2))


# ---------------------------------------------------------------- composites


def case_product_of_two(array):
    a, b = array(3, 4), array(4, 2)
    return lo.Dense(a) @ lo.Dense(b), a @ b


def case_product_of_views(array):
    operator = lo.Pad(5, 6) @ lo.Permute.axes((2, 3), (1, 0)) @ lo.Pad(6, 7)
    return operator, pad_matrix(5, 6) @ axes_matrix((2, 3), (1, 0)) @ pad_matrix(6, 7)


def case_product_monarch(array):
    left, right = array(2, 4, 3), array(2, 3, 3)
    operator = lo.Permute.axes((2, 4), (1, 0)) @ lo.BlockDiag(left) @ lo.Permute.axes((3, 2), (1, 0)) @ lo.BlockDiag(right)
    matrix = axes_matrix((2, 4), (1, 0)) @ block_matrix(left) @ axes_matrix((3, 2), (1, 0)) @ block_matrix(right)
    return operator, matrix


def case_product_of_permutations(array):
    indices = np.random.default_rng(1).permutation(6)
    operator = lo.Permute(indices) @ lo.Permute.axes((2, 3), (1, 0)) @ lo.Permute(indices[::-1].copy())
    return operator, index_matrix(indices) @ axes_matrix((2, 3), (1, 0)) @ index_matrix(indices[::-1])


def case_product_diagonal_low_rank(array):
    d, u, v = array(4), array(4, 2), array(2, 5)
    return lo.Diagonal(d) @ lo.LowRank(u, v), np.diag(d) @ u @ v


def case_product_with_zero(array):
    a = array(3, 4)
    return lo.Zero(2, 3) @ lo.Dense(a), np.zeros((2, 4), a.dtype)


def case_sum_of_dense(array):
    a, b = array(3, 4), array(3, 4)
    return lo.Dense(a) + lo.Dense(b), a + b


def case_sum_with_identity(array):
    u, v = array(4, 1), array(1, 4)
    return lo.Identity(4) + lo.LowRank(u, v), np.eye(4) + u @ v


def case_sum_of_views(array):
    operator = lo.Identity(6) + lo.Permute.axes((2, 3), (1, 0)) + lo.Permute([5, 4, 3, 2, 1, 0])
    return operator, np.eye(6) + axes_matrix((2, 3), (1, 0)) + index_matrix([5, 4, 3, 2, 1, 0])


def case_sum_with_plain_array(array):
    d, a = array(3), array(3, 3)
    return a - lo.Diagonal(d), a - np.diag(d)


def case_scaled_tall(array):
    a = array(4, 2)
    return -2.5 * lo.Dense(a), -2.5 * a


def case_scaled_wide(array):
    a = array(2, 4)
    return lo.Dense(a) / 4, a / 4


def case_scaled_gain(array):
    gain, blocks = array(), array(2, 3, 2)
    return 2 * (gain * lo.BlockDiag(blocks)), 2 * gain * block_matrix(blocks)


def case_scaled_two_gains(array):
    one, two, a = array(), array(), array(3, 3)
    return one * (two * lo.Dense(a)), one * two * a


def case_scaled_view(array):
    return 3 * lo.Permute.axes((2, 3), (1, 0)), 3 * axes_matrix((2, 3), (1, 0))


def case_scaled_complex(array):
    a = array(3, 2)
    return (1 + 2j) * lo.Dense(a), (1 + 2j) * a


def case_scaled_complex_identity(array):
    return 1j * lo.Identity(3), 1j * np.eye(3)


def case_sum_with_complex_identity(array):
    a = array(3, 3)
    return lo.Dense(a) - 2j * lo.Identity(3), a - 2j * np.eye(3)


def case_power_dense(array):
    a = array(3, 3)
    return lo.Dense(a) ** 3, a @ a @ a


def case_power_of_views(array):
    matrix = axes_matrix((2, 2, 2), (1, 2, 0))
    return lo.Permute.axes((2, 2, 2), (1, 2, 0)) ** 2, matrix @ matrix


def case_power_of_product(array):
    a, b = array(4, 2), array(2, 4)
    return (lo.Dense(a) @ lo.Dense(b)) ** 2, a @ b @ a @ b


def case_power_zero(array):
    return lo.Dense(array(3, 3)) ** 0, np.eye(3)


def case_nested_sum_of_products(array):
    a, b, d, g = array(3, 4), array(4, 3), array(3), array()
    operator = 2 * (lo.Dense(a) @ lo.Dense(b) + g * lo.Diagonal(d)) - lo.Identity(3)
    return operator, 2 * (a @ b + g * np.diag(d)) - np.eye(3)


def case_nested_kronecker_of_sums(array):
    a, b, d = array(2, 3), array(2, 3), array(3)
    operator = lo.kron(lo.Dense(a) + lo.Dense(b), (lo.Diagonal(d) + lo.Identity(3)) ** 2)
    square = np.diag(d) + np.eye(3)
    return operator, np.kron(a + b, square @ square)


def case_nested_blocks_of_trains(array):
    train, dense = case_tensor_train_two_cores_tall(array)
    block, other = case_block_tensor_train_wide_rank_three(array)
    d = array(4)
    operator = lo.BlockDiag([train @ lo.Diagonal(d), -block])
    return operator, block_matrix([dense @ np.diag(d), -other])


def case_nested_transposes(array):
    a, blocks, u, v = array(3, 4), array(2, 2, 3), array(6, 2), array(2, 3)
    operator = (lo.Dense(a).H @ lo.LowRank(u, v).T).conj() @ lo.BlockDiag(blocks).T
    return operator, (a.conj().T @ (u @ v).T).conj() @ block_matrix(blocks).T


CASES = {name.removeprefix("case_"): case for name, case in list(globals().items()) if name.startswith("case_")}
