"""Whole released translators: names, sizes read off a file, the way through a file, and every way to be wrong."""

import os
from dataclasses import replace
from functools import cache

import pytest
import torch
from released_tools import BASIC, BIG, CAPTIONS, GAN, NETWORKS, VAE, as_text, manifest, prefixed, small, small_flow
from safetensors.torch import save_file
from torch.nn import functional as F
from typer.testing import CliRunner

from course_lib.cli import app
from course_lib.errors import CourseError
from course_lib.experts import LabelExpert
from course_lib.released import (
    RELEASED_TRANSLATORS,
    BasicAutoencoder,
    BigAutoencoder,
    BigGan,
    Captioner,
    Dequantiser,
    describe,
    export_flow,
    load_basic_ae,
    load_big_ae,
    load_biggan,
    load_captioner,
    load_dequantiser,
    load_translator_parts,
    translator_layout,
)
from course_lib.released.big_ae import RELEASED_AUTOENCODERS, infer_big_config
from course_lib.released.biggan import GeneratorConfig, infer_generator_config
from course_lib.released.dequantiser import DequantiserConfig, infer_dequantiser_config
from course_lib.released.strict import load_exactly
from course_lib.released.translator import infer_translator_config
from course_lib.translation import CaptionerPrompts, load_released

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
def test_names_shapes_dtypes_and_order_equal_the_manifest(name):
    layout = layout_named(name)
    expected = manifest(FULL[name])
    assert as_text(layout) == expected and list(layout) == list(expected)


@pytest.mark.parametrize("name", RELEASED_TRANSLATORS)
def test_sizes_are_read_off_full_size_shapes(name):
    config = RELEASED_TRANSLATORS[name]
    layout = {k: torch.empty(shape, dtype=dtype, device="meta") for k, (shape, dtype) in layout_named(name).items()}
    if config.kind == "sentences":
        layout.update(SENTENCES)
    assert infer_translator_config(layout) == replace(config, labels=())


def test_sizes_of_single_experts_are_read_off_full_size_shapes():
    def shapes(name):
        entries = manifest(name).items()
        return {key: torch.empty(shape, device="meta") for key, (shape, _) in entries if not key.startswith("loss.")}

    for name, config in RELEASED_AUTOENCODERS.items():
        assert infer_big_config(shapes(f"autoencoder_{name}")) == config
    for size in (128, 256):
        assert infer_generator_config(shapes(f"biggan_generator{size}")) == GeneratorConfig(size)
    assert infer_dequantiser_config(shapes("dequant_vae")) == DequantiserConfig()


# --- the way through a file ----------------------------------------


def test_labels_to_pictures_through_a_file(tmp_path):
    target, flow, state = label_state()
    translator = load_released(lightning(tmp_path / "run.ckpt", state))
    assert isinstance(translator.source, LabelExpert)
    labels, v = torch.tensor([0, 1, 1]), torch.randn(1, 106)
    with torch.no_grad():
        latent = flow.inverse(v.repeat(3, 1), F.one_hot(labels, 2).float())
    pictures = translator.render(v, labels)
    assert torch.equal(pictures[:, 0], target.decode(latent))
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
    assert torch.equal(translator.transfer(y, labels[:1], labels[1:2]), expected)


def test_pictures_to_pictures_through_a_file(tmp_path):
    target, source = small(BigAutoencoder, BIG), small(BasicAutoencoder, BASIC)
    flow, state = small_flow(106, 6)
    state = {**prefixed("first_stage_model.", target), **prefixed("cond_stage_model.", source), **state}
    path = lightning(tmp_path / "run.ckpt", state)
    parts = load_translator_parts(path)
    assert parts.step == 1234 and parts.notes == () and parts.config.kind == "autoencoder"
    translator = load_released(path)
    images, v = torch.rand(2, 3, 128, 128) * 2 - 1, torch.randn(1, 106)
    # One pixel of each square of four by four.
    condition = source.encode(images[:, :, ::4, ::4])
    assert torch.equal(translator.source.encode(images), condition)
    with torch.no_grad():
        expected = target.decode(flow.inverse(v.repeat(2, 1), condition))
    assert torch.equal(translator.render(v, images)[:, 0], expected)
    once = load_translator_parts(path, normalise_twice=False).target
    assert (once.encode(images) - parts.target.encode(images)).abs().max() > 1e-2
    drawn = load_released(path, sample_condition=True).source
    assert not torch.equal(drawn.encode(images), drawn.encode(images))


def test_sentences_to_biggan_through_a_file(tmp_path):
    gan, vae, flow, state = gan_state()
    path = lightning(tmp_path / "run.ckpt", {**state, **SENTENCES})
    parts = load_translator_parts(path)
    assert any("left out 1 tensors of the sentence model" in note for note in parts.notes)
    embedding, images = torch.randn(2, 5), torch.rand(1, 3, 32, 32)
    noise = [torch.Generator().manual_seed(1) for _ in range(2)]
    assert torch.equal(parts.dequantiser(embedding, noise[0]), vae(embedding, noise[1]))
    with torch.no_grad():
        assert parts.captioner.encoder.resnet(images).shape == (1, 2048, 1, 1)
    sentences = Embedder(3)
    translator = load_released(path, sentences=sentences)
    v = torch.randn(1, 125)
    pictures = translator.render(v, ["A  Red bird", "tree"])
    assert sentences.asked == ["<start> a red bird <end> ", "<start> tree <end> "]
    with torch.no_grad():
        latent = flow.inverse(v.repeat(2, 1), sentences.encode(sentences.asked[:2]))
    assert torch.equal(pictures[:, 0], gan.render(latent[:, :120], latent[:, 120:]))
    plain = load_released(path, sentences=sentences, captioner_prompts=False)
    assert plain.source is sentences and isinstance(translator.source, CaptionerPrompts)


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
        load_released(path, sentences=Embedder(3))
    translator = load_released(path, sentences=Embedder(3), target=Box())
    assert translator.translate(["tree"], samples=2).shape == (1, 2, 3, 4, 4)


def test_a_sentence_model_is_asked_for_and_must_fit(tmp_path):
    *_, state = gan_state()
    path = lightning(tmp_path / "run.ckpt", {**state, **SENTENCES})
    with pytest.raises(CourseError, match="sentences of 3 numbers"):
        load_released(path)
    with pytest.raises(CourseError, match="experts give"):
        load_released(path, sentences=Embedder(4))


# --- single experts ----------------------------------------

LOADERS = {
    "big_ae": load_big_ae,
    "basic_ae": load_basic_ae,
    "biggan": load_biggan,
    "dequantiser": load_dequantiser,
    "captioner": lambda path: load_captioner(path, WORDS),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_an_expert_through_a_file(tmp_path, name):
    """Half precision becomes float32, and the network keeps nothing of the file."""
    network = small(*NETWORKS[name])
    state = {
        key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in network.state_dict().items()
    }
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    loaded = LOADERS[name](path)
    path.write_bytes(b"")
    assert not loaded.training and loaded.notes == ()
    for key, tensor in loaded.state_dict().items():
        wanted = state[key].float() if state[key].is_floating_point() else state[key]
        assert torch.equal(tensor, wanted) and tensor.dtype == network.state_dict()[key].dtype


def test_words_come_in_the_order_of_their_numbers(tmp_path):
    torch.save(small(Captioner, CAPTIONS).state_dict(), tmp_path / "captioner.ckpt")
    shuffled = dict(sorted(WORDS.items()))
    assert load_captioner(tmp_path / "captioner.ckpt", shuffled).words == tuple(WORDS)


def test_a_generator_is_read_with_and_without_its_wrapper(tmp_path):
    gan = small(BigGan, GAN)
    torch.save(gan.decoder.state_dict(), tmp_path / "plain.pth")
    torch.save(gan.state_dict(), tmp_path / "wrapped.pth")
    latent = torch.randn(1, 125)
    for name in ("plain", "wrapped"):
        assert torch.equal(load_biggan(tmp_path / f"{name}.pth").decode(latent), gan.decode(latent))
    with pytest.raises(CourseError, match="does not fit"):
        load_biggan(tmp_path / "plain.pth", GeneratorConfig(128))


def test_counters_of_old_batch_norms_may_be_absent(tmp_path):
    gan = small(BigGan, GAN)
    state = {key: tensor for key, tensor in gan.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    latent = torch.randn(1, 125)
    assert torch.equal(load_biggan(tmp_path / "old.pth").decode(latent), gan.decode(latent))
    del state["decoder.GBlock.0.HyperBN.bn.running_mean"]
    torch.save(state, tmp_path / "old.pth")
    with pytest.raises(CourseError, match=r"missing decoder\.GBlock\.0\.HyperBN\.bn\.running_mean"):
        load_biggan(tmp_path / "old.pth")


def test_the_training_loss_is_left_out_with_a_note(tmp_path):
    network = small(BasicAutoencoder, BASIC)
    loss = {
        key: torch.zeros(shape)
        for key, (shape, _) in manifest("autoencoder_faces32").items()
        if key.startswith("loss.")
    }
    state = {**network.state_dict(), **loss}
    loaded = load_basic_ae(lightning(tmp_path / "ae.ckpt", state))
    assert loaded.notes == (f"left out {len(loss)} tensors of the training loss (loss.*): "
                            "perceptual network, critic, learned variance",)  # fmt: skip
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded.encode(images), network.encode(images))
    with pytest.raises(CourseError, match=r"unknown loss\.other"):
        load_basic_ae(lightning(tmp_path / "ae.ckpt", {**state, "loss.other": torch.zeros(1)}))


# --- ways to be wrong ----------------------------------------


def test_every_difference_is_listed_at_once(tmp_path):
    _, _, state = label_state()
    del state["flow.sub_layers.0.norm_layer.loc"]
    state["first_stage_model.encoder.model.conv1.weight"] = torch.zeros(64, 3, 5, 5)
    state["first_stage_model.decoder.decoder.attention.gamma"] = torch.zeros(1, dtype=torch.int64)
    state["optimiser.step"] = torch.zeros(1)
    path = lightning(tmp_path / "run.ckpt", state)
    config = infer_translator_config(label_state()[2])
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
        load_released(path, "anime")
    assert len(str(error.value)) < 5000
    with pytest.raises(CourseError, match="no released translator"):
        load_released(path, "animals")
    with pytest.raises(CourseError, match="no released autoencoder"):
        load_big_ae(path, "animals")


@pytest.mark.parametrize("loader", [*LOADERS.values(), load_translator_parts, describe])
def test_files_of_another_kind_are_refused(tmp_path, loader):
    torch.save({"a.b": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CourseError, match=r"cannot be read off|no weights that the course knows"):
        loader(tmp_path / "other.pt")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("loader", [*LOADERS.values(), load_translator_parts, load_released, describe])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, loader):
    state = small(Dequantiser, VAE).state_dict()
    torch.save({"state_dict": state, "callbacks": Bomb(tmp_path / "trap")}, tmp_path / "evil.ckpt")
    with pytest.raises(CourseError, match=r"evil\.ckpt asks to run code"):
        loader(tmp_path / "evil.ckpt")
    assert not (tmp_path / "trap").exists()


def test_loading_shares_no_memory_with_the_state():
    network, state = small(Dequantiser, VAE), {k: t.clone() for k, t in small(Dequantiser, VAE).state_dict().items()}
    with torch.device("meta"):
        loaded = load_exactly(Dequantiser(VAE), state, "it")
    state["encoder.main.0.weight"].zero_()
    assert torch.equal(loaded.encoder.main[0].weight, network.encoder.main[0].weight)


# --- the report ----------------------------------------


def test_reports_on_files(tmp_path):
    _, _, state = label_state()
    text = describe(lightning(tmp_path / "run.ckpt", {**state, **SENTENCES}))
    assert "translator from sentences" in text and "1234" in text and "no released model" in text
    assert "note: left out 1 tensors of the sentence model" in text
    flow, _ = small_flow(6, 3)
    save_file(export_flow(flow), tmp_path / "flow.safetensors")
    assert "flow\n" in describe(tmp_path / "flow.safetensors")
    for name, kind in {
        "basic_ae": "32-pixel autoencoder",
        "biggan": "BigGAN generator",
        "dequantiser": "dequantiser",
        "captioner": "captioner",
        "big_ae": "256-pixel autoencoder",
    }.items():
        network = small(*NETWORKS[name])
        torch.save(network.state_dict(), tmp_path / f"{name}.pt")
        text = describe(tmp_path / f"{name}.pt")
        assert kind in text and f"{sum(t.numel() for t in network.state_dict().values()):,} numbers" in text


def test_the_command_prints_the_report(tmp_path):
    torch.save(small(Dequantiser, VAE).state_dict(), tmp_path / "vae.pt")
    result = CliRunner().invoke(app, ["released", str(tmp_path / "vae.pt")])
    assert result.exit_code == 0 and "dequantiser" in result.output
    damaged = {**small(Dequantiser, VAE).state_dict(), "other": torch.zeros(1)}
    torch.save(damaged, tmp_path / "vae.pt")
    result = CliRunner().invoke(app, ["released", str(tmp_path / "vae.pt")])
    assert isinstance(result.exception, CourseError) and "unknown other" in str(result.exception)
