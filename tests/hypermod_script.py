"""Under ``torchrun``: transfer and self-alignment in two processes; one JSON per rank."""

import json
import os
import sys
from pathlib import Path

import torch

from course_lib.experts import fingerprint
from course_lib.experts.protocol import SourceModel
from course_lib.gan_training import GANData, GANSchedule
from course_lib.gans.stylegan import StyleGAN, StyleGANConfig, StyleGANCritic
from course_lib.hypermod import SelfAlignmentMethod, barlow_twins
from course_lib.recipes.hypermod import build_variant
from course_lib.training import Budget, train


def main(out):
    """What the test compares."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    torch.manual_seed(0)
    config = StyleGANConfig((8, 8, 4), (8, 8, 4), 6, 2)
    source = SourceModel("toy", StyleGAN(config), StyleGANCritic(config), None)
    draws = torch.Generator().manual_seed(0)
    images, codes = torch.rand(18, 3, 16, 16, generator=draws), torch.randn(18, 6, generator=draws)
    data, schedule = GANData(images, codes, torch.arange(18) % 3), GANSchedule(decode=1, lead=0)
    results = {}
    for variant in ("contrastive", "fine-tuned copies", "all weights", "from scratch"):
        # Weights that begin at random begin differently in each process: the wrapper must make them one.
        method = build_variant(variant, data, source, schedule, seed=rank, width=5)
        history = train(method, Budget(3), 8, progress=False)
        networks = [method.modules["generator"], method.modules["critic"], history.averaged["generator"]]
        results[variant] = [fingerprint(network) for network in networks]
    hyper = build_variant("random start", data, source, seed=rank, width=5).modules["generator"].with_classes(1)
    train(SelfAlignmentMethod(hyper), Budget(2), 4, progress=False)
    results["aligned"] = fingerprint(hyper)
    # After training the processes still form one group: their correlation matrices become one.
    views = torch.randn(2, 2, 16, 7, generator=torch.Generator().manual_seed(1)).double()
    own = views[rank].clone().requires_grad_()
    barlow_twins(*own).backward()
    results["contrastive value"], results["gradient"] = barlow_twins(*own).item(), own.grad.flatten().tolist()
    (out / f"{rank}.json").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()  # left to the interpreter's end it now and then aborts


if __name__ == "__main__":
    main(Path(sys.argv[1]))
