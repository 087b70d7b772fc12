"""Knowledge distillation on handwritten digits, with four watched penalty terms.

A teacher learns the digits that ship with scikit-learn; a smaller student then learns from labels
and teacher together. With ``--diverge-after N`` the learning rate jumps after step N, as it does
when a schedule is mistyped, and the run goes NaN of its own accord.

    python examples/digits.py --run my-run --steps 2000
    python examples/digits.py --run my-bad-run --steps 2000 --diverge-after 800

Records go to OTEL_EXPORTER_OTLP_ENDPOINT, by default http://localhost:4318.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import penaltyscope as ps

BATCH = 64
RUNAWAY_LEARNING_RATE = 30.0


@dataclass(frozen=True, slots=True)
class Digits:
    """1,797 images of 8 x 8 pixels, flattened and scaled to [0, 1], and their labels."""

    images: Tensor
    labels: Tensor

    def batches(self, steps: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Random batches ``[64, 64]`` and labels ``[64]``."""
        for _ in range(steps):
            chosen = torch.randint(len(self.labels), (BATCH,), generator=generator)
            yield self.images[chosen], self.labels[chosen]


class Classifier(nn.Module):
    """One hidden layer; returns log-probabilities and the hidden activations."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(64, hidden)
        self.output = nn.Linear(hidden, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities ``[B, 10]`` and activations ``[B, hidden]``."""
        activations = torch.relu(self.hidden(images))
        return torch.log_softmax(self.output(activations), dim=-1), activations


def load() -> Digits:
    """Reads the data that is installed with scikit-learn; nothing is downloaded."""
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    return Digits(images, torch.tensor(digits.target))


def train_teacher(digits: Digits, *, steps: int = 400, seed: int = 0) -> Classifier:
    """A classifier with 128 hidden units, trained on the labels alone."""
    torch.manual_seed(seed)
    teacher = Classifier(128)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    for images, labels in digits.batches(steps, torch.Generator().manual_seed(seed)):
        optimizer.zero_grad()
        cross_entropy(teacher(images)[0], labels).backward()
        optimizer.step()
    return teacher.eval().requires_grad_(requires_grad=False)


def distillation(*, warmup_steps: int) -> ps.Pipeline:
    """The penalties on the student, on top of its cross-entropy."""
    return ps.Pipeline(
        [
            ps.Term(
                "distill",
                ps.kl_divergence,
                weight=ps.schedules.warmup(0.5, steps=warmup_steps),
                inputs=("student", "teacher"),
                options={"direction": "reverse"},
            ),
            ps.Term("confidence", ps.entropy, weight=-0.02, inputs=("student",)),
            ps.Term(
                "decorrelation",
                ps.orthogonality,
                weight=1e-3,
                inputs=("hidden_weight",),
                # Not normalised, its gradient grows with the cube of the weights.
                options={"mode": "hard", "normalize": False},
            ),
            ps.Term("sparsity", ps.l1, weight=1e-5, inputs=("activations",)),
        ],
        name="distillation",
    )


def train_student(
    digits: Digits,
    teacher: Classifier,
    *,
    run: str,
    steps: int,
    diverge_after: int | None = None,
    endpoint: str | None = None,
    seed: int = 1,
    on_step: Callable[[int], None] = lambda _: None,
) -> None:
    """Trains one student of 32 hidden units under observation."""
    torch.manual_seed(seed)
    student = Classifier(32)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9)
    pipeline = distillation(warmup_steps=max(steps // 10, 1))
    tags = {"task": "digits", "optimizer": "sgd"}
    with ps.watch(pipeline, run=run, optimizer=optimizer, endpoint=endpoint, tags=tags):
        for images, labels in digits.batches(steps, torch.Generator().manual_seed(seed)):
            log_probabilities, activations = student(images)
            result = pipeline(
                student=log_probabilities,
                teacher=teacher(images)[0],
                hidden_weight=student.hidden.weight,
                activations=activations,
                base=cross_entropy(log_probabilities, labels),
            )
            optimizer.zero_grad()
            result.loss.backward()
            optimizer.step()
            on_step(pipeline.step)
            if pipeline.step == diverge_after:
                for group in optimizer.param_groups:
                    group["lr"] = RUNAWAY_LEARNING_RATE


def main() -> None:
    """Trains teacher and student once."""
    parser = argparse.ArgumentParser(description="Watched distillation on handwritten digits.")
    parser.add_argument("--run", required=True, help="the run's id")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--diverge-after", type=int, help="step after which the rate is too high")
    parser.add_argument("--endpoint", help="over OTEL_EXPORTER_OTLP_ENDPOINT")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the model is tiny: threads would only wait for each other
    digits = load()
    train_student(
        digits,
        train_teacher(digits),
        run=arguments.run,
        steps=arguments.steps,
        diverge_after=arguments.diverge_after,
        endpoint=arguments.endpoint,
    )


if __name__ == "__main__":
    main()
