"""A sentence expert that remembers: every caption is computed once, on this machine, whatever the number of runs."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CourseError
from ..paths import cache_dir
from ..training.checkpoints import atomic_write
from .sentence import SentenceExpert

__all__ = ["SentenceMemory"]


class SentenceMemory:
    """Sentence embeddings from a file where they are known, else from the model, which then opens for the first time.

    Ten thousand captions take SBERT half a minute on one CPU core, and opening it takes seconds. The file lies in the
    cache folder; without it, or with a damaged one, everything is simply computed again.

    Args:
        model: as for :class:`SentenceExpert`.
        device: of the model and of the embeddings.
        folder: of the file; the cache folder by default.
        open_model: makes the expert from model and device; tests give a stand-in.

    Attributes:
        condition_shape: ``(K,)``.
        computed: how many captions the model had to embed so far.
    """

    def __init__(
        self,
        model: str = SentenceExpert.bundled,
        device: str | torch.device = "cpu",
        folder: Path | None = None,
        open_model: Callable[..., SentenceExpert] = SentenceExpert,
    ):
        self.model, self.device, self.computed = model, torch.device(device), 0
        key = hashlib.sha256(model.encode()).hexdigest()[:12]
        self.path = (folder or cache_dir()) / f"sentences-{key}.safetensors"
        self._open_model, self._expert = open_model, None
        self._place, self._table = self._read()
        if not self._place:
            self.encode(["a"])
        self.condition_shape = (self._table.shape[1],)

    @property
    def expert(self) -> SentenceExpert:
        """The model itself, opened on first use."""
        if self._expert is None:
            self._expert = self._open_model(self.model, device=self.device)
        return self._expert

    def encode(self, x: Sequence[str]) -> Tensor:
        """Embeddings ``float32 (B, K)``; nothing is written to disk, see :meth:`learn`.

        Raises:
            CourseError: something else than a list of captions.
        """
        if isinstance(x, str) or not all(isinstance(caption, str) for caption in x):
            raise CourseError('give a list of captions, for example encode(["a red heart"]).')
        new = [caption for caption in dict.fromkeys(x) if caption not in self._place]
        if new:
            found = self.expert.encode(new).cpu()
            self._table = torch.cat([self._table, found]) if len(self._table) else found
            self._place |= {caption: len(self._place) + k for k, caption in enumerate(new)}
            self.computed += len(new)
        index = torch.tensor([self._place[caption] for caption in x], dtype=torch.int64)
        return self._table[index].to(self.device)

    def learn(self, captions: Sequence[str]) -> Tensor:
        """Like :meth:`encode`, and what is new goes into the file. For data sets; sentences typed once need no file.

        Raises:
            CourseError: the disk is full; an older file is kept.
        """
        before = self.computed
        found = self.encode(captions)
        if self.computed > before:
            names = {"captions": json.dumps(list(self._place))}
            atomic_write(self.path, lambda part: save_file({"embeddings": self._table.contiguous()}, part, names))
        return found

    def _read(self) -> tuple[dict[str, int], Tensor]:
        try:
            with safe_open(self.path, "pt") as file:
                captions, table = json.loads(file.metadata()["captions"]), file.get_tensor("embeddings")
            if len(captions) != len(table) or len(set(captions)) != len(captions):
                raise ValueError("lengths differ")
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return {}, torch.empty(0)
        return {caption: k for k, caption in enumerate(captions)}, table
