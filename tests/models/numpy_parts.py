"""Shared by the numpy oracles, written from the equations: softmax, embedding gradient, penalties, comparison.

Letters: T time, B stream, E embedding, H width, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch

from lm_models.step import detach


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


def compare(model, oracle_window, oracle_state, steps, vocab_size=11, batch=3):
    """Run a model and an oracle over windows with carried state and compare nll, penalty, state and gradients.

    oracle_window(parameters, inputs, targets, state) returns nll, penalty, the new state, and gradients of
    mean(nll) + penalty by parameter name; a state has arrays (B, X) or None per layer.
    """
    with torch.no_grad():
        model.embedding.mul_(8)
        model.softmax.bias.normal_()
    params = {name: value.detach().numpy().copy() for name, value in model.named_parameters()}
    state, oracle_gradients = model.initial_state(batch), {}
    for num_steps in steps:
        ids = torch.randint(vocab_size, (num_steps + 1, batch))
        out = model(ids[:-1], ids[1:], state)
        (out.nll_TB.mean() + out.penalty).backward()
        state = detach(out.state)
        nll, penalty, oracle_state, gradients = oracle_window(params, ids[:-1].numpy(), ids[1:].numpy(), oracle_state)
        add(oracle_gradients, gradients)
        np.testing.assert_allclose(out.nll_TB.detach().numpy(), nll, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(out.penalty.item(), penalty, rtol=1e-10, atol=1e-12)
    for layer, oracle_layer in zip(state, oracle_state, strict=True):
        for part, oracle_part in zip(layer, [part for part in oracle_layer if part is not None], strict=True):
            np.testing.assert_allclose(part[0].numpy(), oracle_part, rtol=1e-10, atol=1e-12)
    assert oracle_gradients.keys() == params.keys()
    for name, value in model.named_parameters():
        assert value.grad is not None
        np.testing.assert_allclose(value.grad.numpy(), oracle_gradients[name], rtol=1e-10, atol=1e-11, err_msg=name)
