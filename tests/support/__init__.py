"""Real servers, clusters and factories for the tests."""
