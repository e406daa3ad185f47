"""Autoencoder, classifier, the autoencoder's losses, and how experts are kept frozen and opened."""

import copy
import math

import pytest
import torch
from torch import nn

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.data import ImageSet
from course_lib.errors import CourseError
from course_lib.experts import (
    Classifier,
    ClassifierConfig,
    GridAutoencoder,
    GridAutoencoderConfig,
    LayerExpert,
    Posterior,
    SourceExpert,
    TargetExpert,
    fingerprint,
    freeze,
    load_expert,
)
from course_lib.recipes.experts import AutoencoderMethod
from course_lib.training import Budget, Card, save_weights, train
from course_lib.training.runs import Loss, Method, frozen

SMALL = GridAutoencoderConfig(16, 2, (8, 8), (8, 8))


def autoencoder():
    return freeze(GridAutoencoder(SMALL).to(memory_format=torch.channels_last))


def classifier(**options):
    return freeze(Classifier(ClassifierConfig({"kind": 5, "style": 3}, width=4, **options)))


def pictures(count=3, size=16):
    return torch.rand(count, 3, size, size) * 2 - 1


# --- autoencoder ------------------------------------------------------------------------------------------------------


def test_autoencoder_shapes_and_range():
    net = autoencoder()
    latent = net.encode(pictures())
    assert latent.shape == (3, 32) and net.latent_dim == 32 and net.condition_shape == (32,)
    images = net.decode(latent)
    assert images.shape == (3, 3, 16, 16) and images.abs().max() <= 1
    assert torch.equal(net.encode(pictures(1)[:0]), torch.empty(0, 32))
    assert not latent.requires_grad and not net.decode(latent.requires_grad_()).requires_grad
    assert net.render(latent).requires_grad


def test_autoencoder_forward_samples_only_with_noise():
    net, images, noise = autoencoder(), pictures(), torch.randn(3, 32)
    mean_image, posterior = net(images)
    torch.testing.assert_close(mean_image.clamp(-1, 1), net.decode(posterior.mean))
    sampled, _ = net(images, noise)
    latent = posterior.mean + noise * (0.5 * posterior.log_variance).exp()
    torch.testing.assert_close(sampled.clamp(-1, 1), net.decode(latent))
    torch.testing.assert_close(sampled, net.render(latent))


def test_principal_components_of_pictures_that_hardly_vary():
    net = GridAutoencoder(SMALL).eval()
    net.start_from_pca(torch.full((60, 3, 16, 16), 0.3))
    same = net.decode(net.encode(torch.full((2, 3, 16, 16), 0.3)))
    torch.testing.assert_close(same, torch.full_like(same, 0.3), rtol=0, atol=1e-3)
    with pytest.raises(CourseError, match="too few"):
        net.start_from_pca(pictures(11))


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (2, 1, 16, 16), (3, 16, 16), (2, 3, 16, 17)])
def test_autoencoder_refuses_other_sizes(shape):
    with pytest.raises(CourseError, match="16, 16"):
        autoencoder().encode(torch.zeros(shape))


@pytest.mark.parametrize("arguments", [{"size": 20}, {"encoder_widths": (8,)}, {"decoder_widths": (8,)}])
def test_impossible_autoencoders(arguments):
    with pytest.raises(CourseError, match="widths"):
        GridAutoencoderConfig(**{"size": 64} | arguments)


def test_configurations_survive_json():
    import json

    for config in (SMALL, ClassifierConfig({"kind": 5}, 4, 2)):
        assert type(config)(**json.loads(json.dumps(vars(config)))) == config


def test_posterior_agrees_with_torch_distributions():
    posterior = Posterior(torch.randn(4, 6), torch.randn(4, 6))
    normal = torch.distributions.Normal(posterior.mean, (0.5 * posterior.log_variance).exp())
    unit = torch.distributions.Normal(torch.zeros(6), torch.ones(6))
    torch.testing.assert_close(posterior.kl(), torch.distributions.kl_divergence(normal, unit).sum(1))
    torch.testing.assert_close(Posterior(torch.zeros(2, 3), torch.zeros(2, 3)).kl(), torch.zeros(2))


def test_posterior_samples_have_its_moments_and_follow_the_generator():
    posterior = Posterior(torch.tensor([[1.0, -2.0]]).repeat(20_000, 1), torch.tensor([[0.0, math.log(4.0)]]))
    sample = posterior.sample(torch.Generator().manual_seed(1))
    torch.testing.assert_close(sample.mean(0), torch.tensor([1.0, -2.0]), rtol=0, atol=0.05)
    torch.testing.assert_close(sample.std(0), torch.tensor([1.0, 2.0]), rtol=0, atol=0.05)
    assert torch.equal(sample, posterior.sample(torch.Generator().manual_seed(1)))


def test_posterior_is_bounded():
    net = autoencoder()
    with torch.no_grad():
        net.to_posterior.bias.fill_(1e4)
    assert net.posterior(pictures()).log_variance.max() == 10.0
    with torch.no_grad():
        net.to_posterior.bias.fill_(-1e4)
    assert net.posterior(pictures()).log_variance.min() == -30.0


# --- classifier and its layers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("early", (4, 32, 32)),
        ("low", (8, 16, 16)),
        ("middle", (16, 8, 8)),
        ("late", (32, 4, 4)),
        ("features", (32,)),
        ("logits", (8,)),
    ],
)
def test_layers(name, shape):
    net = classifier(projection=7)
    expert = LayerExpert(net, name)
    assert expert.condition_shape == shape and isinstance(expert, SourceExpert)
    images = pictures(2, 64)
    out = expert.encode(images)
    assert out.shape == (2, *shape) and out.is_contiguous() and not out.requires_grad
    torch.testing.assert_close(out, net.layer(images, name))
    assert set(net.layers) == {"early", "low", "middle", "late", "features", "logits"}


def test_layers_of_smaller_pictures_and_unknown_layers():
    net = classifier()
    assert LayerExpert(net, "late", 32).condition_shape == (32, 2, 2)
    with pytest.raises(CourseError, match=r"'deep'.*early, low"):
        LayerExpert(net, "deep")


def test_classifier_outputs():
    net, images = classifier(projection=7), pictures(2, 64)
    outputs = net(images)
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "kind": (2, 5),
        "style": (2, 3),
        "projection": (2, 7),
    }
    torch.testing.assert_close(outputs["projection"].norm(dim=1), torch.ones(2))
    torch.testing.assert_close(net.layer(images, "logits"), torch.cat([outputs["kind"], outputs["style"]], 1))
    assert "projection" not in classifier()(images)


# --- losses -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def method():
    images = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8)
    config = GridAutoencoderConfig(16, 4, (8, 8), (8, 8))
    method = AutoencoderMethod(ImageSet("some", images), config, ImageSet("others", 255 - images))
    method.kl, method.noise = 0.3, 0.0
    return method


def test_the_loss_is_a_likelihood_and_a_divergence(method):
    """Against torch.distributions: Laplace without its constant log 2, and the divergence from N(0, I)."""
    net, generator = method.modules["autoencoder"].eval(), torch.Generator().manual_seed(3)
    with torch.no_grad():
        net.log_scale.fill_(-1.0)
        net.to_image.weight.normal_(std=0.1), net.to_posterior.weight.normal_(std=0.1)
    images = method.batch(torch.arange(5), torch.Generator().manual_seed(1))
    assert images.shape == (8, 3, 16, 16), "five of the set, and three fifths as many others"
    [loss] = method.losses(images, generator, 0)
    noise = torch.randn(8, net.config.latent_dim, generator=torch.Generator().manual_seed(3))
    posterior = net.posterior(images)
    gaussian = torch.distributions.Normal(posterior.mean, (0.5 * posterior.log_variance).exp())
    rendered = net.render(gaussian.mean + noise * gaussian.stddev)
    laplace = torch.distributions.Laplace(rendered, torch.tensor(-1.0).exp())
    likelihood = (laplace.log_prob(images) + math.log(2)).sum((1, 2, 3))
    divergence = torch.distributions.kl_divergence(gaussian, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(loss.value, (0.3 * divergence - likelihood).mean(), rtol=1e-5, atol=1e-3)


def test_the_learned_scale_settles_at_the_mean_error(method):
    net = method.modules["autoencoder"].eval()
    images = method.batch(torch.arange(5), torch.Generator().manual_seed(1))
    optimizer = torch.optim.LBFGS([net.log_scale], max_iter=50)

    def closure():
        optimizer.zero_grad()
        [loss] = method.losses(images, torch.Generator().manual_seed(3), 0)
        loss.value.backward()
        closure.error = loss.scalars["l1"].item()
        return loss.value

    optimizer.step(closure)
    assert net.log_scale.exp().item() == pytest.approx(closure.error, rel=1e-2)


def test_training_lowers_the_loss_and_keeps_the_baseline(method):
    images = method.batch(torch.arange(5), torch.Generator().manual_seed(1))
    before = method.losses(images, torch.Generator().manual_seed(3), 0).__next__().value.item()
    history = train(method, Budget(20), 8, log_every=20, checkpoint_every=0, preview_every=0, progress=False)
    assert history.curve["loss/autoencoder"][-1] < before


# --- frozen -----------------------------------------------------------------------------------------------------------


def test_frozen_stays_in_evaluation_mode():
    net = autoencoder()
    parent = nn.Sequential(nn.Linear(1, 1), net).train()
    assert parent.training and not any(part.training for part in net.modules())
    assert net.train() is net and net.eval() is net and not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_copies_of_a_frozen_expert_are_their_own():
    net = autoencoder()
    copied = copy.deepcopy(net)
    assert copied.eval() is copied and copied.encoder.train() is copied.encoder and not copied.encoder.training


def test_frozen_context_restores_flags():
    net = nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    with frozen(net):
        assert not any(p.requires_grad for p in net.parameters())
    assert net.weight.requires_grad and not net.bias.requires_grad


def test_fingerprint_sees_weights_and_buffers():
    net = nn.BatchNorm2d(3)
    marks = {fingerprint(net)}
    net.running_mean[0] = 1
    marks.add(fingerprint(net))
    net.num_batches_tracked += 1
    marks.add(fingerprint(net))
    with torch.no_grad():
        net.weight[2] += 1e-7
    marks.add(fingerprint(net))
    assert len(marks) == 4
    assert fingerprint(net) == fingerprint(copy.deepcopy(net).to(memory_format=torch.channels_last))


class Translation(Method):
    """Uses experts in every way a method may: as source, as target, and as a distance with gradients through it."""

    def __init__(self, target, layer, measure):
        super().__init__()
        self.target, self.layer, self.measure = target, layer, measure
        self.images = pictures(12)
        shape = layer.condition_shape
        flow = ConditionalFlow(FlowConfig(target.latent_dim, shape, hidden_dim=8, blocks=2, embedder_hidden_dim=8))
        # The experts hang on a trained module, so that the loop's train() walks over them.
        flow.experts = nn.ModuleList([target, measure])
        self.modules = {"flow": flow}
        self.optimizers = {"flow": torch.optim.Adam(flow.parameters(), 1e-2, weight_decay=0.1)}
        self.length = 12

    def batch(self, index, generator):
        return self.images[index]

    def losses(self, images, generator, step):
        latent, condition = self.target.encode(images), self.layer.encode(images)
        flow = self.modules["flow"]
        v, log_det = flow(latent, condition)
        rendered = self.target.render(flow.inverse(v.detach(), condition))
        distance = (self.measure.features(rendered) - self.measure.features(images)).square().sum(1).mean()
        yield Loss("flow", (0.5 * v.square().sum(1) - log_det).mean() + distance, {"distance": distance})


def test_experts_do_not_change_while_a_method_uses_them():
    target, measure = autoencoder(), classifier()
    layer = LayerExpert(measure, "features", 16)
    before = fingerprint(target), fingerprint(measure)
    method = Translation(target, layer, measure)
    learned = list(method.modules["flow"].blocks.parameters())
    start = torch.cat([p.detach().flatten() for p in learned])
    train(method, Budget(4), 6, progress=False)
    assert (fingerprint(target), fingerprint(measure)) == before
    assert not torch.equal(start, torch.cat([p.detach().flatten() for p in learned])), "the flow did learn"
    assert all(p.grad is None for expert in (target, measure) for p in expert.parameters())
    assert not any(part.training for expert in (target, measure) for part in expert.modules())


def test_networks_are_the_protocols_experts():
    net = autoencoder()
    assert isinstance(net, SourceExpert) and isinstance(net, TargetExpert)
    assert not isinstance(nn.Linear(1, 1), SourceExpert) and not isinstance(classifier(), TargetExpert)


# --- opening ----------------------------------------------------------------------------------------------------------


def test_experts_are_opened_frozen(tmp_path):
    net, images = GridAutoencoder(SMALL), pictures()
    net.eval()
    save_weights(net.state_dict(), Card("small", "grid autoencoder", vars(SMALL)), tmp_path, bits=32)
    loaded = load_expert("small", folder=tmp_path)
    torch.testing.assert_close(loaded.encode(images), net.encode(images))
    loaded.train()
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (Card("x", "flow", {}), "a flow, not an expert"),
        (Card("x", "classifier", {"heads": {"kind": 2}}), "does not fit"),
        (Card("x", "grid autoencoder", {"colour": 3}), "does not fit"),
        (Card("x", "grid autoencoder", {"size": "big"}), "does not fit|widths"),
    ],
)
def test_foreign_checkpoints(tmp_path, card, message):
    save_weights(GridAutoencoder(SMALL).state_dict(), card, tmp_path)
    with pytest.raises(CourseError, match=message):
        load_expert("x", folder=tmp_path)


def test_absent_expert(tmp_path):
    with pytest.raises(CourseError, match="there is no checkpoint 'x'"):
        load_expert("x", folder=tmp_path)
