"""Import checkpoints of the official awd-lstm-lm code without running anything in them.

In: the pickled list [model, criterion, optimizer] that its main.py saves, and its data folder. Out: a checkpoint of
this harness with config, weights and vocabulary. `importer` is the entry point; `pickle_reader` reads pickles as data
with the names of `allow_list`, `torch_file` finds the tensors in both formats of torch.save, `mapping` translates
configs and parameter names.
"""

__all__ = ["importer"]
