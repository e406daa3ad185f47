"""Networks whose features are compared: the judge by default, Inception where its weights are present."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from ..paths import cache_dir
from .judge import Judge

__all__ = ["INCEPTION_FILE", "FeatureNetwork", "feature_network", "inception_features", "judge_features"]

INCEPTION_FILE = "inception_v3_google-0cc3c7bd.pth"
"""Inception v3 as torchvision publishes it."""


@dataclass(frozen=True)
class FeatureNetwork:
    """What a distance between pictures looks through.

    Attributes:
        name: stands beside every number.
        key: hash of the weights, so that stored features are never those of another network.
        features: pictures ``(B, 3, S, S)`` in [−1, 1] → ``(B, F)`` on the CPU.
        probabilities: pictures → ``(B, classes)`` on the CPU, for the Inception score.
    """

    name: str
    key: str
    features: Callable[[Tensor], Tensor]
    probabilities: Callable[[Tensor], Tensor]


def _hash(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def judge_features(judge: Judge | None = None) -> FeatureNetwork:
    """The judge's features and the kinds it sees; the shipped judge by default."""
    judge = Judge.load() if judge is None else judge
    return FeatureNetwork(
        "judge", _hash(judge.network), judge.features, lambda images: judge.probabilities(images, "kind")
    )


class _Inception:
    """Pooled features and class probabilities of Inception v3, in batches."""

    def __init__(self, path: Path, device: torch.device | str):
        from torchvision.models import inception_v3

        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.network = inception_v3(weights=None, init_weights=False, transform_input=False)
            self.network.load_state_dict(state)
        except Exception as error:  # torch raises a dozen unrelated types on damaged or foreign files
            reason = str(error).splitlines()[0][:120]
            raise CourseError(
                f"{path} does not hold torchvision's Inception v3 ({reason}): fetch {INCEPTION_FILE} again."
            ) from error
        self.device = torch.device(device)
        self.network.requires_grad_(False).eval().to(self.device)
        self._pooled: Tensor | None = None
        self.network.avgpool.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        self._pooled = output.flatten(1)

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, probabilities = [], []
        mean = torch.tensor([0.485, 0.456, 0.406], device=self.device)[:, None, None]
        spread = torch.tensor([0.229, 0.224, 0.225], device=self.device)[:, None, None]
        for part in images.split(32):
            part = ((part.to(self.device).clamp(-1, 1) + 1) / 2 - mean) / spread
            logits = self.network(F.interpolate(part, (299, 299), mode="bilinear", align_corners=True))
            probabilities.append(logits.softmax(1).cpu())
            features.append(self._pooled.cpu())
        return torch.cat(features), torch.cat(probabilities)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        return self._run(images)[0]

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        return self._run(images)[1]


def inception_features(path: Path | None = None, device: torch.device | str = "cpu") -> FeatureNetwork:
    """Inception v3 of torchvision, prepared as BigGAN and cGANTransfer do: 2,048 pooled features, 1,000 classes.

    Pictures are enlarged to 299 pixels bilinearly with aligned corners and normalised with ImageNet's mean and
    deviation. This is not the TensorFlow network of published FID tables: numbers do not compare with those.

    Args:
        path: weight file; by default :data:`INCEPTION_FILE` in the cache folder or where torchvision keeps its own.
        device: where the network runs.

    Raises:
        CourseError: there is no such file (nothing is ever downloaded), or it holds something else.
    """
    places = (
        [path] if path else [cache_dir() / INCEPTION_FILE, Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE]
    )
    found = [place for place in places if place.is_file()]
    if not found:
        raise CourseError(
            f"Inception's weights are not on this machine ({INCEPTION_FILE}, 104 MB, from pytorch.org): put them into "
            f"{places[0].parent}, or use the judge's features."
        )
    network = _Inception(found[0], device)
    return FeatureNetwork("Inception", _hash(network.network), network.features, network.probabilities)


def feature_network(name: str = "judge", device: torch.device | str = "cpu") -> FeatureNetwork:
    """``judge`` or ``inception``.

    Raises:
        CourseError: another name, or missing weights.
    """
    if name == "judge":
        return judge_features(Judge.load().to(device))
    if name == "inception":
        return inception_features(device=device)
    raise CourseError(f"there are no features {name!r}: choose judge or inception.")
