"""Black boxes: target experts that can be called and not looked into. Net2Net needs no gradients of its experts."""

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from ..training.files import atomic_write

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
        raise CourseError(
            f"{type(module).__name__} cannot be written as ONNX ({str(error).splitlines()[0]})."
        ) from error
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
    """Encoder and generator of BigBiGAN, called through TensorFlow (no dependency of the course).

    ``handle`` is that of the TensorFlow Hub module, or a folder with it unpacked. With ``upsample`` pictures have 256
    pixels, as Net2Net used them, instead of 128. Sources: Donahue and Simonyan 2019, its TensorFlow Hub page; Net2Net,
    code, ``BigBiGAN`` first stage.
    """

    latent_dim = 120
    resnet50 = "https://tfhub.dev/deepmind/bigbigan-resnet50/1"

    def __init__(self, handle: str = resnet50, upsample: bool = True):
        try:
            import tensorflow
            import tensorflow_hub as hub
        except ImportError as error:
            raise CourseError(
                f"BigBiGAN runs in TensorFlow, which is not part of the course ({error}): "
                "install it with `pip install tensorflow tensorflow-hub`, or use BlackBox with an ONNX file."
            ) from error
        self._constant = tensorflow.constant
        try:
            signatures = hub.load(handle).signatures
            self._encode, self._generate = signatures["encode"], signatures["generate"]
        except Exception as error:  # the hub raises what its transport, its file system or its parser raise
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise CourseError(
                f"BigBiGAN cannot be opened from {handle} ({first}): check the network, or give an unpacked module."
            ) from error
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
        pictures = self._call(self._generate, self._picture, z=latent)
        return pictures.permute(0, 3, 1, 2).clamp(-1, 1).to(latent.device)
