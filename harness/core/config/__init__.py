"""The frozen blocks of a suite file: `recipe`, `evaluation` and `speed`.

Each block is a dataclass that checks its own values and names the wrong one. `as_json` gives the JSON that names a run.
Imports nothing of the harness but the models' configs, and no torch.
"""

__all__ = ["as_json", "evaluation", "recipe", "space", "speed"]
