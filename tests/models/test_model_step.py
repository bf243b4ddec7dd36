"""How a window reaches its device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.step import to_device


class OnHost:
    """Tokens of a machine with a CUDA device: what is asked of them is noted."""

    def __init__(self, log: list[Any], *, pinned: bool = False) -> None:
        self.log, self.pinned, self.device = log, pinned, torch.device("cpu")

    def pin_memory(self) -> OnHost:
        return OnHost(self.log, pinned=True)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> str:
        self.log.append((device.type, self.pinned, non_blocking))
        return "there"


def test_the_host_waits_for_no_copy() -> None:
    log: list[Any] = []
    tokens: Any = OnHost(log)
    assert to_device(tokens, torch.device("cuda", 0)) == "there"
    assert log == [("cuda", True, True)]
    assert to_device(tokens, torch.device("cpu")) is tokens
    there = torch.zeros(2, 1, dtype=torch.long, device="meta")
    assert to_device(there, torch.device("cuda")) is there
    assert len(log) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_many_windows_arrive_as_they_were_though_nothing_waits() -> None:
    """The memory of a window that is still on its way must not be given to the next."""
    device = torch.device("cuda")
    torch.ones(1, device=device).item()
    try:
        torch.cuda.set_sync_debug_mode("error")
        torch.cuda._sleep(200_000_000)
        arrived = [to_device(torch.full((200, 128), number), device) for number in range(50)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [tokens.unique().tolist() for tokens in arrived] == [[number] for number in range(50)]
