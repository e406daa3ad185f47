"""The critic of a transfer: that of the old classes, with a new class embedding."""

from dataclasses import replace

import torch
from torch import Tensor

from ..errors import CourseError
from ..gans import Discriminator, start_weights

__all__ = ["transfer_critic"]


@torch.no_grad()
def transfer_critic(
    source: Discriminator, classes: int, mixtures: Tensor | None = None, start: str = "orthogonal"
) -> Discriminator:
    """A trainable critic that knows pictures from the old classes, and judges new ones.

    Args:
        source: trained critic; copied.
        classes: number of new classes.
        mixtures: ``(new, old)``; each new class begins with this mixture of old embeddings. None: at random, as
            published.
        start: how random embeddings are drawn, see :func:`course_lib.gans.start_weights`.

    Raises:
        CourseError: mixtures of another shape.
    """
    critic = Discriminator(replace(source.config, classes=classes))
    start_weights(critic.embed, start)
    state = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith("embed.")}
    critic.load_state_dict(critic.state_dict() | state)
    if mixtures is not None:
        if mixtures.shape != (classes, source.config.classes):
            raise CourseError(
                f"mixtures must be ({classes}, {source.config.classes}) (new classes, old classes), not "
                f"{tuple(mixtures.shape)}."
            )
        critic.embed.weight.copy_(mixtures.to(source.embed.weight) @ source.embed.weight)
    return critic.to(next(source.parameters()).device)
