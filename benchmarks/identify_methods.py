"""Clustering methods beside the shipped one, on Labeled Faces in the Wild.

    .venv/bin/pip install -e .[bench]
    nice .venv/bin/python benchmarks/identify_methods.py DATA --cache FILE.npz

DATA and FILE as for ``identify_lfw.py``. Each method's thresholds are the best of a grid by BCubed F on the train
people, and are then used on the held-out people and on all images at once. Prints a table of docs/measured/identity.md.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from identify_lfw import Faces, bcubed, faces_of, load
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform
from sklearn.cluster import DBSCAN, HDBSCAN
from sknetwork.clustering import Leiden, PropagationClustering

from worker.identity.grouping.assign import AppearanceEmbeddings, IdentifyOptions, regroup
from worker.identity.grouping.neighbours import near_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Labels = NDArray[np.int64]
    Setting = tuple[float, ...]
    Method = Callable[["Graph", Setting], Labels]

NEIGHBOURS = 128  # nearest images that each is linked with, for the methods that work on a graph
MIN_COSINE = 0.25  # cosine of a link
RERANKED = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45)
COSINES = (0.40, 0.44, 0.48, 0.52, 0.56, 0.60, 0.64)


@dataclass(slots=True)
class Graph:
    """Images and their neighbours, computed once for all methods."""

    appearances: AppearanceEmbeddings
    pairs: NDArray[np.int64]
    """(E, 2)."""
    cosine: NDArray[np.float32]
    """(E,)."""

    @classmethod
    def of(cls, appearances: AppearanceEmbeddings) -> Graph:
        """Link all images with their nearest ones."""
        units = appearances.embeddings
        pairs = near_pairs(units, np.arange(len(units)), count=NEIGHBOURS, minimum=MIN_COSINE)
        return cls(appearances, pairs, np.einsum("ed,ed->e", units[pairs[:, 0]], units[pairs[:, 1]]))

    def matrix(self, minimum: float, values: NDArray[np.float32] | None = None) -> csr_matrix:
        """(N, N) symmetric, of the pairs that reach a cosine."""
        kept = self.cosine >= minimum
        values = (self.cosine if values is None else values)[kept]
        rows, columns = self.pairs[kept].T
        upper = coo_matrix((values, (rows, columns)), shape=(len(self.appearances),) * 2)
        return csr_matrix(upper + upper.T)


def components(graph: Graph, setting: Setting) -> Labels:
    """Single linkage: join all images with a path of links."""
    return connected_components(graph.matrix(setting[0]), directed=False)[1].astype(np.int64)


def whispers(graph: Graph, setting: Setting) -> Labels:
    """Chinese whispers (Biemann 2006): each takes the label that weighs most among its neighbours."""
    matrix = graph.matrix(setting[0])
    spread = PropagationClustering(n_iter=30, node_order="random", weighted=True)
    return spread.fit_predict(matrix).astype(np.int64)


def dbscan(graph: Graph, setting: Setting) -> Labels:
    """DBSCAN on cosine distance; noise is alone."""
    matrix = graph.matrix(setting[0], 1 - graph.cosine)
    matrix.setdiag(0)
    found = DBSCAN(eps=1 - setting[0], min_samples=int(setting[1]), metric="precomputed").fit_predict(matrix)
    return alone(found)


def hdbscan(graph: Graph, setting: Setting) -> Labels:
    """HDBSCAN (Campello 2013) on all Euclidean distances; noise is alone."""
    selection = "leaf" if setting[1] else "eom"
    model = HDBSCAN(2, min_samples=int(setting[0]), cluster_selection_method=selection, algorithm="brute", copy=True)
    return alone(model.fit_predict(graph.appearances.embeddings.astype(np.float64)))


def leiden(graph: Graph, setting: Setting) -> Labels:
    """Leiden (Traag 2019) with the constant Potts model on cosines."""
    matrix = graph.matrix(setting[0])
    resolution = setting[1] * matrix.shape[0] / matrix.data.sum()  # in this library's units of a link
    model = Leiden(resolution=resolution, modularity="potts", random_state=0)
    return model.fit_predict(matrix).astype(np.int64)


def alone(labels: Labels) -> Labels:
    """Replace each -1 by a label of its own."""
    noise = labels < 0
    labels = labels.astype(np.int64)
    labels[noise] = labels.max(initial=-1) + 1 + np.arange(np.count_nonzero(noise))
    return labels


def average_linkage(graph: Graph, setting: Setting) -> Labels:
    """Average linkage over all pairs."""
    return cut("cosine", graph, cosine_distances)(setting[0])


def reciprocal(graph: Graph, setting: Setting) -> Labels:
    """Average linkage over the Jaccard distance of k-reciprocal neighbours (Zhong 2017), mixed with the cosine's."""
    neighbours = int(setting[1])
    return cut(f"jaccard {neighbours}", graph, lambda graph: reranked_distances(graph, neighbours))(setting[0])


TREES: dict[tuple[str, int], NDArray[np.float64]] = {}  # one tree for all thresholds


def cut(name: str, graph: Graph, distances: Callable[[Graph], NDArray[np.float32]]) -> Callable[[float], Labels]:
    """Cuts of the tree of average linkage."""
    key = (name, id(graph))
    if key not in TREES:
        TREES[key] = linkage(squareform(distances(graph), checks=False), "average")
    return lambda similarity: fcluster(TREES[key], 1 - similarity, "distance").astype(np.int64) - 1


def cosine_distances(graph: Graph) -> NDArray[np.float32]:
    """(N, N)."""
    units = graph.appearances.embeddings
    distances = 1 - units @ units.T
    np.fill_diagonal(distances, 0)
    return np.maximum((distances + distances.T) / 2, 0)


def reranked_distances(graph: Graph, neighbours: int) -> NDArray[np.float32]:
    """(N, N) 0.7 Jaccard + 0.3 cosine distance, the published shares."""
    units = graph.appearances.embeddings
    distances = 1 - units @ units.T
    nearest = np.argpartition(distances, neighbours, axis=1)[:, : neighbours + 1]
    rows = np.repeat(np.arange(len(units)), neighbours + 1)
    near = csr_matrix((np.ones(rows.size, np.float32), (rows, nearest.ravel())), shape=distances.shape)
    mutual = coo_matrix(near.multiply(near.T))
    weights = np.exp(-distances[mutual.row, mutual.col]) * (mutual.data > 0)
    vectors = csr_matrix((weights, (mutual.row, mutual.col)), shape=distances.shape)
    vectors = csr_matrix(vectors / vectors.sum(axis=1)[:, None])
    overlap = shared(vectors)
    distances *= np.float32(0.3)
    distances += np.float32(0.7) * (1 - overlap / (2 - overlap))
    np.fill_diagonal(distances, 0)
    return np.maximum((distances + distances.T) / 2, 0)


def shared(vectors: csr_matrix) -> NDArray[np.float32]:
    """(N, N) sum over places of the smaller of two vectors' values."""
    overlap = np.zeros(vectors.shape, np.float32)
    columns = vectors.tocsc()
    for place in range(vectors.shape[1]):
        part = slice(*columns.indptr[place : place + 2])
        rows, values = columns.indices[part], columns.data[part].astype(np.float32)
        overlap[np.ix_(rows, rows)] += np.minimum(values[:, None], values[None, :])
    return overlap


def ours(graph: Graph, setting: Setting) -> Labels:
    """The shipped rule, at another threshold."""
    return regroup(graph.appearances, options=IdentifyOptions(threshold=setting[0]))


METHODS: dict[str, tuple[Method, tuple[Setting, ...]]] = {
    "connected_components components": (components, tuple((t,) for t in (*COSINES, 0.68, 0.72))),
    "Chinese whispers": (whispers, tuple((t,) for t in COSINES)),
    "DBSCAN": (dbscan, tuple(itertools.product((*COSINES, 0.68), (2, 3, 4)))),
    "HDBSCAN, leaves where 1": (hdbscan, tuple(itertools.product((1, 2, 3), (0, 1)))),
    "Leiden, constant Potts": (
        leiden,
        tuple(itertools.product((0.40, 0.44, 0.48, 0.52, 0.56), (0.02, 0.1, 0.2, 0.3, 0.4))),
    ),
    "average linkage": (average_linkage, tuple((t,) for t in (0.28, 0.32, 0.36, *COSINES))),
    "average linkage, k-reciprocal": (reciprocal, tuple(itertools.product(RERANKED, (10, 20, 50, 100)))),
    "Facet": (ours, tuple((t,) for t in COSINES)),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    root = options.data / "lfw"
    sets = faces_of(root, load(root, options.cache, None), shrunken=False)
    sets["all"] = Faces.cat(list(sets.values()))
    graphs = {name: Graph.of(faces.appearances) for name, faces in sets.items()}
    print("| method | at | set | groups / people | BCubed precision | recall | F | pairwise F | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in METHODS:
        for line in lines(name, sets, graphs):
            print(line, flush=True)


def lines(name: str, sets: dict[str, Faces], graphs: dict[str, Graph]) -> Iterator[str]:
    """Rows of the table for one method."""
    method, grid = METHODS[name]
    train = sets["train"]
    best = max(grid, key=lambda setting: bcubed(method(graphs["train"], setting), train.people)[2])
    TREES.clear()
    at = ", ".join(f"{value:g}" for value in best)
    for place, (which, faces) in enumerate(sets.items()):
        started = time.process_time()
        labels = method(graphs[which], best)
        took = time.process_time() - started
        precision, recall, both = bcubed(labels, faces.people)
        people = f"{len(np.unique(labels)):,} / {len(np.unique(faces.people)):,}"
        scores = f"{precision:.4f} | {recall:.4f} | {both:.4f} | {pairwise(labels, faces.people):.4f}"
        head = f"| {name} | {at} |" if place == 0 else "| | |"
        yield f"{head} {which} | {people} | {scores} | {took:.1f} |"
        TREES.clear()


def pairwise(labels: Labels, truth: Labels) -> float:
    """Return F over the pairs of images in one group."""
    _, both = np.unique(np.stack([labels, truth], axis=1), axis=0, return_counts=True)
    right, found, true = ((count * (count - 1) / 2).sum() for count in (both, np.bincount(labels), np.bincount(truth)))
    return float(2 * right / (found + true))


if __name__ == "__main__":
    main()
