"""LSQ in plain torch, written from the paper's equations."""

import math

import torch


def bounds(bits, signed):
    """Q_n and Q_p."""
    if signed:
        return 2**(bits - 1), 2**(bits - 1) - 1
    return 0, 2**bits - 1


def initial_step(x, bits, signed):
    return 2 * x.abs().mean().item() / math.sqrt(bounds(bits, signed)[1])


def forward(x, s, bits, signed):
    """Equations 1 and 2, element by element; s is one number each."""
    q_n, q_p = bounds(bits, signed)
    return torch.stack([
        min(max(v / t, torch.tensor(-q_n, dtype=v.dtype)),
            torch.tensor(q_p, dtype=v.dtype)).round() * t
        for v, t in zip(x.flatten(), s.expand_as(x).flatten())
    ]).view_as(x)


def gradients(x, s, grad, bits, signed, sharing):
    """Equations 3 and 5; one number s, and N, which share it."""
    q_n, q_p = bounds(bits, signed)
    of_x, of_s = [], 0.
    for v, g in zip((x / s).flatten().tolist(), grad.flatten().tolist()):
        if v <= -q_n:
            of_x.append(0.)
            of_s += g * -q_n
        elif v >= q_p:
            of_x.append(0.)
            of_s += g * q_p
        else:
            of_x.append(g)
            of_s += g * (-v + round(v))
    return (torch.tensor(of_x, dtype=x.dtype).view_as(x),
            of_s / math.sqrt(sharing * q_p))
