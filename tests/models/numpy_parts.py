"""What both numpy oracles need, written from the equations: softmax, embedding gradient, activation penalties.

Letters: T time, B stream, E embedding, H width, V vocabulary.
"""

from __future__ import annotations

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax_nll(h_TBH, weight_VH, bias_V, targets_TB):
    """Return nll_TB and the gradients of its mean with respect to h, weight and bias."""
    logits = np.einsum("tbh,vh->tbv", h_TBH, weight_VH) + bias_V
    peak = logits.max(axis=-1, keepdims=True)
    probabilities = np.exp(logits - peak)
    normaliser = probabilities.sum(axis=-1, keepdims=True)
    probabilities /= normaliser
    one_hot = np.eye(len(bias_V))[targets_TB]
    nll = (np.log(normaliser) + peak)[..., 0] - (logits * one_hot).sum(axis=-1)
    d_logits = (probabilities - one_hot) / nll.size
    d_h = np.einsum("tbv,vh->tbh", d_logits, weight_VH)
    return nll, d_h, np.einsum("tbv,tbh->vh", d_logits, h_TBH), d_logits.sum(axis=(0, 1))


def embedding_gradient(d_x_TBE, inputs_TB, vocab_size):
    gradient = np.zeros((vocab_size, d_x_TBE.shape[-1]))
    for t, b in np.ndindex(*inputs_TB.shape):
        gradient[inputs_TB[t, b]] += d_x_TBE[t, b]
    return gradient


def activation_penalty(h_TBH, ar, tar):
    """Return ar mean(h_t^2) + tar mean((h_t - h_{t-1})^2) and its gradient."""
    penalty, gradient = ar * np.mean(h_TBH**2), ar * 2 * h_TBH / h_TBH.size
    difference = h_TBH[1:] - h_TBH[:-1]
    if difference.size:
        penalty += tar * np.mean(difference**2)
        gradient[1:] += tar * 2 * difference / difference.size
        gradient[:-1] -= tar * 2 * difference / difference.size
    return penalty, gradient


def add(total, part):
    for name, value in part.items():
        total[name] = total.get(name, 0) + value
