"""Every network on a GPU that is not there: tensors without data, on ``cuda``. Mixing devices raises an error here too.

A GPU is rarely at hand. Under FakeTensorMode an operation computes shapes and devices only, and one that mixes ``cpu``
and ``cuda`` fails as it would on a GPU.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from course_lib.cinn import ActNorm, ConditionalFlow, FlowConfig, GridFlow, GridFlowConfig
from course_lib.experts import (
    Classifier,
    ClassifierConfig,
    GridAutoencoder,
    GridAutoencoderConfig,
    GridExpert,
    LabelExpert,
    LatentSpace,
    LayerExpert,
    Segmenter,
    SegmenterConfig,
)
from course_lib.gans.alae import ALAE, ALAEConfig
from course_lib.gans.biggan import BigGANConfig, Discriminator, Generator
from course_lib.gans.stylegan import StyleGAN, StyleGANConfig, StyleGANCritic
from course_lib.hypermod import HyperGenerator
from course_lib.mind2mind import MindConfig, MindCritic, MindGenerator
from course_lib.translation import GridRegressor, LowResolution, Pairs, Translator
from course_lib.translation.domains import LabelMethod
from course_lib.translation.text import CaptionMethod, CaptionSource

STYLE = StyleGANConfig((8, 8, 8), (8, 8, 8), 6, 2, colours=5, doublings=1)
GRID = GridAutoencoderConfig(
    channels=4, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8), centre=(0.0,) * 4, scale=(1.0,) * 4
)
FLOW = GridFlowConfig(4, 8, (3, 8, 8), blocks=2, hidden_dim=8)


def on(device, *shape):
    return torch.randn(*shape, device=device)


def stylegan(device):
    network, critic = StyleGAN(STYLE), StyleGANCritic(STYLE)
    return lambda: (network(on(device, 2, 6), truncation=0.5), critic(on(device, 2, 5, 8, 8)), network.mean_style())


def biggan(device):
    config = BigGANConfig(3, (8, 8, 8), (8, 8, 8), 1, 6, 4, (8,), colours=5, doublings=1, bounded=False)
    generator, critic = Generator(config), Discriminator(config)
    labels = lambda: torch.zeros(2, dtype=torch.int64, device=device)  # noqa: E731
    return lambda: (generator(on(device, 2, 6), generator.embed(labels())), critic(on(device, 2, 5, 8, 8), labels()))


def alae(device):
    network = ALAE(ALAEConfig((8, 8), 6, 2, colours=5, bounded=False))
    return lambda: (
        network.decode(network.encode(on(device, 2, 5, 8, 8))),
        network.generator(on(device, 2, 6), truncation=0.5),
        network.generator.set_mean(8),
    )


def hypermod(device):
    network = HyperGenerator(StyleGAN(STYLE), 3, width=4, class_styles=True)
    # By class vectors: sorting pictures by label would need their values.
    return lambda: (network(on(device, 2, 6), network.classes.table[:2]), network(on(device, 2, 6), None))


def autoencoders(device):
    grid = GridAutoencoder(GRID).eval()
    space = LatentSpace(grid)
    images = lambda: on(device, 2, 3, 64, 64)  # noqa: E731
    return lambda: (
        grid.decode(grid.encode(images())),
        space.decode(space.encode(images())),
        GridExpert(grid).encode(images()),
    )


def classifiers(device):
    classifier, segmenter = Classifier(ClassifierConfig({"a": 3}, 4, 5)).eval(), Segmenter(SegmenterConfig(4)).eval()
    images = lambda: on(device, 2, 3, 64, 64)  # noqa: E731
    return lambda: (
        classifier(images()),
        [LayerExpert(classifier, layer).encode(images()) for layer in Classifier.layers],
        LayerExpert(segmenter, "middle").encode(images()),
    )


def flows(device):
    vector, grid = ConditionalFlow(FlowConfig(6, (5,))), GridFlow(FLOW)
    return lambda: (
        vector.inverse(vector(on(device, 2, 6), on(device, 2, 5))[0], on(device, 2, 5)),
        vector.sample(on(device, 2, 5), 0.7, torch.Generator().manual_seed(0)),
        grid.sample(on(device, 2, 3, 8, 8), 0.7, torch.Generator().manual_seed(0)),
        grid.log_prob(on(device, 2, 256), on(device, 2, 3, 8, 8)),
    )


def superresolution(device):
    translator = Translator(LowResolution(8), GridFlow(FLOW), GridAutoencoder(GRID).eval())
    regressor = GridRegressor(FLOW)
    images = lambda: on(device, 2, 3, 64, 64)  # noqa: E731
    return lambda: (
        translator.translate(images(), samples=2, generator=torch.Generator().manual_seed(0)),
        translator.residual(images(), images()),
        regressor(on(device, 2, 3, 8, 8)),
    )


class Sentences:
    """Embeddings on the CPU, where a sentence model gives them."""

    condition_shape = (7,)

    def encode(self, x):
        return torch.zeros(len(x), 7)


def labels_and_captions(device):
    expert = LabelExpert({"style": 2, "hair": 3}, [("style", "hair")])
    source = CaptionSource(Sentences(), on(device, 7), on(device, 7, 3), on(device, 3), expert, ["a", "b"])
    flow = GridFlow(GridFlowConfig(4, 8, expert.condition_shape, hidden_dim=8, blocks=2))
    translator = Translator(source, flow, GridAutoencoder(GRID).eval())
    style = torch.zeros(6, dtype=torch.int64, device=device)
    pairs = Pairs(style.float(), on(device, 6, 256), on(device, 6, 256))
    joined = Pairs(on(device, 6, 5), on(device, 6, 256), on(device, 6, 256))
    table, owner = on(device, 2, 4, 3), torch.zeros(6, dtype=torch.int64, device=device)
    methods = LabelMethod(joined, flow, expert), CaptionMethod(pairs, owner, table, source, flow)
    index, draws = torch.arange(4), torch.Generator().manual_seed(0)

    def run():
        translator.translate([("x", "a"), ("y", "b")], 2, generator=draws)
        for method in methods:
            method.device = torch.device(device)
            list(method.losses(method.batch(index, draws), draws, 0))

    return run


def mindgan(device):
    config = MindConfig(latent=6, noise=4)
    generator, critic = MindGenerator(config), MindCritic(config)
    return lambda: critic(generator(on(device, 2, config.noise)))


@pytest.mark.parametrize(
    "make",
    [stylegan, biggan, alae, hypermod, autoencoders, classifiers, flows, superresolution, labels_and_captions, mindgan],
    ids=lambda make: make.__name__,
)
def test_everything_stays_on_the_device_it_was_put_on(make, monkeypatch):
    # Whether an ActNorm saw data is a value, and there are none here.
    monkeypatch.setattr(ActNorm, "is_initialized", True)
    with FakeTensorMode():
        with torch.device("cuda"):
            run = make("cuda")
        # The default device is the CPU again: a tensor that a method makes without naming a device is found out.
        run()


def test_a_wrong_device_is_found():
    with FakeTensorMode():
        with torch.device("cuda"):
            network = StyleGAN(STYLE)
        with pytest.raises(RuntimeError, match="device"):
            network.mapping(torch.randn(2, 6))
