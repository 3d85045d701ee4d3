"""The status page: models, releases, traffic, health and checklists of a stack, to read."""
