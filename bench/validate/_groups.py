"""What the groups of claims are about: paper, what is claimed, and the page of the documentation."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["GROUPS", "Group"]


class Group(NamedTuple):
    """A paper, or a topic of the project itself: then without reference.

    `papers` are (citation, number on arXiv).
    """

    title: str
    says: str
    page: str
    papers: tuple[tuple[str, str], ...] = ()

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"title": self.title, "says": self.says, "page": self.page, "papers": [list(paper) for paper in self.papers]}


GROUPS = {
    "feng-tu": Group(
        "Feng and Tu: variance and flatness",
        "Late in training weights vary less where the loss is flatter: the variance falls as a power of about four of the "
        "flatness, where an equilibrium would have it rise with the square.",
        "docs/feng-tu.md",
        (("Y. Feng, Y. Tu, The inverse variance-flatness relation in stochastic gradient descent is critical for finding flat "
          "minima, PNAS 118, e2015617118 (2021)", "2001.01678"),),
    ),
    "xie": Group(
        "Xie, Sato and Sugiyama: escape from minima",
        "The noise of SGD has the covariance of the Hessian, so that the time to leave a minimum grows exponentially with batch "
        "size over learning rate and curvature: flat minima are favoured exponentially.",
        "docs/escape-laws.md",
        (("Z. Xie, I. Sato, M. Sugiyama, A diffusion theory for deep learning dynamics: stochastic gradient descent exponentially "
          "favors flat minima (2021)", "2002.03495"),
         ("Z. Xie et al., Adaptive Inertia, ICML 2022", "2006.15815")),
    ),
    "yang-tang-tu": Group(
        "Yang, Tang and Tu: effective loss of a degenerate valley",
        "Anisotropic noise adds an effective loss, a multiple of ln F of the flatness F, that favours flat solutions.",
        "docs/which-minimum.md",
        (("N. Yang, C. Tang, Y. Tu, Stochastic gradient descent introduces an effective landscape-dependent regularization "
          "favoring flat solutions (2023)", "2206.01246"),),
    ),
    "wu-zhu-e": Group(
        "Wu, Zhu and E: good and bad minima",
        "Minima of one training loss differ in what they say about new samples: flat ones are simple functions with large basins.",
        "docs/good-and-bad-minima.md",
        (("L. Wu, Z. Zhu, W. E, Towards understanding generalization of deep learning: perspective of loss landscapes (2017)",
          "1706.10239"),),
    ),
    "follow-ups": Group(
        "After the degenerate minimum",
        "What follows from the noise of SGD near degenerate minima in later papers: transient freezing, a fluctuating landscape, "
        "broken detailed balance, noise against curvature, epochs without replacement.",
        "docs/follow-ups.md",
        (("N. Yang et al.: freezing", "2601.10962"),
         ("Y. Zhang, N. Yang, Y. Tu: noise against curvature", "2602.05600"),
         ("D. Ignashin et al., Why SGD is not Brownian motion", "2605.22644"),
         ("M. Gross, A. Raulf, C. Raeth, PRResearch 6, 033103: linear networks", "2311.14120"),
         ("Y. Xiong, X. Chen, D. Shi, P. Ao: energy of Boltzmann's law", "2207.04932"),
         ("M. Kuehn, B. Rosenow: shuffled epochs", "2306.05300")),
    ),
    "fokker-planck": Group(
        "The Fokker-Planck engine",
        "The equation on a grid is a Markov generator whatever the tensor; its answers have the orders and errors that are stated.",
        "docs/fokker-planck.md",
    ),
    "paths": Group(
        "The paths engine",
        "Simulated paths have the laws of the process: exit times, covariances, jumps, inertia, SGD at a finite learning rate.",
        "docs/paths.md",
    ),
    "kramers": Group(
        "Mean exit times of double wells",
        "Equation, paths, quadrature and Kramers' formula answer one question alike.",
        "docs/escape-laws.md",
    ),
    "sgd": Group(
        "Escape of SGD at a finite learning rate",
        "The transition kernel of the chain is exact in the learning rate; the equation in continuous time is its limit.",
        "docs/kernel.md",
    ),
}  # fmt: skip
