"""Whole released translators: names, sizes read off a file, the way through a file, and every way to be wrong."""

from functools import cache

import pytest
import torch
from released_tools import BASIC, BIG, CAPTIONS, GAN, NETWORKS, VAE, as_text, manifest, prefixed, small, small_flow
from safetensors.torch import save_file
from torch.nn import functional as F

from course_lib.errors import CourseError
from course_lib.experts import LabelExpert
from course_lib.released.net2net import (
    RELEASED_TRANSLATORS,
    TranslatorConfig,
    load_net2net_expert,
    load_translator_parts,
    translator_layout,
)
from course_lib.released.net2net_experts import (
    RELEASED_EXPERTS,
    BasicAutoencoder,
    BigAutoencoder,
    BigGan,
    Captioner,
    Dequantiser,
    GeneratorConfig,
)
from course_lib.released.reading import fill, layout_of
from course_lib.translation import load_released_translator
from course_lib.translation.shipped import as_captioned

FULL = {
    "anime": "full_anime",
    "portraits": "full_portraits",
    "ccfq": "full_ccfq",
    "faces32to256": "full_faces32to256",
    "sbert_ae": "full_sbert_ae_without_sbert",
    "sbert_biggan": "full_sbert_biggan_without_sbert",
}
SENTENCES = {"cond_stage_model.model.0.auto_model.embeddings.word_embeddings.weight": torch.zeros(3, 2)}
WORDS = {"<pad>": 0, "red": 1, "bird": 2, "blue": 3, "tree": 4, "<start>": 5, "<end>": 6}


class Embedder:
    """Stands in for a sentence model: it counts characters and remembers what it was asked."""

    def __init__(self, width):
        self.condition_shape, self.asked = (width,), []

    def encode(self, x):
        self.asked += x
        return torch.tensor([[float(len(text) % (k + 2)) for k in range(self.condition_shape[0])] for text in x])


def lightning(path, state, step=1234):
    """A checkpoint as the training framework leaves it, optimiser states included."""
    state = {name: tensor.clone() for name, tensor in state.items()}
    torch.save({"state_dict": state, "global_step": step, "epoch": 3, "optimizer_states": [{"state": {}}]}, path)
    return path


def label_state(seed=0):
    target = small(BigAutoencoder, BIG, seed)
    flow, state = small_flow(106, 2)
    return target, flow, {**prefixed("first_stage_model.", target), **state}


def gan_state():
    gan, vae, captioner = small(BigGan, GAN), small(Dequantiser, VAE), small(Captioner, CAPTIONS)
    flow, state = small_flow(125, 3)
    parts = {**prefixed("to_c_model.", captioner), **prefixed("dequantizer.", vae)}
    return gan, vae, flow, {**prefixed("first_stage_model.", gan), **state, **parts}


# --- names and sizes of the real files ----------------------------------------


@cache
def layout_named(name):
    return translator_layout(RELEASED_TRANSLATORS[name])


@pytest.mark.parametrize("name", FULL)
def test_names_shapes_and_dtypes_equal_the_manifest(name):
    assert as_text(layout_named(name)) == manifest(FULL[name])


@pytest.mark.parametrize("name", RELEASED_TRANSLATORS)
def test_sizes_are_read_off_full_size_shapes(name):
    config = RELEASED_TRANSLATORS[name]
    entries = layout_named(name).items()
    layout = {k: torch.empty(entry.shape, dtype=entry.dtype, device="meta") for k, entry in entries}
    if config.kind == "sentences":
        layout.update(SENTENCES)
    assert TranslatorConfig.read(layout) == config


def test_sizes_of_single_experts_are_read_off_full_size_shapes():
    def shapes(name):
        entries = manifest(name).items()
        return {key: torch.empty(shape, device="meta") for key, (shape, _) in entries if not key.startswith("loss.")}

    files = {"biggan128": "biggan_generator128", "biggan256": "biggan_generator256", "dequantiser": "dequant_vae"}
    files["captioner"] = "captioner_img2text"
    for name, config in RELEASED_EXPERTS.items():
        assert type(config).read(shapes(files.get(name, f"autoencoder_{name}"))) == config


# --- the way through a file ----------------------------------------


def agree(actual, expected):
    """Equal but for rounding: which kernel computes a row depends on memory, and random networks enlarge the rest."""
    return (actual - expected).abs().mean() < 1e-3


def test_labels_to_pictures_through_a_file(tmp_path):
    target, flow, state = label_state()
    translator = load_released_translator(lightning(tmp_path / "run.ckpt", state))
    assert isinstance(translator.source, LabelExpert)
    labels, v = torch.tensor([0, 1, 1]), torch.randn(1, 106)
    with torch.no_grad():
        latent = flow.inverse(v.repeat(3, 1), F.one_hot(labels, 2).float())
    pictures = translator.render(v, labels)
    assert agree(pictures[:, 0], target.decode(latent))
    # Equal rows of one batch may be computed by different kernels, and a random decoder enlarges their rounding.
    apart = [(pictures[1] - other).abs().mean().item() for other in (pictures[0], pictures[2])]
    assert apart[1] < 0.1 * apart[0], apart
    assert not any(
        parameter.requires_grad for parameter in [*translator.flow.parameters(), *translator.target.parameters()]
    )
    # The demo: v of a picture under its own label, decoded under the other.
    y = torch.rand(1, 3, 128, 128) * 2 - 1
    with torch.no_grad():
        v_own = flow(target.encode(y), torch.tensor([[1.0, 0.0]]))[0]
        expected = target.decode(flow.inverse(v_own, torch.tensor([[0.0, 1.0]])))
    assert agree(translator.transfer(y, labels[:1], labels[1:2]), expected)


def test_pictures_to_pictures_through_a_file(tmp_path):
    target, source = small(BigAutoencoder, BIG), small(BasicAutoencoder, BASIC)
    flow, state = small_flow(106, 6)
    state = {**prefixed("first_stage_model.", target), **prefixed("cond_stage_model.", source), **state}
    path = lightning(tmp_path / "run.ckpt", state)
    parts = load_translator_parts(path)
    assert parts.step == 1234 and parts.notes == () and parts.config.kind == "autoencoder"
    translator = load_released_translator(path)
    images, v = torch.rand(2, 3, 128, 128) * 2 - 1, torch.randn(1, 106)
    # One pixel of each square of four by four.
    condition = source.encode(images[:, :, ::4, ::4])
    assert agree(translator.source.encode(images), condition)
    with torch.no_grad():
        expected = target.decode(flow.inverse(v.repeat(2, 1), condition))
    assert agree(translator.render(v, images)[:, 0], expected)
    drawn = load_released_translator(path, sample_condition=True).source
    assert not torch.equal(drawn.encode(images), drawn.encode(images))


def test_sentences_to_biggan_through_a_file(tmp_path):
    gan, vae, flow, state = gan_state()
    path = lightning(tmp_path / "run.ckpt", {**state, **SENTENCES})
    parts = load_translator_parts(path)
    assert any("left out 1 tensors of the sentence model" in note for note in parts.notes)
    embedding, images = torch.randn(2, 5), torch.rand(1, 3, 32, 32)
    noise = [torch.Generator().manual_seed(1) for _ in range(2)]
    assert agree(parts.dequantiser(embedding, noise[0]), vae(embedding, noise[1]))
    with torch.no_grad():
        assert parts.captioner.encoder.resnet(images).shape == (1, 2048, 1, 1)
    sentences = Embedder(3)
    translator = load_released_translator(path, sentences=sentences)
    v = torch.randn(1, 125)
    pictures = translator.render(v, ["A  Red bird", "tree"])
    assert sentences.asked == ["<start> a red bird <end> ", "<start> tree <end> "]
    with torch.no_grad():
        latent = flow.inverse(v.repeat(2, 1), sentences.encode(sentences.asked[:2]))
    assert agree(pictures[:, 0], gan.decoder(latent[:, :120], latent[:, 120:]))
    plain = load_released_translator(path, sentences=sentences, captioner_prompts=False)
    assert plain.source is sentences and translator.source.transform is as_captioned


def test_a_black_box_target_comes_from_outside(tmp_path):
    class Box:
        latent_dim = 6

        def encode(self, x):
            return x.flatten(1)[:, :6]

        def decode(self, latent):
            return latent[:, :3, None, None].expand(-1, 3, 4, 4)

    _, state = small_flow(6, 3)
    path = lightning(tmp_path / "run.ckpt", {**state, **SENTENCES})
    with pytest.raises(CourseError, match=r"pass target=.* 6 numbers"):
        load_released_translator(path, sentences=Embedder(3))
    translator = load_released_translator(path, sentences=Embedder(3), target=Box())
    assert translator.translate(["tree"], samples=2).shape == (1, 2, 3, 4, 4)


def test_a_sentence_model_is_asked_for_and_must_fit(tmp_path):
    *_, state = gan_state()
    path = lightning(tmp_path / "run.ckpt", {**state, **SENTENCES})
    with pytest.raises(CourseError, match="sentences of 3 numbers"):
        load_released_translator(path)
    with pytest.raises(CourseError, match="experts give"):
        load_released_translator(path, sentences=Embedder(4))


# --- single experts ----------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_an_expert_through_a_file(tmp_path, name):
    """Half precision becomes float32, and the network keeps nothing of the file."""
    network = small(*NETWORKS[name])
    state = {
        key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in network.state_dict().items()
    }
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    loaded = load_net2net_expert(path)
    path.write_bytes(b"")
    assert not loaded.training and loaded.notes == ()
    for key, tensor in loaded.state_dict().items():
        wanted = state[key].float() if state[key].is_floating_point() else state[key]
        assert torch.equal(tensor, wanted) and tensor.dtype == network.state_dict()[key].dtype


def test_words_come_in_the_order_of_their_numbers(tmp_path):
    torch.save(small(Captioner, CAPTIONS).state_dict(), tmp_path / "captioner.ckpt")
    shuffled = dict(sorted(WORDS.items()))
    assert load_net2net_expert(tmp_path / "captioner.ckpt", word_map=shuffled).words == tuple(WORDS)


def test_a_generator_is_read_with_and_without_its_wrapper(tmp_path):
    gan = small(BigGan, GAN)
    torch.save(gan.decoder.state_dict(), tmp_path / "plain.pth")
    torch.save(gan.state_dict(), tmp_path / "wrapped.pth")
    latent = torch.randn(1, 125)
    for name in ("plain", "wrapped"):
        assert agree(load_net2net_expert(tmp_path / f"{name}.pth").decode(latent), gan.decode(latent))
    with pytest.raises(CourseError, match="does not fit"):
        load_net2net_expert(tmp_path / "plain.pth", GeneratorConfig(128))


def test_counters_of_old_batch_norms_may_be_absent(tmp_path):
    gan = small(BigGan, GAN)
    state = {key: tensor for key, tensor in gan.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    latent = torch.randn(1, 125)
    assert agree(load_net2net_expert(tmp_path / "old.pth").decode(latent), gan.decode(latent))
    del state["decoder.GBlock.0.HyperBN.bn.running_mean"]
    torch.save(state, tmp_path / "old.pth")
    with pytest.raises(CourseError, match=r"missing GBlock\.0\.HyperBN\.bn\.running_mean"):
        load_net2net_expert(tmp_path / "old.pth")


def test_the_training_loss_is_left_out_with_a_note(tmp_path):
    network = small(BasicAutoencoder, BASIC)
    loss = {
        key: torch.zeros(shape)
        for key, (shape, _) in manifest("autoencoder_faces32").items()
        if key.startswith("loss.")
    }
    state = {**network.state_dict(), **loss}
    loaded = load_net2net_expert(lightning(tmp_path / "ae.ckpt", state))
    assert loaded.notes == (f"left out {len(loss)} tensors of the training loss (loss.*): "
                            "perceptual network, patch discriminator, learned variance",)  # fmt: skip
    images = torch.rand(1, 3, 32, 32)
    assert agree(loaded.encode(images), network.encode(images))
    with pytest.raises(CourseError, match=r"unknown loss\.other"):
        load_net2net_expert(lightning(tmp_path / "ae.ckpt", {**state, "loss.other": torch.zeros(1)}))


# --- ways to be wrong ----------------------------------------


def test_every_difference_is_listed_at_once(tmp_path):
    _, _, state = label_state()
    del state["flow.sub_layers.0.norm_layer.loc"]
    state["first_stage_model.encoder.model.conv1.weight"] = torch.zeros(64, 3, 5, 5)
    state["first_stage_model.decoder.decoder.attention.gamma"] = torch.zeros(1, dtype=torch.int64)
    state["optimiser.step"] = torch.zeros(1)
    path = lightning(tmp_path / "run.ckpt", state)
    config = TranslatorConfig.read(label_state()[2])
    with pytest.raises(CourseError) as error:
        load_translator_parts(path, config)
    for part in (
        "Differences (4)",
        "missing flow.sub_layers.0.norm_layer.loc",
        "unknown optimiser.step",
        "first_stage_model.encoder.model.conv1.weight has shape (64, 3, 5, 5) instead of (64, 3, 7, 7)",
        "first_stage_model.decoder.decoder.attention.gamma has dtype torch.int64 instead of torch.float32",
    ):
        assert part in str(error.value)


def test_a_released_name_wants_the_released_sizes(tmp_path):
    _, state = small_flow(6, 3)
    path = lightning(tmp_path / "run.ckpt", state)
    with pytest.raises(CourseError, match=r"missing first_stage_model.*and \d+ more") as error:
        load_released_translator(path, "anime")
    assert len(str(error.value)) < 5000
    with pytest.raises(CourseError, match="no released Net2Net translator"):
        load_released_translator(path, "animals")
    with pytest.raises(CourseError, match="no released expert"):
        load_net2net_expert(path, "animals")


def test_a_flow_alone_opens_where_the_target_comes_from_outside(tmp_path):
    _, state = small_flow(6, 3)
    parts = load_translator_parts(lightning(tmp_path / "run.ckpt", state))
    assert parts.target is None and parts.config.kind == "labels"
    with pytest.raises(CourseError, match=r"pass target="):
        load_released_translator(tmp_path / "run.ckpt")
    with pytest.raises(CourseError, match=r"holds Net2Net flow \(state_dict\), not .*open it with .*load_net2net_flow"):
        load_net2net_expert(tmp_path / "run.ckpt")


def test_loading_shares_no_memory_with_the_state():
    network, state = small(Dequantiser, VAE), {k: t.clone() for k, t in small(Dequantiser, VAE).state_dict().items()}
    with torch.device("meta"):
        empty = Dequantiser(VAE)
    loaded = fill(empty, state, layout_of(empty), "it")
    state["encoder.main.0.weight"].zero_()
    assert torch.equal(loaded.encoder.main[0].weight, network.encoder.main[0].weight)
