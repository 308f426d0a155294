"""Clusters: one for all tests of a session, and one of its own for a test that kills or scales."""

from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster, running_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Shared, with one agent of 8 simulated GPUs: leave its processes alone and your jobs ended."""
    with running_cluster(agents={"agent": 8}) as running:
        yield running


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """The test's own, with one agent of 8 simulated GPUs called `agent`."""
    with running_cluster(agents={"agent": 8}) as running:
        yield running


@pytest.fixture
def own_cluster_without_agents() -> Iterator[Cluster]:
    """The test's own; it adds the agents it wants."""
    with running_cluster(agents={}) as running:
        yield running
