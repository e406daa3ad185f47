"""Small methods and whole runs for the training tests; also what ``torchrun`` and child processes execute."""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.experts import fingerprint
from course_lib.profiles import Profile
from course_lib.recipes.recipe import Job, publish
from course_lib.training import Budget, Card, train
from course_lib.training import runs as files
from course_lib.training.runs import Loss, Method, frozen

STEPS = 14
"""Of every run that is killed."""


class LineMethod(Method):
    """Least squares on 24 fixed points: no randomness, one optimiser, a loss that is a mean over the batch."""

    def __init__(self, at_step=None):
        super().__init__()
        draw = torch.Generator().manual_seed(5)
        self.x = torch.randn(24, 3, generator=draw)
        self.y = self.x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3
        line = nn.Linear(3, 1)
        with torch.no_grad():
            line.weight.fill_(0.1), line.bias.zero_()
        self.modules = {"line": line}
        self.optimizers = {"line": torch.optim.Adam(line.parameters(), 0.05)}
        self.length, self.at_step, self.factor = 24, at_step or (lambda step: None), 1.0

    def batch(self, index, generator):
        return self.x[index], self.y[index]

    def losses(self, batch, generator, step):
        self.at_step(step)
        x, y = batch
        yield Loss("line", self.factor * F.mse_loss(self.modules["line"](x), y), {"batch": float(len(x))})


class PairMethod(Method):
    """A tiny GAN with everything that could break a resume.

    Channels-last weights and fused optimisers, batch norm, dropout, random augmentation, noise, two optimisers, an
    average, a schedule, and a weight found with ``torch.autograd.grad`` through a network.
    """

    def __init__(self, at_step=None, noisy=True, fused=True):
        super().__init__()
        torch.manual_seed(11)
        self.pictures, self.codes = torch.rand(20, 3, 8, 8) * 2 - 1, torch.randn(20, 6)
        norm = nn.BatchNorm2d(8) if noisy else nn.Identity()
        painter = nn.Sequential(
            nn.Linear(6, 64), nn.Unflatten(1, (4, 4, 4)), nn.ConvTranspose2d(4, 8, 4, 2, 1), norm, nn.ReLU(),
            nn.Dropout(0.2 if noisy else 0.0), nn.Conv2d(8, 3, 3, 1, 1),
        )  # fmt: skip
        critic = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(128, 1))
        self.modules = {"painter": painter, "critic": critic}
        for module in self.modules.values():
            module.to(memory_format=torch.channels_last)
        self.optimizers = {
            name: torch.optim.Adam(module.parameters(), 2e-3, (0.5, 0.99), fused=fused)
            for name, module in self.modules.items()
        }
        self.ema = {"painter": 0.9}
        self.length, self.noisy, self.at_step = 20, noisy, at_step or (lambda step: None)

    def batch(self, index, generator):
        pictures = self.pictures[index]
        if self.noisy:
            flip = torch.rand(len(index), generator=generator) < 0.5
            pictures = torch.where(flip[:, None, None, None], pictures.flip(-1), pictures)
            pictures = pictures + 0.1 * torch.randn(pictures.shape, generator=generator)
        return pictures, self.codes[index]

    def losses(self, batch, generator, step):
        self.at_step(step)
        pictures, codes = batch
        if self.noisy:
            codes = codes + torch.randn(codes.shape, generator=generator)
        fake = self.modules["painter"](codes)
        near = (fake - pictures).abs().mean()
        critic = self.unwrapped("critic")
        with frozen(critic):
            fooled = -critic(fake).mean()
            last = self.unwrapped("painter")[-1].weight
            gradient = torch.autograd.grad(fooled, last, retain_graph=True)[0]
        weight = 0.1 / (gradient.norm() + 1.0) if self.noisy else 0.1
        yield Loss("painter", near + weight * fooled, {"near": near})
        real, wrong = self.modules["critic"](torch.cat([pictures, fake.detach()])).chunk(2)
        yield Loss("critic", 0.5 * (F.relu(1 - real).mean() + F.relu(1 + wrong).mean()), {"real": real.mean()})

    def learning_rate(self, progress):
        return 1.0 - 0.9 * progress

    @torch.no_grad()
    def preview(self):
        painter = self.unwrapped("painter").eval()
        pictures = painter(self.codes[:4])
        painter.train()
        return pictures


class FlowMethod(Method):
    """Maximum likelihood of a conditional flow, whose ActNorm sets itself from the first batch."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(2)
        self.condition = torch.randn(64, 2, generator=draw)
        self.latent = 3 + 2 * torch.randn(64, 4, generator=draw) + self.condition.repeat(1, 2)
        flow = ConditionalFlow(FlowConfig(4, (2,), hidden_dim=8, blocks=2, embedder_hidden_dim=8), draw)
        self.modules = {"flow": flow}
        self.optimizers = {"flow": torch.optim.Adam(flow.parameters(), 1e-3)}
        self.length = 64

    def batch(self, index, generator):
        return self.latent[index], self.condition[index]

    def losses(self, batch, generator, step):
        v, log_det = self.modules["flow"](*batch)
        yield Loss("flow", (0.5 * v.square().sum(1) - log_det).mean())


def scaled_launch(accelerator, precision):
    """Float16 with a loss scale that changes every third step, on the CPU, where Fabric itself would refuse."""
    from lightning.fabric import Fabric
    from lightning.fabric.plugins import MixedPrecision

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4, growth_interval=3)
    return Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])


def digest(method, history):
    """SHA-256 of all weights, buffers and averages after a run."""
    modules = method.modules | {f"average of {name}": module for name, module in history.averaged.items()}
    joined = "".join(name + fingerprint(module) for name, module in sorted(modules.items()))
    return hashlib.sha256(joined.encode()).hexdigest()


def run_pair(folder, resume=False, at_step=None, steps=STEPS, **options):
    """A whole run of :class:`PairMethod`: the hash of what it ends in, and its curve."""
    method = PairMethod(at_step, fused=options.pop("fused", True))
    settings = {"checkpoint_every": 3, "preview_every": 4, "log_every": 2, "progress": False, "seed": 9} | options
    history = train(method, Budget(steps), 4, folder=folder, resume=resume, **settings)
    return digest(method, history), history.curve


def killed_run(folder, pipe, options):
    """In a child process: announces every step, so that the parent can choose when to kill."""
    torch.set_num_threads(1)
    pipe.send(("done", run_pair(folder, True, lambda step: pipe.send(("step", step)), **options)))


def killed_in_write(folder, pipe, at_save):
    """In a child process: dies halfway through writing the checkpoint number ``at_save`` (from 1)."""
    torch.set_num_threads(1)
    whole, saves = files.save_file, []

    def half(tensors, path, metadata):
        whole(tensors, path, metadata=metadata)
        saves.append(path)
        if len(saves) == at_save:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    files.save_file = half
    run_pair(folder, True)


def limited_run(folder, pipe, limit):
    """In a child process: trains where no file may grow beyond ``limit`` bytes, and sends what that raises."""
    import resource

    torch.set_num_threads(1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    method = LineMethod()
    method.modules["line"].register_buffer("ballast", torch.zeros(limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        train(method, Budget(6), 4, folder=folder, resume=True, progress=False)
    except Exception as error:
        pipe.send((type(error).__name__, str(error)))


def distributed_runs(out):
    """Under ``torchrun``: the runs that the test compares with those of a single process; one JSON per rank."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    results = {}
    line = LineMethod()
    train(line, Budget(6), 4, progress=False, folder=out / "line", checkpoint_every=2)
    results["line"] = torch.cat([p.detach().flatten() for p in line.modules["line"].parameters()]).tolist()
    line = LineMethod()
    train(line, Budget(3), 2, accumulate=2, progress=False)
    results["accumulated"] = torch.cat([p.detach().flatten() for p in line.modules["line"].parameters()]).tolist()
    pair = PairMethod(noisy=False)
    train(pair, Budget(3), 2, accumulate=2, progress=False)
    results["pair"] = [p.double().sum().item() for m in pair.modules.values() for p in m.parameters()]
    flow = FlowMethod()
    with torch.no_grad():
        next(flow.modules["flow"].parameters()).add_(rank)  # different beginnings must become one
    train(flow, Budget(5), 8, progress=False)
    results["flow"] = fingerprint(flow.modules["flow"])
    results["initialized"] = all(block.norm.is_initialized for block in flow.modules["flow"].blocks)
    timed = LineMethod()
    timed.learning_rate = lambda progress: 1.0 - 0.9 * progress
    history = train(timed, Budget(seconds=0.3), 4, progress=False)
    results["timed"], results["timed steps"] = fingerprint(timed.modules["line"]), history.steps
    results["published"] = published(out)
    (out / f"{rank}.json").write_text(json.dumps(results))


def published(out):
    """A recipe's end: whether this process came to scoring, and what it published."""
    job = Job(Profile("quick"), out=out / "cards", work=out / "work")
    method = LineMethod()
    try:
        history = job.run("line", method, 4, 3, last=True, progress=False)
    except SystemExit:
        return None
    card = Card("line", "line", {}, metrics={"score": 1.0})
    publish(job, card, method.modules["line"].state_dict(), history, "score", higher=True)
    return sorted(path.name for path in (out / "cards").iterdir())


if __name__ == "__main__":
    distributed_runs(Path(sys.argv[1]))
