"""Files as they come: every format, old and new, with classes and wrappers, broken ones; and the report on each."""

import argparse
import gzip
import importlib
import io
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tarfile
import types
import zipfile
from collections import defaultdict

import numpy as np
import pytest
import torch
from released_tools import (
    BASIC,
    GAN,
    MANIFESTS,
    NETWORKS,
    VAE,
    prefixed,
    read_manifest,
    small,
    small_flow,
)
from safetensors.torch import save_file
from typer.testing import CliRunner

from course_lib.cli import app
from course_lib.errors import CourseError
from course_lib.gans.alae import ALAE, ALAEConfig
from course_lib.gans.biggan import BigGANConfig, Discriminator, Generator
from course_lib.gans.stylegan import StyleGAN, StyleGANConfig
from course_lib.released.alae import alae_layouts, load_alae
from course_lib.released.biggan import load_biggan, load_biggan_discriminator
from course_lib.released.net2net import load_net2net_expert, load_net2net_flow, load_translator_parts
from course_lib.released.net2net_experts import BasicAutoencoder, BasicAutoencoderConfig, BigGan, Dequantiser
from course_lib.released.reading import describe_file, export_state, identify, known_kinds, read_file
from course_lib.released.stylegan import load_stylegan, stylegan_layout

STATE = {"mu.weight": torch.ones(2)}


def legacy(content, path):
    """A torch file from before 1.6, which is no zip archive."""
    torch.save(content, path, _use_new_zipfile_serialization=False)


WRITERS = {"zip": torch.save, "legacy": legacy}


@pytest.fixture
def foreign(monkeypatch):
    """Makes a class that only the file's authors have: it is gone when the file is read."""

    def make(name, base=object, **members):
        module, _, last = name.rpartition(".")
        kind = type(last, (base,), {"__module__": module, **members})
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:depth]), types.ModuleType(".".join(parts[:depth])))
        setattr(sys.modules[module], last, kind)
        return kind

    def forget():
        for name in [
            n for n in sys.modules if n.split(".")[0] in ("tracker", "pytorch_lightning", "omegaconf", "project")
        ]:
            monkeypatch.delitem(sys.modules, name)

    make.forget = forget
    return make


def filled(kind, **members):
    instance = kind()
    instance.__dict__.update(members)
    return instance


# --- what authors' files hold beside tensors ----------------------------------------


def settings(make):
    """Hyper-parameters as Lightning keeps them, in classes of three libraries; contents as these pickle themselves."""
    attributes = make("pytorch_lightning.utilities.parsing.AttributeDict", dict)
    config = make("omegaconf.dictconfig.DictConfig")
    node, metadata = make("omegaconf.nodes.AnyNode"), make("omegaconf.base.ContainerMetadata")
    inner = filled(metadata, ref_type=dict, element_type=object, key_type=str, flags={"struct": True})
    nodes = defaultdict(list, lr=filled(node, _val=1e-3), size=filled(node, _val=int))
    names = make("project.Names", list)
    return {
        "attributes": attributes(lr=1e-3, deeper=attributes(a=[1])),
        "omega": filled(config, _metadata=inner, _content=nodes, _parent=None),
        "names": names(["a", "b"]),
        "plain": argparse.Namespace(path=pathlib.PurePosixPath("/data"), sizes={1, 2}, code=b"\x80\xff"),
        "callbacks": {make("pytorch_lightning.callbacks.ModelCheckpoint"): {"best": 3}},
    }


@pytest.mark.parametrize("writer", WRITERS)
def test_lightning_files_open_without_the_classes_of_their_settings(tmp_path, foreign, writer):
    content = {"state_dict": STATE, "global_step": 7, "hyper_parameters": settings(foreign), "optimizer_states": [{}]}
    WRITERS[writer](content, tmp_path / "last.ckpt")
    foreign.forget()
    contents = read_file(tmp_path / "last.ckpt")
    assert contents.step == 7 and list(contents.parts) == ["state_dict"]
    assert torch.equal(contents.parts["state_dict"]["mu.weight"], torch.ones(2))
    assert not {"omegaconf", "pytorch_lightning", "project"} & set(sys.modules)


@pytest.mark.parametrize("writer", WRITERS)
def test_alae_with_its_tracker_opens(tmp_path, foreign, writer):
    """Their checkpointer always saves one: instances of a class of the project, with tensors inside."""
    torch.manual_seed(0)
    network = ALAE(ALAEConfig((4, 4, 3), 5, 2))
    models = {part: export_state(network, layout) for part, layout in alae_layouts(network.config).items()}
    mean = filled(foreign("tracker.RunningMeanTorch"), values=[torch.tensor(0.5)])
    optimizer = torch.optim.Adam(network.parameters())
    network.encoder(torch.randn(1, 3, 16, 16)).sum().backward()
    optimizer.step()
    auxiliary = {"encoder_optimizer": optimizer.state_dict(), "tracker": {"tracks": {"loss_d": mean}}}
    WRITERS[writer]({"models": models, "auxiliary": auxiliary}, tmp_path / "model_final.pth")
    foreign.forget()
    loaded = load_alae(tmp_path / "model_final.pth")
    assert torch.equal(loaded.encoder.blocks[0].conv1.weight, models["discriminator"]["encode_block.0.conv_1.weight"])
    assert set(read_file(tmp_path / "model_final.pth").parts) == set(models)


@pytest.mark.parametrize("writer", WRITERS)
def test_mindgan_with_its_array_of_times_opens(tmp_path, writer):
    from course_lib.released.alae import load_released_mindgan

    networks = {
        name: {key: torch.randn(shape) for key, (shape, _) in read_manifest(f"m2m_mindgan_{kind}").items()}
        for name, kind in (("Generator", "generator"), ("Critic", "critic"))
    }
    content = {"Time": np.arange(3.0), "seconds": np.float64(2.0), **networks, "Critic loss": [1.0]}
    WRITERS[writer]({**content, "optims": [{"state": {}, "param_groups": []}]}, tmp_path / "model299.pth")
    generator, critic = load_released_mindgan(tmp_path / "model299.pth")
    assert torch.equal(generator.model[2].weight, networks["Generator"]["model.2.weight"])
    assert critic.config.noise == 128 and critic.config.critic == (512, 256, 128)
    report = describe_file(tmp_path / "model299.pth")
    assert "MindGAN generator (128 → 128 → 256 → 512 → 512): 8 tensors, 443,776" in report
    assert "MindGAN critic (512 → 512 → 256 → 128 → 1): 8 tensors, 427,009" in report


# --- pickles that would run code ----------------------------------------


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def traps(path):
    """Ways to make a folder while a file is read."""
    return {
        "function": Call(os.mkdir, str(path)),
        "process": Call(subprocess.Popen, ["mkdir", str(path)]),
        "builtin": Call(eval, f"__import__('os').mkdir({str(path)!r})"),
        "attribute": Call(getattr, os, "mkdir"),
        "nested": {"a": [Call(exec, f"import os; os.mkdir({str(path)!r})")]},
        "factory": defaultdict(int, a=Call(os.system, f"mkdir {path}")),
    }


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("writer", [*WRITERS, "pickle"])
@pytest.mark.parametrize("trap", traps(""))
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, writer, trap):
    path = tmp_path / "evil.ckpt"
    content = {"state_dict": STATE, "callbacks": traps(tmp_path / "made")[trap]}
    if trap == "attribute":
        content["callbacks"] = Call(content["callbacks"].call[0], "text", "upper")
    if writer == "pickle":
        path.write_bytes(pickle.dumps(content, 4))
    else:
        WRITERS[writer](content, path)
    with pytest.raises(CourseError, match=r"evil\.ckpt " + ("" if writer == "pickle" else "asks to run code")):
        read_file(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "loader",
    [
        describe_file,
        load_alae,
        load_biggan,
        load_net2net_expert,
        load_net2net_flow,
        load_stylegan,
        load_translator_parts,
    ],
)
def test_every_loader_refuses_what_would_run_code(tmp_path, loader):
    torch.save({"state_dict": STATE, "a": Call(os.mkdir, str(tmp_path / "made"))}, tmp_path / "evil.ckpt")
    with pytest.raises(CourseError, match=r"evil\.ckpt asks to run code.*mkdir.*nothing of it ran"):
        loader(tmp_path / "evil.ckpt")
    assert not (tmp_path / "made").exists()


# --- files that are something else ----------------------------------------


def zipped(**members):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return memory.getvalue()


def torch_bytes(content=STATE, write=torch.save):
    memory = io.BytesIO()
    write(content, memory)
    return memory.getvalue()


def tarred(content):
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        entry = tarfile.TarInfo("G.pth")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return memory.getvalue()


def saved(write, content):
    memory = io.BytesIO()
    write(memory, content)
    return memory.getvalue()


PAGE = b"\n<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>Sorry</body></html>"
# Name → (bytes of the file, what must be said).
OTHERS = {
    "html": (PAGE, "is a web page .Google Drive - Quota exceeded.*in a browser"),
    "s3": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
    "json": (b'{"message": "Not found"}', r"is a text that begins with '\{\"message"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "git lfs pull"),
    "last_checkpoint": (b"training_artifacts/ffhq/model_submitted.pth", "a text that begins with 'training_artifacts"),
    "empty": (b"", "is empty: fetch it again"),
    "zip in zip": (zipped(**{"138k__G.pth": torch_bytes()}), "zip archive of other files .138k/G.pth.: unpack it"),
    "npz": (saved(lambda file, x: np.savez(file, a=x), np.ones(2)), "NumPy archive"),
    "script": (zipped(**{"net__data.pkl": b"", "net__constants.pkl": b""}), "TorchScript program"),
    "gzip": (gzip.compress(torch_bytes()), "gzip.*unpack it first"),
    "tar": (tarred(torch_bytes()), "tar archive"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 90, "HDF5"),
    "picture": (b"\x89PNG\r\n\x1a\n" + b"\0" * 90, "no checkpoint .98 bytes"),
    "noise": (bytes(range(1, 200)) * 9, "damaged, cut off or no checkpoint .1,791 bytes"),
    "list": (torch_bytes([1, 2]), "no state dictionary .list"),
    "numbers": (torch_bytes({"epoch": 3, "acc": 0.5}), "no state dictionary .epoch, acc"),
    "optimiser": (
        torch_bytes(torch.optim.Adam([torch.nn.Parameter(torch.ones(1))]).state_dict()),
        "state of an optimiser and no weights",
    ),
    "counters": (torch_bytes({"itr": 9, "config": {"G_activation": torch.nn.ReLU()}}), "state dictionary .itr, config"),
    "network": (torch_bytes(torch.nn.Linear(2, 2)), "a whole network as an object"),
    "old network": (torch_bytes(torch.nn.Linear(2, 2), legacy), "a whole network as an object"),
    "arrays": (torch_bytes({"w": np.ones(2)}), "no state dictionary .w"),
    "pickle": (pickle.dumps({"w": 1}, 4), "not read without running it"),
    "a place for 32 GB": (b"\x80\x02}r\xff\xff\xff\xff.", "damaged"),
    "32 TB of bytes": (b"\x80\x04\x8e" + (2**45).to_bytes(8, "little") + b"x.", "damaged"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_what_a_file_is_if_no_checkpoint(tmp_path, name, suffix):
    content, said = OTHERS[name]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(CourseError, match=rf"(?s)weights\{suffix}.*{said}") as error:
        describe_file(path)
    assert "\n" not in str(error.value)


def test_places_without_a_file(tmp_path):
    with pytest.raises(CourseError, match=r"no such file"):
        describe_file(tmp_path / "absent.pt")
    torch.save(STATE, tmp_path / "a.pt")
    with pytest.raises(CourseError, match=r"is a folder: give one file of it \(a\.pt\)"):
        describe_file(tmp_path)


@pytest.mark.parametrize("write", [torch.save, legacy, lambda state, path: save_file(state, path)])
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.98])
def test_a_file_that_was_cut_off(tmp_path, write, keep):
    path = tmp_path / "weights.pt"
    write({"a.weight": torch.zeros(9, 99), "b": torch.ones(99)}, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(CourseError, match="damaged, cut off"):
        read_file(path)


def test_contents_decide_and_not_the_suffix(tmp_path):
    save_file(STATE, tmp_path / "weights.ckpt")
    torch.save(STATE, tmp_path / "weights.safetensors")
    for name in ("weights.ckpt", "weights.safetensors"):
        assert torch.equal(read_file(tmp_path / name).parts[""]["mu.weight"], torch.ones(2))


# --- state dictionaries in wrappers ----------------------------------------

WRAPPED = {
    "bare": lambda state: state,
    "lightning": lambda state: {"state_dict": state, "global_step": 3},
    "model": lambda state: {"model": state, "epoch": 2},
    "deeper": lambda state: {"checkpoint": {"models": {"net": state}}, "loss": torch.tensor(0.1)},
    "parallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "compiled": lambda state: {"model": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}},
    "optimiser beside": lambda state: {
        "net": state,
        "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": []},
    },
    "counter beside": lambda state: {**state, "epoch": 3},
}  # fmt: skip


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_a_network_is_found_in_what_is_around_it(tmp_path, wrapped):
    network = small(Dequantiser, VAE)
    torch.save(WRAPPED[wrapped](network.state_dict()), tmp_path / "vae.pt")
    assert "dequantiser: 34 tensors" in describe_file(tmp_path / "vae.pt")
    loaded = load_net2net_expert(tmp_path / "vae.pt")
    assert torch.equal(loaded.mu_layer.main[0].weight, network.mu_layer.main[0].weight)


def test_every_loader_says_what_else_a_file_is(tmp_path):
    torch.save(small(Dequantiser, VAE).state_dict(), tmp_path / "vae.pt")
    for loader in (load_net2net_flow, load_alae, load_biggan, load_stylegan, load_translator_parts):
        with pytest.raises(
            CourseError, match=r"vae\.pt holds dequantiser.*open it with course_lib\.released\.net2net\.load_net2net_ex"
        ):
            loader(tmp_path / "vae.pt")
    torch.save({"a.b": torch.zeros(1)}, tmp_path / "other.pt")
    for loader in (
        load_net2net_flow,
        load_net2net_expert,
        load_alae,
        load_biggan,
        load_stylegan,
        load_translator_parts,
    ):
        with pytest.raises(CourseError, match=r"cannot be read off|no known network"):
            loader(tmp_path / "other.pt")


# --- the report ----------------------------------------

# Nothing that the course opens, and what other tests read at full size.
LEFT_OUT = re.compile(
    r".*(embedder_example|mlp_|lpips|facenet|patchgan|map).*|net2net_(flow|full|autoencoder)_(?!faces32).*"
)
NAMES = [path.name.removesuffix(".json.gz") for path in sorted(MANIFESTS.iterdir())]


@pytest.mark.parametrize("name", [name for name in NAMES if not LEFT_OUT.fullmatch(name)])
def test_every_released_family_is_recognised_at_full_size(name):
    """By the names and shapes of the authors' own modules alone."""
    parts = {}
    for key, (shape, dtype) in read_manifest(name).items():
        place, _, rest = key.rpartition("/")
        parts.setdefault(place, {})[rest] = torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
    for state in parts.values():
        kind, tensors = identify(state)
        assert kind is not None
        _, kept, notes = kind.fit(tensors)
        assert (set(tensors) <= set(kept) and len(tensors) == len(state)) or notes


def test_what_the_report_names_can_be_called():
    for kind in known_kinds():
        module, _, name = kind.call.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name)), kind.call


def test_reports_on_net2net(tmp_path):
    target, (_, state) = small(BigGan, GAN), small_flow(125, 3)
    sentences = {"cond_stage_model.model.0.auto_model.embeddings.word_embeddings.weight": torch.zeros(3, 2)}
    content = {**prefixed("first_stage_model.", target), **state, **sentences}
    torch.save({"state_dict": content, "global_step": 1234}, tmp_path / "run.ckpt")
    text = describe_file(tmp_path / "run.ckpt")
    assert "Net2Net translator (from sentences)" in text and "steps:          1,234" in text
    assert 'open with:      course_lib.translation.load_released_translator("run.ckpt")' in text
    assert "note:           left out 1 tensors of the sentence model" in text and "all names and shapes" in text
    torch.save({"state_dict": state}, tmp_path / "flow.ckpt")
    text = describe_file(tmp_path / "flow.ckpt")
    assert (
        "Net2Net flow (2 blocks of width 8)" in text
        and 'course_lib.released.net2net.load_net2net_flow("flow.ckpt")' in text
    )
    for name, kind in {
        "basic_ae": "32-pixel autoencoder",
        "biggan": "BigGAN generator of Net2Net",
        "dequantiser": "dequantiser",
        "captioner": "captioner",
        "big_ae": "256-pixel autoencoder",
    }.items():
        state = small(*NETWORKS[name]).state_dict()
        # Torch had no such counters when BigGAN's weights were made.
        state = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
        torch.save(state, tmp_path / f"{name}.pt")
        assert f"{kind}: {len(state)} tensors, {sum(t.numel() for t in state.values()):,} numbers" in describe_file(
            tmp_path / f"{name}.pt"
        )


def test_a_report_names_the_released_model_of_the_same_sizes(tmp_path):
    with torch.device("meta"):
        network = BasicAutoencoder(BasicAutoencoderConfig())
    state = {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in network.state_dict().items()}
    torch.save({**state, "loss.logvar": torch.zeros(())}, tmp_path / "faces32.ckpt")
    text = describe_file(tmp_path / "faces32.ckpt")
    assert "32-pixel autoencoder (the sizes of faces32)" in text and "left out 1 tensors of the training loss" in text


@pytest.mark.parametrize("embedding", [6, None])
def test_biggan_is_reported_and_opened(tmp_path, embedding):
    torch.manual_seed(0)
    config = BigGANConfig(5, (16, 16, 8, 8), (8, 8, 16), 2, 12, embedding, (8,) if embedding else ())
    generator, discriminator = Generator(config).eval(), Discriminator(config).eval()
    torch.save(generator.state_dict(), tmp_path / "G_ema.pth")
    torch.save(discriminator.state_dict(), tmp_path / "D.pth")
    text = describe_file(tmp_path / "G_ema.pth")
    assert (
        "BigGAN generator (32 pixels, 5 classes)" in text
        and 'course_lib.released.biggan.load_biggan("G_ema.pth")' in text
    )
    assert "BigGAN discriminator" in describe_file(tmp_path / "D.pth")
    z, labels = torch.randn(2, 12), torch.tensor([4, 0])
    loaded = load_biggan(tmp_path / "G_ema.pth")
    with torch.no_grad():
        assert torch.equal(loaded(z, loaded.embed(labels)), generator(z, generator.embed(labels)))
        images = torch.randn(2, 3, 32, 32)
        found = load_biggan_discriminator(tmp_path / "D.pth", config)
        assert torch.equal(found(images, labels), discriminator(images, labels))
    torch.save({"state": {}, "param_groups": []}, tmp_path / "G_optim.pth")
    with pytest.raises(CourseError, match=r"G_optim\.pth holds the state of an optimiser"):
        describe_file(tmp_path / "G_optim.pth")


def test_reports_on_hyper_modulation(tmp_path):
    from released_tools import export_hyper

    from course_lib.hypermod import HyperGenerator

    base = StyleGAN(StyleGANConfig((4, 4, 4), (4, 4, 4), 5, 2))
    parts = export_hyper(HyperGenerator(base, 2, 5, published=True, start="random"))
    torch.save({**parts, "g_running": export_state(base, stylegan_layout(base.config))}, tmp_path / "h.model")
    report = describe_file(tmp_path / "h.model")
    assert "generator:      hyper-modulated generator (16 pixels)" in report
    assert "class network (2 rows of 5)" in report and "g_running:      StyleGAN generator" in report
    parts["task"].pop("task.1.linear.bias")
    torch.save(parts, tmp_path / "h.model")
    with pytest.raises(CourseError, match="does not fit this class network"):
        describe_file(tmp_path / "h.model")
    state = export_state(base, stylegan_layout(base.config))
    for half in (1, 2):
        state[f"generator.progression.{half}.conv2.conv.bias"] += half == 1
    torch.save({"g_running": state}, tmp_path / "8px.model")
    assert "StyleGAN generator (16 pixels, trained to 8)" in describe_file(tmp_path / "8px.model")


def test_networks_that_no_call_opens_are_named(tmp_path):
    for name, said in (("lpips", "LPIPS"), ("facenet", "FaceNet"), ("patchgan_discriminator", "patch discriminator")):
        last = {"lpips": "lin0.model.1.weight", "facenet": "net.conv2d_1a.conv.weight"}.get(name, "main.11.weight")
        torch.save({last: torch.zeros(1), "other.weight": torch.zeros(1)}, tmp_path / "a.pth")
        with pytest.raises(CourseError, match=rf"a\.pth is .*{said}"):
            describe_file(tmp_path / "a.pth")
    torch.save({"a.b": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CourseError, match=r"no weights that the course knows \(a\.b, …\): give a file of Net2Net"):
        describe_file(tmp_path / "other.pt")


def test_the_command_prints_the_report(tmp_path):
    torch.save(small(Dequantiser, VAE).state_dict(), tmp_path / "vae.pt")
    result = CliRunner().invoke(app, ["released", str(tmp_path / "vae.pt")])
    assert result.exit_code == 0 and "dequantiser" in result.output
    torch.save({**small(BasicAutoencoder, BASIC).state_dict(), "other": torch.zeros(1)}, tmp_path / "ae.pt")
    result = CliRunner().invoke(app, ["released", str(tmp_path / "ae.pt")])
    assert isinstance(result.exception, CourseError) and "unknown other" in str(result.exception)
