import torch

from rlhf.model.load import device


def test_of_several_processes_each_loads_onto_its_own_gpu(monkeypatch):
    at = [0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: at.__setitem__(0, index))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: at[0])
    assert device() == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert device() == torch.device("cuda", 3)
