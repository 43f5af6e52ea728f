"""The losses, the teacher, and the precision that studies are judged in."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("pytorch_lightning")

import training_runs as runs  # noqa: E402

from training.data.model_grid import whole_study  # noqa: E402
from training.fit.validation import predict  # noqa: E402
from training.model.loss import Teacher, coarse_loss, node_loss  # noqa: E402
from training.model.unet import UNet  # noqa: E402


def test_a_teachers_opinion_is_least_where_the_pupil_agrees() -> None:
    teacher = Teacher(UNet(2))
    assert copy.deepcopy(teacher) is teacher and not any(p.requires_grad for p in teacher.net.parameters())
    image = torch.randn(1, 1, 8, 8, 8)
    logits = teacher.net(image).detach().requires_grad_()
    teacher.loss(image, logits).backward()
    assert float(logits.grad.abs().max()) < 1e-6
    assert teacher.loss(image, logits + 1) > teacher.loss(image, logits)


def test_losses_are_least_at_the_truth() -> None:
    truth = torch.zeros(1, 1, 8, 8, 8)
    truth[0, 0, 2:5, 2:5, 2:5] = 1
    for kind in ("dice", "dice+ce"):
        loss = node_loss(kind)
        plain = torch.ones_like(truth)
        assert float(loss(20 * (2 * truth - 1), truth, plain)) < 1e-3 < float(loss(0 * truth, truth, plain))
    rim = torch.where(truth > 0, 3.0, 1.0)
    assert float(node_loss("dice+ce")(0 * truth, truth, rim)) > float(node_loss("dice+ce")(0 * truth, truth, plain))
    quarter = torch.nn.functional.avg_pool3d(truth, (1, 4, 4))
    best = torch.logit(quarter, eps=1e-6)
    assert float(coarse_loss(node_loss("dice+ce"), best, truth)) < float(
        coarse_loss(node_loss("dice+ce"), best + 1, truth)
    )


def test_studies_are_judged_in_the_runs_precision() -> None:
    pool = runs.case_pool()
    net, case, card = UNet(2).eval(), pool.training[0], replace(pool.card, slices="resampled")
    image = whole_study(case, card)[0]
    with torch.inference_mode():
        exact = net(image)[0, 0].numpy()
    np.testing.assert_allclose(predict(net, case.volume, card, "32-true"), exact, atol=1e-5)
    assert np.abs(predict(net, case.volume, card, "bf16-mixed") - exact).max() > 1e-5
