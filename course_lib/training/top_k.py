"""The best generators of a run, ranked: number 1 is the best one, and stays so."""

import json
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import CourseError
from .checkpoints import atomic_write

__all__ = ["TopKCheckpoints"]


class TopKCheckpoints:
    """Keeps the generators with the lowest scores.

    In the published code ``best3`` is the slot of a ring, overwritten in turn: which one is best is written nowhere,
    and a run that goes on inherits the score it has to beat from another stage. Here a run that goes on in the same
    folder keeps its ranks, and another run begins with none.

    Args:
        folder: of the files; one generator each, and ``top_k.json``.
        keep: how many.
    """

    def __init__(self, folder: Path | str, keep: int = 3):
        if keep < 1:
            raise CourseError(f"at least one generator must be kept, not {keep}.")
        self.folder, self.keep = Path(folder), keep
        table = self.folder / "top_k.json"
        self.entries: list[dict] = json.loads(table.read_text()) if table.is_file() else []
        """``step`` and ``score``, best first."""

    def _file(self, step: int) -> Path:
        return self.folder / f"generator-{step:06d}.safetensors"

    def add(self, step: int, score: float, state: dict[str, Tensor]) -> int | None:
        """Enters a generator.

        Args:
            step: of the run; a step that is known is entered anew.
            score: lower is better; of two equal ones the earlier.
            state: its tensors.

        Returns:
            Its rank, from 1, or None if it is not among the best.
        """
        others = [entry for entry in self.entries if entry["step"] != step]
        ranked = sorted([*others, {"step": step, "score": score}], key=lambda entry: (entry["score"], entry["step"]))
        kept, dropped = ranked[: self.keep], ranked[self.keep :]
        rank = next((k for k, entry in enumerate(kept, 1) if entry["step"] == step), None)
        if rank is not None:
            tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
            atomic_write(self._file(step), lambda part: save_file(tensors, part))
        self.entries = kept
        atomic_write(self.folder / "top_k.json", lambda part: part.write_text(json.dumps(kept)))
        for entry in dropped:
            self._file(entry["step"]).unlink(missing_ok=True)
        return rank

    def load(self, rank: int = 1) -> dict[str, Tensor]:
        """The tensors of a rank.

        Raises:
            CourseError: there are not so many.
        """
        if not 1 <= rank <= len(self.entries):
            raise CourseError(f"there are {len(self.entries)} ranked generators: there is none of rank {rank}.")
        return load_file(self._file(self.entries[rank - 1]["step"]))
