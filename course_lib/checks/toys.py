"""Small networks that several checks ask an answer about."""

import torch

from course_lib import cinn

__all__ = ["toy_flow"]


def toy_flow() -> cinn.ConditionalFlow:
    """A small conditional flow in float64 that is far from the identity: latents ``(B, 4)``, conditions ``(B, 3)``."""
    generator = torch.Generator().manual_seed(0)
    config = cinn.FlowConfig(dim=4, condition_shape=(3,), hidden_dim=16, hidden_depth=1, blocks=3)
    flow = cinn.ConditionalFlow(config, generator).double().eval()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return flow
