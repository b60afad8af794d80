"""Slow twins: each formula as its paper writes it, in float64 and plain loops.

Nothing here is fast, vectorized or clever; that is what makes it the truth of the tests.
"""

import math

import numpy as np

ACTIVATIONS = {
    "relu": lambda x: max(x, 0.0),
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}


# -- layers ----------------------------------------------------------------------------


def embed(table, indices, values):
    """e[b, s, k] = values[b, s] * table[indices[b, s], k]."""
    B, S, K = len(indices), len(indices[0]) if len(indices) else 0, len(table[0])
    e = np.zeros((B, S, K))
    for b in range(B):
        for s in range(S):
            for k in range(K):
                e[b, s, k] = values[b][s] * table[indices[b][s]][k]
    return e


def linear_term(weight, indices, values):
    """out[b, c] = sum_s values[b, s] * weight[indices[b, s], c]."""
    out = np.zeros((len(indices), len(weight[0])))
    for b in range(len(indices)):
        for c in range(len(weight[0])):
            for s in range(len(indices[b])):
                out[b, c] += values[b][s] * weight[indices[b][s]][c]
    return out


def pairwise_sum(e):
    """out[b, k] = sum_{f<g} e[b, f, k] * e[b, g, k]."""
    B, F, K = e.shape
    out = np.zeros((B, K))
    for b in range(B):
        for k in range(K):
            for g in range(F):
                for f in range(g):
                    out[b, k] += e[b, f, k] * e[b, g, k]
    return out


def field_aware_sum(e):
    """out[b, k] = sum_{f<g} e[b, f, g, k] * e[b, g, f, k]."""
    B, F, _, K = e.shape
    out = np.zeros((B, K))
    for b in range(B):
        for k in range(K):
            for g in range(F):
                for f in range(g):
                    out[b, k] += e[b, f, g, k] * e[b, g, f, k]
    return out


def bilinear(e, matrices, kind):
    """(e_f W) o e_g of each pair f < g, W by the pair, by its left field f, or one for all."""
    B, F, K = e.shape
    out = np.zeros((B, F * (F - 1) // 2, K))
    for b in range(B):
        p = 0
        for f in range(F):
            for g in range(f + 1, F):
                W = matrices[{"all": 0, "each": f, "interaction": p}[kind]]
                for j in range(K):
                    turned = sum(e[b, f, i] * W[i][j] for i in range(K))
                    out[b, p, j] = turned * e[b, g, j]
                p += 1
    return out


def squeeze_excitation(e, squeeze, excite):
    """e_f times a_f, a = relu(U relu(V z)), z the means of the embeddings."""
    B, F, K = e.shape
    H = len(excite)
    out = np.zeros((B, F, K))
    for b in range(B):
        z = [sum(e[b, f, k] for k in range(K)) / K for f in range(F)]
        h = [max(sum(z[f] * squeeze[f][i] for f in range(F)), 0.0) for i in range(H)]
        for f in range(F):
            a = max(sum(h[i] * excite[i][f] for i in range(H)), 0.0)
            for k in range(K):
                out[b, f, k] = a * e[b, f, k]
    return out


def cross(x, layers):
    """x_{l+1} = x_0 o (W x_l + b) + x_l; each layer is (W, b), W[i][j] from coordinate i to j."""
    out = np.array(x, dtype=float)
    for b, start in enumerate(x):
        now = list(start)
        for W, bias in layers:
            D = len(now)
            turned = [sum(now[i] * W[i][j] for i in range(D)) + bias[j] for j in range(D)]
            now = [start[j] * turned[j] + now[j] for j in range(D)]
        out[b] = now
    return out


def mlp(layers, x, activation="relu"):
    """Linear layers (weight of shape (out, in), bias), an activation between any two."""
    out = np.zeros((len(x), len(layers[-1][1])))
    for b, row in enumerate(x):
        h = list(row)
        for depth, (weight, bias) in enumerate(layers):
            h = [
                bias[o] + sum(weight[o][i] * h[i] for i in range(len(h))) for o in range(len(bias))
            ]
            if depth < len(layers) - 1:
                h = [ACTIVATIONS[activation](unit) for unit in h]
        out[b] = h
    return out


# -- models ----------------------------------------------------------------------------


def fm(bias, linear, embedding, indices, values, pairwise_weight=None):
    """bias_c + sum_s w_sc x_s + sum_{s<t} sum_k p_kc v_sk v_tk x_s x_t; p is 1 by default."""
    K, C = len(embedding[0]), len(bias)
    p = np.ones((K, C)) if pairwise_weight is None else pairwise_weight
    out = linear_term(linear, indices, values) + bias
    pairs = pairwise_sum(embed(embedding, indices, values))
    for b in range(len(indices)):
        for c in range(C):
            for k in range(K):
                out[b, c] += p[k][c] * pairs[b, k]
    return out


def deepfm(
    bias,
    linear,
    embedding,
    indices,
    values,
    pairwise_weight=None,
    *,
    layers,
    activation="relu",
):
    """FM plus an MLP of the embeddings side by side."""
    e = embed(embedding, indices, values)
    x = [[e[b, s, k] for s in range(e.shape[1]) for k in range(e.shape[2])] for b in range(len(e))]
    plain = fm(bias, linear, embedding, indices, values, pairwise_weight)
    return plain + mlp(layers, x, activation)


def mf(bias, linear, embedding, indices, values):
    """bias + b_u + b_i + <p_u, q_i> for two fields."""
    out = np.zeros((len(indices), 1))
    for b, (u, i) in enumerate(indices):
        x, z = values[b]
        dot = sum(p * x * q * z for p, q in zip(embedding[u], embedding[i], strict=True))
        out[b, 0] = bias[0] + x * linear[u][0] + z * linear[i][0] + dot
    return out


def ffm(bias, linear, embedding, indices, values, pairwise_weight=None):
    """bias_c + sum_s w_sc x_s + sum_{s<t} sum_k p_kc v_stk v_tsk x_s x_t; a slot is a field."""
    B, F = len(indices), len(indices[0])
    K, C = len(embedding[0]) // F, len(bias)
    p = np.ones((K, C)) if pairwise_weight is None else pairwise_weight
    out = linear_term(linear, indices, values) + bias
    for b in range(B):
        for t in range(F):
            for s in range(t):
                for k in range(K):
                    v = embedding[indices[b][s]][t * K + k] * values[b][s]
                    w = embedding[indices[b][t]][s * K + k] * values[b][t]
                    for c in range(C):
                        out[b, c] += p[k][c] * v * w
    return out


def fibinet(bias, linear, e, indices, values, *, squeeze, excite, matrices, kind, layers):
    """bias + linear term + MLP of both products side by side, given the fields' embeddings."""
    weighed = squeeze_excitation(e, squeeze, excite)
    both = [bilinear(part, matrices, kind) for part in (e, weighed)]
    x = [[number for part in both for pair in part[b] for number in pair] for b in range(len(e))]
    return linear_term(linear, indices, values) + bias + mlp(layers, x, "tanh")


def dcn(bias, e, *, cross_layers, cross_weight, layers):
    """bias + u' x_L + MLP(x_0), given the fields' embeddings."""
    x = [[number for vector in row for number in vector] for row in e]
    end = cross(x, cross_layers)
    out = np.zeros((len(x), len(bias))) + bias
    for b in range(len(x)):
        for c in range(len(bias)):
            out[b, c] += sum(end[b, i] * cross_weight[i][c] for i in range(len(x[b])))
    return out + mlp(layers, x, "tanh") if layers else out


# -- probabilities ---------------------------------------------------------------------


def largest_normal(mean, deviation):
    """P(z_c > z_j for all j != c), z_j ~ N(mean_j, deviation_j^2), by a fine midpoint rule."""
    n_nodes = 2_000
    out = []
    for c in range(len(mean)):
        p = 0.0
        for u in (np.arange(n_nodes) + 0.5) / n_nodes * 18 - 9:
            z = mean[c] + deviation[c] * u
            density = math.exp(-u * u / 2) / math.sqrt(2 * math.pi)
            for j in range(len(mean)):
                if j != c:
                    density *= math.erfc((mean[j] - z) / deviation[j] / math.sqrt(2)) / 2
            p += density * 18 / n_nodes
        out.append(p)
    return np.array(out)


# -- losses ----------------------------------------------------------------------------


def binary_log_loss(raw, target):
    """-log of the probability of the target, 0 or 1."""
    out = []
    for r, y in zip(raw, target, strict=True):
        p = 1 / (1 + math.exp(-r[0]))
        out.append(-math.log(p if y == 1 else 1 - p))
    return np.array(out)


def multinomial_log_loss(raw, target):
    """-log of the softmax probability of the target."""
    out = []
    for r, y in zip(raw, target, strict=True):
        out.append(-math.log(math.exp(r[int(y)]) / sum(math.exp(x) for x in r)))
    return np.array(out)


def squared_error(raw, target, center=0.0, scale=1.0, y_range=None):
    """Half the squared error in units of scale."""
    out = []
    for r, y in zip(raw, target, strict=True):
        prediction = center + scale * r[0]
        if y_range is not None:
            low, high = y_range
            prediction = low + (high - low) / (1 + math.exp(-r[0]))
        out.append(((prediction - y) / scale) ** 2 / 2)
    return np.array(out)


# -- solvers ---------------------------------------------------------------------------


def dense_steps(
    solver, table, batches, *, penalty, learning_rate, euler=False, initial_accumulator=0.1
):
    """Step through the *whole* table at each batch, loss and penalty alike.

    Each batch is (gradients: {row: vector}, batch_size, share). A row's loss step comes
    first, then every row of the table shrinks by its share of the penalty: by
    exp(-x) with x = learning_rate * share * penalty * scale, or by 1 - x (``euler``).
    """
    table = [[float(x) for x in row] for row in table]
    width = len(table[0])
    accumulator = [initial_accumulator] * len(table)
    mean = [[0.0] * width for _ in table]
    square = [[0.0] * width for _ in table]
    count = [0] * len(table)
    for gradients, batch_size, share in batches:
        for row, gradient in gradients.items():
            count[row] += 1
            accumulator[row] += sum(g * g for g in gradient) / width
            for j, g in enumerate(gradient):
                mean[row][j] = 0.9 * mean[row][j] + 0.1 * g
                square[row][j] = 0.999 * square[row][j] + 0.001 * g * g
                if solver == "adam":
                    g = mean[row][j] / (1 - 0.9 ** count[row])
                table[row][j] -= (
                    learning_rate
                    * g
                    * _factor(solver, accumulator[row], square[row][j], count[row], batch_size)
                )
        for row, vector in enumerate(table):
            for j in range(width):
                x = learning_rate * share * penalty
                x *= _factor(solver, accumulator[row], square[row][j], count[row], batch_size)
                vector[j] *= 1 - x if euler else math.exp(-x)
    return np.array(table)


def _factor(solver, accumulator, square, count, batch_size):
    """What the solver multiplies a gradient by, beside the learning rate."""
    if solver == "sgd":
        return 1 / batch_size
    if solver == "adagrad":
        return 1 / math.sqrt(accumulator)
    if count == 0:
        return 0.0  # a row that Adam has never seen stays as it is
    return 1 / (math.sqrt(square / (1 - 0.999**count)) + 1e-8)


# -- blocks in closed form -------------------------------------------------------------


def entries_of(X, pair_slots=False):
    """Rows as lists of (index, value, value in the linear term, field); no entry of value 0.

    In a sparse matrix each entry is a field of its own, and with pair_slots each slot is.
    """
    if not hasattr(X, "schema"):
        X = X.tocsr()
        rows = []
        for i in range(X.shape[0]):
            own = range(X.indptr[i], X.indptr[i + 1])
            rows.append([(int(X.indices[j]), float(X.data[j]), float(X.data[j]), j) for j in own])
        return rows
    schema = X.schema
    indices, values = X.indices_and_values()
    rows = []
    for index, value in zip(indices, values, strict=True):
        row = []
        for slot, f in enumerate(schema.slot_fields):
            x = float(value[slot])
            if x != 0:
                linear = x if schema.linear[f] else 0.0
                row.append((int(index[slot]), x, linear, slot if pair_slots else f))
        rows.append(row)
    return rows


def raw_of_entries(table, row):
    """sum w x + sum_{f<g} <e_f, e_g>, e_f the sum of v x over the entries of field f."""
    raw, e = 0.0, {}
    for index, x, linear, f in row:
        raw += linear * table[index][-1]
        e[f] = e.get(f, 0.0) + x * table[index][:-1]
    fields = list(e)
    for g in range(len(fields)):
        for f in range(g):
            raw += float(np.dot(e[fields[f]], e[fields[g]]))
    return raw


def update_block(table, rows, y, row_precision, index, precision, shift, noise, few=0):
    """Set the block of one index to a draw from its posterior; to its mean without noise.

    raw is linear in the block: derivatives are differences, exactly. Blocks of at most `few` rows
    are drawn by way of these rows, as Bhattacharya, Chakraborty and Mallick (2016) do.
    """
    D = len(table[index])
    A, b = [], []
    for row, target, p in zip(rows, y, row_precision, strict=True):
        if index not in [entry[0] for entry in row]:
            continue
        table[index] = 0.0
        at_zero = raw_of_entries(table, row)
        slope = np.zeros(D)
        for j in range(D):
            table[index] = 0.0
            table[index][j] = 1.0
            slope[j] = raw_of_entries(table, row) - at_zero
        A.append(np.sqrt(p) * slope)
        b.append(np.sqrt(p) * (target - at_zero))
    A, b = np.array(A), np.array(b)
    posterior = precision + A.T @ A
    if noise is None:
        table[index] = np.linalg.solve(posterior, shift + A.T @ b)
    elif len(A) <= few:
        sigma = np.linalg.inv(precision)
        root = np.linalg.cholesky(np.roll(sigma, 1, axis=(0, 1)))  # the weight comes first
        u = sigma @ shift + np.roll(root @ noise[:D], -1)
        rest = b - A @ u - noise[D : D + len(A)]
        table[index] = u + sigma @ A.T @ np.linalg.solve(A @ sigma @ A.T + np.eye(len(A)), rest)
    else:
        mean = np.linalg.solve(posterior, shift + A.T @ b)
        root = np.linalg.cholesky(posterior[::-1, ::-1])  # from the weight up to v_1
        table[index] = mean + np.linalg.solve(root.T, noise[:D][::-1])[::-1]
