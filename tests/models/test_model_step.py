"""Copying a window to its device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lm_models.step import to_device


class HostTokens:
    """A fake tensor that logs how it is copied to a CUDA device."""

    def __init__(self, log: list[Any], *, pinned: bool = False) -> None:
        self.log, self.pinned, self.device = log, pinned, torch.device("cpu")

    def pin_memory(self) -> HostTokens:
        return HostTokens(self.log, pinned=True)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> str:
        self.log.append((device.type, self.pinned, non_blocking))
        return "on device"


def test_copies_are_pinned_and_non_blocking() -> None:
    log: list[Any] = []
    tokens: Any = HostTokens(log)
    assert to_device(tokens, torch.device("cuda", 0)) == "on device"
    assert log == [("cuda", True, True)]
    assert to_device(tokens, torch.device("cpu")) is tokens
    on_device = torch.zeros(2, 1, dtype=torch.long, device="meta")
    assert to_device(on_device, torch.device("cuda")) is on_device
    assert len(log) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_many_windows_arrive_unchanged_without_waiting() -> None:
    """The pinned memory of a window must not be reused while it is being copied."""
    device = torch.device("cuda")
    torch.ones(1, device=device).item()
    try:
        torch.cuda.set_sync_debug_mode("error")
        torch.cuda._sleep(200_000_000)
        arrived = [to_device(torch.full((200, 128), number), device) for number in range(50)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [tokens.unique().tolist() for tokens in arrived] == [[number] for number in range(50)]
