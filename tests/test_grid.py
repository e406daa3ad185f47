"""The grid autoencoder and the flow on its latents."""

import pytest
import torch
from torch.nn import functional as F

from course_lib.cinn import GridFlow, GridFlowConfig, LocalShift
from course_lib.data import ImageSet
from course_lib.errors import CourseError
from course_lib.experts import GridAutoencoder, GridAutoencoderConfig, GridExpert, freeze, load_expert
from course_lib.training import Card, save_weights
from course_lib.translation import load_flow
from course_lib.translation.domains import adapt_autoencoder

SMALL = GridAutoencoderConfig(16, 4, (8, 8), (8, 8))
QUIET = {"log_every": 10, "checkpoint_every": 0, "preview_every": 0, "progress": False}


@pytest.fixture(scope="module")
def autoencoder():
    torch.manual_seed(0)
    return freeze(GridAutoencoder(SMALL))


def trained_flow(channels=2, side=2, blocks=3, seed=0):
    """With ActNorm set from a batch and couplings far from the identity, in double precision."""
    g = torch.Generator().manual_seed(seed)
    config = GridFlowConfig(channels, side, (3,), hidden_dim=6, blocks=blocks)
    flow = GridFlow(config, g, gain=3.0).double()
    z, c = torch.randn(20, config.dim, generator=g).double(), torch.eye(3).double()[torch.arange(20) % 3]
    flow.fit_shift(2 * z + c[:, :1], c)
    flow(z, c)
    return flow.eval(), z, c


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_there_and_back_returns_the_latent(blocks):
    flow, z, c = trained_flow(4, 4, blocks)
    v = flow.encode(z, c)
    assert (v - z).abs().max() > 0.5
    torch.testing.assert_close(flow.inverse(v, c), z)


def test_the_log_determinant_is_that_of_the_jacobian():
    flow, z, c = trained_flow()
    jacobian = torch.autograd.functional.jacobian(lambda x: flow(x, c[:1])[0][0], z[:1])[:, 0]
    torch.testing.assert_close(flow(z[:1], c[:1])[1][0], torch.linalg.slogdet(jacobian)[1])


def test_log_prob_is_a_density_of_the_residual():
    flow, z, c = trained_flow()
    v, log_det = flow(z, c)
    normal = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(flow.log_prob(z, c), normal.log_prob(v).sum(1) + log_det)


@pytest.mark.parametrize("of", ["labels", "maps"])
def test_the_residual_shift_removes_what_is_linear_and_changes_nothing_else(of):
    flow, z, c = trained_flow() if of == "labels" else flow_of_maps(2, side=2)
    before, log_det = flow(z, c)
    pairs = [(z[:15], c[:15]), (z[15:], c[15:])]
    flow.fit_residual_shift(pairs, ridge=1e-9)
    v, same = flow(z, c)
    x = (c - c.mean(0)).flatten(1)
    linear = [(x.T @ (one - one.mean(0))).abs().max() / len(x) for one in (before, v)]
    assert linear[1] < 1e-6 < 1e-2 < linear[0] and v.mean(0).abs().max() < 1e-6
    assert torch.equal(log_det, same)
    torch.testing.assert_close(flow.inverse(v, c), z)
    again = GridFlow(GridFlowConfig.from_dict(flow.config.to_dict())).double()
    again.load_state_dict(flow.state_dict())
    assert torch.equal(again.eval().encode(z, c), v)
    flow.fit_residual_shift(pairs, ridge=1e-9)
    torch.testing.assert_close(flow.encode(z, c), v, msg="a second fit replaces the first")


def test_the_residual_shift_on_features_removes_what_is_not_linear_as_well():
    g = torch.Generator().manual_seed(0)
    flow = GridFlow(GridFlowConfig(2, 2, (3,), hidden_dim=4, blocks=2), g).double().eval()
    c = torch.randn(2000, 3, generator=g).double()
    wanted = c[:, 0].abs()  # no linear function of the condition
    z = torch.randn(2000, 8, generator=g).double() + wanted[:, None]
    flow(z, c)
    read = {}
    for name, given in {"linear": {}, "features": {"ridge": 1e-2, "features_of": c}}.items():
        flow.fit_residual_shift([(z, c)], **given)
        v = flow.encode(z, c)
        read[name] = torch.corrcoef(torch.stack([v.sum(1), wanted]))[0, 1].abs()
        torch.testing.assert_close(flow.inverse(v, c), z)
        again = GridFlow(GridFlowConfig.from_dict(flow.config.to_dict())).double().eval()
        again.load_state_dict(flow.state_dict())
        assert torch.equal(again.encode(z, c), v)
    assert read["features"] < 0.1 < 0.3 < read["linear"]
    assert v.mean(0).abs().max() < 1e-6


def flow_of_maps(places=4, channels=2, side=4, blocks=3, seed=0):
    """As ``trained_flow``, told by maps."""
    g = torch.Generator().manual_seed(seed)
    config = GridFlowConfig(channels, side, (3, places, places), hidden_dim=6, blocks=blocks)
    flow = GridFlow(config, g, gain=3.0).double()
    z = torch.randn(40, config.dim, generator=g).double()
    c = torch.randn(40, 3, places, places, generator=g).double()
    flow.fit_shift(z, c)
    flow(z, c)
    return flow.eval(), z, c


@pytest.mark.parametrize(("places", "side"), [(4, 4), (8, 4), (2, 2), (6, 2)])
def test_maps_there_and_back_and_the_log_determinant(places, side):
    flow, z, c = flow_of_maps(places, 2, side)
    v, log_det = flow(z, c)
    assert (v - z).abs().max() > 0.5
    torch.testing.assert_close(flow.inverse(v, c), z)
    jacobian = torch.autograd.functional.jacobian(lambda x: flow(x, c[:1])[0][0], z[:1])[:, 0]
    torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian)[1])
    drawn = flow.sample(c, 1.0, torch.Generator().manual_seed(0))
    again = torch.randn(v.shape, generator=torch.Generator().manual_seed(0), dtype=v.dtype)
    torch.testing.assert_close(flow.encode(drawn, c), again)
    with pytest.raises(CourseError, match="condition"):
        flow(z, c[..., :1])


def test_a_map_is_read_in_its_place():
    flow, z, c = flow_of_maps(8)
    moved = c.clone()
    moved[:, :, :2, :2] += 1.0
    told, before = (flow.shift.inverse(torch.zeros_like(z), x).view(-1, 2, 4, 4) for x in (moved, c))
    change = (told - before).abs().amax((0, 1))
    assert change[0, 0] > 1e-3 and change[2:].max() == 0 == change[:, 2:].max()
    assert (flow.encode(z, moved) - flow.encode(z, c)).abs().max() > 0.01


@pytest.mark.parametrize("stride", [1, 2])
def test_the_local_start_is_the_least_squares_fit_of_neighbourhoods(stride):
    g = torch.Generator().manual_seed(0)
    c = torch.randn(300, 2, 4 * stride, 4 * stride, generator=g)
    shift = LocalShift((2, 4 * stride, 4 * stride), 3, 4)
    wanted = F.conv2d(c, torch.randn(shift.linear.weight.shape, generator=g), stride=stride, padding=1)
    wanted = (wanted + torch.randn(3, 4, 4, generator=g)).flatten(1)
    shift.fit(wanted, c, ridge=1e-8)
    assert shift(wanted, c).abs().max() < 1e-2, "a local map with an offset for every cell is found"
    noisy = wanted + torch.randn(wanted.shape, generator=g)
    shift.fit(noisy, c, ridge=1e-8)
    left = shift(noisy, c).view(300, 3, 4, 4)
    assert left.mean(0).abs().max() < 1e-4
    around = F.unfold(c - c.mean(0), stride + 2, padding=1, stride=stride).view(300, -1, 4, 4)
    assert torch.einsum("nfhw,nchw->fc", around, left).abs().max() / (300 * 16) < 1e-4, "residual and map uncorrelated"
    with pytest.raises(CourseError, match="cells"):
        shift.fit(noisy[:1], c[:1])


def test_a_grid_expert_gives_the_latent_as_a_map(autoencoder):
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    expert = GridExpert(autoencoder)
    assert expert.encode(x).shape[1:] == expert.condition_shape == (4, 4, 4)
    assert torch.equal(expert.encode(x).flatten(1), autoencoder.encode(x))


def test_condition_and_place_matter():
    flow, z, c = trained_flow(2, 4)
    assert (flow.encode(z, c) - flow.encode(z, c.roll(1, 0))).abs().max() > 0.1
    everywhere = torch.ones(1, flow.config.dim).double()
    grid = (flow.encode(everywhere, c[:1]) + flow.shift.linear(c[:1])).view(2, 4, 4)
    assert grid.std((1, 2)).max() > 1e-3


def test_sizes_that_cannot_be_are_refused_and_the_configuration_survives_json():
    with pytest.raises(CourseError, match="even"):
        GridFlowConfig(3, 4, (2,))
    for shape in [(2, 3, 3), (2, 8, 4), (2, 2, 2), (2, 4), ()]:
        with pytest.raises(CourseError, match="condition_shape"):
            GridFlowConfig(4, 4, shape)
    config = GridFlowConfig(4, 4, (2,))
    for one in (config, GridFlowConfig(4, 4, (3, 8, 8))):
        assert GridFlowConfig.from_dict(one.to_dict()) == one
    assert GridFlowConfig.from_dict(config.to_dict() | {"whitened": 0}) == config, "an older card"
    with pytest.raises(CourseError, match="unknown"):
        GridFlowConfig.from_dict(config.to_dict() | {"width": 3})
    flow = GridFlow(config)
    with pytest.raises(CourseError, match="64"):
        flow(torch.zeros(2, 63), torch.zeros(2, 2))
    with pytest.raises(CourseError, match="not fit"):
        GridAutoencoderConfig(20, 4, (8, 8, 8), (8, 8, 8))


def test_the_linear_start_is_the_principal_components_of_patches():
    g = torch.Generator().manual_seed(0)
    images = F.interpolate(torch.rand(400, 3, 8, 8, generator=g), (16, 16), mode="bilinear") * 2 - 1
    net = GridAutoencoder(GridAutoencoderConfig(16, 12, (8, 8), (8, 8)))
    net.start_from_pca(images)
    net.eval()
    patches = F.unfold(images, 4, stride=4).transpose(1, 2).flatten(0, 1)
    colour = patches.view(len(patches), 3, 16).mean((0, 2)).repeat_interleave(16)
    _, _, basis = torch.linalg.svd(patches - patches.mean(0), full_matrices=False)
    best = (patches - patches.mean(0)) @ basis[:12].T @ basis[:12] + colour
    best = F.fold(best.view(400, 16, 48).transpose(1, 2), (16, 16), 4, stride=4)
    latent = net.encode(images)
    assert (net.render(latent) - best).abs().mean() < 0.05 * images.std()  # components come from every seventh patch
    cells = latent.view(400, 12, -1).transpose(0, 1).flatten(1)
    assert (cells.std(1) - 1).abs().max() < 0.25
    with pytest.raises(CourseError, match="48"):
        GridAutoencoder(GridAutoencoderConfig(16, 49, (8, 8), (8, 8))).start_from_pca(images)


def test_a_cell_speaks_for_its_own_patch(autoencoder):
    latent = torch.zeros(1, autoencoder.latent_dim)
    moved = latent.clone().view(1, 4, 4, 4)
    moved[..., 0, 0] = 3.0
    change = (autoencoder.render(moved.flatten(1)) - autoencoder.render(latent)).abs().mean((0, 1))
    assert change[:4, :4].mean() > 20 * change[12:, 12:].mean()


def test_other_sizes_are_refused(autoencoder):
    with pytest.raises(CourseError, match="resize"):
        autoencoder.encode(torch.zeros(1, 3, 32, 32))
    assert autoencoder.encode(torch.zeros(2, 3, 16, 16)).shape == (2, 64)


def test_saved_networks_are_opened_by_their_kind(autoencoder, tmp_path):
    save_weights(autoencoder.state_dict(), Card("mine", "grid autoencoder", vars(SMALL), {}), tmp_path)
    flow = GridFlow(GridFlowConfig(4, 4, (2,)))
    save_weights(flow.state_dict(), Card("flow", "grid flow", flow.config.to_dict(), {}), tmp_path)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(load_expert("mine", folder=tmp_path).encode(x), autoencoder.encode(x), atol=5e-3, rtol=0)
    assert isinstance(load_flow("flow", folder=tmp_path), GridFlow)
    with pytest.raises(CourseError, match="not a conditional flow or grid flow"):
        load_flow("mine", folder=tmp_path)


def test_a_copy_of_a_grid_autoencoder_can_be_adapted(autoencoder):
    images = torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8)
    data = ImageSet("toy", images, {"domain": torch.arange(12) % 2}, {"domain": ["a", "b"]})
    adapted = adapt_autoencoder(autoencoder, data, 2, **QUIET)
    assert isinstance(adapted, GridAutoencoder)
    assert any(not torch.equal(a, b) for a, b in zip(adapted.parameters(), autoencoder.parameters(), strict=True))
