"""Sizes and options of flows, with a JSON round trip for checkpoint cards."""

from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, Self

from course_lib.errors import CourseError

__all__ = ["FlowConfig", "GridFlowConfig"]

_CHOICES = {"activation": ("none", "leaky_relu"), "embedder": ("auto", "dense", "tapered", "conv")}


class _Config:
    """What both configurations, frozen dataclasses with a ``condition_shape``, share."""

    def _check_positive(self, *names: str) -> None:
        object.__setattr__(self, "condition_shape", tuple(int(n) for n in self.condition_shape))
        for name in names:
            if getattr(self, name) < 1:
                raise CourseError(f"{type(self).__name__}: {name} must be at least 1, not {getattr(self, name)}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {**asdict(self), "condition_shape": list(self.condition_shape)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Rebuild from ``to_dict``.

        Raises:
            CourseError: a key is unknown or a required one is missing.
        """
        known = {field.name for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        unknown, missing = sorted(set(values) - known), sorted(needed - set(values))
        if unknown or missing:
            raise CourseError(f"{cls.__name__}: remove the unknown keys {unknown} and add the missing keys {missing}.")
        return cls(**values)


@dataclass(frozen=True)
class FlowConfig(_Config):
    """Everything that is needed to build a ``ConditionalFlow``.

    Attributes:
        dim: ``D``, the number of coordinates of the latent, at least 2.
        condition_shape: shape of one condition, ``(K,)`` or ``(C, H, W)``.
        embedding_dim: width ``E`` of the embedded condition; None means ``dim``.
        hidden_dim: width of the coupling networks.
        hidden_depth: their hidden-to-hidden layers; they have ``hidden_depth + 2`` linear layers.
        blocks: number of flow blocks.
        activation: "none" (all released configurations) or "leaky_relu" between ActNorm and coupling.
        activation_slope: slope of that activation for negative values.
        activation_log_det: False reproduces the released code, which reports 0 for the activation's log-determinant.
        embedder: "dense" and "tapered" take ``(K,)``, "conv" takes ``(C, H, W)``; "auto" chooses by the shape.
        embedder_hidden_dim: width of the dense embedder.
        embedder_depth: depth of the dense embedder (``embedder_depth + 2`` linear layers); the tapered one has
            ``embedder_depth + 1`` linear layers.
        embedder_batch_norm: BatchNorm in the dense embedder, as released; wants batches of 16 or more.
        embedder_downsamplings: strided convolutions of the conv embedder; None keeps a 3×3 map or larger at the end.
        condition_shift: subtract a linear function of the condition before the first block; a map is flattened for it.
            Ours, not in the released configurations; see ``ConditionalFlow.fit_shift``.
        seed: seed of the permutations.

    Raises:
        CourseError: a size or option is not possible.

    References:
        CompVis/net2net, the YAML files of its released models; defaults are theirs.
    """

    dim: int
    condition_shape: tuple[int, ...]
    embedding_dim: int | None = None
    hidden_dim: int = 1024
    hidden_depth: int = 2
    blocks: int = 20
    activation: Literal["none", "leaky_relu"] = "none"
    activation_slope: float = 0.9
    activation_log_det: bool = True
    embedder: Literal["auto", "dense", "tapered", "conv"] = "auto"
    embedder_hidden_dim: int = 256
    embedder_depth: int = 2
    embedder_batch_norm: bool = False
    embedder_downsamplings: int | None = None
    condition_shift: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_positive("dim", "hidden_dim", "blocks", "embedder_hidden_dim")
        if self.dim < 2:
            raise CourseError("FlowConfig: a coupling needs two halves, so dim must be at least 2.")
        if self.hidden_depth < 0 or self.embedder_depth < 0:
            raise CourseError("FlowConfig: hidden_depth and embedder_depth must be 0 or more.")
        if not self.activation_slope > 0:
            raise CourseError("FlowConfig: activation_slope must be above 0, or the activation has no inverse.")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise CourseError(f"FlowConfig: {name} must be one of {', '.join(allowed)}, not {getattr(self, name)}.")
        self._check_condition()

    def _check_condition(self) -> None:
        shape = self.condition_shape
        if len(shape) not in (1, 3) or min(shape, default=0) < 1:
            raise CourseError(f"FlowConfig: condition_shape must be (K,) or (C, H, W), not {shape}.")
        if self.embedder == "conv" and len(shape) == 1:
            raise CourseError(f'FlowConfig: the conv embedder needs (C, H, W), not {shape}; use embedder="dense".')
        if self.embedder in ("dense", "tapered") and len(shape) == 3 and shape[1:] != (1, 1):
            raise CourseError(f'FlowConfig: a feature map {shape} needs embedder="conv", or pool it to (K,) first.')
        if self.embedder_batch_norm and self.embedder_kind != "dense":
            raise CourseError("FlowConfig: embedder_batch_norm is for the dense embedder; the others use ActNorm.")

    @property
    def embedding_width(self) -> int:
        """``E``: ``embedding_dim``, or ``dim`` where that is None."""
        return self.dim if self.embedding_dim is None else self.embedding_dim

    @property
    def embedder_kind(self) -> str:
        """The embedder that "auto" stands for: dense for vectors, tapered for (C, 1, 1), conv for maps."""
        if self.embedder != "auto":
            return self.embedder
        if len(self.condition_shape) == 1:
            return "dense"
        return "tapered" if self.condition_shape[1:] == (1, 1) else "conv"

    @property
    def downsamplings(self) -> int:
        """Strided convolutions of the conv embedder: ``embedder_downsamplings``, or where that is None the most, at
        most 5, that leave a map of 3×3 or more (the authors' choices for 224, 56, 28, 14 and 7)."""
        if self.embedder_downsamplings is not None:
            return self.embedder_downsamplings
        smallest = min(self.condition_shape[1:])
        return max(n for n in range(6) if n == 0 or smallest >> n >= 3)


@dataclass(frozen=True)
class GridFlowConfig(_Config):
    """Everything that is needed to build a ``GridFlow``.

    Attributes:
        channels: ``C``, numbers in one cell, even.
        side: ``G``, cells along one side, even.
        condition_shape: of one condition: ``(K,)``, which every cell reads, or a map ``(C, H, W)`` of H = W = n · G
            places, of which every cell reads its own.
        hidden_dim: channels inside the coupling networks of fine blocks; coarse ones have twice as many.
        blocks: every other one is coarse: it sees 2×2 cells as one, so that news travels fast.
        embedding_dim: channels that carry the embedded condition.
        position_dim: learned channels that tell a cell where it is.
        seed: of the permutations.

    Raises:
        CourseError: a size is not possible.
    """

    channels: int
    side: int
    condition_shape: tuple[int, ...]
    hidden_dim: int = 48
    blocks: int = 8
    embedding_dim: int = 8
    position_dim: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_positive("hidden_dim", "blocks", "embedding_dim", "position_dim")
        if self.channels < 2 or self.channels % 2 or self.side < 2 or self.side % 2:
            raise CourseError(f"GridFlowConfig: channels and side must be even, not {self.channels} and {self.side}.")
        shape = self.condition_shape
        fits = len(shape) == 1 or (len(shape) == 3 and shape[1] == shape[2] and shape[1] % self.side == 0)
        if not fits or min(shape, default=0) < 1:
            raise CourseError(
                f"GridFlowConfig: condition_shape must be (K,) or (C, H, H) with H a multiple of {self.side}, not "
                f"{shape}."
            )

    @property
    def dim(self) -> int:
        """``D = C · G²``, numbers in one latent."""
        return self.channels * self.side**2

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Rebuild from ``to_dict``.

        Raises:
            CourseError: a key is unknown or a required one is missing.
        """
        # Older cards also name a last step, the whitening of residuals, that no flow has: always 0.
        return super().from_dict({key: value for key, value in values.items() if key != "whitened" or value})
