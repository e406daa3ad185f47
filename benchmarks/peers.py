"""The same flow in four other libraries: same function, same weights, built from the parts each library offers.

All peers use ordinary ``nn.Linear`` and ``nn.LeakyReLU`` layers for S and T and share our embedder, so what differs is
the library's own machinery. ``check_same_function`` asserts that values, log-determinant and inverse agree with ours.
"""

from functools import partial

import torch
from torch import Tensor, nn

from course_lib.cinn import ConditionalFlow, FullyConnectedNet
from course_lib.errors import CourseError

__all__ = ["PEERS", "Peer", "build_peer", "check_same_function"]


class Peer(nn.Module):
    """A flow made of another library's parts.

    Subclasses give ``run(latent, embedding) -> (v, log_det)`` and ``back(v, embedding) -> latent``.
    """

    def __init__(self, flow: ConditionalFlow) -> None:
        super().__init__()
        if flow.config.dim % 2 or flow.config.activation != "none" or flow.config.hidden_depth < 0:
            raise CourseError("The comparison needs an even dim and no activation between the layers.")
        self.embedder = flow.embedder

    def forward(self, latent: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Data to residual: ``v: (B, D)`` and ``log_det: (B,)``."""
        return self.run(latent, self.embedder(condition))

    def inverse(self, v: Tensor, condition: Tensor) -> Tensor:
        """Residual to data: ``(B, D)``."""
        return self.back(v, self.embedder(condition))


def _mlp(net: FullyConnectedNet, tanh: bool) -> nn.Sequential:
    """The layers of ``net``, the same tensors, as a user of any library would write them."""
    layers: list[nn.Module] = []
    for linear in net.hidden:
        layers += [linear, nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers, net.out, *([nn.Tanh()] if tanh else []))


class _ShiftAndScale(nn.Module):
    """T and S side by side, for libraries that ask one network for both."""

    def __init__(self, coupling: nn.Module, step: int, interleaved: bool) -> None:
        super().__init__()
        self.shift = _mlp(coupling.shift_nets[step], tanh=False)
        self.scale = _mlp(coupling.scale_nets[step], tanh=True)
        self.interleaved = interleaved

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """``(B, 2 * out)``: shifts then log-scales, or shift and log-scale by turns."""
        x = x if context is None else torch.cat([x, context], 1)
        parts = self.shift(x), self.scale(x)
        return torch.stack(parts, 2).flatten(1) if self.interleaved else torch.cat(parts, 1)


def _swap(dim: int) -> Tensor:
    return torch.arange(dim).roll(dim // 2)


class _FrEIA(Peer):
    """``SequenceINN`` of ``PermuteRandom``, ``ActNorm`` and ``RNVPCouplingBlock`` (clamp 1, TANH)."""

    def __init__(self, flow: ConditionalFlow) -> None:
        import FrEIA.framework as ff
        import FrEIA.modules as fm

        super().__init__(flow)
        dim = flow.config.dim
        self.inn = ff.SequenceINN(dim)
        swap = _swap(dim)
        orders = [swap] + [block.shuffle.order[swap] for block in flow.blocks[:-1]]
        for block, order in zip(flow.blocks, orders, strict=True):
            self._permute(fm, order)
            self.inn.append(fm.ActNorm)
            norm = self.inn.module_list[-1]
            norm.init_on_next_batch = False
            norm.scale.data.copy_(block.norm.scale.log()[swap][None])
            norm.bias.data.copy_((block.norm.scale * block.norm.loc)[swap][None])
            # FrEIA builds "s1, t1" for its second half first: those are our second step.
            nets = [(kind[step]) for step in (1, 0) for kind in (block.coupling.scale_nets, block.coupling.shift_nets)]
            ready = iter([_mlp(net, tanh=False) for net in nets])
            self.inn.append(
                fm.RNVPCouplingBlock,
                cond=0,
                cond_shape=(flow.config.embedding_width,),
                subnet_constructor=lambda _in, _out, ready=ready: next(ready),
                clamp=1.0,
                clamp_activation="TANH",
            )
        self._permute(fm, flow.blocks[-1].shuffle.order)

    def _permute(self, fm, order: Tensor) -> None:
        self.inn.append(fm.PermuteRandom)
        module = self.inn.module_list[-1]
        module.perm.data.copy_(order)
        module.perm_inv.data.copy_(order.argsort())

    def run(self, latent: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        return self.inn(latent, c=[embedding])

    def back(self, v: Tensor, embedding: Tensor) -> Tensor:
        return self.inn(v, c=[embedding], rev=True, jac=False)[0]


class _NFlows(Peer):
    """``CompositeTransform`` of ``ActNorm``, two ``AffineCouplingTransform`` and ``Permutation``."""

    def __init__(self, flow: ConditionalFlow) -> None:
        from nflows import transforms

        class Coupling(transforms.AffineCouplingTransform):
            # The library fixes a sigmoid here; this is the method it offers to change it.
            def _scale_and_shift(self, params: Tensor) -> tuple[Tensor, Tensor]:
                half = self.num_transform_features
                return params[:, half:].exp(), params[:, :half]

        super().__init__(flow)
        dim = flow.config.dim
        half = torch.arange(dim) >= dim // 2
        parts: list[nn.Module] = []
        for block in flow.blocks:
            norm = transforms.ActNorm(dim)
            norm.initialized.fill_(True)
            norm.log_scale.data.copy_(block.norm.scale.log())
            norm.shift.data.copy_(block.norm.scale * block.norm.loc)
            nets = [_ShiftAndScale(block.coupling, step, interleaved=False) for step in (0, 1)]
            parts.append(norm)
            for net, mask in zip(nets, (half, ~half), strict=True):
                parts.append(Coupling(mask.int(), lambda _in, _out, net=net: net))
            parts.append(transforms.Permutation(_swap(dim)[block.shuffle.order]))
        self.transform = transforms.CompositeTransform(parts)

    def run(self, latent: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        return self.transform(latent, embedding)

    def back(self, v: Tensor, embedding: Tensor) -> Tensor:
        return self.transform.inverse(v, embedding)[0]


class _NormFlows(Peer):
    """``NormalizingFlow`` of ``ActNorm``, two ``AffineCouplingBlock`` and ``Permute``.

    Its affine couplings take no condition, so the networks find the embedding beside them.
    """

    def __init__(self, flow: ConditionalFlow) -> None:
        import normflows as nf

        super().__init__(flow)
        dim, parts = flow.config.dim, []
        self.context: dict[str, Tensor] = {}
        for block in flow.blocks:
            norm = nf.flows.ActNorm(dim)
            norm.data_dep_init_done.fill_(1.0)
            norm.s.data.copy_(block.norm.scale.log()[None])
            norm.t.data.copy_((block.norm.scale * block.norm.loc)[None])
            parts.append(norm)
            for step, mode in enumerate(("channel", "channel_inv")):
                net = _WithContext(_ShiftAndScale(block.coupling, step, interleaved=True), self.context)
                parts.append(nf.flows.AffineCouplingBlock(net, scale_map="exp", split_mode=mode))
            permute = nf.flows.Permute(dim)
            permute.perm.copy_(_swap(dim)[block.shuffle.order])
            permute.inv_perm.copy_(permute.perm.argsort())
            parts.append(permute)
        self.model = nf.NormalizingFlow(nf.distributions.DiagGaussian(dim, trainable=False), parts)

    def run(self, latent: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        self.context["embedding"] = embedding
        return self.model.forward_and_log_det(latent)

    def back(self, v: Tensor, embedding: Tensor) -> Tensor:
        self.context["embedding"] = embedding
        return self.model.inverse(v)


class _WithContext(nn.Module):
    def __init__(self, net: nn.Module, context: dict[str, Tensor]) -> None:
        super().__init__()
        self.net, self.context = net, context

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x, self.context["embedding"])


class _Zuko(Peer):
    """``ComposedTransform`` of ``CouplingTransform`` and ``PermutationTransform``; ActNorm as an affine transform."""

    def __init__(self, flow: ConditionalFlow) -> None:
        import zuko

        class Affine(zuko.transforms.MonotonicAffineTransform):
            # The library softly clips the scale; ours is already bounded by the tanh.
            def __init__(self, shift: Tensor, log_scale: Tensor) -> None:
                super(zuko.transforms.MonotonicAffineTransform, self).__init__()
                self.shift, self.log_scale, self.scale = shift, log_scale, log_scale.exp()

        super().__init__(flow)
        self.zuko, self.affine, self.dim = zuko.transforms, Affine, flow.config.dim
        half = torch.arange(self.dim) >= self.dim // 2
        self.masks = (~half, half)
        scales, shifts = [b.norm.scale for b in flow.blocks], [b.norm.scale * b.norm.loc for b in flow.blocks]
        self.log_scales = nn.ParameterList(scale.detach().log() for scale in scales)
        self.shifts = nn.ParameterList(shift.detach().clone() for shift in shifts)
        self.nets = nn.ModuleList(
            _ShiftAndScale(block.coupling, step, interleaved=False) for block in flow.blocks for step in (0, 1)
        )
        self.orders = [_swap(self.dim)[block.shuffle.order] for block in flow.blocks]

    def _meta(self, net: nn.Module, embedding: Tensor, known: Tensor):
        return self.zuko.DependentTransform(self.affine(*net(known, embedding).chunk(2, 1)), 1)

    def _transform(self, embedding: Tensor):
        parts = []
        for i, order in enumerate(self.orders):
            parts.append(self.zuko.DependentTransform(self.affine(self.shifts[i], self.log_scales[i]), 1))
            for step, mask in enumerate(self.masks):
                parts.append(self.zuko.CouplingTransform(partial(self._meta, self.nets[2 * i + step], embedding), mask))
            parts.append(self.zuko.PermutationTransform(order))
        return self.zuko.ComposedTransform(*parts)

    def run(self, latent: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        return self._transform(embedding).call_and_ladj(latent)

    def back(self, v: Tensor, embedding: Tensor) -> Tensor:
        return self._transform(embedding).inv(v)


PEERS: dict[str, type[Peer]] = {"FrEIA": _FrEIA, "nflows": _NFlows, "normflows": _NormFlows, "zuko": _Zuko}


def build_peer(name: str, flow: ConditionalFlow) -> Peer:
    """The flow in another library, sharing the linear layers and the embedder of ``flow``.

    Raises:
        CourseError: the library is not installed.
    """
    try:
        return PEERS[name](flow)
    except ImportError as error:
        raise CourseError(f"{name} is not installed: run `make bench`, or install the group 'bench'.") from error


@torch.no_grad()
def check_same_function(peer: Peer, flow: ConditionalFlow, batch: int = 8) -> float:
    """Assert that a peer has our parameters, values, log-determinant and inverse.

    Returns:
        The largest difference of the values.

    Raises:
        CourseError: the two differ.
    """
    generator = torch.Generator().manual_seed(5)
    latent = torch.randn(batch, flow.config.dim, generator=generator)
    condition = torch.randn(batch, *flow.config.condition_shape, generator=generator)
    (v, log_det), (expected, expected_log_det) = peer(latent, condition), flow(latent, condition)
    back = peer.inverse(v, condition)
    error = max((v - expected).abs().max().item(), (back - latent).abs().max().item())
    log_det_error = ((log_det - expected_log_det).abs() / expected_log_det.abs().clamp(min=1)).max().item()
    counts = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (peer, flow)]
    if error > 1e-3 or log_det_error > 1e-4 or counts[0] != counts[1]:
        raise CourseError(
            f"{type(peer).__name__} does not compute our function (values differ by {error:.1e}, log-determinants by "
            f"{log_det_error:.1e}, parameters {counts[0]} and {counts[1]}): its version may not be supported."
        )
    return error
